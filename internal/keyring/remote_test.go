package keyring_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"phantomtoken/internal/keyring"
)

// keyServer is an issuer's key endpoint that does as the test says.
type keyServer struct {
	*httptest.Server
	calls  atomic.Int64
	mu     sync.Mutex
	answer http.HandlerFunc
}

func newKeyServer(t *testing.T, answer http.HandlerFunc) *keyServer {
	t.Helper()
	s := &keyServer{answer: answer}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.calls.Add(1)
		s.mu.Lock()
		answer := s.answer
		s.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *keyServer) set(answer http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

func serving(keys ...*keyring.Key) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		r, err := keyring.NewRing(keys...)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/jwk-set+json")
		_, _ = w.Write(r.JWKS())
	}
}

func broken(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }

func newRemote(t *testing.T, url string, c *clock, change func(*keyring.RemoteConfig)) *keyring.RemoteKeys {
	t.Helper()
	cfg := keyring.RemoteConfig{URL: url, Now: c.Now}
	if change != nil {
		change(&cfg)
	}
	r, err := keyring.NewRemoteKeys(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// remoteCheck asks for a key and compares what comes with what is known, and the number
// of fetches so far.
type remoteCheck struct {
	t      *testing.T
	keys   *keyring.RemoteKeys
	server *keyServer
}

const (
	found   = "found"
	unknown = "unknown"
	trouble = "trouble"
)

func (c remoteCheck) want(when, kid, outcome string, fetches int64) {
	c.t.Helper()
	keys, err := c.keys.Keys(c.t.Context(), kid)
	got := unknown
	switch {
	case errors.Is(err, keyring.ErrKeysUnavailable):
		got = trouble
	case err != nil:
		c.t.Fatalf("%s: unexpected error %v", when, err)
	case len(keys) > 0:
		got = found
	}
	if got != outcome || c.server.calls.Load() != fetches {
		c.t.Errorf("%s: key is %s after %d fetches (%v), want %s after %d", when, got, c.server.calls.Load(), err, outcome, fetches)
	}
}

// behind is want for a call that is answered from the old set while a fetch begins: the
// fetches are counted once that has ended.
func (c remoteCheck) behind(when, kid string, fetches int64) {
	c.t.Helper()
	keys, err := c.keys.Keys(c.t.Context(), kid)
	if len(keys) == 0 || err != nil {
		c.t.Errorf("%s: got %d keys, error %v, want one at once", when, len(keys), err)
	}
	_, _ = c.keys.Keys(c.t.Context(), "nobody's") // waits for the fetch under way, begins none
	if got := c.server.calls.Load(); got != fetches {
		c.t.Errorf("%s: got %d fetches, want %d", when, got, fetches)
	}
}

// The life of a key set, told by a clock.
//
// Covers: BC-03, JW-15
func TestRemoteKeysOverTime(t *testing.T) {
	first, second, third := generate(t, ""), generate(t, ""), generate(t, "")
	c := newClock()
	s := newKeyServer(t, serving(first))
	check := remoteCheck{t: t, keys: newRemote(t, s.URL, c, nil), server: s}

	check.want("first use", first.ID(), found, 1)
	check.want("from memory", first.ID(), found, 1)
	check.want("unknown right after a fetch", "x", unknown, 1)

	s.set(serving(first, second))
	c.Advance(29 * time.Second)
	check.want("new key within the pause", second.ID(), unknown, 1)
	c.Advance(time.Second)
	check.want("new key after the pause", second.ID(), found, 2)
	check.want("unknown after that", "x", unknown, 2)

	s.set(serving(second))
	c.Advance(4 * time.Minute)
	check.want("withdrawn key of a fresh set", first.ID(), found, 2)
	c.Advance(time.Minute)
	check.behind("withdrawn key when the set gets old", first.ID(), 3)
	check.want("withdrawn key after the refresh", first.ID(), unknown, 3)
	check.want("remaining key", second.ID(), found, 3)

	s.set(broken)
	c.Advance(5 * time.Minute)
	check.behind("old set while the issuer is down", second.ID(), 4)
	check.want("unknown key while the issuer is down", third.ID(), trouble, 4)
	c.Advance(29 * time.Second)
	check.want("no second attempt within the pause", second.ID(), found, 4)
	c.Advance(time.Second)
	check.behind("attempt after the pause", second.ID(), 5)
	c.Advance(time.Hour)
	check.want("set too old to be used", second.ID(), trouble, 6)
	check.want("still", second.ID(), trouble, 6)

	s.set(serving(third))
	check.want("issuer is back within a second", third.ID(), trouble, 6)
	c.Advance(time.Second)
	check.want("issuer is back after a second", third.ID(), found, 7)
	check.want("key lost meanwhile", second.ID(), unknown, 7)
}

func TestRemoteKeysStartBeforeTheirIssuer(t *testing.T) {
	k := generate(t, "")
	c := newClock()
	s := newKeyServer(t, broken)
	check := remoteCheck{t: t, keys: newRemote(t, s.URL, c, nil), server: s}
	check.want("issuer not up", k.ID(), trouble, 1)
	check.want("at once again", k.ID(), trouble, 1)
	c.Advance(time.Second)
	check.want("a second later", k.ID(), trouble, 2)
	s.set(serving(k))
	c.Advance(time.Second)
	check.want("issuer up", k.ID(), found, 3)
}

func TestRemoteKeysBounds(t *testing.T) {
	k := generate(t, "")
	c := newClock()
	s := newKeyServer(t, serving(k))
	check := remoteCheck{t: t, server: s, keys: newRemote(t, s.URL, c, func(cfg *keyring.RemoteConfig) {
		cfg.Refresh, cfg.MaxStale = time.Minute, time.Second // MaxStale is raised to Refresh
	})}
	check.want("first use", k.ID(), found, 1)
	s.set(broken)
	c.Advance(time.Minute - 1)
	check.want("fresh", k.ID(), found, 1)
	c.Advance(1)
	check.want("not stale for a moment", k.ID(), trouble, 2)
}

// Covers: BC-03
func TestRandomKeyIDsCauseOneFetch(t *testing.T) {
	k := testKey(t, keyring.ES256)
	c := newClock()
	s := newKeyServer(t, serving(k))
	v := newVerifier(t, newRemote(t, s.URL, c, nil), nil)
	sign := signWith(t, keyring.ES256, rawKey(t, keyring.ES256))
	claims := goodClaims().bytes(t)
	attack := func() {
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for i := range 125 {
					header := goodHeader(k).with("kid", fmt.Sprint("random-", i)).bytes(t)
					if _, err := v.Verify(t.Context(), forge(header, claims, sign)); !errors.Is(err, keyring.ErrInvalidToken) {
						t.Errorf("error = %v, want ErrInvalidToken", err)
					}
				}
			})
		}
		wg.Wait()
	}
	attack()
	if n := s.calls.Load(); n != 1 {
		t.Errorf("1000 tokens with random kid: %d fetches, want 1", n)
	}
	c.Advance(30 * time.Second)
	attack()
	if n := s.calls.Load(); n != 2 {
		t.Errorf("1000 more after the pause: %d fetches, want 2", n)
	}
}

// Many callers share one fetch; the one who began it leaves, the others are served.
func TestRemoteKeysFetchIsSharedAndOutlivesItsCaller(t *testing.T) {
	k := generate(t, "")
	arrived, release := make(chan struct{}), make(chan struct{})
	s := newKeyServer(t, func(w http.ResponseWriter, r *http.Request) {
		close(arrived) // a second request would panic
		<-release
		serving(k)(w, r)
	})
	remote := newRemote(t, s.URL, newClock(), nil)

	leader, leave := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() {
		_, err := remote.Keys(leader, k.ID())
		left <- err
	}()
	<-arrived
	const n = 16
	results := make(chan error, n)
	for range n {
		go func() {
			keys, err := remote.Keys(t.Context(), k.ID())
			if err == nil && len(keys) != 1 {
				err = fmt.Errorf("got %d keys", len(keys))
			}
			results <- err
		}()
	}
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) || !errors.Is(err, keyring.ErrKeysUnavailable) {
		t.Errorf("the caller that left has error %v, want ErrKeysUnavailable and context.Canceled", err)
	}
	close(release)
	for range n {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if got := s.calls.Load(); got != 1 {
		t.Errorf("%d fetches, want 1", got)
	}
}

func TestRemoteKeysClose(t *testing.T) {
	k := generate(t, "")
	arrived := make(chan struct{})
	s := newKeyServer(t, func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done() // hangs until the client goes
	})
	remote := newRemote(t, s.URL, newClock(), func(c *keyring.RemoteConfig) { c.Timeout = time.Hour })
	waiting := make(chan error, 1)
	go func() {
		_, err := remote.Keys(t.Context(), k.ID())
		waiting <- err
	}()
	<-arrived
	remote.Close()
	if err := <-waiting; !errors.Is(err, keyring.ErrKeysUnavailable) {
		t.Errorf("error = %v, want ErrKeysUnavailable", err)
	}
	if _, err := remote.Keys(t.Context(), k.ID()); !errors.Is(err, keyring.ErrKeysUnavailable) {
		t.Errorf("error after Close = %v, want ErrKeysUnavailable", err)
	}
	if n := s.calls.Load(); n != 1 {
		t.Errorf("%d fetches, want none after Close", n)
	}
	remote.Close() // twice does no harm
}

// Everything that an endpoint can do wrong means that nothing is known, in words that
// name the URL and quote nothing of what came.
//
// Covers: BC-15
func TestRemoteKeysTrouble(t *testing.T) {
	k := generate(t, "")
	other := newKeyServer(t, serving(k))
	const mark = "SESAME"
	tests := []struct {
		name   string
		answer http.HandlerFunc
		change func(*keyring.RemoteConfig)
		want   string
	}{
		{name: "Redirect", answer: func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
		}, want: "expected status 200, got 307"},
		{name: "Status500", answer: func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, mark, http.StatusInternalServerError)
		}, want: "got 500"},
		{name: "Status204", answer: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }, want: "got 204"},
		{name: "HTML", answer: func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>" + mark)) }, want: "reading public keys"},
		{name: "EmptySet", answer: func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"keys":[]}`)) }, want: "at least one key"},
		{name: "SharedSecret", answer: func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"keys":[{"kty":"oct","k":"` + mark + `","alg":"HS256"}]}`))
		}, want: "at least one key"},
		{name: "Truncated", answer: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write([]byte(`{"keys":[`))
		}, want: "whole HTTP answer"},
		{name: "Oversize", answer: func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"keys":[],"x":"`))
			chunk := bytes.Repeat([]byte("x"), 64<<10)
			for range 80 { // 5 MB
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		}, want: "at most 1048576 bytes"},
		{name: "OversizeByConfiguration", answer: serving(k), change: func(c *keyring.RemoteConfig) { c.MaxBytes = 10 }, want: "at most 10 bytes"},
		{name: "Silence", answer: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, change: func(c *keyring.RemoteConfig) { c.Timeout = 20 * time.Millisecond }, want: "in time"},
		{name: "SilenceAfterHeader", answer: func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write([]byte(`{"keys":[`))
			if f, ok := w.(http.Flusher); ok {
				f.Flush()
			}
			<-r.Context().Done()
		}, change: func(c *keyring.RemoteConfig) { c.Timeout = 50 * time.Millisecond }, want: "in time"},
		{name: "HugeHeader", answer: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Big", strings.Repeat("x", 128<<10))
		}, want: "whole HTTP answer"},
		{name: "NotHTTP", answer: func(w http.ResponseWriter, _ *http.Request) {
			if h, ok := w.(http.Hijacker); ok {
				if conn, _, err := h.Hijack(); err == nil {
					_, _ = conn.Write([]byte(mark + " is no HTTP\r\n\r\n"))
					_ = conn.Close()
				}
			}
		}, want: "whole HTTP answer"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var log bytes.Buffer
			s := newKeyServer(t, tt.answer)
			remote := newRemote(t, s.URL, newClock(), func(c *keyring.RemoteConfig) {
				c.Logger = slog.New(slog.NewTextHandler(&log, nil))
				if tt.change != nil {
					tt.change(c)
				}
			})
			keys, err := remote.Keys(t.Context(), k.ID())
			if !errors.Is(err, keyring.ErrKeysUnavailable) || keys != nil {
				t.Fatalf("got %v and error %v, want ErrKeysUnavailable", keys, err)
			}
			remote.Close()
			for _, text := range []string{err.Error(), log.String()} {
				if !strings.Contains(text, tt.want) || !strings.Contains(text, s.URL) || strings.Contains(text, mark) {
					t.Errorf("text %q, want it to say %q and %s, and nothing of the answer", text, tt.want, s.URL)
				}
			}
		})
	}
	if n := other.calls.Load(); n != 0 {
		t.Errorf("the redirect was followed %d times", n)
	}
}

func TestRemoteKeysConnectionRefused(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = newRemote(t, url, newClock(), nil).Keys(t.Context(), "x")
	if !errors.Is(err, keyring.ErrKeysUnavailable) || !strings.Contains(err.Error(), "refused") {
		t.Errorf("error = %v, want ErrKeysUnavailable that says the connection was refused", err)
	}
}

func TestRemoteKeysTLS(t *testing.T) {
	k := generate(t, "")
	s := httptest.NewUnstartedServer(serving(k))
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.StartTLS()
	t.Cleanup(s.Close)
	trusted := x509.NewCertPool()
	trusted.AddCert(s.Certificate())
	tests := []struct {
		name   string
		change func(*keyring.RemoteConfig)
		want   string // of the error; empty: none
	}{
		{name: "unknown authority", change: func(*keyring.RemoteConfig) {}, want: "certificate"},
		{name: "configured authority", change: func(c *keyring.RemoteConfig) { c.CAs = trusted }},
		{name: "verification off", change: func(c *keyring.RemoteConfig) { c.InsecureSkipVerify = true }},
		{name: "authority of others", change: func(c *keyring.RemoteConfig) { c.CAs = x509.NewCertPool() }, want: "certificate"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			keys, err := newRemote(t, s.URL, newClock(), tt.change).Keys(t.Context(), k.ID())
			if tt.want == "" {
				if err != nil || len(keys) != 1 {
					t.Errorf("got %d keys and error %v, want one key", len(keys), err)
				}
			} else if !errors.Is(err, keyring.ErrKeysUnavailable) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error = %v, want ErrKeysUnavailable with %q", err, tt.want)
			}
		})
	}
}

// The proxy variables of the environment must not decide where keys come from. They are
// read once in the life of a process, so the fetch is made by another one; see TestMain.
func TestRemoteKeysUseNoProxyOfTheEnvironment(t *testing.T) {
	evil := newKeyServer(t, serving(generate(t, "")))
	s := newKeyServer(t, serving(generate(t, "")))
	_, port, err := net.SplitHostPort(s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	// Of the names for loopback only this one is not exempt from proxies. Whether the name
	// resolves is up to the machine; the proxy must not be asked in either case.
	cmd.Env = append(os.Environ(), "KEYRING_TEST_FETCH=http://keys.localhost:"+port, "NO_PROXY=", "no_proxy=")
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"} {
		cmd.Env = append(cmd.Env, name+"="+evil.URL)
	}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "fetched: ") {
		t.Fatalf("%v: %s", err, out)
	}
	if n := evil.calls.Load(); n != 0 {
		t.Errorf("the proxy of the environment was asked %d times (%s)", n, out)
	}
}

// TestKnownKeyDoesNotWaitForHangingIssuer: an issuer that hangs must not make every token
// of a known key wait for it.
func TestKnownKeyDoesNotWaitForHangingIssuer(t *testing.T) {
	k := generate(t, "")
	c := newClock()
	s := newKeyServer(t, serving(k))
	remote := newRemote(t, s.URL, c, func(cfg *keyring.RemoteConfig) { cfg.Timeout = time.Hour })
	if keys, err := remote.Keys(t.Context(), k.ID()); err != nil || len(keys) != 1 {
		t.Fatalf("got %d keys, error %v", len(keys), err)
	}
	arrived := make(chan struct{}, 1)
	s.set(func(_ http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-r.Context().Done()
	})
	c.Advance(6 * time.Minute)
	gone, leave := context.WithCancel(t.Context())
	leave() // whoever has to wait gets an error
	for range 2 {
		if keys, err := remote.Keys(gone, k.ID()); err != nil || len(keys) != 1 {
			t.Errorf("got %d keys, error %v, want the known one at once", len(keys), err)
		}
	}
	<-arrived // the fetch is under way all the same
	if _, err := remote.Keys(gone, "another"); !errors.Is(err, keyring.ErrKeysUnavailable) {
		t.Errorf("unknown key: got error %v, want ErrKeysUnavailable", err)
	}
	remote.Close()
}

// TestRemoteKeysDoNotShowTheQuery: some put a key of theirs there.
func TestRemoteKeysDoNotShowTheQuery(t *testing.T) {
	s := newKeyServer(t, broken)
	var log strings.Builder
	remote := newRemote(t, s.URL+"/jwks?api_key=MARKED", newClock(), func(cfg *keyring.RemoteConfig) {
		cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
	})
	_, err := remote.Keys(t.Context(), "x")
	remote.Close()
	if err == nil || strings.Contains(err.Error()+log.String(), "MARKED") || !strings.Contains(log.String(), s.URL+"/jwks") {
		t.Errorf("got error %v, log %s, want both without the query", err, &log)
	}
}

func TestNewRemoteKeysRefuses(t *testing.T) {
	for _, tt := range []struct {
		name, url string
	}{
		{name: "NoURL", url: ""},
		{name: "PlainHTTP", url: "http://idp.example.com/jwks"},
		{name: "MetadataAddress", url: "http://169.254.169.254/latest"},
		{name: "File", url: "file:///etc/passwd"},
		{name: "UserInfo", url: "https://user:secret@idp.example.com/jwks"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := keyring.NewRemoteKeys(keyring.RemoteConfig{URL: tt.url})
			if err == nil || !strings.Contains(err.Error(), "jwks_uri") || strings.Contains(err.Error(), "secret") {
				t.Errorf("error = %v, want one that names jwks_uri and no secret", err)
			}
		})
	}
	if _, err := keyring.NewRemoteKeys(keyring.RemoteConfig{URL: "http://idp.internal/jwks", InsecureHosts: []string{"idp.internal"}}); err != nil {
		t.Errorf("a host allowed by name: %v", err)
	}
}

// TestRemoteKeysHungHandshakesAreNotCollected: an issuer that accepts and says nothing
// loses the connection soon after the fetch.
//
// Covers: BC-15
func TestRemoteKeysHungHandshakesAreNotCollected(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ended := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			ended <- err
			return
		}
		defer conn.Close()
		if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			ended <- err
			return
		}
		for b := make([]byte, 4096); err == nil; { // the hello, and then the end
			_, err = conn.Read(b)
		}
		ended <- err
	}()
	keys := newRemote(t, "https://"+l.Addr().String()+"/keys", newClock(), func(c *keyring.RemoteConfig) { c.Timeout = 50 * time.Millisecond })
	if _, err := keys.Keys(t.Context(), "any"); !errors.Is(err, keyring.ErrKeysUnavailable) {
		t.Errorf("Keys = %v, want ErrKeysUnavailable", err)
	}
	var network net.Error
	if err := <-ended; errors.As(err, &network) && network.Timeout() {
		t.Error("the connection was still open after 10 s, want it closed")
	}
}

// An issuer that takes its time over each fetch is not asked again as soon as that has ended.
func TestRemoteKeysPauseCountsFromTheEndOfAFetch(t *testing.T) {
	k, c := generate(t, ""), newClock()
	slow := func(w http.ResponseWriter, r *http.Request) {
		c.Advance(5 * time.Second)
		broken(w, r)
	}
	s := newKeyServer(t, slow)
	check := remoteCheck{t: t, keys: newRemote(t, s.URL, c, nil), server: s}
	check.want("first use", k.ID(), trouble, 1)
	check.want("right after the fetch", k.ID(), trouble, 1)
	c.Advance(time.Second - 1)
	check.want("within the pause", k.ID(), trouble, 1)
	c.Advance(1)
	check.want("after the pause", k.ID(), trouble, 2)
}
