package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"phantomtoken/internal/keyring"
	"phantomtoken/kong-plugin/check"
)

// checkRig is a folder with what a configuration may point to.
type checkRig struct{ dir, key string }

func newCheckRig(t *testing.T) checkRig {
	t.Helper()
	r := checkRig{dir: t.TempDir()}
	r.key = filepath.Join(r.dir, "key.json")
	if _, err := keyring.LoadOrCreate(r.key, keyring.ES256); err != nil {
		t.Fatal(err)
	}
	return r
}

// run writes a kong.yml and checks it with this environment.
func (r checkRig) run(t *testing.T, yaml string, args ...string) (check.Report, error) {
	t.Helper()
	file := filepath.Join(r.dir, "kong.yml")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(yaml, "KEY", r.key)), 0o600); err != nil {
		t.Fatal(err)
	}
	if len(args) == 0 {
		args = []string{"-env", "GATEWAY_CLIENT_SECRET=s3cret-of-the-gateway"}
	}
	var out bytes.Buffer
	err := checkCommand(append([]string{file, "-json"}, args...), &out, &out)
	var report check.Report
	if jsonErr := json.Unmarshal(out.Bytes(), &report); jsonErr != nil {
		t.Fatalf("%v, %v: %s", err, jsonErr, out.String())
	}
	if strings.Contains(out.String(), "s3cret") {
		t.Errorf("the report holds a secret: %s", out.String())
	}
	return report, err
}

const goodYAML = `_format_version: "3.0"
services:
- name: mcp
  url: http://mcp.internal:9000
  plugins:
  - name: phantom-token
    config:
      introspection_endpoint: https://idp.example.com/introspect
      client_id: gateway
      client_secret: "{vault://env/gateway-client-secret}"
      resource: https://gw.example.com/mcp
      authorization_servers: [https://idp.example.com]
      scope: stocks/read
      phantom_token:
        issuer: https://gw.example.com/phantom
        audience: https://mcp.internal.example.com
        signing_key_file: KEY
  routes:
  - name: mcp
    hosts: [gw.example.com]
    paths:
    - ~/mcp/?$
    - /.well-known/oauth-protected-resource
    - /phantom
    strip_path: false
`

// secondBlock protects another resource of the same host.
const secondBlock = `- name: other
  url: http://other.internal:9000
  routes:
  - name: other
    hosts: [gw.example.com]
    paths: [/other, /.well-known/oauth-protected-resource/other]
    plugins:
    - name: phantom-token
      config:
        introspection_endpoint: https://idp.example.com/introspect
        client_id: gateway
        client_secret: "{vault://env/gateway-client-secret}"
        resource: https://gw.example.com/other
        authorization_servers: [https://idp.example.com]
        metadata: {at_root: false}
`

func TestCheckFindsNothingInGoodFiles(t *testing.T) {
	r := newCheckRig(t)
	for _, tt := range []struct{ name, yaml string }{
		{"One", goodYAML},
		{"TwoResources", goodYAML + secondBlock},
		{"RouteWithHostAlone", strings.Replace(goodYAML, `    paths:
    - ~/mcp/?$
    - /.well-known/oauth-protected-resource
    - /phantom
`, "", 1)},
		{"OtherEntitiesAndPlugins", goodYAML + `consumers:
- username: bob
plugins:
- name: rate-limiting
  config: {minute: 5, policy: local}
- name: our-own-plugin
  config: {anything: [1, 2]}
upstreams: [{name: u, targets: [{target: "a:1"}]}]
`},
		{"DisabledBlock", goodYAML + strings.NewReplacer("    - name: phantom-token\n", "    - name: phantom-token\n      enabled: false\n", "{vault://env/gateway-client-secret}", "{vault://env/unset}").Replace(secondBlock)},
		{"LuaConfiguration", `_format_version: "3.0"
services:
- name: api
  url: http://api.internal
  routes:
  - name: api
    hosts: [api.example.com]
    plugins:
    - name: phantom-token
      config:
        introspection_endpoint: https://idp.example.com/introspect
        client_id: gateway
        client_secret: "{vault://env/gateway-client-secret}"
        token_cache_seconds: 60
        token: {audience_check: required}
`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			report, err := r.run(t, tt.yaml)
			if err != nil || len(report.Findings) > 0 {
				t.Errorf("got %v, want nothing: %+v", err, report.Findings)
			}
		})
	}
}

// TestCheckFindsMistakes changes one thing in a good file. Line and field must lead to it.
func TestCheckFindsMistakes(t *testing.T) {
	r := newCheckRig(t)
	readable := filepath.Join(r.dir, "readable.json")
	if data, err := os.ReadFile(r.key); err != nil {
		t.Fatal(err)
	} else if err := os.WriteFile(readable, data, 0o644); err != nil {
		t.Fatal(err)
	}
	const config = "services[0].plugins[0].config"
	replaced := func(old, new string) string {
		if !strings.Contains(goodYAML, old) {
			t.Fatalf("the good file has no %q", old)
		}
		return strings.Replace(goodYAML, old, new, 1)
	}
	tests := []struct {
		name, yaml string
		args       []string
		severity   check.Severity // Problem when empty
		line       int
		field      string
		want       string
	}{
		// As Kong would, in its words.
		{name: "NotYAML", yaml: replaced("name: mcp\n", "name: [mcp\n"), line: 2, want: "failed parsing declarative configuration"},
		{name: "UnknownSetting", yaml: replaced("scope:", "scopes:"), line: 13, field: config + ".scopes", want: "unknown field"},
		{name: "MissingSetting", yaml: replaced("      client_id: gateway\n", ""), line: 7, field: config + ".client_id", want: "required field missing"},
		{name: "WrongType", yaml: replaced("client_id: gateway", "client_id: 7"), line: 9, field: config + ".client_id", want: "expected a string"},
		{name: "OutOfRange", yaml: replaced("      scope: stocks/read", "      token_cache_seconds: 100000"), line: 13, field: config + ".token_cache_seconds", want: "value should be between 0 and 86400"},
		{name: "PatternOfSetting", yaml: replaced("[https://idp.example.com]", "[https://idp.example.com, 'https://idp.example.com?x']"), line: 12, field: config + ".authorization_servers[1]", want: "without query and fragment"},
		{name: "EntityCheck", yaml: replaced("      authorization_servers: [https://idp.example.com]\n", ""), line: 7, field: config, want: "resource needs"},
		{name: "UnknownField", yaml: replaced("    strip_path: false", "    strip_paths: false"), line: 25, field: "services[0].routes[0].strip_paths", want: "unknown field"},
		{name: "BadReference", yaml: goodYAML + "plugins:\n- name: phantom-token\n  route: nowhere\n", line: 27, field: "plugins[0].config.client_id", want: "required field missing"},

		// Beyond Kong.
		{name: "UnsetReference", yaml: goodYAML, args: []string{"-env", "OTHER=1"}, line: 10, field: config + ".client_secret", want: "expected GATEWAY_CLIENT_SECRET in the environment"},
		{name: "EmptyVariable", yaml: goodYAML, args: []string{"-env", "GATEWAY_CLIENT_SECRET="}, line: 10, field: config + ".client_secret", want: "got an empty one"},
		{name: "ReferenceWhereNoneIsResolved", yaml: replaced("client_id: gateway", `client_id: "{vault://env/gateway-id}"`), severity: check.Warning, line: 9, field: config + ".client_id", want: "not referenceable"},
		{name: "MissingKey", yaml: replaced("signing_key_file: KEY", "signing_key_file: KEYS"), line: 17, field: config + ".phantom_token.signing_key_file", want: "no such file"},
		{name: "KeyThatOthersRead", yaml: replaced("signing_key_file: KEY", "signing_key_file: "+readable), line: 17, field: config + ".phantom_token.signing_key_file", want: "chmod 600"},
		{name: "HttpToProvider", yaml: replaced("https://idp.example.com/introspect", "http://idp.example.com/introspect"), line: 8, field: config + ".introspection_endpoint", want: "expected https"},
		{name: "Contradiction", yaml: replaced("audience: https://mcp.internal.example.com", "audience: https://gw.example.com/mcp"), line: 16, field: config + ".phantom_token.audience", want: "accepted here from outside"},
		{name: "ElementOfList", yaml: replaced("[https://idp.example.com]", "\n      - https://idp.example.com\n      - http://idp2.example.com"), line: 14, field: config + ".authorization_servers[1]", want: "expected https"},
		{name: "UnverifiedProvider", yaml: replaced("      scope: stocks/read", "      verify_ssl: false"), severity: check.Warning, line: 13, field: config + ".verify_ssl", want: "any token valid"},
		{name: "ResourceNotRouted", yaml: replaced("~/mcp/?$", "~/mcps/?$"), line: 11, field: config + ".resource", want: "POST /mcp on host gw.example.com"},
		{name: "ResourceOfAnotherHost", yaml: replaced("hosts: [gw.example.com]", "hosts: [gateway.example.com]"), line: 11, field: config + ".resource", want: "no route does"},
		{name: "MetadataNotRouted", yaml: replaced("    - /.well-known/oauth-protected-resource\n", ""), line: 11, field: config + ".resource", want: "GET /.well-known/oauth-protected-resource/mcp"},
		{name: "MetadataGoesToAnotherService", yaml: goodYAML + "- name: site\n  url: http://site.internal\n  routes:\n  - {name: site, hosts: [gw.example.com], paths: [/.well-known/oauth-protected-resource/mcp]}\n",
			line: 11, field: config + ".resource", want: "it goes to services[1].routes[0] (site), which is open"},
		{name: "RootNotRouted", yaml: replaced("/.well-known/oauth-protected-resource\n", "/.well-known/oauth-protected-resource/mcp\n"), severity: check.Warning, line: 7, field: config + ".metadata.at_root", want: "GET /.well-known/oauth-protected-resource on host"},
		{name: "TwoBlocksClaimRoot", yaml: goodYAML + strings.NewReplacer("        metadata: {at_root: false}\n", "", "/.well-known/oauth-protected-resource/other]", "/.well-known/oauth-protected-resource/other, /.well-known/oauth-protected-resource]").Replace(secondBlock),
			line: 34, field: "services[1].routes[0].plugins[0].config.metadata.at_root", want: "got a second one"},
		{name: "KeysNotRouted", yaml: replaced("    - /phantom\n", ""), severity: check.Warning, line: 15, field: config + ".phantom_token.issuer", want: "/phantom/jwks.json"},
		{name: "PreflightNotRouted", yaml: replaced("    strip_path: false", "    methods: [POST, GET, DELETE]"), severity: check.Warning, line: 11, field: config + ".resource", want: "preflights of browsers"},
		{name: "NoHostsToDeriveFrom", yaml: strings.NewReplacer("      resource: https://gw.example.com/mcp\n", "", "    hosts: [gw.example.com]\n", "").Replace(strings.Replace(goodYAML, "      scope: stocks/read", "      token: {audience_check: required}", 1)), line: 7, field: config + ".resource", want: "has no hosts to derive it from"},
		{name: "BlockWithoutRoute", yaml: goodYAML[:strings.Index(goodYAML, "  routes:")], severity: check.Warning, line: 6, field: "services[0].plugins[0]", want: "expected a route on which this block runs"},
		{name: "NoBlock", yaml: "_format_version: \"3.0\"\n", severity: check.Warning, line: 1, want: "expected a block of the plugin phantom-token"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			report, err := r.run(t, tt.yaml, tt.args...)
			severity, wantErr := tt.severity, error(nil)
			if severity == "" {
				severity, wantErr = check.Problem, exitStatus(1)
			}
			found := false
			for _, f := range report.Findings {
				found = found || f.Severity == severity && f.Line == tt.line && f.Field == tt.field && strings.Contains(f.Text, tt.want)
			}
			if !found || !errors.Is(err, wantErr) {
				t.Errorf("got %v, want %v and a %s of line %d, %s, with %q\n%s", err, wantErr, severity, tt.line, tt.field, tt.want, list(report))
			}
			if tt.name != "BadReference" && tt.name != "ResourceOfAnotherHost" && len(report.Findings) > 1+strings.Count(tt.name, "KeysNotRouted") {
				t.Errorf("one mistake gave %d findings\n%s", len(report.Findings), list(report))
			}
		})
	}
}

func list(r check.Report) string {
	var b strings.Builder
	for _, f := range r.Findings {
		fmt.Fprintln(&b, f)
	}
	return b.String()
}

func TestCheckCommandLine(t *testing.T) {
	r := newCheckRig(t)
	good := filepath.Join(r.dir, "good.yml")
	if err := os.WriteFile(good, []byte(strings.ReplaceAll(goodYAML, "KEY", r.key)), 0o600); err != nil {
		t.Fatal(err)
	}
	env := filepath.Join(r.dir, "kong.env")
	if err := os.WriteFile(env, []byte("# of Kong\nexport GATEWAY_CLIENT_SECRET=\"s3cret\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		args []string
		want error
	}{
		{"EnvFile", []string{good, "-env-file", env}, nil},
		{"FlagsFirst", []string{"-env-file", env, good}, nil},
		{"EnvBeforeFile", []string{good, "-env", "GATEWAY_CLIENT_SECRET=", "-env-file", env}, exitStatus(1)},
		{"NoFile", nil, errUsage},
		{"FlagWithoutFile", []string{"-env", "A=b"}, errUsage},
		{"TwoFiles", []string{good, good}, errUsage},
		{"FileThatIsMissing", []string{filepath.Join(r.dir, "none.yml")}, errUsage},
		{"EnvWithoutValue", []string{good, "-env", "A"}, errUsage},
		{"EnvFileThatIsMissing", []string{good, "-env-file", filepath.Join(r.dir, "none")}, errUsage},
		{"UnknownFlag", []string{good, "-fix"}, errUsage},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			if err := run(append([]string{"phantom-token", "check"}, tt.args...), &out, &out); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v\n%s", err, tt.want, out.String())
			}
		})
	}
}

// TestReadmeShowsWhatCheckSays keeps the example of the README true. Write it anew with:
// go test ./kong-plugin -run TestReadmeShowsWhatCheckSays -update
func TestReadmeShowsWhatCheckSays(t *testing.T) {
	r := newCheckRig(t)
	file := filepath.Join(r.dir, "kong.yml")
	say := func(yaml string) string {
		if err := os.WriteFile(file, []byte(strings.ReplaceAll(yaml, "KEY", r.key)), 0o600); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := checkCommand([]string{file, "-env", "OTHER=1"}, &out, &out); !errors.Is(err, exitStatus(1)) {
			t.Fatalf("got %v, want exit status 1", err)
		}
		return strings.ReplaceAll(out.String(), file, "kong.yml")
	}
	wrong := strings.Replace(goodYAML, "    - /.well-known/oauth-protected-resource\n", "", 1)
	compareExample(t, "check", say(wrong))
}

// TestCheckFindsNothingInTheProjectsFiles: what operators copy is clean.
func TestCheckFindsNothingInTheProjectsFiles(t *testing.T) {
	r := newCheckRig(t)
	for _, name := range []string{"../kong.yml", "../deploy/kong/minimal.yml"} {
		t.Run(filepath.Base(name), func(t *testing.T) {
			yaml, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			report, err := r.run(t, strings.ReplaceAll(string(yaml), "/var/lib/phantom-token/key.json", r.key),
				"-env", "GATEWAY_CLIENT_SECRET=s3cret", "-env", "PHANTOM_SIGNING_KEY_FILE="+r.key)
			if err != nil || report.Blocks == 0 || len(report.Findings) > 0 {
				t.Errorf("got %v and %d blocks, want no finding:\n%s", err, report.Blocks, list(report))
			}
		})
	}
}
