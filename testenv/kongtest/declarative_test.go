package kongtest_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"phantomtoken/testenv/kongtest"
)

// TestRefusesDeclarativeConfiguration names the field and says what Kong says.
func TestRefusesDeclarativeConfiguration(t *testing.T) {
	const (
		header  = "_format_version: \"3.0\"\n"
		service = header + "services:\n- name: up\n  url: http://127.0.0.1:9\n"
		route   = service + "  routes:\n  - name: p\n    paths: [/p]\n"
	)
	tests := []struct {
		name, yaml, path, want string
	}{
		{"no version", "services: []\n", "_format_version", "required field missing"},
		{"version as a number", "_format_version: 3.0\n", "_format_version", "expected a string"},
		{"unknown version", "_format_version: \"4.0\"\n", "_format_version", "expected one of: 1.1, 2.1, 3.0"},
		{"old version", "_format_version: \"2.1\"\n", "_format_version", "kongtest models the format version 3.0 only"},
		{"unknown key", header + "service: []\n", "service", "unknown field"},
		{"upstreams", header + "upstreams: []\n", "upstreams", "kongtest does not model this entity"},
		{"consumer without name", header + "consumers:\n- {tags: [a]}\n", "consumers[0]", "at least one of these fields must be non-empty: 'custom_id', 'username'"},
		{"consumer twice", header + "consumers: [{username: a}, {username: a}]\n", "consumers[1]", "uniqueness violation: 'consumers' entity with username set to 'a' already declared"},
		{"custom_id twice", header + "consumers: [{username: a, custom_id: x}, {username: b, custom_id: x}]\n", "consumers[1]", "uniqueness violation: 'consumers' entity with custom_id set to 'x' already declared"},
		{"services no list", header + "services: up\n", "services", "expected an array"},
		{"service no record", header + "services: [up]\n", "services[0]", "expected a record"},
		{"service unknown key", service + "  prot: http\n", "services[0].prot", "unknown field"},
		{"service without host", header + "services:\n- name: up\n", "services[0].host", "required field missing"},
		{"service url", header + "services:\n- name: up\n  url: /x\n", "services[0].host", "required field missing"},
		{"service port", header + "services:\n- {name: up, host: a, port: 70000}\n", "services[0].port", "value should be between 0 and 65535"},
		{"service host with port", header + "services:\n- {name: up, host: 'a:80'}\n", "services[0].host", "must not have a port"},
		{"service host", header + "services:\n- {name: up, host: 'a b'}\n", "services[0].host", "invalid value: a b"},
		{"service protocol", header + "services:\n- {name: up, host: a, protocol: ftp}\n", "services[0].protocol", "expected one of: grpc, grpcs, http, https, tcp, tls, tls_passthrough, udp"},
		{"service protocol not modelled", header + "services:\n- {name: up, host: a, protocol: grpc}\n", "services[0].protocol", "kongtest models services of http and https only"},
		{"service path", header + "services:\n- {name: up, host: a, path: x}\n", "services[0].path", "should start with: /"},
		{"service path segments", header + "services:\n- {name: up, host: a, path: '/a//b'}\n", "services[0].path", "must not have empty segments"},
		{"service timeout", header + "services:\n- {name: up, host: a, read_timeout: 0}\n", "services[0].read_timeout", "value should be between 1 and 2147483646"},
		{"service tls_verify", header + "services:\n- {name: up, host: a, tls_verify: true}\n", "services[0].tls_verify", "value must be null"},
		{"service name", header + "services:\n- {name: 'a b', host: a}\n", "services[0].name", "invalid value 'a b': the only accepted ascii characters are alphanumerics or ., -, _, and ~"},
		{"service tag", header + "services:\n- {name: a, host: a, tags: ['a,b']}\n", "services[0].tags[0]", "invalid tag 'a,b': expected printable ascii (except `,` and `/`) or valid utf-8 sequences"},
		{"service id", header + "services:\n- {id: x, host: a}\n", "services[0].id", "expected a valid UUID"},
		{"two services of a name", header + "services:\n- {name: a, host: a}\n- {name: a, host: b}\n", "services[1]", "uniqueness violation: 'services' entity with name set to 'a' already declared"},
		{"route without matcher", service + "  routes:\n  - name: p\n", "services[0].routes[0]", "must set one of 'methods', 'hosts', 'headers', 'paths', 'snis' when 'protocols' is 'https'"},
		{"route without matcher, http", service + "  routes:\n  - {name: p, protocols: [http]}\n", "services[0].routes[0]", "must set one of 'methods', 'hosts', 'headers', 'paths' when 'protocols' is 'http'"},
		{"route path", service + "  routes:\n  - {name: p, paths: [p]}\n", "services[0].routes[0].paths[0]", "should start with: / (fixed path) or ~/ (regex path)"},
		{"route path not normal", service + "  routes:\n  - {name: p, paths: [/a/../b]}\n", "services[0].routes[0].paths[0]", "non-normalized path, consider use '/b' instead"},
		{"route path percent", service + "  routes:\n  - {name: p, paths: ['/a%zz']}\n", "services[0].routes[0].paths[0]", "invalid url-encoded value: '%zz'"},
		{"route regex", service + "  routes:\n  - {name: p, paths: ['~/(']}\n", "services[0].routes[0].paths[0]", "invalid regex: '/('"},
		{"route method", service + "  routes:\n  - {name: p, methods: [get]}\n", "services[0].routes[0].methods[0]", "invalid value: get"},
		{"route host wildcards", service + "  routes:\n  - {name: p, hosts: ['*.a.*']}\n", "services[0].routes[0].hosts[0]", "invalid wildcard: must have at most one wildcard"},
		{"route host wildcard inside", service + "  routes:\n  - {name: p, hosts: ['a.*.b']}\n", "services[0].routes[0].hosts[0]", "invalid wildcard: must be placed at leftmost or rightmost label"},
		{"route header host", service + "  routes:\n  - {name: p, headers: {Host: [a]}}\n", "services[0].routes[0].headers", "cannot contain 'host' header, which must be specified in the 'hosts' attribute"},
		{"route protocols mixed", service + "  routes:\n  - {name: p, paths: [/p], protocols: [http, grpc]}\n", "services[0].routes[0].protocols", "these sets are mutually exclusive: ('http', 'https'), ('grpc', 'grpcs')"},
		{"route protocol not modelled", service + "  routes:\n  - {name: p, paths: [/p], protocols: [grpc]}\n", "services[0].routes[0].protocols", "kongtest models routes for http and https only"},
		{"route sources", service + "  routes:\n  - {name: p, paths: [/p], sources: [{port: 1}]}\n", "services[0].routes[0].sources", "cannot set 'sources' when 'protocols' is 'http' or 'https'"},
		{"route snis without https", service + "  routes:\n  - {name: p, paths: [/p], protocols: [http], snis: [a]}\n", "services[0].routes[0].snis", "length must be 0"},
		{"nested route with service", service + "  routes:\n  - {name: p, paths: [/p], service: up}\n", "services[0].routes[0].service", "value must be null"},
		{"path_handling", service + "  routes:\n  - {name: p, paths: [/p], path_handling: v1}\n", "services[0].routes[0].path_handling", "kongtest models v0 only"},
		{"route of unknown service", header + "routes:\n- {name: p, paths: [/p], service: nobody}\n", "routes[0]", "invalid reference 'service: nobody' (no such entry in 'services')"},
		{"plugin without name", route + "    plugins:\n    - config: {}\n", "services[0].routes[0].plugins[0].name", "required field missing"},
		{"Kong's own plugin", route + "    plugins:\n    - name: cors\n", "services[0].routes[0].plugins[0].name", "plugin 'cors' not enabled; add it to the 'plugins' configuration property"},
		{"plugin unknown key", route + "    plugins:\n    - {name: probe, conf: {}}\n", "services[0].routes[0].plugins[0].conf", "unknown field"},
		{"plugin config", route + "    plugins:\n    - {name: probe, config: {tg: x}}\n", "services[0].routes[0].plugins[0].config.tg", "unknown field"},
		{"plugin nested with route", route + "    plugins:\n    - {name: probe, route: p}\n", "services[0].routes[0].plugins[0].route", "value must be null"},
		{"plugin of unknown route", header + "plugins:\n- {name: probe, route: nobody}\n", "plugins[0]", "invalid reference 'route: nobody' (no such entry in 'routes')"},
		{"plugin of a consumer", header + "plugins:\n- {name: probe, consumer: bob}\n", "plugins[0]", "invalid reference 'consumer: bob' (no such entry in 'consumers')"},
		{"plugin twice", route + "    plugins:\n    - name: probe\n    - name: probe\n", "services[0].routes[0].plugins[1]", "uniqueness violation: 'plugins' entity with primary key set to '19505532-9e88-5bc8-b529-d9274487637e' already declared"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := tryDump(t, dumpOf(`{"tag":{"type":"string"}}`, ""), tt.yaml)
			var refused *kongtest.ConfigError
			if !errors.As(err, &refused) {
				t.Fatalf("got %v, want a ConfigError", err)
			}
			for _, f := range refused.Faults {
				if f.Path == tt.path && strings.HasPrefix(f.Text, tt.want) {
					return
				}
			}
			t.Errorf("got %+v, want %s: %s", refused.Faults, tt.path, tt.want)
		})
	}
}

// TestRefusesConsumerOfPluginThatForbidsIt: a schema can close what Kong leaves open.
func TestRefusesConsumerOfPluginThatForbidsIt(t *testing.T) {
	dump := strings.Replace(dumpOf("", ""), `"fields":[`, `"fields":[{"consumer":{"type":"foreign","reference":"consumers","eq":null}},
		{"protocols":{"type":"set","required":true,"elements":{"type":"string","one_of":["http","https"]},"default":["http","https"]}},`, 1)
	for yaml, want := range map[string]string{
		"plugins:\n- {name: probe, consumer: bob}\n":      "plugins[0].consumer: value must be null",
		"plugins:\n- {name: probe, protocols: [grpc]}\n":  "plugins[0].protocols[0]: expected one of: http, https",
		"plugins:\n- {name: probe, protocols: [https]}\n": "",
	} {
		_, err := tryDump(t, dump, "_format_version: \"3.0\"\n"+yaml)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: got %v, want %s", yaml, err, want)
		}
	}
}

// TestRefusesYAML: what is no YAML, or means something else than it seems.
func TestRefusesYAML(t *testing.T) {
	for name, tt := range map[string]struct{ yaml, want string }{
		"syntax":        {"a: [", "failed parsing declarative configuration"},
		"empty":         {"", "expected an object"},
		"scalar":        {"x", "expected an object"},
		"list":          {"- x", "expected an object"},
		"duplicate key": {"_format_version: \"3.0\"\nservices: []\nservices: []\n", `expected every key once, got "services" again`},
		"number as key": {"_format_version: \"3.0\"\n1: x\n", `expected the key to be a string, got "1"`},
		"word as key":   {"_format_version: \"3.0\"\non: x\n", `expected the key to be a string, got "on"`},
		"tag":           {"_format_version: !!binary eA==\n", "expected no tag"},
		"alias loop":    {"a: &a [*a]\n", "anchor"},
		"alias bomb": {"a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\n" +
			"d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e,*e]\ng: [*f,*f,*f,*f,*f,*f,*f]\n", "expected at most 100000 values"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := tryDump(t, dumpOf("", ""), tt.yaml)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

// TestReadsYAMLLikeKong: YAML 1.1's scalars, anchors and merge keys.
func TestReadsYAMLLikeKong(t *testing.T) {
	const fields = `{"v":{"type":"array","elements":{"type":"number"}}},{"b":{"type":"array","elements":{"type":"boolean"}}},
		{"s":{"type":"array","elements":{"type":"string"}}},{"m":{"type":"map","keys":{"type":"string"},"values":{"type":"string"}}}`
	got, _ := configOf(t, dumpOf(fields, ""), yamlOf(`
        v: [10, -3, 0123, 0x1F, 0b101, 1_000, 1:30, .5, 1e3, +7]
        b: [yes, No, on, OFF, true]
        s: ["yes", '1', 2a, 1.2.3, http://x, !!str 5]
        m: {<<: &m {a: b}}`), nil)
	for name, want := range map[string]string{
		"v": "[10 -3 83 31 5 1000 90 0.5 1000 7]", "b": "[true false true false true]",
		"s": "[yes 1 2a 1.2.3 http://x 5]", "m": "map[a:b]",
	} {
		if s := fmt.Sprint(got[name]); s != want {
			t.Errorf("%s: got %s, want %s", name, s, want)
		}
	}
}

// TestReplacesAddresses: textually, the longest first, in a file as well as in a text.
func TestReplacesAddresses(t *testing.T) {
	up := newUpstream(t, nil)
	file := filepath.Join(t.TempDir(), "kong.yml")
	yaml := "_format_version: \"3.0\"\nservices:\n- name: up\n  url: http://mcp.internal:9000\n  routes:\n  - {name: p, paths: [/p]}\n"
	if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	g := start(t, kongtest.Config{File: file, Addresses: map[string]string{"mcp.internal:90": "127.0.0.1:1", "mcp.internal:9000": up.address()}}, nil)
	if res := g.do("GET", "/p", "", nil); res.StatusCode != 200 {
		t.Errorf("status: got %d, want 200", res.StatusCode)
	}
	if err := g.Reload([]byte(strings.Replace(yaml, "/p", "/q", 1))); err != nil {
		t.Fatal(err)
	}
	if res := g.do("GET", "/q", "", nil); res.StatusCode != 200 {
		t.Errorf("status after Reload: got %d, want 200", res.StatusCode)
	}
}

// TestRefusesConfig has the mistakes of a test's author.
func TestRefusesConfig(t *testing.T) {
	yaml := []byte(yamlOf("{}"))
	for name, tt := range map[string]struct {
		cfg  kongtest.Config
		want string
	}{
		"neither file nor text": {kongtest.Config{}, "exactly one of File and YAML"},
		"both":                  {kongtest.Config{YAML: yaml, File: "x"}, "exactly one of File and YAML"},
		"no such file":          {kongtest.Config{File: "/nonexistent/kong.yml"}, "reading the declarative configuration"},
		"workers":               {kongtest.Config{YAML: yaml, Workers: -1}, "Workers"},
		"log level":             {kongtest.Config{YAML: yaml, LogLevel: "loud"}, "LogLevel"},
		"trusted":               {kongtest.Config{YAML: yaml, TrustedIPs: []string{"x"}}, "TrustedIPs"},
		"header buffers":        {kongtest.Config{YAML: yaml, HeaderBuffers: kongtest.HeaderBuffers{Number: 1, Size: 1}}, "HeaderBuffers"},
		"environment":           {kongtest.Config{YAML: yaml, MainEnv: []string{"X"}}, "MainEnv"},
		"name of the binary":    {kongtest.Config{YAML: yaml, Plugins: map[string]string{"probe": "/bin/sh"}}, "expected the binary of plugin \"probe\" to have that name"},
		"Kong's own plugin":     {kongtest.Config{YAML: yaml, Plugins: map[string]string{"cors": "/bin/cors"}}, "one of Kong's own"},
		"no binary":             {kongtest.Config{YAML: yaml, Plugins: map[string]string{"probe": "/nonexistent/probe"}}, "error loading plugins info"},
		"address in use":        {kongtest.Config{YAML: []byte("_format_version: \"3.0\"\n"), Listen: "256.0.0.1:0"}, "listening"},
	} {
		t.Run(name, func(t *testing.T) {
			g, err := kongtest.Start(context.Background(), tt.cfg)
			if err == nil {
				g.Close()
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

// TestKeepsConfigurationWhenReloadFails: as POST /config does.
func TestKeepsConfigurationWhenReloadFails(t *testing.T) {
	g := startProbed(t)
	if err := g.Reload([]byte("_format_version: \"3.0\"\nservice: []\n")); err == nil {
		t.Error("got no error, want one")
	}
	if res := g.do("GET", "/p", "", nil); res.StatusCode != 200 {
		t.Errorf("status: got %d, want 200", res.StatusCode)
	}
}
