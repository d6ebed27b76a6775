package main

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"phantomtoken/internal/keyring"
	"phantomtoken/tokenexchange"
)

// environment is a configuration that works; change may alter it. Setting "" unsets.
func environment(t testing.TB, change map[string]string) []string {
	t.Helper()
	dir := t.TempDir()
	gateway := filepath.Join(dir, "gateway.jwk")
	if _, err := keyring.LoadOrCreate(gateway, ""); err != nil {
		t.Fatal(err)
	}
	variables := map[string]string{
		"TOKEN_EXCHANGE_LISTEN":                       "127.0.0.1:0",
		"TOKEN_EXCHANGE_ISSUER":                       "http://127.0.0.1:9200",
		"TOKEN_EXCHANGE_SIGNING_KEY_FILE":             filepath.Join(dir, "keys", "sidecar.jwk"),
		"TOKEN_EXCHANGE_SUBJECT_ISSUER":               "http://127.0.0.1:8000/phantom",
		"TOKEN_EXCHANGE_SUBJECT_KEY_FILES":            gateway,
		"TOKEN_EXCHANGE_CLIENTS_0_ID":                 "mcp-server",
		"TOKEN_EXCHANGE_CLIENTS_0_SECRET":             "MARKED-SECRET-of-mcp-server",
		"TOKEN_EXCHANGE_CLIENTS_0_SUBJECT_AUDIENCE":   "https://mcp.internal.example",
		"TOKEN_EXCHANGE_CLIENTS_0_AUDIENCES_0_NAME":   "https://api.demo.example",
		"TOKEN_EXCHANGE_CLIENTS_0_AUDIENCES_0_SCOPES": "stocks/read, stocks/trade,",
		"TOKEN_EXCHANGE_CLIENTS_0_AUDIENCES_0_CLAIMS": "region,client_type",
	}
	for name, value := range change {
		variables[name] = value
	}
	out := []string{"PATH=" + os.Getenv("PATH")}
	for name, value := range variables {
		if value != "" {
			out = append(out, name+"="+value)
		}
	}
	return out
}

func write(t testing.TB, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestReadConfig(t *testing.T) {
	cfg, err := readConfig(environment(t, map[string]string{
		"TOKEN_EXCHANGE_LISTEN":                     "",
		"TOKEN_EXCHANGE_CLIENTS_0_SECRET":           "",
		"TOKEN_EXCHANGE_CLIENTS_0_SECRET_FILE":      write(t, "secret of a file\r\n"),
		"TOKEN_EXCHANGE_CLIENTS_0_AUDIENCES_1_NAME": "reports",
		"TOKEN_EXCHANGE_CLIENTS_1_ID":               "idle",
		"TOKEN_EXCHANGE_CLIENTS_1_SECRET":           "s",
		"TOKEN_EXCHANGE_CLIENTS_1_SUBJECT_AUDIENCE": "a",
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
	if cfg.Listen != "127.0.0.1:9200" || cfg.TokenLifetime != 5*time.Minute {
		t.Errorf("defaults: got %q, %s", cfg.Listen, cfg.TokenLifetime)
	}
	if want := []string{"sidecar", "gateway:8000"}; !slices.Equal(cfg.InsecureHTTPHosts, want) || cfg.PublishedKeyFiles != nil {
		t.Errorf("lists: got %q and %q, want %q and none", cfg.InsecureHTTPHosts, cfg.PublishedKeyFiles, want)
	}
	want := []clientConfig{
		{
			ID: "mcp-server", Secret: "secret of a file", SecretFile: cfg.Clients[0].SecretFile, SubjectAudience: "https://mcp.internal.example",
			Audiences: []audienceConfig{
				{Name: "https://api.demo.example", Scopes: []string{"stocks/read", "stocks/trade"}, Claims: []string{"region", "client_type"}},
				{Name: "reports"},
			},
		},
		{ID: "idle", Secret: "s", SubjectAudience: "a"},
	}
	if !reflect.DeepEqual(cfg.Clients, want) {
		t.Errorf("clients: got %+v\nwant %+v", cfg.Clients, want)
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
		change map[string]string
		want   []string // each is the beginning of a line of the message
	}{
		{name: "nothing set", change: map[string]string{
			"TOKEN_EXCHANGE_ISSUER": "", "TOKEN_EXCHANGE_SIGNING_KEY_FILE": "", "TOKEN_EXCHANGE_SUBJECT_ISSUER": "", "TOKEN_EXCHANGE_SUBJECT_KEY_FILES": "",
			"TOKEN_EXCHANGE_CLIENTS_0_ID": "", "TOKEN_EXCHANGE_CLIENTS_0_SECRET": "", "TOKEN_EXCHANGE_CLIENTS_0_SUBJECT_AUDIENCE": "",
			"TOKEN_EXCHANGE_CLIENTS_0_AUDIENCES_0_NAME": "", "TOKEN_EXCHANGE_CLIENTS_0_AUDIENCES_0_SCOPES": "", "TOKEN_EXCHANGE_CLIENTS_0_AUDIENCES_0_CLAIMS": "",
		}, want: []string{
			"TOKEN_EXCHANGE_SIGNING_KEY_FILE: expected the path of a key file, got nothing",
			"TOKEN_EXCHANGE_SUBJECT_KEY_FILES or TOKEN_EXCHANGE_SUBJECT_JWKS_URI: expected one of the two, got neither",
			"TOKEN_EXCHANGE_ISSUER: expected the URL of this service, got nothing",
			"TOKEN_EXCHANGE_SUBJECT_ISSUER: expected the issuer of the gateway's phantom tokens, got nothing",
			"TOKEN_EXCHANGE_CLIENTS_0_ID: expected at least one client, got none",
		}},
		{name: "several at once", change: map[string]string{
			"TOKEN_EXCHANGE_TOKEN_LIFETIME": "5 minutes", "TOKEN_EXCHANGE_ISSUER": "http://sidecar:9200",
			"TOKEN_EXCHANGE_CLIENTS_0_ID": "", "TOKEN_EXCHANGE_CLIENTS_0_AUDIENCES_0_SCOPES": "a b",
		}, want: []string{
			`TOKEN_EXCHANGE_TOKEN_LIFETIME: expected a duration such as 5m, got "5 minutes"`,
			`TOKEN_EXCHANGE_ISSUER: expected https, got http to "sidecar:9200"`,
			"TOKEN_EXCHANGE_CLIENTS_0_ID: expected a client id, got nothing",
			`TOKEN_EXCHANGE_CLIENTS_0_AUDIENCES_0_SCOPES: expected scope tokens separated by commas, got "a b"`,
		}},
		{name: "life too long", change: map[string]string{"TOKEN_EXCHANGE_TOKEN_LIFETIME": "24h"},
			want: []string{"TOKEN_EXCHANGE_TOKEN_LIFETIME: expected 10s to 1h0m0s, got 24h0m0s"}},
		{name: "slip in a name", change: map[string]string{"TOKEN_EXCHANGE_CLIENTS_0_AUDIENCES_0_SCOPE": "x"},
			want: []string{"TOKEN_EXCHANGE_CLIENTS_0_AUDIENCES_0_SCOPE: expected one of the variables that -help lists, got another"}},
		{name: "gap between clients", change: map[string]string{"TOKEN_EXCHANGE_CLIENTS_2_ID": "x"},
			want: []string{"TOKEN_EXCHANGE_CLIENTS_1_...: expected numbers that count from 0 without a gap"}},
		{name: "gap between audiences", change: map[string]string{"TOKEN_EXCHANGE_CLIENTS_0_AUDIENCES_5_NAME": "x"},
			want: []string{"TOKEN_EXCHANGE_CLIENTS_0_AUDIENCES_1_...: expected numbers that count from 0 without a gap"}},
		{name: "leading zero", change: map[string]string{"TOKEN_EXCHANGE_CLIENTS_00_ID": "x"},
			want: []string{"TOKEN_EXCHANGE_CLIENTS_00_ID: expected one of the variables", "TOKEN_EXCHANGE_CLIENTS_1_...: expected numbers"}},
		{name: "secret twice", change: map[string]string{"TOKEN_EXCHANGE_CLIENTS_0_SECRET_FILE": shared},
			want: []string{"TOKEN_EXCHANGE_CLIENTS_0_SECRET_FILE: expected the secret once, got it in TOKEN_EXCHANGE_CLIENTS_0_SECRET too"}},
		{name: "secret file is missing", change: map[string]string{"TOKEN_EXCHANGE_CLIENTS_0_SECRET": "", "TOKEN_EXCHANGE_CLIENTS_0_SECRET_FILE": filepath.Join(folder, "none")},
			want: []string{"TOKEN_EXCHANGE_CLIENTS_0_SECRET_FILE: expected the path of a readable file with the secret: no such file"}},
		{name: "RejectsSecretInPlaceOfItsFile", change: map[string]string{"TOKEN_EXCHANGE_CLIENTS_0_SECRET": "", "TOKEN_EXCHANGE_CLIENTS_0_SECRET_FILE": "MARKED-SECRET-of-mcp-server"},
			want: []string{"TOKEN_EXCHANGE_CLIENTS_0_SECRET_FILE: expected the path of a readable file with the secret: no such file"}},
		{name: "RejectsLongSecretInPlaceOfItsFile", change: map[string]string{"TOKEN_EXCHANGE_CLIENTS_0_SECRET": "", "TOKEN_EXCHANGE_CLIENTS_0_SECRET_FILE": strings.Repeat("MARKED", 100)},
			want: []string{"TOKEN_EXCHANGE_CLIENTS_0_SECRET_FILE: expected the path of a readable file with the secret: file name too long"}},
		{name: "RejectsSecretFileThatOthersMayWrite", change: map[string]string{"TOKEN_EXCHANGE_CLIENTS_0_SECRET": "", "TOKEN_EXCHANGE_CLIENTS_0_SECRET_FILE": writable},
			want: []string{"TOKEN_EXCHANGE_CLIENTS_0_SECRET_FILE: expected a file that only its owner may write, got mode 0662; run chmod go-w"}},
		{name: "RejectsShortSecret", change: map[string]string{"TOKEN_EXCHANGE_CLIENTS_0_SECRET": "MARKED"},
			want: []string{"TOKEN_EXCHANGE_CLIENTS_0_SECRET: expected at least 16 random bytes, got 6"}},
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
		{name: "RejectsSlipThatLooksLikeOneOfKubernetes", change: map[string]string{"TOKEN_EXCHANGE_CLIENTS_0_AUDIENCES_0_PORT": "x"},
			want: []string{"TOKEN_EXCHANGE_CLIENTS_0_AUDIENCES_0_PORT: expected one of the variables that -help lists, got another"}},
		{name: "secret file is a folder", change: map[string]string{"TOKEN_EXCHANGE_CLIENTS_0_SECRET": "", "TOKEN_EXCHANGE_CLIENTS_0_SECRET_FILE": folder},
			want: []string{"TOKEN_EXCHANGE_CLIENTS_0_SECRET_FILE: expected a regular file with the secret"}},
		{name: "secret file is empty", change: map[string]string{"TOKEN_EXCHANGE_CLIENTS_0_SECRET": "", "TOKEN_EXCHANGE_CLIENTS_0_SECRET_FILE": write(t, "\n")},
			want: []string{"TOKEN_EXCHANGE_CLIENTS_0_SECRET_FILE: expected a file with a secret of 1 to 4096 bytes"}},
		{name: "secret file is large", change: map[string]string{"TOKEN_EXCHANGE_CLIENTS_0_SECRET": "", "TOKEN_EXCHANGE_CLIENTS_0_SECRET_FILE": write(t, strings.Repeat("MARKED", 1000))},
			want: []string{"TOKEN_EXCHANGE_CLIENTS_0_SECRET_FILE: expected a file with a secret of 1 to 4096 bytes"}},
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
			environ := environment(t, tc.change)
			var stdout, stderr bytes.Buffer
			if status := run([]string{"-check"}, environ, &stdout, &stderr); status != exitUsage || stdout.Len() > 0 {
				t.Errorf("got status %d, output %q, want %d and none", status, &stdout, exitUsage)
			}
			lines := strings.Split(strings.TrimSpace(stderr.String()), "\n")
			if !strings.Contains(lines[0], "-help") || len(lines)-1 != len(tc.want) {
				t.Errorf("got %q\nwant one line of introduction and %d problems", lines, len(tc.want))
			}
			for _, want := range tc.want {
				if !slices.ContainsFunc(lines, func(line string) bool { return strings.HasPrefix(line, want) }) {
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

func variable(environ []string, name string) string {
	for _, entry := range environ {
		if value, ok := strings.CutPrefix(entry, name+"="); ok {
			return value
		}
	}
	return ""
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
		{name: "argument", args: []string{"serve"}, wantStatus: 2, wantStderr: "expected flags only"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			environ := environment(t, nil)
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

// TestListenFails: a sidecar that cannot listen says which setting it is.
func TestListenFails(t *testing.T) {
	var stdout, stderr bytes.Buffer
	status := run(nil, environment(t, map[string]string{"TOKEN_EXCHANGE_LISTEN": "127.0.0.1:99999"}), &stdout, &stderr)
	if status != exitUsage || !strings.Contains(stderr.String(), "TOKEN_EXCHANGE_LISTEN: ") {
		t.Errorf("got %d %s", status, &stderr)
	}
}

// TestCheckWarns: -check says what a start would say.
func TestCheckWarns(t *testing.T) {
	var stdout, stderr bytes.Buffer
	status := run([]string{"-check"}, environment(t, map[string]string{"TOKEN_EXCHANGE_LISTEN": "0.0.0.0:9200"}), &stdout, &stderr)
	if status != exitOK || !strings.Contains(stderr.String(), "serving plain http beyond this machine") {
		t.Errorf("got status %d, %s", status, &stderr)
	}
}

// TestSubjectKeysNeedNoPrivateKey: public keys of the gateway are enough to exchange its
// tokens and to serve its documents.
func TestSubjectKeysNeedNoPrivateKey(t *testing.T) {
	environ := environment(t, nil)
	gateway := ring(t, variable(environ, "TOKEN_EXCHANGE_SUBJECT_KEY_FILES"))
	public := write(t, string(gateway.JWKS()))
	if err := os.Chmod(public, 0o644); err != nil {
		t.Fatal(err)
	}
	cfg, err := readConfig(environment(t, map[string]string{"TOKEN_EXCHANGE_SUBJECT_KEY_FILES": public}))
	if err != nil {
		t.Fatal(err)
	}
	built, err := build(cfg, true, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer built.close()
	rec := httptest.NewRecorder()
	built.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/phantom/jwks.json", nil))
	if rec.Code != http.StatusOK || rec.Body.String() != string(gateway.JWKS()) {
		t.Errorf("key set: got %d %s\nwant 200 %s", rec.Code, rec.Body, gateway.JWKS())
	}
	body := url.Values{
		"grant_type": {tokenexchange.GrantType}, "subject_token": {mint(t, environ)}, "subject_token_type": {tokenexchange.TokenTypeAccessToken},
		"audience": {"https://api.demo.example"}, "client_id": {"mcp-server"}, "client_secret": {"MARKED-SECRET-of-mcp-server"},
	}.Encode()
	r := httptest.NewRequest(http.MethodPost, "/token", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	rec = httptest.NewRecorder()
	built.ServeHTTP(rec, r)
	if rec.Code != http.StatusOK {
		t.Errorf("exchange: got %d %s", rec.Code, rec.Body)
	}
}

// TestHelpSaysWhatReadyMeans, because it is not what some expect of a readiness check.
func TestHelpSaysWhatReadyMeans(t *testing.T) {
	var help bytes.Buffer
	printHelp(&help)
	if !strings.Contains(help.String(), "/readyz") {
		t.Errorf("got %s, want a word about /readyz", &help)
	}
}

// TestHelpIsComplete: every setting has all that -help prints, in the form that it prints.
func TestHelpIsComplete(t *testing.T) {
	var help bytes.Buffer
	printHelp(&help)
	entry := regexp.MustCompile(`(?m)^  (TOKEN_EXCHANGE_[A-Z_]+) \(([^;]+); ([^)]+)\)\n      (\S.*\.)$`)
	found := entry.FindAllStringSubmatch(help.String(), -1)
	all := settings()
	if len(found) != len(all) || len(all) < 15 {
		t.Fatalf("got %d complete entries of %d settings:\n%s", len(found), len(all), &help)
	}
	for i, s := range all {
		if got := (setting{found[i][1], found[i][2], found[i][3], found[i][4]}); got != s {
			t.Errorf("got %+v, want %+v", got, s)
		}
	}
}

// TestNamedVariablesExist reads the messages of package sts: a variable that one of them
// tells somebody to change must be a setting.
func TestNamedVariablesExist(t *testing.T) {
	known := make(map[string]bool)
	for _, s := range settings() {
		known[s.name] = true
		known[strings.NewReplacer("_N_", "_n_").Replace(s.name)] = true // as it stands in prose
	}
	sources, err := filepath.Glob("sts/*.go")
	if err != nil || len(sources) == 0 {
		t.Fatalf("got sources %q, error %v", sources, err)
	}
	named := 0
	for _, path := range sources {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for pattern, prefix := range map[string]string{
			`\b(TOKEN_EXCHANGE_[A-Z]\w*[A-Z])\b`:        "",
			`[^t]\bsetting\([^"()]+, "([A-Z_]+)"\)`:     envPrefix + "CLIENTS_N_",
			`\btargetSetting\([^"()]+, [^"]*"([A-Z]+)"`: envPrefix + "CLIENTS_N_AUDIENCES_M_",
			`\bat\("([A-Z]+)"\)`:                        envPrefix + "CLIENTS_N_AUDIENCES_M_",
		} {
			for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(string(data), -1) {
				if strings.Contains(m[1], "%") {
					continue
				}
				named++
				if !known[prefix+m[1]] {
					t.Errorf("%s names %s, which is no setting", path, prefix+m[1])
				}
			}
		}
	}
	if named < 20 {
		t.Errorf("only %d names found: the patterns no longer fit the code", named)
	}
}

func TestWarnings(t *testing.T) {
	cfg, err := readConfig(environment(t, map[string]string{
		"TOKEN_EXCHANGE_CLIENTS_1_ID": "idle", "TOKEN_EXCHANGE_CLIENTS_1_SECRET": "MARKED", "TOKEN_EXCHANGE_CLIENTS_1_ALLOW_WITHOUT_USER": "true", "TOKEN_EXCHANGE_CLIENTS_1_SUBJECT_AUDIENCE": "a",
	}))
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	cfg.warn(slog.New(slog.NewTextHandler(&log, nil)), tcpAddr(t, "0.0.0.0:9200"))
	for _, want := range []string{
		"TOKEN_EXCHANGE_CLIENTS_1_AUDIENCES_0_NAME", "TOKEN_EXCHANGE_CLIENTS_1_ALLOW_WITHOUT_USER", "TOKEN_EXCHANGE_LISTEN",
	} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("got %s\nwant a warning about %s", &log, want)
		}
	}
	if strings.Contains(log.String(), "MARKED") || strings.Contains(log.String(), "CLIENTS_0_") {
		t.Errorf("got %s", &log)
	}
	log.Reset()
	cfg.Clients = cfg.Clients[:1]
	cfg.warn(slog.New(slog.NewTextHandler(&log, nil)), tcpAddr(t, "[::1]:9200"))
	if log.Len() > 0 {
		t.Errorf("got %s, want no warning", &log)
	}
}
