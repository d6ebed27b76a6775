package deploy_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"phantomtoken/testenv"
	"phantomtoken/testenv/authserver"
	"phantomtoken/testenv/kongtest"
)

// stack is docker-compose.yml without containers: its programs with the environment that it
// gives them, and its health checks. Only addresses, folders and secrets are replaced, and
// the test's authorization server stands where Keycloak is.
type stack struct {
	compose   composeFile
	programs  map[string]string // path in the image → path here
	addresses map[string]string // as in Kong's and the programs' settings → here
	log       syncBuffer
}

// syncBuffer is a buffer that several programs write to.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

const startTimeout = 20 * time.Second

func TestStackWithoutContainers(t *testing.T) {
	dir := t.TempDir()
	programs, err := testenv.Build(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", dir+"/",
		"phantomtoken/testenv/mcpserver/cmd/mcpserver", "phantomtoken/testenv/advisor/cmd/advisor", "phantomtoken/testenv/stocksapi/cmd/stocksapi").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	s := &stack{
		compose: compose(t),
		programs: map[string]string{
			"/token-exchange-sidecar": programs.Sidecar,
			"/mcpserver":              filepath.Join(dir, "mcpserver"),
			"/advisor":                filepath.Join(dir, "advisor"),
			"/stocksapi":              filepath.Join(dir, "stocksapi"),
		},
		addresses: map[string]string{"/var/lib/token-exchange": t.TempDir()},
	}
	gateway := s.place(t, "kong:8000", "localhost:8000")
	s.place(t, "sidecar:9200", "0.0.0.0:9200")
	s.place(t, "127.0.0.1:9201")
	s.place(t, "mcp-server:9000", "0.0.0.0:9000")
	s.place(t, "advisor:9300", "0.0.0.0:9300")
	s.place(t, "stocks-api:9100", "0.0.0.0:9100")

	mcpURL, advisorURL, apiURL := "http://"+gateway+"/mcp", "http://"+gateway+"/advisor/mcp", "http://"+gateway+"/api"
	provider, err := authserver.Start(t.Context(), authserver.Config{
		Users:     []authserver.User{{Name: "jane.roe@demo.example", Password: secret, Region: "Europe"}},
		Clients:   []authserver.Client{{ID: "api-gateway-client", Secret: secretOf("GATEWAY_CLIENT_SECRET"), Name: "Gateway"}},
		Resources: []string{mcpURL, advisorURL, apiURL},
		Scopes:    []authserver.Scope{{Name: testenv.ScopeRead, Description: "Read"}, {Name: testenv.ScopeAdvisor, Description: "Ask"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := provider.Close(); err != nil {
			t.Error(err)
		}
	})
	const realm = "/realms/mcp"
	s.addresses["http://localhost:8180"+realm] = provider.Issuer()
	s.addresses["http://keycloak:8080"+realm+"/protocol/openid-connect/token/introspect"] = provider.Issuer() + "/introspect"

	env := map[string]string{}
	for _, setting := range s.environment("kong") {
		name, value, _ := strings.Cut(setting, "=")
		env[name] = value
	}
	env["PHANTOM_SIGNING_KEY_FILE"] = newKey(t, programs.Plugin)
	startGateway(t, kongtest.Config{
		File: filepath.Join(root, "kong.yml"), Addresses: s.addresses, Env: env, Listen: gateway,
		Plugins: map[string]string{"phantom-token": programs.Plugin},
	})
	for _, service := range []string{"sidecar", "stocks-api", "mcp-server", "advisor"} {
		s.start(t, service)
	}

	token := provider.IssueToken(authserver.Grant{User: "jane.roe@demo.example", Scope: testenv.ScopeRead, Resource: mcpURL})
	status, body := post(t, mcpURL, token, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"fetch_stock_prices","arguments":{"symbols":["DUFF"]}}}`)
	if status != http.StatusOK || !strings.Contains(body, "57.3") {
		t.Errorf("prices by MCP: got %d %s", status, body)
	}
	token = provider.IssueToken(authserver.Grant{User: "jane.roe@demo.example", Scope: testenv.ScopeAdvisor + " " + testenv.ScopeRead, Resource: advisorURL})
	status, body = post(t, advisorURL, token, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"compare_stocks","arguments":{"symbols":["DUFF","VNDL"]}}}`)
	if status != http.StatusOK || !strings.Contains(body, "31.4") {
		t.Errorf("prices by another MCP server: got %d %s", status, body)
	}
	token = provider.IssueToken(authserver.Grant{User: "jane.roe@demo.example", Scope: testenv.ScopeRead, Resource: apiURL})
	status, body = get(t, apiURL+"/stocks", token)
	if status != http.StatusOK || !strings.Contains(body, "DUFF") {
		t.Errorf("prices without MCP: got %d %s", status, body)
	}
	if t.Failed() {
		t.Logf("log of the programs:\n%s", s.log.String())
	}
}

// place gives a service an address here, under every name it has in the files.
func (s *stack) place(t *testing.T, names ...string) string {
	t.Helper()
	address, err := testenv.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		s.addresses[name] = address
	}
	return address
}

func secretOf(name string) string { return "the-value-of-" + name }

// environment is that of a service, with the addresses of here.
func (s *stack) environment(service string) []string {
	var out []string
	for name, value := range s.compose.Services[service].Environment {
		if m := reference.FindStringSubmatch(value); m != nil {
			value = secretOf(m[1])
		}
		if file, ok := s.compose.Services[service].mounted()[value]; ok {
			value = file
		}
		for from, to := range s.addresses {
			value = strings.ReplaceAll(value, from, to)
		}
		out = append(out, name+"="+value)
	}
	return out
}

// start runs the program of a service and waits until its health check says that it is well.
func (s *stack) start(t *testing.T, service string) {
	t.Helper()
	var test []string
	list, _ := s.compose.Services[service].Healthcheck.Test.([]any)
	for _, word := range list {
		test = append(test, fmt.Sprint(word))
	}
	if len(test) < 2 || test[0] != "CMD" || s.programs[test[1]] == "" {
		t.Fatalf("service %s: expected the service's own program as health check, got %q", service, test)
	}
	program := s.programs[test[1]]
	cmd := exec.Command(program)
	cmd.Env = s.environment(service)
	cmd.Stdout, cmd.Stderr = &s.log, &s.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Errorf("service %s: %v", service, err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("service %s: %v, want exit status 0 after SIGTERM\n%s", service, err, s.log.String())
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		check := exec.CommandContext(ctx, program, test[2:]...)
		check.Env = cmd.Env
		out, err := check.CombinedOutput()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("service %s is not healthy: %v %s\n%s", service, err, out, s.log.String())
		}
	}
}

func post(t *testing.T, url, token, body string) (int, string) {
	t.Helper()
	return send(t, http.MethodPost, url, token, body)
}

func get(t *testing.T, url, token string) (int, string) {
	t.Helper()
	return send(t, http.MethodGet, url, token, "")
}

func send(t *testing.T, method, url, token, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	client := &http.Client{Transport: &http.Transport{Proxy: nil, DisableKeepAlives: true}, Timeout: startTimeout}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(data)
}
