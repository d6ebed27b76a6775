package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"phantomtoken/internal/keyring"
	"phantomtoken/internal/oauth"
	"phantomtoken/tokenexchange"
)

// issuer is a name of this machine, so that plain http is fine, whose port does not matter:
// the tests dial the sidecar wherever it listens.
const issuer = "http://localhost:9200"

// process is a running sidecar.
type process struct {
	cmd     *exec.Cmd
	address string
	client  *http.Client // reaches it under every name

	mu     sync.Mutex
	output bytes.Buffer
	read   chan struct{} // closed when all output was read
}

// start runs the binary and waits until it serves.
func start(t *testing.T, binary string, environ []string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(binary), read: make(chan struct{})}
	p.cmd.Env = environ
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.cmd.Process.Kill() }) // when the test failed half-way
	serving := make(chan string, 1)
	go func() {
		defer close(p.read)
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			p.mu.Lock()
			p.output.Write(append(lines.Bytes(), '\n'))
			p.mu.Unlock()
			var line struct{ Msg, Address string }
			if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "serving" {
				serving <- line.Address
			}
		}
	}()
	select {
	case p.address = <-serving:
	case <-p.read:
		t.Fatalf("the sidecar ended at once: %s", &p.output)
	}
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, p.address)
	}
	p.client = &http.Client{Transport: &http.Transport{DialContext: dial}, Timeout: 30 * time.Second}
	return p
}

// stop sends a signal and returns the exit status.
func (p *process) stop(t *testing.T, signal os.Signal) int {
	t.Helper()
	if err := p.cmd.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	<-p.read
	err := p.cmd.Wait()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return p.cmd.ProcessState.ExitCode()
}

// TestBinary runs the real program through its life: it makes its key, serves, exchanges a
// token that an OpenID Connect library verifies by metadata alone, and ends when asked.
//
// Covers: AS-06
func TestBinary(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "token-exchange-sidecar")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}

	t.Run("exchange", func(t *testing.T) {
		environ := environment(t, map[string]string{"TOKEN_EXCHANGE_ISSUER": issuer})
		p := start(t, binary, environ)
		subject := mint(t, environ)

		client, err := tokenexchange.New(tokenexchange.Config{
			Endpoint: issuer + "/token", ClientID: "mcp-server", ClientSecret: "MARKED-SECRET-of-mcp-server", Transport: p.client.Transport,
		})
		if err != nil {
			t.Fatal(err)
		}
		request := tokenexchange.Request{SubjectToken: subject, Audience: []string{"https://api.demo.example"}, Scope: []string{"stocks/read"}}
		res, err := client.Exchange(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}
		if res.ExpiresIn <= 0 || res.ExpiresIn > 4*time.Minute {
			t.Errorf("expires in %s, want at most the life of the subject token", res.ExpiresIn)
		}
		ctx := oidc.ClientContext(t.Context(), p.client)
		provider, err := oidc.NewProvider(ctx, issuer)
		if err != nil {
			t.Fatal(err)
		}
		verified, err := provider.Verifier(&oidc.Config{ClientID: "https://api.demo.example"}).Verify(ctx, res.AccessToken)
		if err != nil {
			t.Fatal(err)
		}
		var claims struct {
			Region   string
			ClientID string `json:"client_id"`
		}
		if err := verified.Claims(&claims); err != nil || verified.Subject != "john" || claims.Region != "USA" || claims.ClientID != "mcp-server" {
			t.Errorf("got sub %q, claims %+v, error %v", verified.Subject, claims, err)
		}

		request.Scope = []string{"stocks/trade"}
		var refused *tokenexchange.Error
		if _, err := client.Exchange(t.Context(), request); !errors.As(err, &refused) || refused.Code != tokenexchange.ErrorInvalidScope {
			t.Errorf("a scope that the subject token lacks: got %v, want invalid_scope", err)
		}
		for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/phantom/jwks.json": 200, "/other": 404} {
			got, err := p.client.Get("http://localhost" + path)
			if err != nil {
				t.Fatal(err)
			}
			got.Body.Close()
			if got.StatusCode != want {
				t.Errorf("%s: got %d, want %d", path, got.StatusCode, want)
			}
		}
		key, err := os.Stat(variable(environ, "TOKEN_EXCHANGE_SIGNING_KEY_FILE"))
		if err != nil || key.Mode().Perm() != 0o600 {
			t.Errorf("key file: got %v, error %v, want mode 0600", key, err)
		}

		if status := p.stop(t, syscall.SIGTERM); status != 0 {
			t.Errorf("after SIGTERM: got status %d, want 0", status)
		}
		log := p.output.String()
		for _, want := range []string{`"msg":"signing key created"`, `"msg":"stopped"`, `"outcome":"granted"`, `"outcome":"refused"`} {
			if !strings.Contains(log, want) {
				t.Errorf("log has no %s:\n%s", want, log)
			}
		}
		for _, secret := range []string{"MARKED", subject, res.AccessToken, strings.Split(subject, ".")[2], strings.Split(res.AccessToken, ".")[2]} {
			if strings.Contains(log, secret) {
				t.Errorf("log has %q", secret)
			}
		}
	})

	t.Run("running request ends", func(t *testing.T) {
		environ := environment(t, nil)
		p := start(t, binary, environ)
		conn, err := net.Dial("tcp", p.address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		body := url.Values{
			"grant_type": {tokenexchange.GrantType}, "subject_token": {mint(t, environ)}, "subject_token_type": {tokenexchange.TokenTypeAccessToken},
			"audience": {"https://api.demo.example"}, "client_id": {"mcp-server"}, "client_secret": {"MARKED-SECRET-of-mcp-server"},
		}.Encode()
		fmt.Fprintf(conn, "POST /token HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n", len(body))
		reader := bufio.NewReader(conn)
		// 100 Continue is sent when the handler reads the body: the request is running.
		if line, err := reader.ReadString('\n'); err != nil || !strings.Contains(line, "100 Continue") {
			t.Fatalf("got %q, error %v", line, err)
		}
		if _, err := reader.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		// The stop is under way when nobody is let in any more.
		for {
			probe, err := net.Dial("tcp", p.address)
			if err != nil {
				break
			}
			probe.Close()
		}
		io.WriteString(conn, body)
		res, err := http.ReadResponse(reader, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		var got tokenexchange.Response
		if err := json.NewDecoder(res.Body).Decode(&got); err != nil || res.StatusCode != 200 || got.AccessToken == "" {
			t.Errorf("got %d, error %v, want a token", res.StatusCode, err)
		}
		<-p.read
		if err := p.cmd.Wait(); err != nil {
			t.Errorf("after the interrupt: %v", err)
		}
	})

	t.Run("keys of the gateway by URL", func(t *testing.T) {
		environ := environment(t, nil)
		gateway := ring(t, variable(environ, "TOKEN_EXCHANGE_SUBJECT_KEY_FILES"))
		up := make(chan struct{})
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			select {
			case <-up:
				w.Header().Set("Content-Type", "application/json")
				w.Write(gateway.JWKS())
			default:
				w.WriteHeader(http.StatusInternalServerError)
			}
		}))
		defer server.Close()
		subject := mint(t, environ)
		for i, entry := range environ {
			if strings.HasPrefix(entry, "TOKEN_EXCHANGE_SUBJECT_KEY_FILES=") {
				environ[i] = "TOKEN_EXCHANGE_SUBJECT_JWKS_URI=" + server.URL
			}
		}
		p := start(t, binary, environ)
		if status := p.status(t, "/readyz"); status != 503 {
			t.Errorf("ready without the gateway's keys: got %d, want 503", status)
		}
		client, err := tokenexchange.New(tokenexchange.Config{
			Endpoint: issuer + "/token", ClientID: "mcp-server", ClientSecret: "MARKED-SECRET-of-mcp-server", Transport: p.client.Transport,
		})
		if err != nil {
			t.Fatal(err)
		}
		request := tokenexchange.Request{SubjectToken: subject, Audience: []string{"https://api.demo.example"}}
		if _, err := client.Exchange(t.Context(), request); !errors.Is(err, tokenexchange.ErrUnavailable) {
			t.Errorf("got %v, want ErrUnavailable", err)
		}
		close(up)
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for p.status(t, "/readyz") != 200 {
			<-tick.C // the key source pauses a second between two attempts
		}
		if _, err := client.Exchange(t.Context(), request); err != nil {
			t.Errorf("with the gateway up: %v", err)
		}
		if status := p.stop(t, syscall.SIGTERM); status != 0 {
			t.Errorf("after SIGTERM: got status %d, want 0", status)
		}
	})

	t.Run("settings that cannot work", func(t *testing.T) {
		cmd := exec.CommandContext(t.Context(), binary)
		cmd.Env = environment(t, map[string]string{"TOKEN_EXCHANGE_ISSUER": "", "TOKEN_EXCHANGE_CLIENTS_0_ID": ""})
		out, err := cmd.CombinedOutput()
		if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != 2 {
			t.Errorf("got %v, want status 2", err)
		}
		for _, want := range []string{"TOKEN_EXCHANGE_ISSUER: ", "TOKEN_EXCHANGE_CLIENTS_0_ID: "} {
			if !strings.Contains(string(out), want) {
				t.Errorf("got %s\nwant %s in it", out, want)
			}
		}
	})
}

func (p *process) status(t *testing.T, path string) int {
	t.Helper()
	res, err := p.client.Get(issuer + path)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	return res.StatusCode
}

func ring(t *testing.T, path string) *keyring.Ring {
	t.Helper()
	key, err := keyring.Load(path, "")
	if err != nil {
		t.Fatal(err)
	}
	ring, err := keyring.NewRing(key)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// mint is a phantom token of the gateway in environ.
func mint(t *testing.T, environ []string) string {
	t.Helper()
	token, err := ring(t, variable(environ, "TOKEN_EXCHANGE_SUBJECT_KEY_FILES")).Mint(keyring.Token{
		Issuer:   variable(environ, "TOKEN_EXCHANGE_SUBJECT_ISSUER"),
		Subject:  "john",
		Audience: []string{"https://mcp.internal.example"},
		ClientID: "dyn-123",
		IssuedAt: time.Now(),
		Expiry:   time.Now().Add(4 * time.Minute),
		Scope:    oauth.Scopes{"stocks/read"},
		Extra:    map[string]any{"region": "USA"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return token
}
