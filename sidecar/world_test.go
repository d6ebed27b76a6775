package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"phantomtoken/internal/keyring"
	"phantomtoken/internal/oauth"
	"phantomtoken/internal/policy"
	"phantomtoken/tokenexchange"
)

const (
	// issuer is a name of this machine, so that plain http is fine, whose port does not matter:
	// the tests dial the sidecar wherever it listens.
	issuer  = "http://localhost:9200"
	gateway = "http://127.0.0.1:8000/phantom"
	api     = "https://api.demo.example"
	reports = "https://reports.demo.example"
	secret  = "MARKED-SECRET-of-mcp-server"
)

// usual is a policy with one caller and one audience.
const usual = `version: 1
audiences:
  https://api.demo.example:
    scopes: [stocks/read, stocks/trade]
    claims: {region: region}
callers:
  mcp-server:
    subject_audience: https://mcp.internal.example
    authentication: {secret_variables: [MCP_SERVER_SECRET]}
    audiences:
      https://api.demo.example: {scopes: [stocks/read, stocks/trade]}
`

// withReports is usual with one more audience.
func withReports() string {
	return strings.Replace(usual, "callers:", "  https://reports.demo.example: {scopes: [stocks/read]}\ncallers:", 1) +
		"      https://reports.demo.example: {scopes: [stocks/read]}\n"
}

// environment is a configuration that works; change may alter it. Setting "" unsets. Each
// call has a gateway with a key of its own.
func environment(t testing.TB, policyText string, change map[string]string) []string {
	t.Helper()
	dir := t.TempDir()
	gatewayKey := filepath.Join(dir, "gateway.jwk")
	if _, err := keyring.LoadOrCreate(gatewayKey, ""); err != nil {
		t.Fatal(err)
	}
	variables := map[string]string{
		"PATH":                             os.Getenv("PATH"),
		"MCP_SERVER_SECRET":                secret,
		"TOKEN_EXCHANGE_LISTEN":            "127.0.0.1:0",
		"TOKEN_EXCHANGE_ISSUER":            issuer,
		"TOKEN_EXCHANGE_POLICY_FILE":       write(t, policyText),
		"TOKEN_EXCHANGE_SIGNING_KEY_FILE":  filepath.Join(dir, "keys", "sidecar.jwk"),
		"TOKEN_EXCHANGE_SUBJECT_ISSUER":    gateway,
		"TOKEN_EXCHANGE_SUBJECT_KEY_FILES": gatewayKey,
	}
	maps.Copy(variables, change)
	var out []string
	for name, value := range variables {
		if value != "" {
			out = append(out, name+"="+value)
		}
	}
	return out
}

func variable(environ []string, name string) string {
	for _, entry := range environ {
		if value, ok := strings.CutPrefix(entry, name+"="); ok {
			return value
		}
	}
	return ""
}

func write(t testing.TB, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	rewrite(t, path, content)
	return path
}

func rewrite(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func version(t testing.TB, policyText string) string {
	t.Helper()
	p, err := policy.Parse([]byte(policyText))
	if err != nil {
		t.Fatal(err)
	}
	return p.Version()
}

func ring(t testing.TB, path string) *keyring.Ring {
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

// mint is a phantom token of the gateway in environ for john; change may alter it.
func mint(t testing.TB, environ []string, change func(*keyring.Token)) string {
	t.Helper()
	phantom := keyring.Token{
		Issuer:   variable(environ, "TOKEN_EXCHANGE_SUBJECT_ISSUER"),
		Subject:  "john",
		Audience: []string{"https://mcp.internal.example"},
		ClientID: "dyn-123",
		IssuedAt: time.Now(),
		Expiry:   time.Now().Add(4 * time.Minute),
		Scope:    oauth.Scopes{"stocks/read"},
		Extra:    map[string]any{"region": "USA"},
	}
	if change != nil {
		change(&phantom)
	}
	token, err := ring(t, variable(environ, "TOKEN_EXCHANGE_SUBJECT_KEY_FILES")).Mint(phantom)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// TestMain keeps the program that the tests have built until all of them have ended.
func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "sidecar-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if err := os.Setenv(binaryFolder, dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	status := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(status)
}

const binaryFolder = "SIDECAR_TEST_FOLDER"

// binary builds the program, once for all tests.
var binary = sync.OnceValues(func() (string, error) {
	path := filepath.Join(os.Getenv(binaryFolder), "token-exchange-sidecar")
	out, err := exec.Command("go", append(append([]string{"build"}, raceFlags()...), "-o", path, ".")...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

// process is a running sidecar.
type process struct {
	environ []string
	cmd     *exec.Cmd
	address map[string]string // by door
	client  *http.Client      // reaches the token endpoint under every name

	read chan struct{} // closed when all output was read

	mu     sync.Mutex
	output bytes.Buffer
	lines  []line
}

// line is a line of the log.
type line map[string]any

// is reports whether the line has this message.
func (l line) is(message string) bool { return l["msg"] == message }

// patience bounds every wait for something that happens within seconds.
const patience = time.Minute

// start runs the program and waits until all its doors are open.
func start(t testing.TB, environ []string) *process {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	return startProgram(t, path, environ)
}

func startProgram(t testing.TB, path string, environ []string) *process {
	t.Helper()
	p := &process{environ: environ, cmd: exec.Command(path), read: make(chan struct{}), address: make(map[string]string)}
	p.cmd.Env = environ
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // when the test failed half-way
		<-p.read
		if log := p.log(); strings.Contains(log, "DATA RACE") {
			t.Errorf("a data race in the sidecar:\n%s", log)
		}
	})
	go p.readLog(stderr)
	doors := []string{"token endpoint"}
	if variable(environ, "TOKEN_EXCHANGE_EGRESS_LISTEN") != "" {
		doors = append(doors, "egress")
	}
	if variable(environ, "TOKEN_EXCHANGE_METRICS_LISTEN") != "" {
		doors = append(doors, "metrics")
	}
	for _, door := range doors {
		p.address[door], _ = p.await(t, 0, "serving at the "+door, func(l line) bool { return l.is("serving") && l["door"] == door })["address"].(string)
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", p.address["token endpoint"])
	}
	p.client = &http.Client{Transport: &http.Transport{DialContext: dial}, Timeout: patience}
	t.Cleanup(p.client.CloseIdleConnections)
	return p
}

func (p *process) readLog(stderr io.Reader) {
	defer close(p.read)
	buffer := make([]byte, 64<<10)
	var rest []byte
	for {
		n, err := stderr.Read(buffer)
		p.mu.Lock()
		p.output.Write(buffer[:n])
		rest = append(rest, buffer[:n]...)
		for {
			text, more, found := bytes.Cut(rest, []byte("\n"))
			if !found {
				break
			}
			var l line
			if json.Unmarshal(text, &l) == nil {
				p.lines = append(p.lines, l)
			}
			rest = more
		}
		p.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (p *process) log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.String()
}

// story is the log without its audit lines, which can be many.
func (p *process) story() string {
	var out strings.Builder
	for text := range strings.Lines(p.log()) {
		if !strings.Contains(text, `"msg":"token exchange decided"`) {
			out.WriteString(text)
		}
	}
	return out.String()
}

// mark is how many lines the log has now.
func (p *process) mark() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.lines)
}

// find is the first matching line behind a mark.
func (p *process) find(from int, match func(line) bool) line {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.lines[from:] {
		if match(l) {
			return l
		}
	}
	return nil
}

// await waits for a line behind a mark.
func (p *process) await(t testing.TB, from int, what string, match func(line) bool) line {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); time.Now().Before(end); {
		ended := false
		select {
		case <-tick.C:
		case <-p.read:
			ended = true
		}
		if l := p.find(from, match); l != nil {
			return l
		}
		if ended {
			break
		}
	}
	t.Fatalf("no line in the log about: %s\n%s", what, p.story())
	return nil
}

// eventually waits until ok.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatal("waited too long for: " + what)
		}
	}
}

func (p *process) signal(t testing.TB, signal os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
}

// wait returns the exit status.
func (p *process) wait(t testing.TB) int {
	t.Helper()
	<-p.read
	err := p.cmd.Wait()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return p.cmd.ProcessState.ExitCode()
}

// stop ends the process and wants status 0.
func (p *process) stop(t testing.TB) {
	t.Helper()
	p.signal(t, syscall.SIGTERM)
	if status := p.wait(t); status != exitOK {
		t.Errorf("after SIGTERM: got status %d, want %d\n%s", status, exitOK, p.story())
	}
}

// get is status and body of a document.
func (p *process) get(t testing.TB, path string) (int, string) {
	t.Helper()
	return get(t, p.client, issuer+path)
}

func get(t testing.TB, client *http.Client, url string) (int, string) {
	t.Helper()
	res, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

// tokens is a client for the token endpoint, mcp-server unless change says otherwise.
func (p *process) tokens(t testing.TB, change func(*tokenexchange.Config)) *tokenexchange.Client {
	t.Helper()
	cfg := tokenexchange.Config{Endpoint: issuer + "/token", ClientID: "mcp-server", ClientSecret: secret, Transport: p.client.Transport}
	if change != nil {
		change(&cfg)
	}
	client, err := tokenexchange.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// exchange gets a token for an audience.
func (p *process) exchange(t testing.TB, subject, audience string) *tokenexchange.Response {
	t.Helper()
	res, err := p.tokens(t, nil).Exchange(t.Context(), tokenexchange.Request{SubjectToken: subject, Audience: []string{audience}})
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// claims are those of a token, after its signature was checked with the keys that the sidecar
// publishes.
func (p *process) claims(t testing.TB, token, audience string) map[string]any {
	t.Helper()
	_, body := p.get(t, "/jwks.json")
	keys, err := keyring.ParsePublic([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := keyring.NewVerifier(keyring.VerifierConfig{Issuer: issuer, Audiences: []string{audience}, Keys: keyring.PublicKeys(keys)})
	if err != nil {
		t.Fatal(err)
	}
	verified, err := verifier.Verify(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	return verified.Introspection.Claims
}

// withoutSecrets fails when one of the values, or anything marked, is in text.
func withoutSecrets(t testing.TB, where, text string, values ...string) {
	t.Helper()
	for _, value := range append(values, "MARKED") {
		parts := []string{value}
		if pieces := strings.Split(value, "."); len(pieces) == 3 { // the signature alone is enough
			parts = append(parts, pieces[2])
		}
		for _, part := range parts {
			if strings.Contains(text, part) {
				t.Errorf("%s has %q", where, part)
			}
		}
	}
}
