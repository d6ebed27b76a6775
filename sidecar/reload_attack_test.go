package main

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"phantomtoken/tokenexchange"
)

// TestRejectsHalfWrittenPolicy: what has come so far of a policy that is written in place is
// not used, whatever was before: without its tools, a call for any tool would get all that the
// caller may have.
func TestRejectsHalfWrittenPolicy(t *testing.T) {
	const whole = usual + `tools:
  get_stock_prices:
    requires: [stocks/read]
    audiences:
      https://api.demo.example: [stocks/read]
`
	half, _, _ := strings.Cut(whole, "tools:")
	for _, tc := range []struct {
		name    string
		before  string // in the file before; "" leaves the one in use
		refused bool
	}{
		{name: "after a good one"},
		{name: "after a refusal", before: "version: 1\ncallers: {}\n", refused: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			environ := environment(t, whole, nil)
			path := variable(environ, "TOKEN_EXCHANGE_POLICY_FILE")
			s := testSidecarOf(t, environ)
			defer s.close()
			first := s.exchanger.Policy()
			ctx, cancel := context.WithCancel(t.Context())
			tick, ended := make(chan time.Time), make(chan struct{})
			go func() {
				defer close(ended)
				s.watchPolicy(ctx, tick, nil)
			}()
			// The next tick is taken once the one before has been dealt with.
			look := func() { tick <- time.Time{} }
			if tc.before != "" {
				rewrite(t, path, tc.before)
				look()
				look()
				look()
			}
			rewrite(t, path, half+"# mended\n")
			look()
			cancel() // the first look is over when watchPolicy has ended
			<-ended
			if got := refusals(t, s); (got > 0) != tc.refused {
				t.Errorf("refused %d times, want refused %t", got, tc.refused)
			}
			if s.exchanger.Policy() != first {
				t.Error("a half-written policy is in use")
			}
			// The rest comes, and is used as soon as it rests.
			rewrite(t, path, whole+"# mended\n")
			ctx, cancel = context.WithCancel(t.Context())
			ended = make(chan struct{})
			go func() {
				defer close(ended)
				s.watchPolicy(ctx, tick, nil)
			}()
			look()
			look()
			cancel()
			<-ended
			if got, want := s.exchanger.Policy().Version(), version(t, whole+"# mended\n"); got != want {
				t.Errorf("policy %s is in use, want %s", got, want)
			}
		})
	}
}

// refusals is how many policy files were refused.
func refusals(t *testing.T, s *sidecar) int {
	t.Helper()
	rec := httptest.NewRecorder()
	s.metrics.Handler().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, pathMetrics, nil))
	return strings.Count(rec.Body.String(), `token_exchange_policy_reloads_total{outcome="refused"} 1`)
}

// swap lets path lead to one target after the other, without a pause, until the test ends.
func swap(t *testing.T, path string, targets ...string) {
	t.Helper()
	point := func(target string) error {
		if err := os.Symlink(target, path+".next"); err != nil {
			return err
		}
		return os.Rename(path+".next", path)
	}
	if err := point(targets[0]); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		for i := 1; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if err := point(targets[i%len(targets)]); err != nil {
				t.Error(err)
				return
			}
		}
	})
	t.Cleanup(func() {
		close(stop)
		running.Wait()
	})
}

// swaps is for how many reads a swapped file is tried: a check of the name instead of the open
// file fails within the first thousands.
const swaps = 40_000

// TestPipeSwappedInDoesNotHang: a named pipe that takes the place of the policy file between
// two steps of reading it is refused, and nobody waits for its writer.
func TestPipeSwappedInDoesNotHang(t *testing.T) {
	good, pipe, path := write(t, usual), t.TempDir()+"/pipe", t.TempDir()+"/policy"
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	swap(t, path, good, pipe)
	read := make(chan struct{})
	go func() {
		defer close(read)
		for range swaps {
			if _, _, err := readPolicyFile(path); err != nil && !strings.HasSuffix(err.Error(), "to be a regular file") {
				t.Error(err)
				return
			}
		}
	}()
	select {
	case <-read:
	case <-time.After(patience):
		t.Error("reading hangs")
	}
}

// TestRejectsFileThatEverybodyWritesSwappedIn: the mode that counts is that of the file which
// was read.
func TestRejectsFileThatEverybodyWritesSwappedIn(t *testing.T) {
	good, evil, path := write(t, usual), write(t, usual+"# evil\n"), t.TempDir()+"/policy"
	if err := os.Chmod(evil, 0o666); err != nil {
		t.Fatal(err)
	}
	swap(t, path, good, evil)
	for range swaps {
		if data, _, err := readPolicyFile(path); err == nil && strings.HasSuffix(string(data), "# evil\n") {
			t.Fatal("a file of mode 0666 was read")
		}
	}
}

// assertedWorld is a sidecar whose caller has its keys at a URL, where keys answers.
type assertedWorld struct {
	*sidecar
	environ []string
	text    string
	subject string
	client  *tokenexchange.Client
}

func newAssertedWorld(t *testing.T, keys func(w http.ResponseWriter, r *http.Request, jwks string)) *assertedWorld {
	t.Helper()
	key := newKey(t)
	kid, jwks := publicSet(t, key)
	keyServer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { keys(w, r, jwks) }))
	t.Cleanup(keyServer.Close)
	w := &assertedWorld{text: strings.Replace(usual, "{secret_variables: [MCP_SERVER_SECRET]}", "{private_key_jwt: {jwks_uri: \""+keyServer.URL+"\"}}", 1)}
	w.environ = environment(t, w.text, nil)
	w.subject = mint(t, w.environ, nil)
	w.sidecar = testSidecarOf(t, w.environ)
	t.Cleanup(w.sidecar.close)
	server := httptest.NewServer(w.handler())
	t.Cleanup(server.Close)
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", server.Listener.Addr().String())
	}}
	t.Cleanup(transport.CloseIdleConnections)
	var err error
	w.client, err = tokenexchange.New(tokenexchange.Config{
		Endpoint: issuer + "/token", ClientID: "mcp-server", AuthMethod: tokenexchange.AuthPrivateKeyJWT, ClientKey: key, ClientKeyID: kid, Transport: transport,
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// ask exchanges a token.
func (w *assertedWorld) ask(t *testing.T) error {
	_, err := w.client.Exchange(t.Context(), tokenexchange.Request{SubjectToken: w.subject, Audience: []string{api}})
	return err
}

// change reloads the policy for a comment in it.
func (w *assertedWorld) change(t *testing.T) {
	t.Helper()
	rewrite(t, variable(w.environ, "TOKEN_EXCHANGE_POLICY_FILE"), w.text+"# a comment\n")
	if refused := w.reload("", true); refused != "" {
		t.Fatal(refused)
	}
}

// TestReloadKeepsKeysOfCallers: a policy that is read again while the keys of a caller cannot
// be fetched does not lock out that caller.
func TestReloadKeepsKeysOfCallers(t *testing.T) {
	var mu sync.Mutex
	down := false
	w := newAssertedWorld(t, func(w http.ResponseWriter, _ *http.Request, jwks string) {
		mu.Lock()
		defer mu.Unlock()
		if down {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte(jwks))
	})
	if err := w.ask(t); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	down = true
	mu.Unlock()
	w.change(t)
	if err := w.ask(t); err != nil {
		t.Errorf("after a reload: got %v, want a token as before it", err)
	}
}

// TestReloadLosesNoRequestThatWaitsForKeys: it gets the keys, and its answer.
func TestReloadLosesNoRequestThatWaitsForKeys(t *testing.T) {
	asked, answer := make(chan struct{}), make(chan struct{})
	w := newAssertedWorld(t, func(w http.ResponseWriter, r *http.Request, jwks string) {
		close(asked)
		select {
		case <-answer:
			_, _ = w.Write([]byte(jwks))
		case <-r.Context().Done():
		}
	})
	got := make(chan error, 1)
	go func() { got <- w.ask(t) }()
	<-asked
	w.change(t)
	close(answer)
	if err := <-got; err != nil {
		t.Error(err)
	}
}
