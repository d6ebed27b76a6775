package main

import (
	"bytes"
	"cmp"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"phantomtoken/internal/keyring"
	"phantomtoken/tokenexchange"
)

func TestReadConfig(t *testing.T) {
	cfg, err := readConfig(environment(t, usual, map[string]string{
		"TOKEN_EXCHANGE_LISTEN":                     "",
		"TOKEN_EXCHANGE_KEY_ROTATION":               "720h",
		"TOKEN_EXCHANGE_CACHE_ENTRIES":              "7",
		"TOKEN_EXCHANGE_IDP_CLIENT_ID":              "token-exchange",
		"TOKEN_EXCHANGE_INSECURE_HTTP_HOSTS":        "sidecar , gateway:8000",
		"TOKEN_EXCHANGE_SERVICE_HOST":               "10.0.0.1", // as Kubernetes does
		"TOKEN_EXCHANGE_SERVICE_PORT_HTTP":          "9200",
		"TOKEN_EXCHANGE_SIDECAR_PORT_9200_TCP_ADDR": "10.0.0.1",
		"TOKEN_EXCHANGE_PORT":                       "tcp://10.0.0.1:9200",
		"TOKENEXCHANGE_UNRELATED":                   "x",
	}))
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Listen != "127.0.0.1:9200" || cfg.SubjectMode != "mint" || cfg.Provider.AuthMethod != "client_secret_basic" {
		t.Errorf("defaults: got %q, %q, %q", cfg.Listen, cfg.SubjectMode, cfg.Provider.AuthMethod)
	}
	if cfg.KeyRotation != 720*time.Hour || cfg.CacheEntries != 7 || cfg.Provider.ClientID != "token-exchange" {
		t.Errorf("got %s, %d, %q", cfg.KeyRotation, cfg.CacheEntries, cfg.Provider.ClientID)
	}
	if want := []string{"sidecar", "gateway:8000"}; !slices.Equal(cfg.InsecureHTTPHosts, want) || cfg.PublishedKeyFiles != nil {
		t.Errorf("lists: got %q and %q, want %q and none", cfg.InsecureHTTPHosts, cfg.PublishedKeyFiles, want)
	}
	if value, set := cfg.lookup("MCP_SERVER_SECRET"); !set || value != secret {
		t.Error("a variable that the policy names is not found")
	}
}

// TestProblems: each problem names its variable, what was expected and what came; all are
// in one message; none quotes a secret or leaves a key behind.
func TestProblems(t *testing.T) {
	shared := write(t, "MARKED")
	if err := os.Chmod(shared, 0o644); err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	key := filepath.Join(folder, "key.jwk")
	if _, err := keyring.LoadOrCreate(key, ""); err != nil {
		t.Fatal(err)
	}
	writable := write(t, "MARKED-MARKED-MARKED")
	if err := os.Chmod(writable, 0o662); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name   string
		policy string // usual when empty
		change map[string]string
		want   []string // each is the beginning of a line of the message
	}{
		{name: "nothing set", change: map[string]string{
			"TOKEN_EXCHANGE_ISSUER": "", "TOKEN_EXCHANGE_SIGNING_KEY_FILE": "", "TOKEN_EXCHANGE_SUBJECT_ISSUER": "", "TOKEN_EXCHANGE_SUBJECT_KEY_FILES": "", "TOKEN_EXCHANGE_POLICY_FILE": "",
		}, want: []string{
			"TOKEN_EXCHANGE_SIGNING_KEY_FILE: expected the path of a key file or of a folder of keys, got nothing",
			"TOKEN_EXCHANGE_SUBJECT_KEY_FILES or TOKEN_EXCHANGE_SUBJECT_JWKS_URI: expected one of the two, got neither",
			"TOKEN_EXCHANGE_ISSUER: expected the URL of this service, got nothing",
			"TOKEN_EXCHANGE_SUBJECT_ISSUER: expected the issuer of the phantom tokens, got nothing",
			"TOKEN_EXCHANGE_POLICY_FILE: expected the path of the policy file, got nothing",
		}},
		{name: "environment and policy at once", change: map[string]string{
			"TOKEN_EXCHANGE_KEY_ROTATION": "monthly", "TOKEN_EXCHANGE_CACHE_ENTRIES": "0x", "TOKEN_EXCHANGE_ISSUER": "http://sidecar:9200", "TOKEN_EXCHANGE_SUBJECT_MODE": "copy",
			"TOKEN_EXCHANGE_LISTEN": "9200", "TOKEN_EXCHANGE_METRICS_LISTEN": "9300", "MCP_SERVER_SECRET": "MARKED",
		}, want: []string{
			`TOKEN_EXCHANGE_KEY_ROTATION: expected a duration such as 720h, got "monthly"`,
			`TOKEN_EXCHANGE_CACHE_ENTRIES: expected a number such as 10000, got "0x"`,
			`TOKEN_EXCHANGE_ISSUER: expected https, got http to "sidecar:9200"`,
			`TOKEN_EXCHANGE_SUBJECT_MODE: expected mint, introspection or exchange, as phantom_token.mode at the gateway, got "copy"`,
			"TOKEN_EXCHANGE_LISTEN: expected host:port: ",
			"TOKEN_EXCHANGE_METRICS_LISTEN: expected host:port: ",
			"POLICY:7: callers.mcp-server.authentication.secret_variables[0]: expected at least 16 random bytes, got 6",
		}},
		{name: "variables of before", change: map[string]string{"TOKEN_EXCHANGE_CLIENTS_0_ID": "x", "TOKEN_EXCHANGE_TOKEN_LIFETIME": "5m"},
			want: []string{
				"TOKEN_EXCHANGE_CLIENTS_0_ID: expected callers, audiences and lifetimes in the policy file (TOKEN_EXCHANGE_POLICY_FILE), got a variable",
				"TOKEN_EXCHANGE_TOKEN_LIFETIME: expected callers, audiences and lifetimes in the policy file (TOKEN_EXCHANGE_POLICY_FILE), got a variable",
			}},
		{name: "slip in a name", change: map[string]string{"TOKEN_EXCHANGE_SUBJECT_ISSUR": "x"},
			want: []string{"TOKEN_EXCHANGE_SUBJECT_ISSUR: expected one of the variables that -help lists, got another"}},
		{name: "policy file is missing", change: map[string]string{"TOKEN_EXCHANGE_POLICY_FILE": filepath.Join(folder, "none")},
			want: []string{filepath.Join(folder, "none") + ": expected a readable policy file: "}},
		{name: "policy file is a folder", change: map[string]string{"TOKEN_EXCHANGE_POLICY_FILE": folder},
			want: []string{folder + ": expected a readable policy file: expected " + folder + " to be a regular file"}},
		{name: "RejectsPolicyFileThatEverybodyMayWrite", change: map[string]string{"TOKEN_EXCHANGE_POLICY_FILE": writable},
			want: []string{writable + ": expected a readable policy file: expected a file that not everybody may write, got mode 0662"}},
		{name: "RejectsLargePolicyFile", change: map[string]string{"TOKEN_EXCHANGE_POLICY_FILE": write(t, strings.Repeat("# MARKED\n", 120_000))},
			want: []string{"/"}},
		{name: "problems of the policy", policy: "version: 1\ncallers:\n  x: {subject_audiense: a}\n",
			want: []string{"POLICY:3:7: callers.x.subject_audiense: ", "POLICY:3:3: callers.x.subject_audience: "}},
		{name: "secret of a caller is missing", change: map[string]string{"MCP_SERVER_SECRET": ""},
			want: []string{"POLICY:7: callers.mcp-server.authentication.secret_variables[0]: expected the name of an environment variable that is set"}},
		{name: "RejectsSecretInPlaceOfItsFile", policy: strings.Replace(usual, "secret_variables: [MCP_SERVER_SECRET]", "secret_files: [/MARKED-SECRET-of-mcp-server]", 1),
			want: []string{"POLICY:7: callers.mcp-server.authentication.secret_files[0]: expected the path of a readable file with the secret: no such file"}},
		{name: "RejectsSecretFileThatOthersMayWrite", policy: strings.Replace(usual, "secret_variables: [MCP_SERVER_SECRET]", "secret_files: ["+writable+"]", 1),
			want: []string{"POLICY:7: callers.mcp-server.authentication.secret_files[0]: expected a file that only its owner may write, got mode 0662; run chmod go-w"}},
		{name: "certificates of callers without authorities", policy: strings.Replace(usual, "secret_variables: [MCP_SERVER_SECRET]", "mtls: {dns_name: mcp.example}", 1),
			want: []string{"POLICY:7: callers.mcp-server.authentication.mtls: expected authorities of client certificates in TOKEN_EXCHANGE_TLS_CLIENT_CA_FILE, got none"}},
		{name: "service account without cluster", policy: strings.Replace(usual, "secret_variables: [MCP_SERVER_SECRET]", "kubernetes: {namespace: mcp, service_account: server}", 1),
			want: []string{"POLICY:7: callers.mcp-server.authentication.kubernetes: expected the issuer of the cluster in TOKEN_EXCHANGE_KUBERNETES_ISSUER, got none"}},
		{name: "half a cluster is one problem", policy: strings.Replace(usual, "secret_variables: [MCP_SERVER_SECRET]", "kubernetes: {namespace: mcp, service_account: server}", 1),
			change: map[string]string{"TOKEN_EXCHANGE_KUBERNETES_JWKS_URI": "https://cluster.example/keys"},
			want:   []string{"TOKEN_EXCHANGE_KUBERNETES_ISSUER and TOKEN_EXCHANGE_KUBERNETES_JWKS_URI: expected both, got one of them"}},
		{name: "provider for tokens that the gateway mints", policy: delegated, change: providerSettings(nil),
			want: []string{"POLICY:3: audiences.https://api.demo.example.issue: expected mint, got idp: the gateway mints its phantom tokens itself (TOKEN_EXCHANGE_SUBJECT_MODE is mint)"}},
		{name: "no provider", policy: delegated, change: map[string]string{"TOKEN_EXCHANGE_SUBJECT_MODE": "exchange"},
			want: []string{"POLICY:3: audiences.https://api.demo.example.issue: expected an identity provider for idp, got none: set TOKEN_EXCHANGE_IDP_TOKEN_ENDPOINT"}},
		{name: "provider that is wrong is no missing one", policy: delegated, change: providerSettings(map[string]string{
			"TOKEN_EXCHANGE_SUBJECT_MODE": "exchange", "TOKEN_EXCHANGE_IDP_TOKEN_ENDPOINT": "http://idp.example/token", "TOKEN_EXCHANGE_IDP_CLIENT_ID": "",
			"TOKEN_EXCHANGE_IDP_CLIENT_SECRET_FILE": writable, "TOKEN_EXCHANGE_IDP_AUTH_METHOD": "tls", "TOKEN_EXCHANGE_IDP_CA_FILE": filepath.Join(folder, "none"),
			"TOKEN_EXCHANGE_IDP_ISSUER": "https://other.example",
		}), want: []string{
			`TOKEN_EXCHANGE_IDP_TOKEN_ENDPOINT: expected https, got http to "idp.example"`,
			"TOKEN_EXCHANGE_IDP_CLIENT_ID: expected the id of this sidecar at the identity provider, got nothing",
			"TOKEN_EXCHANGE_IDP_CLIENT_SECRET: expected the secret once, got it in TOKEN_EXCHANGE_IDP_CLIENT_SECRET_FILE too",
			`TOKEN_EXCHANGE_IDP_AUTH_METHOD: expected client_secret_basic or client_secret_post, got "tls"`,
			"TOKEN_EXCHANGE_IDP_CA_FILE: expected a readable file with certificates",
			"TOKEN_EXCHANGE_IDP_JWKS_URI: expected the key set of TOKEN_EXCHANGE_IDP_ISSUER, which is another issuer than TOKEN_EXCHANGE_SUBJECT_ISSUER, got nothing",
		}},
		{name: "settings of a provider without its endpoint", change: map[string]string{"TOKEN_EXCHANGE_IDP_CLIENT_ID": "x"},
			want: []string{"TOKEN_EXCHANGE_IDP_TOKEN_ENDPOINT: expected the token endpoint of the identity provider beside its other settings, got nothing"}},
		{name: "RejectsEgressThatOthersReach", change: map[string]string{"TOKEN_EXCHANGE_EGRESS_LISTEN": "0.0.0.0:9201"},
			want: []string{`TOKEN_EXCHANGE_EGRESS_LISTEN: expected a loopback address like 127.0.0.1:9201, or unix: and a path, got "0.0.0.0:9201"`}},
		{name: "egress socket without a path", change: map[string]string{"TOKEN_EXCHANGE_EGRESS_LISTEN": "unix:"},
			want: []string{"TOKEN_EXCHANGE_EGRESS_LISTEN: expected unix: and the path of a socket"}},
		{name: "routes that cannot work", policy: usual + "egress:\n  caller: mcp-server\n  routes:\n  - {path: /a, upstream: \"http://api.example\", audience: \"https://api.demo.example\"}\n  - {path: /b, upstream: \"https://api.example\", ca_file: /none/ca.pem, audience: \"https://api.demo.example\"}\n",
			change: map[string]string{"TOKEN_EXCHANGE_EGRESS_LISTEN": "127.0.0.1:0"},
			want: []string{
				`POLICY:15: egress.routes[0].upstream: expected https, got http to "api.example"`,
				"POLICY:16: egress.routes[1].ca_file: reading certificates: ",
			}},
		{name: "half of TLS", change: map[string]string{"TOKEN_EXCHANGE_TLS_CLIENT_CA_FILE": shared},
			want: []string{"TOKEN_EXCHANGE_TLS_CERTIFICATE_FILE and TOKEN_EXCHANGE_TLS_KEY_FILE: expected both, got one of them or neither"}},
		{name: "TLS files that hold something else", change: map[string]string{"TOKEN_EXCHANGE_TLS_CERTIFICATE_FILE": shared, "TOKEN_EXCHANGE_TLS_KEY_FILE": filepath.Join(folder, "none")},
			want: []string{"TOKEN_EXCHANGE_TLS_KEY_FILE: expected the path of a readable file with the server's private key: no such file"}},
		{name: "TLS certificate and key swapped", change: map[string]string{"TOKEN_EXCHANGE_TLS_CERTIFICATE_FILE": shared, "TOKEN_EXCHANGE_TLS_KEY_FILE": shared},
			want: []string{"TOKEN_EXCHANGE_TLS_CERTIFICATE_FILE, TOKEN_EXCHANGE_TLS_KEY_FILE: expected a certificate in PEM and its private key"}},
		{name: "decisions left out of the log", change: map[string]string{"TOKEN_EXCHANGE_LOG_LEVEL": "warn"},
			want: []string{"TOKEN_EXCHANGE_LOG_LEVEL: expected info or debug, got warn"}},
		{name: "no room for tokens", change: map[string]string{"TOKEN_EXCHANGE_CACHE_ENTRIES": "0"},
			want: []string{"TOKEN_EXCHANGE_CACHE_ENTRIES: expected 1 to 10000000, got 0"}},
		{name: "keys that take turns too fast", change: map[string]string{"TOKEN_EXCHANGE_KEY_ROTATION": "5m"},
			want: []string{"TOKEN_EXCHANGE_KEY_ROTATION: expected a rotation every 2 hours or more"}},
		{name: "folder of keys without a key", change: map[string]string{"TOKEN_EXCHANGE_SIGNING_KEY_FILE": t.TempDir()},
			want: []string{"TOKEN_EXCHANGE_SIGNING_KEY_FILE: opening key folder: "}},
		{name: "rotation of a key file", change: map[string]string{"TOKEN_EXCHANGE_SIGNING_KEY_FILE": key, "TOKEN_EXCHANGE_KEY_ROTATION": "24h"},
			want: []string{"TOKEN_EXCHANGE_SIGNING_KEY_FILE, a folder with TOKEN_EXCHANGE_KEY_ROTATION: "}},
		{name: "RejectsOneKeyForBothIssuers", change: map[string]string{"TOKEN_EXCHANGE_SIGNING_KEY_FILE": key, "TOKEN_EXCHANGE_SUBJECT_KEY_FILES": key},
			want: []string{"TOKEN_EXCHANGE_SUBJECT_KEY_FILES: expected other keys than those of TOKEN_EXCHANGE_SIGNING_KEY_FILE and TOKEN_EXCHANGE_PUBLISHED_KEY_FILES, got key "}},
		{name: "RejectsSubjectKeyFileThatOthersMayWrite", change: map[string]string{"TOKEN_EXCHANGE_SUBJECT_KEY_FILES": writable},
			want: []string{"TOKEN_EXCHANGE_SUBJECT_KEY_FILES: loading public keys: expected key file " + writable + " to be writable by its owner only, got mode 0662"}},
		{name: "address without a port", change: map[string]string{"TOKEN_EXCHANGE_LISTEN": "127.0.0.1"},
			want: []string{"TOKEN_EXCHANGE_LISTEN: expected host:port: "}},
		{name: "port that does not exist", change: map[string]string{"TOKEN_EXCHANGE_LISTEN": "127.0.0.1:99999"},
			want: []string{"TOKEN_EXCHANGE_LISTEN: expected host:port: "}},
		{name: "key file below a file", change: map[string]string{"TOKEN_EXCHANGE_SIGNING_KEY_FILE": filepath.Join(shared, "keys", "sidecar.jwk")},
			want: []string{"TOKEN_EXCHANGE_SIGNING_KEY_FILE: "}},
		{name: "key file that others can read", change: map[string]string{"TOKEN_EXCHANGE_SIGNING_KEY_FILE": shared},
			want: []string{"TOKEN_EXCHANGE_SIGNING_KEY_FILE: loading signing key: expected key file " + shared + " to be readable by its owner only, got mode 0644; run chmod 600"}},
		{name: "key file without a key", change: map[string]string{"TOKEN_EXCHANGE_SIGNING_KEY_FILE": write(t, "MARKED")},
			want: []string{"TOKEN_EXCHANGE_SIGNING_KEY_FILE: loading signing key file"}},
		{name: "unknown algorithm", change: map[string]string{"TOKEN_EXCHANGE_SIGNING_ALGORITHM": "HS256"},
			want: []string{"TOKEN_EXCHANGE_SIGNING_KEY_FILE, TOKEN_EXCHANGE_SIGNING_ALGORITHM: generating signing key: expected algorithm ES256, RS256, PS256 or EdDSA"}},
		{name: "published key is missing", change: map[string]string{"TOKEN_EXCHANGE_PUBLISHED_KEY_FILES": filepath.Join(folder, "none")},
			want: []string{"TOKEN_EXCHANGE_PUBLISHED_KEY_FILES: loading signing key"}},
		{name: "subject key is missing", change: map[string]string{"TOKEN_EXCHANGE_SUBJECT_KEY_FILES": filepath.Join(folder, "none")},
			want: []string{"TOKEN_EXCHANGE_SUBJECT_KEY_FILES: loading public keys"}},
		{name: "subject keys twice", change: map[string]string{"TOKEN_EXCHANGE_SUBJECT_JWKS_URI": "https://gw.example/jwks.json"},
			want: []string{"TOKEN_EXCHANGE_SUBJECT_KEY_FILES and TOKEN_EXCHANGE_SUBJECT_JWKS_URI: expected one of the two, got both"}},
		{name: "key set over http", change: map[string]string{"TOKEN_EXCHANGE_SUBJECT_KEY_FILES": "", "TOKEN_EXCHANGE_SUBJECT_JWKS_URI": "http://gw.example/jwks.json"},
			want: []string{"TOKEN_EXCHANGE_SUBJECT_JWKS_URI: making remote key source"}},
		{name: "subject issuer is no URL", change: map[string]string{"TOKEN_EXCHANGE_SUBJECT_ISSUER": "gateway"},
			want: []string{"TOKEN_EXCHANGE_SUBJECT_ISSUER: making issuer documents"}},
		{name: "issuers at one path", change: map[string]string{"TOKEN_EXCHANGE_SUBJECT_ISSUER": "https://gw.example"},
			want: []string{"TOKEN_EXCHANGE_ISSUER: expected a URL whose path differs from that of TOKEN_EXCHANGE_SUBJECT_ISSUER"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			environ := environment(t, cmp.Or(tc.policy, usual), tc.change)
			var stdout, stderr bytes.Buffer
			if status := run([]string{"-check"}, environ, &stdout, &stderr); status != exitUsage || stdout.Len() > 0 {
				t.Errorf("got status %d, output %q, want %d and none", status, &stdout, exitUsage)
			}
			lines := strings.Split(strings.TrimSpace(stderr.String()), "\n")
			if !strings.Contains(lines[0], "-help") || len(lines)-1 != len(tc.want) {
				t.Errorf("got %q\nwant one line of introduction and %d problems", lines, len(tc.want))
			}
			for _, want := range tc.want {
				want = strings.Replace(want, "POLICY:", variable(environ, "TOKEN_EXCHANGE_POLICY_FILE")+":", 1)
				if !slices.ContainsFunc(lines[1:], func(line string) bool { return strings.HasPrefix(line, want) }) {
					t.Errorf("got %q\nwant a line that begins with %q", lines, want)
				}
			}
			if strings.Contains(stderr.String(), "MARKED") {
				t.Errorf("a secret was printed: %s", &stderr)
			}
			// Not only -check: a start that fails must not make a key either.
			if status := run(nil, environ, &stdout, &stderr); status != exitUsage {
				t.Errorf("start: got status %d, want %d", status, exitUsage)
			}
			if path := variable(environ, "TOKEN_EXCHANGE_SIGNING_KEY_FILE"); strings.HasSuffix(path, "sidecar.jwk") {
				if _, err := os.Stat(path); err == nil {
					t.Errorf("key file %s was made", path)
				}
			}
		})
	}
}

func TestFlags(t *testing.T) {
	for _, tc := range []struct {
		name       string
		args       []string
		wantStatus int
		wantStdout string
		wantStderr string
	}{
		{name: "check", args: []string{"-check"}, wantStatus: 0, wantStdout: "the settings are good\n"},
		{name: "help", args: []string{"-help"}, wantStatus: 0, wantStdout: "Settings are environment variables"},
		{name: "unknown flag", args: []string{"-frobnicate"}, wantStatus: 2, wantStderr: "frobnicate"},
		{name: "argument", args: []string{"-check", "serve"}, wantStatus: 2, wantStderr: "expected flags only"},
		{name: "unknown command", args: []string{"serve"}, wantStatus: 2, wantStderr: "expected check, explain, schema or flags"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			environ := environment(t, usual, nil)
			var stdout, stderr bytes.Buffer
			status := run(tc.args, environ, &stdout, &stderr)
			if status != tc.wantStatus || !strings.Contains(stdout.String(), tc.wantStdout) || !strings.Contains(stderr.String(), tc.wantStderr) {
				t.Errorf("got %d, %q, %q", status, &stdout, &stderr)
			}
			if _, err := os.Stat(variable(environ, "TOKEN_EXCHANGE_SIGNING_KEY_FILE")); err == nil {
				t.Error("a key was made")
			}
		})
	}
}

// TestAddressInUse: a sidecar that cannot listen says which setting it is, and leaves no key
// behind.
func TestAddressInUse(t *testing.T) {
	taken := listen(t)
	defer taken.Close()
	for _, name := range []string{"LISTEN", "EGRESS_LISTEN", "METRICS_LISTEN"} {
		t.Run(name, func(t *testing.T) {
			environ := environment(t, usual, map[string]string{envPrefix + name: taken.Addr().String()})
			var stdout, stderr bytes.Buffer
			if status := run(nil, environ, &stdout, &stderr); status != exitUsage || !strings.Contains(stderr.String(), envPrefix+name+": ") {
				t.Errorf("got %d %s", status, &stderr)
			}
			if _, err := os.Stat(variable(environ, "TOKEN_EXCHANGE_SIGNING_KEY_FILE")); err == nil {
				t.Error("a key was made")
			}
			// -check beside a sidecar that runs has nothing to complain about.
			if status := run([]string{"-check"}, environ, &stdout, &stderr); status != exitOK {
				t.Errorf("-check: got %d %s", status, &stderr)
			}
		})
	}
}

// TestCheckWarns: -check says what a start would say.
func TestCheckWarns(t *testing.T) {
	for _, variable := range []string{"TOKEN_EXCHANGE_LISTEN", "TOKEN_EXCHANGE_METRICS_LISTEN"} {
		for address, want := range map[string]bool{"0.0.0.0:9200": true, ":9200": true, "127.0.0.1:9200": false, "[::1]:9200": false} {
			var stdout, stderr bytes.Buffer
			status := run([]string{"-check"}, environment(t, usual, map[string]string{variable: address}), &stdout, &stderr)
			warned := strings.Contains(stderr.String(), "serving plain http beyond this machine") && strings.Contains(stderr.String(), `"setting":"`+variable+`"`)
			if status != exitOK || warned != want {
				t.Errorf("%s=%s: got status %d, warned %t, want %t: %s", variable, address, status, warned, want, &stderr)
			}
		}
	}
}

// TestSubjectKeysNeedNoPrivateKey: public keys of the gateway are enough to exchange its
// tokens and to serve its documents.
func TestSubjectKeysNeedNoPrivateKey(t *testing.T) {
	environ := environment(t, usual, nil)
	gateway := ring(t, variable(environ, "TOKEN_EXCHANGE_SUBJECT_KEY_FILES"))
	public := write(t, string(gateway.JWKS()))
	if err := os.Chmod(public, 0o644); err != nil {
		t.Fatal(err)
	}
	cfg, err := readConfig(environment(t, usual, map[string]string{"TOKEN_EXCHANGE_SUBJECT_KEY_FILES": public}))
	if err != nil {
		t.Fatal(err)
	}
	built, err := build(t.Context(), cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer built.close()
	rec := httptest.NewRecorder()
	built.handler().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/phantom/jwks.json", nil))
	if rec.Code != http.StatusOK || rec.Body.String() != string(gateway.JWKS()) {
		t.Errorf("key set: got %d %s\nwant 200 %s", rec.Code, rec.Body, gateway.JWKS())
	}
	body := url.Values{
		"grant_type": {tokenexchange.GrantType}, "subject_token": {mint(t, environ, nil)}, "subject_token_type": {tokenexchange.TokenTypeAccessToken},
		"audience": {"https://api.demo.example"}, "client_id": {"mcp-server"}, "client_secret": {secret},
	}.Encode()
	r := httptest.NewRequest(http.MethodPost, "/token", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	rec = httptest.NewRecorder()
	built.handler().ServeHTTP(rec, r)
	if rec.Code != http.StatusOK {
		t.Errorf("exchange: got %d %s", rec.Code, rec.Body)
	}
}

// TestWarnings: what works and is probably not meant is said at the start.
func TestWarnings(t *testing.T) {
	text := strings.Replace(usual, "    audiences:\n", "    allow_without_user: true\n    audiences:\n", 1) +
		"egress:\n  caller: mcp-server\n  routes:\n  - {path: /a, upstream: \"https://api.example\", audience: \"https://api.demo.example\"}\n"
	warnings := func(policyText, address string) string {
		cfg, err := readConfig(environment(t, policyText, nil))
		if err != nil {
			t.Fatal(err)
		}
		built, err := build(t.Context(), cfg, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		defer built.close()
		var log bytes.Buffer
		built.warn(slog.New(slog.NewTextHandler(&log, nil)), tcpAddr(t, address))
		withoutSecrets(t, "warnings", log.String())
		return log.String()
	}
	got := warnings(text, "0.0.0.0:9200")
	for _, want := range []string{"callers.mcp-server.allow_without_user", "TOKEN_EXCHANGE_EGRESS_LISTEN", "TOKEN_EXCHANGE_LISTEN"} {
		if !strings.Contains(got, want) {
			t.Errorf("got %s\nwant a warning about %s", got, want)
		}
	}
	if got := warnings(usual, "[::1]:9200"); got != "" {
		t.Errorf("got %s, want no warning", got)
	}
}
