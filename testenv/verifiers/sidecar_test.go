package verifiers_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"phantomtoken/internal/keyring"
	"phantomtoken/testenv"
	"phantomtoken/testenv/issuertest"
)

// secret of the sample server, with characters that have to be encoded in one way or another.
const secret = "s3cret of +/%:& mcp-server"

// chain is a gateway's issuer, the real sidecar with the policy of docs/sidecar.md, and the
// verifier in Go as the API behind it.
type chain struct {
	gateway *issuertest.Issuer
	api     string
	sidecar string // URL
	egress  string // URL of the proxy
	socket  string // of the proxy of a second sidecar with the same keys
	policy  string // path
	env     []string
	client  *http.Client
}

func startChain(t *testing.T) *chain {
	t.Helper()
	dir := t.TempDir()
	c := &chain{
		gateway: issuertest.Start(t), socket: filepath.Join(dir, "egress.sock"), policy: filepath.Join(dir, "policy.yaml"),
		client: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{}},
	}
	t.Cleanup(c.client.CloseIdleConnections)
	sidecarAddress, apiAddress, egressAddress, second := freeAddress(t), freeAddress(t), freeAddress(t), freeAddress(t)
	c.api, c.sidecar, c.egress = "http://"+apiAddress, "http://"+sidecarAddress, "http://"+egressAddress

	api, sidecar := filepath.Join(dir, "api"), filepath.Join(dir, "sidecar")
	build(t, api, "./go")
	build(t, sidecar, "phantomtoken/sidecar")
	const documented = "upstream: https://api.example.com"
	policy := string(readFile(t, "callers/policy.yaml"))
	if !strings.Contains(policy, documented) {
		t.Fatalf("callers/policy.yaml: expected a route with %q", documented)
	}
	if err := os.WriteFile(c.policy, []byte(strings.Replace(policy, documented, "upstream: "+c.api, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	c.start(t, exec.Command(api), c.api+"/healthz", "ISSUER="+c.sidecar, "AUDIENCE="+audience, "PORT="+port(t, apiAddress), "JWKS_COOLDOWN=1")
	settings := []string{
		"TOKEN_EXCHANGE_ISSUER=" + c.sidecar,
		"TOKEN_EXCHANGE_POLICY_FILE=" + c.policy,
		"TOKEN_EXCHANGE_SIGNING_KEY_FILE=" + filepath.Join(dir, "sidecar.jwk"),
		"TOKEN_EXCHANGE_SUBJECT_ISSUER=" + c.gateway.URL(),
		"TOKEN_EXCHANGE_SUBJECT_JWKS_URI=" + c.gateway.URL() + "/jwks.json",
		"MCP_SERVER_SECRET=" + secret,
	}
	c.start(t, exec.Command(sidecar), c.sidecar+"/readyz", append(settings, "TOKEN_EXCHANGE_LISTEN="+sidecarAddress, "TOKEN_EXCHANGE_EGRESS_LISTEN="+egressAddress)...)
	c.start(t, exec.Command(sidecar), "http://"+second+"/readyz", append(settings, "TOKEN_EXCHANGE_LISTEN="+second, "TOKEN_EXCHANGE_EGRESS_LISTEN=unix:"+c.socket)...)
	c.env = []string{
		"TOKEN_ENDPOINT=" + c.sidecar + "/token", "MCP_SERVER_SECRET=" + secret, "API=" + c.api, "SOCKET=" + c.socket,
	}
	return c
}

// start runs a part and waits until it answers.
func (c *chain) start(t *testing.T, cmd *exec.Cmd, url string, env ...string) {
	t.Helper()
	cmd.Env = append(os.Environ(), env...)
	run(t, cmd, &output{})
	awaitReady(t, c.client, url)
}

// received is the token that the sample server gets with a call.
func (c *chain) received(t *testing.T) string {
	t.Helper()
	return c.gateway.Token(t, keyring.Token{
		Audience: []string{"https://mcp.internal.example.com"}, ClientID: "mcp-client", Scope: []string{"stocks/read", "stocks/trade"},
		Subject: "john",
	})
}

// expired is one that has been kept too long.
func (c *chain) expired(t *testing.T) string {
	t.Helper()
	return c.gateway.Token(t, keyring.Token{
		Audience: []string{"https://mcp.internal.example.com"}, ClientID: "mcp-client", Scope: []string{"stocks/read"},
		IssuedAt: time.Now().Add(-time.Hour), Expiry: time.Now().Add(-time.Minute),
	})
}

// caller is a program that docs/sidecar.md shows: it calls the API with the token that it
// received and prints the answer.
type caller struct {
	name    string
	command func(t *testing.T) *exec.Cmd
	egress  string // EGRESS, if it goes through the proxy
	refusal string // what it prints for a token that is no good
}

// checkCaller runs a program with a good token and with one that has expired.
func (c *chain) checkCaller(t *testing.T, program caller) {
	good := c.received(t)
	printed, err := c.call(t, program, good)
	if err != nil {
		t.Fatalf("%v: %s", err, printed)
	}
	for _, part := range []string{"john", "mcp-server", "mcp-client"} {
		if !strings.Contains(printed, part) {
			t.Errorf("got %s, want it to name %s", printed, part)
		}
	}
	expired := c.expired(t)
	printed, err = c.call(t, program, expired)
	if err == nil || !strings.Contains(printed, program.refusal) {
		t.Errorf("expired token: got %s, %v; want a failure with %s", printed, err, program.refusal)
	}
	if strings.Contains(printed, expired) {
		t.Error("expired token: it is printed")
	}
}

func (c *chain) call(t *testing.T, program caller, token string) (string, error) {
	t.Helper()
	cmd := program.command(t)
	cmd.Env = append(append(os.Environ(), c.env...), "EGRESS="+program.egress, "RECEIVED_TOKEN="+token, "PYTHONDONTWRITEBYTECODE=1", "NO_PROXY=127.0.0.1", "no_proxy=127.0.0.1")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// The ways to an API that docs/sidecar.md shows in Go, with the real sidecar.
func TestGoCallers(t *testing.T) {
	c := startChain(t)
	dir := t.TempDir()
	for _, name := range []string{"egress", "exchange", "library"} {
		build(t, filepath.Join(dir, name), "./callers/"+name)
	}
	program := func(name string) func(*testing.T) *exec.Cmd {
		return func(*testing.T) *exec.Cmd { return exec.Command(filepath.Join(dir, name)) }
	}
	for _, p := range []caller{
		{"proxy", program("egress"), c.egress, "invalid_token"},
		{"proxy over its socket", program("egress"), "unix:" + c.socket, "invalid_token"},
		{"token request", program("exchange"), "", "invalid_request"},
	} {
		t.Run(p.name, func(t *testing.T) { c.checkCaller(t, p) })
	}
	t.Run("library", func(t *testing.T) {
		address := freeAddress(t)
		c.start(t, program("library")(t), "http://"+address+"/healthz", append(c.env, "PORT="+port(t, address))...)
		status, body := c.get(t, "http://"+address+"/prices", c.received(t))
		if status != http.StatusOK || !strings.Contains(body, `"acted_by":"mcp-server"`) {
			t.Errorf("got %d %s, want 200 and who acted", status, body)
		}
		if status, _ = c.get(t, "http://"+address+"/prices", c.expired(t)); status != http.StatusBadGateway {
			t.Errorf("expired token: got %d, want 502", status)
		}
	})
}

func (c *chain) get(t *testing.T, url, token string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := c.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

func freeAddress(t *testing.T) string {
	t.Helper()
	address, err := testenv.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	return address
}

func port(t *testing.T, address string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func build(t *testing.T, binary, pkg string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, pkg).CombinedOutput(); err != nil {
		t.Fatal(fmt.Errorf("building %s: %w\n%s", pkg, err, out))
	}
}
