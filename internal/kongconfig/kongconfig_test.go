package kongconfig_test

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"phantomtoken/internal/kongconfig"
)

const schema = `{"name":"probe","fields":[{"config":{"type":"record","fields":[
	{"secret":{"type":"string","referenceable":true}},
	{"id":{"type":"string"}},
	{"list":{"type":"array","elements":{"type":"string","referenceable":true}}},
	{"map":{"type":"map","keys":{"type":"string"},"values":{"type":"string","referenceable":true}}},
	{"inner":{"type":"record","fields":[{"secret":{"type":"string","referenceable":true}},{"ttl":{"type":"integer","default":5}}]}}
]}}]}`

func parse(t *testing.T, yaml, player string) (*kongconfig.Schema, *kongconfig.Declarative, error) {
	t.Helper()
	s, err := kongconfig.NewSchema([]byte(schema))
	if err != nil {
		t.Fatal(err)
	}
	d, err := kongconfig.Parse([]byte(yaml), kongconfig.Format{Plugins: map[string]*kongconfig.Schema{"probe": s}, Player: player})
	return s, d, err
}

// TestPlayerRefusesWhatItDoesNotKnow: what Kong knows and a player does not is refused in
// the player's name, and accepted without one.
func TestPlayerRefusesWhatItDoesNotKnow(t *testing.T) {
	const service = "services:\n- name: up\n  host: a\n"
	for _, tt := range []struct{ name, yaml, path, want string }{
		{"Upstreams", "upstreams: [{name: up}]\n", "upstreams", "the player does not model this entity"},
		{"CredentialsOfAConsumer", "consumers: [{username: bob, keyauth_credentials: [{key: a}]}]\n", "consumers[0].keyauth_credentials", "unknown field"},
		{"PluginOfAConsumer", "consumers: [{username: bob}]\nplugins: [{name: probe, consumer: bob}]\n", "plugins[0].consumer", "the player models plugins of services and routes only"},
		{"OtherPlugin", "plugins: [{name: cors, config: {origins: ['*']}}]\n", "plugins[0].name", "plugin 'cors' not enabled; add it to the 'plugins' configuration property"},
		{"ExpressionOfPCRE", service + "  routes: [{paths: ['~/a(?!b)']}]\n", "services[0].routes[0].paths[0]", "the player knows RE2 only"},
		{"RouteOverTCP", service + "  routes: [{protocols: [tcp], destinations: [{port: 1}]}]\n", "services[0].routes[0].protocols", "the player models routes for http and https only"},
		{"ServiceOverGRPC", "services: [{name: up, host: a, protocol: grpc}]\n", "services[0].protocol", "the player models services of http and https only"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			yaml := "_format_version: \"3.0\"\n" + tt.yaml
			if _, _, err := parse(t, yaml, ""); err != nil {
				t.Errorf("without a player: got %v, want no error", err)
			}
			_, _, err := parse(t, yaml, "the player")
			var refused *kongconfig.Error
			if !errors.As(err, &refused) || !slices.ContainsFunc(refused.Faults, func(f kongconfig.Fault) bool {
				return f.Path == tt.path && strings.Contains(f.Text, tt.want)
			}) {
				t.Errorf("with a player: got %v, want %s: %s", err, tt.path, tt.want)
			}
		})
	}
}

// TestRefusedFileIsStillRead: faults come with what could be read.
func TestRefusedFileIsStillRead(t *testing.T) {
	_, d, err := parse(t, `_format_version: "3.0"
services:
- name: up
  host: a
  typo: 1
  routes: [{name: r, paths: [/r]}]
  plugins: [{name: probe, config: {id: x}}]
`, "")
	var refused *kongconfig.Error
	if !errors.As(err, &refused) || len(refused.Faults) != 1 || refused.Faults[0].Path != "services[0].typo" {
		t.Fatalf("got %v, want one fault at services[0].typo", err)
	}
	if len(d.Routes) != 1 || d.Routes[0].Upstream == nil || len(d.Plugins) != 1 || d.Plugins[0].At != "services[0].plugins[0]" || d.Plugins[0].Config["id"] != "x" {
		t.Errorf("got %+v, want the route with its service and the plugin", d)
	}
}

func TestReferences(t *testing.T) {
	s, d, err := parse(t, `_format_version: "3.0"
plugins:
- name: probe
  config:
    secret: "{vault://env/a}"
    id: "{vault://env/b}"
    list: [plain, "{vault://env/c}"]
    map: {k: "{vault://env/d/key}"}
    inner: {secret: "{vault://env/e}"}
`, "")
	if err != nil {
		t.Fatal(err)
	}
	want := []kongconfig.Reference{
		{Field: "id", Text: "{vault://env/b}"},
		{Field: "inner.secret", Text: "{vault://env/e}", Resolved: true},
		{Field: "list[1]", Text: "{vault://env/c}", Resolved: true},
		{Field: "map.k", Text: "{vault://env/d/key}", Resolved: true},
		{Field: "secret", Text: "{vault://env/a}", Resolved: true},
	}
	if got := s.References(d.Plugins[0]); !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	loaded := s.Load(d.Plugins[0], func(reference string) string {
		value, _ := kongconfig.Environment{"A": "1", "D": `{"key":"2"}`}.Lookup(reference)
		return value
	})
	inner, _ := loaded["inner"].(map[string]any)
	m, _ := loaded["map"].(map[string]any)
	if loaded["secret"] != "1" || loaded["id"] != "{vault://env/b}" || m["k"] != "2" || inner["secret"] != "" || inner["ttl"] != 5.0 {
		t.Errorf("got %v, want references resolved, defaults filled in and what is unset empty", loaded)
	}
}

func TestReadEnvironment(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       kongconfig.Environment
		wantErr    string
	}{
		{name: "Lines", text: "A=1\n\n# no\nexport B=\"two words\"\nC='x'\nD=a=b\nE=\n", want: kongconfig.Environment{"A": "1", "B": "two words", "C": "x", "D": "a=b", "E": ""}},
		{name: "Nothing", want: kongconfig.Environment{}},
		{name: "NoAssignment", text: "A=1\ns3cret\n", wantErr: "line 2"},
		{name: "NoName", text: "=s3cret\n", wantErr: "line 1"},
		{name: "LineWithoutEnd", text: strings.Repeat("s", 1<<20), wantErr: "too long"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := kongconfig.ReadEnvironment(strings.NewReader(tt.text))
			if tt.wantErr == "" && (err != nil || !maps.Equal(got, tt.want)) {
				t.Errorf("got %v, %v, want %v", got, err, tt.want)
			}
			if tt.wantErr != "" && (err == nil || !strings.Contains(err.Error(), tt.wantErr) || strings.Contains(err.Error(), "s3cret")) {
				t.Errorf("got %v, want an error with %q and without values", err, tt.wantErr)
			}
		})
	}
}

// FuzzParse: no text brings the reader down, and what is refused is refused in words.
func FuzzParse(f *testing.F) {
	f.Add("_format_version: \"3.0\"\nservices: [{name: a, url: 'http://b:1/c', routes: [{paths: [/x, ~/y$]}]}]\n")
	f.Add("_format_version: \"3.0\"\nplugins: [{name: probe, config: {inner: {ttl: x}}}]\n")
	f.Add("services: 1\n")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := kongconfig.NewSchema([]byte(schema))
		if err != nil {
			t.Fatal(err)
		}
		d, err := kongconfig.Parse([]byte(text), kongconfig.Format{Plugins: map[string]*kongconfig.Schema{"probe": s}})
		if err != nil && err.Error() == "" {
			t.Error("got an error without words")
		}
		if d == nil {
			return
		}
		for _, p := range d.Plugins {
			s.References(p)
		}
	})
}
