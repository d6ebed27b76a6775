package deploy_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"phantomtoken/testenv"
	"phantomtoken/testenv/kongtest"
)

const secret = "a secret of this test"

// TestKongFiles builds the programs once and has them work with the files as they are.
func TestKongFiles(t *testing.T) {
	programs, err := testenv.Build(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Run("IdentityProvider", func(t *testing.T) { identityProvider(t, programs.Plugin) })
	t.Run("Minimal", func(t *testing.T) { minimal(t, programs.Plugin) })
	t.Run("PluginServer", func(t *testing.T) { pluginServer(t, programs.Plugin) })
	t.Run("Sidecar", func(t *testing.T) { sidecarSettings(t, programs.Sidecar) })
}

// newKey makes a key as the service keys of docker-compose.yml does.
func newKey(t *testing.T, plugin string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "key.json")
	if out, err := exec.CommandContext(t.Context(), plugin, "keys", "-out", file).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return file
}

func startGateway(t *testing.T, cfg kongtest.Config) *kongtest.Gateway {
	t.Helper()
	var log bytes.Buffer
	cfg.Log = &log
	gateway, err := kongtest.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := gateway.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("log of the gateway:\n%s", log.String())
		}
	})
	return gateway
}

// ask makes one request under a host name and returns status, challenge and body.
func ask(t *testing.T, gateway *kongtest.Gateway, method, host, path string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, gateway.URL()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = host
	transport := &http.Transport{Proxy: nil, DisableKeepAlives: true}
	res, err := (&http.Client{Transport: transport, Timeout: 10 * time.Second}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, res.Header.Get("WWW-Authenticate") + " " + string(body)
}

// identityProvider runs kong.yml with an upstream in the place of Keycloak that says what
// reached it.
func identityProvider(t *testing.T, plugin string) {
	const reached = http.StatusTeapot
	keycloak := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(reached)
		_, _ = io.WriteString(w, r.Host+r.URL.Path)
	}))
	t.Cleanup(keycloak.Close)
	gateway := startGateway(t, kongtest.Config{
		File:      filepath.Join(root, "kong.yml"),
		Addresses: map[string]string{"http://keycloak:8080": keycloak.URL},
		Plugins:   map[string]string{"phantom-token": plugin},
		Env:       map[string]string{"GATEWAY_CLIENT_SECRET": secret, "PHANTOM_SIGNING_KEY_FILE": newKey(t, plugin)},
	})
	const host = "localhost:8180"
	for _, path := range []string{
		"/realms/mcp/.well-known/openid-configuration",
		"/realms/mcp/.well-known/oauth-authorization-server",
		"/.well-known/oauth-authorization-server/realms/mcp",
		"/realms/mcp/protocol/openid-connect/auth",
		"/realms/mcp/protocol/openid-connect/token",
		"/realms/mcp/protocol/openid-connect/certs",
		"/realms/mcp/protocol/openid-connect/revoke",
		"/realms/mcp/protocol/openid-connect/logout",
		"/realms/mcp/clients-registrations/openid-connect",
		"/realms/mcp/clients-registrations/openid-connect/0a1b2c3d-aaaa-bbbb-cccc-0123456789ab",
		"/realms/mcp/login-actions/authenticate",
		"/realms/mcp/login-actions/consent",
		"/realms/mcp/login-actions/required-action",
		"/resources/4hq2v/login/keycloak.v2/css/styles.css",
		"/resources/4hq2v/common/keycloak/vendor/patternfly-v5/patternfly.min.css",
	} {
		if status, body := ask(t, gateway, http.MethodGet, host, path); status != reached || body != " "+host+path {
			t.Errorf("%s: got %d %s, want it to reach Keycloak under the same host and path", path, status, body)
		}
	}
	for name, path := range map[string]string{
		"AdminConsole":             "/admin/master/console/",
		"AdminAPI":                 "/admin/realms/mcp/users",
		"AdminTheme":               "/resources/4hq2v/admin/keycloak.v2/index.js",
		"MasterRealm":              "/realms/master/protocol/openid-connect/token",
		"MasterMetadata":           "/realms/master/.well-known/openid-configuration",
		"AccountPages":             "/realms/mcp/account/",
		"Introspection":            "/realms/mcp/protocol/openid-connect/token/introspect",
		"DeviceFlow":               "/realms/mcp/protocol/openid-connect/auth/device",
		"DefaultRegistration":      "/realms/mcp/clients-registrations/default",
		"DefaultRegistrationOfOne": "/realms/mcp/clients-registrations/default/abc",
		"SAMLRegistration":         "/realms/mcp/clients-registrations/saml2-entity-descriptor",
		"InstallRegistration":      "/realms/mcp/clients-registrations/install/abc",
		"SelfRegistration":         "/realms/mcp/login-actions/registration",
		"SAML":                     "/realms/mcp/protocol/saml",
		"RealmItself":              "/realms/mcp",
		"OtherRealm":               "/realms/mcp2/.well-known/openid-configuration",
		"Welcome":                  "/",
		"Metrics":                  "/metrics",
		"Health":                   "/health/ready",
		"DotSegments":              "/resources/4hq2v/common/../../../admin/master/console/",
		"EncodedSlashes":           "/resources/4hq2v/login/..%2F..%2F..%2Fadmin/master/console/",
		"MatrixParameters":         "/resources/4hq2v/login/..;/..;/..;/admin/master/console/",
		"EncodedMatrixParameters":  "/resources/4hq2v/login/%2e%2e;/%2e%2e;/%2e%2e;/admin/master/console/",
		"Backslashes":              "/resources/4hq2v/login/..%5C..%5C..%5Cadmin/master/console/",
		"EncodedTwice":             "/resources/4hq2v/login/%252e%252e/%252e%252e/admin/master/console/",
		"EncodedDotSegments":       "/resources/4hq2v/common/%2e%2e/%2e%2e/%2e%2e/admin/master/console/",
		"EncodedSlash":             "/realms/mcp/clients-registrations/openid-connect%2f..%2fdefault",
		"DotSegmentInRegistration": "/realms/mcp/clients-registrations/openid-connect/../default",
		"DoubledSlash":             "/realms/mcp//clients-registrations/default",
		"Suffix":                   "/realms/mcp/protocol/openid-connect/token/x",
	} {
		if status, body := ask(t, gateway, http.MethodPost, host, path); status == reached {
			t.Errorf("%s: %s reached Keycloak as %s", name, path, body)
		}
	}
	// The provider is on a host of its own: on the gateway's its paths lead nowhere.
	for _, path := range []string{"/realms/mcp/protocol/openid-connect/auth", "/resources/4hq2v/login/x.css"} {
		if status, _ := ask(t, gateway, http.MethodGet, "localhost:8000", path); status != http.StatusNotFound {
			t.Errorf("%s on the gateway's host: got %d, want 404", path, status)
		}
	}
	for path, want := range map[string]string{
		"/mcp": `resource_metadata="http://localhost:8000/.well-known/oauth-protected-resource/mcp"`,
		"/.well-known/oauth-protected-resource/mcp":         `"resource":"http://localhost:8000/mcp"`,
		"/.well-known/oauth-protected-resource":             `"resource":"http://localhost:8000/mcp"`,
		"/advisor/mcp":                                      `resource_metadata="http://localhost:8000/.well-known/oauth-protected-resource/advisor/mcp"`,
		"/.well-known/oauth-protected-resource/advisor/mcp": `"resource":"http://localhost:8000/advisor/mcp"`,
		"/phantom/jwks.json":                                `"keys"`,
		"/api/stocks":                                       `resource_metadata="http://localhost:8000/.well-known/oauth-protected-resource/api"`,
		"/.well-known/oauth-protected-resource/api":         `"resource":"http://localhost:8000/api"`,
	} {
		if status, got := ask(t, gateway, http.MethodGet, "localhost:8000", path); status >= http.StatusNotFound || !strings.Contains(got, want) {
			t.Errorf("%s: got %d %s, want %s", path, status, got, want)
		}
	}
}

// minimal loads the smallest file and asks for what a client asks first.
func minimal(t *testing.T, plugin string) {
	gateway := startGateway(t, kongtest.Config{
		File:      filepath.Join(root, "deploy", "kong", "minimal.yml"),
		Addresses: map[string]string{"/var/lib/phantom-token/key.json": newKey(t, plugin)},
		Plugins:   map[string]string{"phantom-token": plugin},
		Env:       map[string]string{"GATEWAY_CLIENT_SECRET": secret},
	})
	for path, want := range map[string]struct {
		status int
		text   string
	}{
		"/mcp": {401, `Bearer resource_metadata="https://gw.example.com/.well-known/oauth-protected-resource/mcp"`},
		"/.well-known/oauth-protected-resource/mcp":       {200, `"authorization_servers":["https://login.example.com"]`},
		"/.well-known/oauth-authorization-server/phantom": {200, `"jwks_uri":"https://gw.example.com/phantom/jwks.json"`},
		"/phantom/jwks.json":                              {200, `"keys"`},
		"/anything":                                       {401, `Bearer`},
	} {
		if status, got := ask(t, gateway, http.MethodGet, "gw.example.com", path); status != want.status || !strings.Contains(got, want.text) {
			t.Errorf("%s: got %d %s, want %d with %s", path, status, got, want.status, want.text)
		}
	}
	if status, _ := ask(t, gateway, http.MethodGet, "else.example.com", "/mcp"); status != http.StatusNotFound {
		t.Errorf("another host: got %d, want 404", status)
	}
}

// pluginServer runs the query command of the image and compares what it says with the rest
// of what Kong is told.
func pluginServer(t *testing.T, plugin string) {
	env := map[string]string{}
	for _, d := range dockerfiles(t) {
		if d.name != "deploy/kong/Dockerfile" {
			continue
		}
		for _, words := range d.instructions {
			if words[0] != "ENV" {
				continue
			}
			for setting := range strings.SplitSeq(strings.Join(words[1:], " "), " KONG_") {
				name, value, _ := strings.Cut(strings.TrimPrefix(setting, "KONG_"), "=")
				env[name] = strings.Trim(value, `"`)
			}
		}
	}
	const prefix = "PLUGINSERVER_PHANTOM_TOKEN_"
	query := strings.Fields(env[prefix+"QUERY_CMD"])
	if len(query) == 0 || query[0] != "/usr/local/bin/phantom-token" {
		t.Fatalf("query command: got %q in %v", query, env)
	}
	if got := strings.Fields(env[prefix+"START_CMD"]); strings.Join(append(got, "-dump"), " ") != strings.Join(query, " ") {
		t.Errorf("start command: got %q, want that of the query without -dump", got)
	}
	out, err := exec.CommandContext(t.Context(), plugin, query[1:]...).Output()
	if err != nil {
		t.Fatal(err)
	}
	var info struct {
		SocketPath string
		Plugins    []struct{ Name string }
	}
	if err := json.Unmarshal(out, &info); err != nil || len(info.Plugins) != 1 {
		t.Fatalf("query command: got %s, %v", out, err)
	}
	for name, want := range map[string]string{
		prefix + "SOCKET":    info.SocketPath,
		"PREFIX":             filepath.Dir(info.SocketPath),
		"PLUGINS":            "bundled," + info.Plugins[0].Name,
		"PLUGINSERVER_NAMES": info.Plugins[0].Name,
	} {
		if env[name] != want {
			t.Errorf("KONG_%s: got %q, want %q", name, env[name], want)
		}
	}
}

// sidecarSettings has the sidecar check the environment that docker-compose.yml gives it.
func sidecarSettings(t *testing.T, sidecar string) {
	cmd := exec.CommandContext(t.Context(), sidecar, "-check")
	service := compose(t).Services["sidecar"]
	for name, value := range service.Environment {
		value = reference.ReplaceAllString(value, secret)
		if file, ok := service.mounted()[value]; ok {
			value = file
		}
		value = strings.ReplaceAll(value, "/var/lib/token-exchange", t.TempDir())
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("got %v\n%s", err, out)
	}
}

// TestMakeEnv runs the script behind `make env` in a folder of its own, twice.
func TestMakeEnv(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "deploy"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{".env.example", "deploy/env.sh"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(read(t, name)), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	run := func() string {
		cmd := exec.CommandContext(t.Context(), filepath.Join(dir, "deploy", "env.sh"))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		data, err := os.ReadFile(filepath.Join(dir, ".env"))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	made := run()
	seen := map[string]bool{}
	for line := range strings.Lines(made) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(line, "#") {
			if len(value) != 32 || seen[value] {
				t.Errorf("%s: got %q, want 32 digits of its own", name, value)
			}
			seen[value] = true
		}
	}
	if len(seen) != strings.Count(read(t, ".env.example"), "=\n") {
		t.Errorf("values: got %d, want one for each name of .env.example", len(seen))
	}
	if info, err := os.Stat(filepath.Join(dir, ".env")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode: got %v, %v, want 0600", info.Mode(), err)
	}
	if run() != made {
		t.Error("a second run changed .env")
	}
	// A later version needs one more name: it is added, and the others stay.
	older := made[:strings.Index(made, "ADVISOR_CLIENT_SECRET=")] + made[strings.Index(made, "# Of Redis"):]
	if err := os.WriteFile(filepath.Join(dir, ".env"), []byte(older), 0o600); err != nil {
		t.Fatal(err)
	}
	if added, ok := strings.CutPrefix(run(), older); !ok || !strings.HasPrefix(added, "ADVISOR_CLIENT_SECRET=") || len(strings.TrimSpace(added)) != len("ADVISOR_CLIENT_SECRET=")+32 {
		t.Errorf("a name that was missing: got %q after the rest, want it with a value", added)
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".env.new")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
}
