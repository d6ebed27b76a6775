package verifiers_test

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const readyTimeout = 30 * time.Second // a second or two, but for a busy machine

// program is a verifier that runs as a process.
type program struct {
	issuer *issuer
	url    string
	client *http.Client
	tokens []string // that were sent to it
	output *output
}

// output collects what a process prints, which several goroutines write.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// checkVerifier runs the verifier of cmd against everything that verifiers are held to.
func checkVerifier(t *testing.T, cmd *exec.Cmd) {
	p := startProgram(t, cmd)
	for _, c := range []struct {
		name  string
		check func(*testing.T, *program)
	}{
		{"without its issuer it answers 503 and recovers", checkOutage},
		{"tokens", checkTokens},
		{"a new key works after one fetch and an old one no longer", checkRotation},
		{"invented key ids do not become requests to the issuer", checkInventedKeys},
		{"while the issuer is down known keys go on working", checkOutageLater},
	} {
		t.Run(c.name, func(t *testing.T) { c.check(t, p) })
	}
	t.Run("no token is in its log", func(t *testing.T) {
		log := p.output.String()
		for _, token := range p.tokens {
			if parts := strings.Split(token, "."); len(parts) == 3 && len(parts[2]) > 10 && strings.Contains(log, parts[2]) {
				t.Error("the log holds a token")
			}
		}
	})
}

func startProgram(t *testing.T, cmd *exec.Cmd) *program {
	t.Helper()
	address := freeAddress(t)
	p := &program{
		issuer: startIssuer(t), url: "http://" + address, output: &output{},
		client: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{}},
	}
	cmd.Env = append(os.Environ(),
		"ISSUER="+p.issuer.url, "AUDIENCE="+audience, "PORT="+port(t, address), "JWKS_COOLDOWN=1",
		"PYTHONDONTWRITEBYTECODE=1", "NO_PROXY=127.0.0.1", "no_proxy=127.0.0.1")
	run(t, cmd, p.output)
	t.Cleanup(p.client.CloseIdleConnections)
	awaitReady(t, p.client, p.url+"/healthz")
	return p
}

// awaitReady waits until a process answers.
func awaitReady(t *testing.T, client *http.Client, url string) {
	t.Helper()
	deadline := time.Now().Add(readyTimeout)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		res, err := client.Get(url)
		if err == nil {
			_ = res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not answer 200: %v", url, err)
		}
		<-tick.C
	}
}

// run starts a process that ends with the test, and shows what it printed if the test fails.
func run(t *testing.T, cmd *exec.Cmd, out *output) {
	t.Helper()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatalf("starting %s: %v", cmd.Path, err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		kill := time.AfterFunc(5*time.Second, func() { _ = cmd.Process.Kill() })
		defer kill.Stop()
		_ = cmd.Wait() // ended by a signal: an error that says nothing
		if t.Failed() {
			t.Logf("%s printed:\n%s", cmd.Path, out)
		}
	})
}

func (p *program) do(t *testing.T, a attempt) (*http.Response, []byte) {
	t.Helper()
	if a.method == "" {
		a.method = http.MethodGet
	}
	if a.path == "" {
		a.path = "/stocks"
	}
	req, err := http.NewRequestWithContext(t.Context(), a.method, p.url+a.path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if a.authorization != "" {
		req.Header.Set("Authorization", a.authorization)
		_, token, _ := strings.Cut(a.authorization, " ")
		p.tokens = append(p.tokens, token)
	}
	res, err := p.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	return res, body
}

// eventually asks until the answer has the status: after a cooldown at the latest.
func (p *program) eventually(t *testing.T, a attempt, status int) {
	t.Helper()
	deadline := time.Now().Add(10 * cooldown)
	tick := time.NewTicker(cooldown / 10)
	defer tick.Stop()
	for {
		res, _ := p.do(t, a)
		if res.StatusCode == status {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("got %d all the time, want %d", res.StatusCode, status)
		}
		<-tick.C
	}
}
