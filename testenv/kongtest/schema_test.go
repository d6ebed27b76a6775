package kongtest_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"phantomtoken/testenv/kongtest"
)

// dumpOf is what a plugin "probe" with these fields of its configuration prints. rest are
// further members of the record config.
func dumpOf(fields, rest string) string {
	return fmt.Sprintf(`{"Protocol":"ProtoBuf:1","Plugins":[{"Name":"probe","Version":"0.1","Priority":1000,"Phases":["access"],
		"Schema":{"name":"probe","fields":[{"config":{"type":"record","fields":[%s]%s}}]}}]}`, fields, rest)
}

// yamlOf is a kong.yml with the plugin "probe" on the route /p, configured with a YAML flow
// mapping.
func yamlOf(config string) string {
	return `
_format_version: "3.0"
services:
- name: up
  url: http://127.0.0.1:9
  routes:
  - name: p
    paths: ["/p"]
    plugins:
    - name: probe
      config: ` + config + "\n"
}

// tryDump starts a gateway with a plugin that prints dump; nothing listens on its socket.
func tryDump(t testing.TB, dump, yaml string) (*gateway, error) {
	t.Helper()
	cfg := kongtest.Config{YAML: []byte(yaml), Workers: 1}
	cfg.SetServer("probe", []byte(dump), "/nonexistent")
	return tryStart(t, cfg, nil)
}

// configOf returns the configuration that the plugin gets.
func configOf(t *testing.T, dump, yaml string, env map[string]string) (map[string]any, *gateway) {
	t.Helper()
	p := newPlayer(t)
	cfg := kongtest.Config{YAML: []byte(yaml), Workers: 1, Env: env, PluginTimeout: patience}
	cfg.SetServer("probe", []byte(dump), p.listener.Addr().String())
	g := start(t, cfg, nil)
	done := make(chan struct{})
	go func() {
		defer close(done)
		g.do("GET", "/p", "", nil)
	}()
	conn := p.accept()
	call := p.readCall(conn)
	conn.Close()
	<-done
	var config map[string]any
	if err := json.Unmarshal(call.GetCmdStartInstance().GetConfig(), &config); err != nil {
		t.Fatalf("configuration: %v", err)
	}
	return config, g
}

// TestRefusesSchemaOfPlugin checks that what stops Kong stops kongtest, in Kong's words.
func TestRefusesSchemaOfPlugin(t *testing.T) {
	tests := []struct {
		name, dump, want string
	}{
		{"not JSON", "usage: probe", "failed decoding plugin info"},
		{"no plugin", `{"Protocol":"ProtoBuf:1","Plugins":[]}`, "not a plugin info table"},
		{"unknown attribute", dumpOf(`{"a":{"type":"string","minimum":1}}`, ""), "schema violation (fields.1: {\n  fields = {\n    {\n      minimum = \"unknown field\"\n    }\n  }\n})"},
		{"second field", dumpOf(`{"a":{"type":"string"}},{"b":{"type":"string","x":1}}`, ""), `[2] = {`},
		{"no type", dumpOf(`{"a":{"required":true}}`, ""), `type = "required field missing"`},
		{"unknown type", dumpOf(`{"a":{"type":"int"}}`, ""), `type = "expected one of: array, set, string`},
		{"description too short", dumpOf(`{"a":{"type":"string","description":"Too short"}}`, ""), "length must be at least 10"},
		{"description too long", dumpOf(`{"a":{"type":"string","description":"`+strings.Repeat("x", 501)+`"}}`, ""), "length must be at most 500"},
		{"two names in one entry", dumpOf(`{"a":{"type":"string"},"b":{"type":"string"}}`, ""), "length must be 1"},
		{"array without elements", dumpOf(`{"a":{"type":"array"}}`, ""), "a: field of type 'array' must declare 'elements'"},
		{"map without values", dumpOf(`{"a":{"type":"map","keys":{"type":"string"}}}`, ""), "a: field of type 'map' must declare 'values'"},
		{"range of a string", dumpOf(`{"a":{"type":"string","between":[1,2]}}`, ""), "a: field of type 'string' cannot have attribute 'between'"},
		{"range of three", dumpOf(`{"a":{"type":"integer","between":[1,2,3]}}`, ""), "length must be 2"},
		{"choice of booleans", dumpOf(`{"a":{"type":"boolean","one_of":[true]}}`, ""), "a: field of type 'boolean' cannot have attribute 'one_of'"},
		{"wrong attribute in elements", dumpOf(`{"a":{"type":"array","elements":{"type":"string","between":[1,2]}}}`, ""), "cannot have attribute 'between'"},
		{"wrong attribute in a record", dumpOf(`{"a":{"type":"record","fields":[{"b":{"type":"array"}}]}}`, ""), "b: field of type 'array' must declare 'elements'"},
		{"default of another type", dumpOf(`{"a":{"type":"integer","default":"x"}}`, ""), `default = "expected an integer"`},
		{"default out of range", dumpOf(`{"a":{"type":"integer","between":[1,2],"default":3}}`, ""), `default = "value should be between 1 and 2"`},
		{"attribute of the wrong type", dumpOf(`{"a":{"type":"string","required":"yes"}}`, ""), `required = "expected a boolean"`},
		{"Lua function", dumpOf(`{"a":{"type":"string","custom_validator":"f"}}`, ""), `custom_validator = "expected a function"`},
		{"unknown entity check", dumpOf(`{"a":{"type":"string"}}`, `,"entity_checks":[{"all_of":["a"]}]`), `all_of = "unknown field"`},
		{"custom entity check", dumpOf(`{"a":{"type":"string"}}`, `,"entity_checks":[{"custom_entity_check":{"field_sources":["a"],"fn":"f"}}]`), `fn = "expected a function"`},
		{"two entity checks in one", dumpOf(`{"a":{"type":"string"}}`, `,"entity_checks":[{"at_least_one_of":["a"],"distinct":["a"]}]`), "exactly one of these fields must be non-empty"},
		{"deprecation without message", dumpOf(`{"a":{"type":"string","deprecation":{"removal_in_version":"4.0"}}}`, ""), `message = "required field missing"`},
		{"json field", dumpOf(`{"a":{"type":"json"}}`, ""), "fields of type 'json' are not modelled here"},
		{"field that plugins do not have", `{"Protocol":"ProtoBuf:1","Plugins":[{"Name":"probe","Version":"0.1","Priority":1,"Phases":["access"],
			"Schema":{"name":"probe","fields":[{"settings":{"type":"record","fields":[]}}]}}]}`, "error in definition of 'probe': settings: cannot create a new field"},
		{"config that is no record", `{"Protocol":"ProtoBuf:1","Plugins":[{"Name":"probe","Version":"0.1","Priority":1,"Phases":["access"],
			"Schema":{"name":"probe","fields":[{"config":{"type":"string"}}]}}]}`, "config: cannot change type in a specialized field"},
		{"no name", `{"Protocol":"ProtoBuf:1","Plugins":[{"Name":"probe","Version":"0.1","Priority":1,"Phases":["access"],"Schema":{"fields":[]}}]}`, "name: required field missing"},
		{"another name", strings.Replace(dumpOf("", ""), `"Name":"probe"`, `"Name":"other"`, 1), "probe plugin is enabled but not installed"},
		{"version", strings.Replace(dumpOf("", ""), `"0.1"`, `"v0.1"`, 1), `its VERSION field does not follow the "x.y.z" format, got: "v0.1"`},
		{"priority", strings.Replace(dumpOf("", ""), "1000", "1.5", 1), `its PRIORITY field is not a valid integer number, got: "1.5"`},
		{"response phase", strings.Replace(dumpOf("", ""), `["access"]`, `["access","response"]`, 1), `handles the phase "response", which kongtest does not model`},
		{"other protocol", strings.Replace(dumpOf("", ""), "ProtoBuf:1", "MsgPack:1", 1), `expected the protocol ProtoBuf:1, got "MsgPack:1"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := tryDump(t, tt.dump, yamlOf("{}"))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

// everything is a schema with every attribute that a plugin can use.
const everything = `
	{"name":{"type":"string","required":true,"len_min":2,"len_max":5,"description":"A name, not too long."}},
	{"ttl":{"type":"integer","between":[1,3600],"default":300}},
	{"positive":{"type":"number","gt":0}},
	{"mode":{"type":"string","one_of":["jwt","opaque"],"default":"jwt"}},
	{"not_admin":{"type":"string","not_one_of":["admin","root"]}},
	{"url":{"type":"string","starts_with":"https://"}},
	{"id":{"type":"string","uuid":true}},
	{"regex":{"type":"string","is_regex":true}},
	{"lower":{"type":"string","match":"^%l+$"}},
	{"own_text":{"type":"string","match":"^%d+$","err":"digits only, please"}},
	{"no_space":{"type":"string","not_match":"%s"}},
	{"all":{"type":"string","match_all":[{"pattern":"^a","err":"must begin with a"},{"pattern":"z$","err":"must end with z"}]}},
	{"any":{"type":"string","match_any":{"patterns":["^a$","^b$"],"err":"must be a or b"}}},
	{"none":{"type":"string","match_none":[{"pattern":"%.%.","err":"must not have two dots"}]}},
	{"empty_allowed":{"type":"string","len_min":0}},
	{"list":{"type":"array","elements":{"type":"string","len_max":3},"len_max":2}},
	{"set":{"type":"set","elements":{"type":"string","one_of":["a","b"]},"contains":"a"}},
	{"map":{"type":"map","keys":{"type":"string","match":"^%l+$"},"values":{"type":"integer"}}},
	{"flag":{"type":"boolean"}},
	{"record":{"type":"record","fields":[{"inner":{"type":"integer","default":7}},{"needed":{"type":"string"}}]}},
	{"records":{"type":"array","elements":{"type":"record","fields":[
		{"claim":{"type":"string","required":true}},{"reason":{"type":"string","default":"because"}}]}}},
	{"old":{"type":"string","deprecation":{"message":"old is deprecated","removal_in_version":"4.0","old_default":"same"}}},
	{"secret":{"type":"string","referenceable":true,"encrypted":true,"match":"^s"}}`

// TestRefusesConfigurationOfPlugin has one fault in each configuration.
func TestRefusesConfigurationOfPlugin(t *testing.T) {
	tests := []struct {
		name, config, path, want string
	}{
		{"required", "{}", "name", "required field missing"},
		{"null for required", "{name: null}", "name", "required field missing"},
		{"unknown", "{name: abc, nmae: x}", "nmae", "unknown field"},
		{"len_min", "{name: a}", "name", "length must be at least 2"},
		{"len_max", "{name: abcdef}", "name", "length must be at most 5"},
		{"string for integer", `{name: abc, ttl: "5"}`, "ttl", "expected an integer"},
		{"fraction for integer", "{name: abc, ttl: 1.5}", "ttl", "expected an integer"},
		{"between below", "{name: abc, ttl: 0}", "ttl", "value should be between 1 and 3600"},
		{"between above", "{name: abc, ttl: 3601}", "ttl", "value should be between 1 and 3600"},
		{"gt", "{name: abc, positive: 0}", "positive", "value must be greater than 0"},
		{"number", "{name: abc, positive: x}", "positive", "expected a number"},
		{"one_of", "{name: abc, mode: JWT}", "mode", "expected one of: jwt, opaque"},
		{"not_one_of", "{name: abc, not_admin: root}", "not_admin", "must not be one of: admin, root"},
		{"starts_with", "{name: abc, url: 'http://x'}", "url", "should start with: https://"},
		{"uuid", "{name: abc, id: 1234}", "id", "expected a string"},
		{"uuid text", "{name: abc, id: x}", "id", "expected a valid UUID"},
		{"is_regex", "{name: abc, regex: '('}", "regex", "not a valid regex: ("},
		{"match", "{name: abc, lower: Abc}", "lower", "invalid value: Abc"},
		{"err", "{name: abc, own_text: x}", "own_text", "digits only, please"},
		{"not_match", "{name: abc, no_space: 'a b'}", "no_space", "invalid value: a b"},
		{"match_all first", "{name: abc, all: bz}", "all", "must begin with a"},
		{"match_all second", "{name: abc, all: ab}", "all", "must end with z"},
		{"match_any", "{name: abc, any: c}", "any", "must be a or b"},
		{"match_none", "{name: abc, none: a..b}", "none", "must not have two dots"},
		{"empty string", "{name: abc, lower: ''}", "lower", "length must be at least 1"},
		{"list for string", "{name: [abc]}", "name", "expected a string"},
		{"YAML boolean for string", "{name: on}", "name", "expected a string"},
		{"array", "{name: abc, list: a}", "list", "expected an array"},
		{"elements", "{name: abc, list: [abc, abcd]}", "list[1]", "length must be at most 3"},
		{"null element", "{name: abc, list: [null]}", "list[0]", "required field missing"},
		{"length of an array", "{name: abc, list: [a, b, c]}", "list", "length must be at most 2"},
		{"set", "{name: abc, set: {a: b}}", "set", "expected a set"},
		{"set elements", "{name: abc, set: [a, c]}", "set[1]", "expected one of: a, b"},
		{"contains", "{name: abc, set: [b]}", "set", "expected to contain: a"},
		{"map", "{name: abc, map: x}", "map", "expected a map"},
		{"map keys", "{name: abc, map: {A: 1}}", "map", "invalid value: A"},
		{"map values", "{name: abc, map: {a: x}}", "map", "expected an integer"},
		{"list for map", "{name: abc, map: [x]}", "map", "expected a string"},
		{"boolean", "{name: abc, flag: 1}", "flag", "expected a boolean"},
		{"record", "{name: abc, record: x}", "record", "expected a record"},
		{"record inside", "{name: abc, record: {inner: x}}", "record.inner", "expected an integer"},
		{"unknown inside", "{name: abc, record: {iner: 1}}", "record.iner", "unknown field"},
		{"record in a list", "{name: abc, records: [{claim: a}, {reason: b}]}", "records[1].claim", "required field missing"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := tryDump(t, dumpOf(everything, ""), yamlOf(tt.config))
			var refused *kongtest.ConfigError
			if !errors.As(err, &refused) {
				t.Fatalf("got %v, want a ConfigError", err)
			}
			want := []kongtest.Fault{{Path: "services[0].routes[0].plugins[0].config." + tt.path, Text: tt.want}}
			if !reflect.DeepEqual(refused.Faults, want) {
				t.Errorf("got %+v, want %+v", refused.Faults, want)
			}
		})
	}
}

// TestRefusesAllFaultsAtOnce: one start tells everything that is wrong.
func TestRefusesAllFaultsAtOnce(t *testing.T) {
	_, err := tryDump(t, dumpOf(everything, ""), yamlOf("{ttl: 0, mode: x}"))
	want := `error parsing declarative config file:
services[0].routes[0].plugins[0].config.mode: expected one of: jwt, opaque
services[0].routes[0].plugins[0].config.name: required field missing
services[0].routes[0].plugins[0].config.ttl: value should be between 1 and 3600`
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// TestEntityChecks has rules across fields.
func TestEntityChecks(t *testing.T) {
	const fields = `{"a":{"type":"string"}},{"b":{"type":"string"}},{"c":{"type":"string","referenceable":true}},{"n":{"type":"integer"}},
		{"r":{"type":"record","fields":[{"x":{"type":"string"}}]}}`
	tests := []struct {
		name, check, config string
		want                string // empty: accepted
	}{
		{"at_least_one_of none", `{"at_least_one_of":["a","b"]}`, "{}", "at least one of these fields must be non-empty: 'a', 'b'"},
		{"at_least_one_of one", `{"at_least_one_of":["a","b"]}`, "{b: x}", ""},
		{"only_one_of none", `{"only_one_of":["a","b"]}`, "{}", "exactly one of these fields must be non-empty: 'a', 'b'"},
		{"only_one_of both", `{"only_one_of":["a","b"]}`, "{a: x, b: x}", "exactly one of these fields must be non-empty: 'a', 'b'"},
		{"only_one_of one", `{"only_one_of":["a","b"]}`, "{a: x}", ""},
		{"mutually_required one", `{"mutually_required":["a","b"]}`, "{a: x}", "all or none of these fields must be set: 'a', 'b'"},
		{"mutually_required none", `{"mutually_required":["a","b"]}`, "{}", ""},
		{"mutually_required both", `{"mutually_required":["a","b"]}`, "{a: x, b: x}", ""},
		{"mutually_exclusive both", `{"mutually_exclusive":["a","b"]}`, "{a: x, b: x}", "only one or none of these fields must be set: 'a', 'b'"},
		{"mutually_exclusive one", `{"mutually_exclusive":["a","b"]}`, "{a: x}", ""},
		{"distinct same", `{"distinct":["a","b"]}`, "{a: x, b: x}", "values of these fields must be distinct: 'a', 'b'"},
		{"distinct", `{"distinct":["a","b"]}`, "{a: x, b: y}", ""},
		{"dotted name", `{"at_least_one_of":["a","r.x"]}`, "{r: {x: y}}", ""},
		{"sets", `{"mutually_exclusive_sets":{"set1":["a"],"set2":["b"]}}`, "{a: x, b: y}", "these sets are mutually exclusive: ('a'), ('b')"},
		{"conditional", `{"conditional":{"if_field":"a","if_match":{"match":"^redis$"},"then_field":"b","then_match":{"required":true}}}`,
			"{a: redis}", "failed conditional validation given value of field 'a'"},
		{"conditional not met", `{"conditional":{"if_field":"a","if_match":{"match":"^redis$"},"then_field":"b","then_match":{"required":true}}}`, "{a: other}", ""},
		{"conditional with own text", `{"conditional":{"if_field":"a","if_match":{"eq":"x"},"then_field":"n","then_match":{"gt":5},"then_err":"n is too small for %s"}}`,
			"{a: x, n: 3}", "n is too small for a"},
		{"conditional_at_least_one_of", `{"conditional_at_least_one_of":{"if_field":"a","if_match":{"eq":"x"},"then_at_least_one_of":["b","n"],"then_err":"needs one of %s"}}`,
			"{a: x}", "needs one of 'b', 'n'"},
		{"reference stands for a value", `{"only_one_of":["a","c"]}`, "{a: x, c: '{vault://env/x}'}", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := tryDump(t, dumpOf(fields, `,"entity_checks":[`+tt.check+`]`), yamlOf(tt.config))
			if tt.want == "" {
				if err != nil {
					t.Errorf("got %v, want no error", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), "plugins[0].config: "+tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

// TestFillsConfiguration: defaults at every depth, absent for unset, [] and {} for empty.
func TestFillsConfiguration(t *testing.T) {
	const fields = `
		{"unset":{"type":"string"}},
		{"number":{"type":"integer","default":1234567890123456}},
		{"fraction":{"type":"number","default":0.1}},
		{"off":{"type":"boolean","default":false}},
		{"text":{"type":"string","default":"a/b"}},
		{"list":{"type":"array","elements":{"type":"string"},"default":[]}},
		{"set":{"type":"set","elements":{"type":"string"}}},
		{"map":{"type":"map","keys":{"type":"string"},"values":{"type":"string"},"default":{}}},
		{"left_out":{"type":"record","fields":[{"deep":{"type":"record","fields":[{"value":{"type":"integer","default":7}}]}}]}},
		{"optional":{"type":"record","required":false,"fields":[{"value":{"type":"integer","default":7}}]}},
		{"records":{"type":"array","elements":{"type":"record","fields":[{"a":{"type":"string"}},{"b":{"type":"string","default":"b"}}]}}},
		{"empty_as_map":{"type":"array","elements":{"type":"string"}}}`
	got, _ := configOf(t, dumpOf(fields, ""), yamlOf("{set: [x, y, x], records: [{a: a}, {}], empty_as_map: {}}"), nil)
	want := map[string]any{
		"number": 1234567890123456.0, "fraction": 0.1, "off": false, "text": "a/b", "list": []any{}, "set": []any{"x", "y"},
		"map": map[string]any{}, "left_out": map[string]any{"deep": map[string]any{"value": 7.0}},
		"records":      []any{map[string]any{"a": "a", "b": "b"}, map[string]any{"b": "b"}},
		"empty_as_map": []any{},
		"__seq__":      2.0, "__plugin_id": "19505532-9e88-5bc8-b529-d9274487637e",
		"__ws_id":  "0dc6f45b-8f8d-40d2-a504-473544ee190b",
		"__key__":  "plugins:probe:2b6004ea-2d70-53b7-9104-27ab31332590::::0dc6f45b-8f8d-40d2-a504-473544ee190b",
		"route_id": "2b6004ea-2d70-53b7-9104-27ab31332590",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
}

// TestFillsConfigurationLeftOut: a plugin without config gets the defaults.
func TestFillsConfigurationLeftOut(t *testing.T) {
	yaml := strings.ReplaceAll(yamlOf("{}"), "      config: {}\n", "")
	got, _ := configOf(t, dumpOf(`{"n":{"type":"integer","default":5}}`, ""), yaml, nil)
	if got["n"] != 5.0 {
		t.Errorf("n: got %v, want 5", got["n"])
	}
}

// TestScopesOfPluginConfiguration: which ids a plugin gets where.
func TestScopesOfPluginConfiguration(t *testing.T) {
	const service = `
_format_version: "3.0"
services:
- name: up
  url: http://127.0.0.1:9
  routes:
  - name: p
    paths: ["/p"]
  plugins:
  - name: probe
    instance_name: mine
`
	got, _ := configOf(t, dumpOf("", ""), service, nil)
	if got["service_id"] == nil || got["route_id"] != nil || got["plugin_instance_name"] != "mine" {
		t.Errorf("on a service: got %v, want service_id and the instance name", got)
	}
	global := strings.ReplaceAll(service, "  plugins:\n  - name: probe\n    instance_name: mine\n", "plugins:\n- name: probe\n")
	got, _ = configOf(t, dumpOf("", ""), global, nil)
	if got["service_id"] != nil || got["route_id"] != nil || got["__key__"] != "plugins:probe:::::0dc6f45b-8f8d-40d2-a504-473544ee190b" {
		t.Errorf("global: got %v, want no ids", got)
	}
	named := strings.ReplaceAll(global, "- name: probe\n", "- name: probe\n  route: p\n")
	got, _ = configOf(t, dumpOf("", ""), named, nil)
	if got["route_id"] != "2b6004ea-2d70-53b7-9104-27ab31332590" {
		t.Errorf("with route: got %v, want the id of the route", got)
	}
}

// TestResolvesReferences: only in referenceable fields, from the gateway's environment.
func TestResolvesReferences(t *testing.T) {
	const fields = `
		{"secret":{"type":"string","referenceable":true}},
		{"json":{"type":"string","referenceable":true}},
		{"prefixed":{"type":"string","referenceable":true}},
		{"plain":{"type":"string"}},
		{"list":{"type":"array","elements":{"type":"string","referenceable":true}}},
		{"map":{"type":"map","keys":{"type":"string"},"values":{"type":"string","referenceable":true}}},
		{"record":{"type":"record","fields":[{"inner":{"type":"string","referenceable":true,"len_min":20}}]}}`
	got, g := configOf(t, dumpOf(fields, ""), yamlOf(`
        secret: "{vault://env/my-secret}"
        json: "{vault://env/js/key1}"
        prefixed: "{vault://env/secret?prefix=my-}"
        plain: "{vault://env/my-secret}"
        list: [literal, "{vault://env/my-secret}"]
        map: {k: "{vault://env/my-secret}"}
        record: {inner: "{vault://env/my-secret}"}`),
		map[string]string{"MY_SECRET": "s3cret", "JS": `{"key1":"from json"}`})
	for name, want := range map[string]any{
		"secret": "s3cret", "json": "from json", "prefixed": "s3cret", "plain": "{vault://env/my-secret}",
		"list": []any{"literal", "s3cret"}, "map": map[string]any{"k": "s3cret"},
		"record": map[string]any{"inner": "s3cret", "$refs": map[string]any{"inner": "{vault://env/my-secret}"}},
	} {
		if !reflect.DeepEqual(got[name], want) {
			t.Errorf("%s: got %v, want %v", name, got[name], want)
		}
	}
	refs, _ := got["$refs"].(map[string]any)
	if refs["secret"] != "{vault://env/my-secret}" || refs["plain"] != nil {
		t.Errorf("$refs: got %v, want those of the referenceable fields", refs)
	}
	if strings.Contains(g.log.String(), "s3cret") {
		t.Error("the secret is in the log")
	}
}

// TestUnresolvedReferenceIsEmpty: Kong starts anyway and logs one notice.
func TestUnresolvedReferenceIsEmpty(t *testing.T) {
	const fields = `{"secret":{"type":"string","referenceable":true,"required":true}}`
	for _, reference := range []string{
		"{vault://env/nothing}", "{vault://env/js/none}", "{vault://env/js/number}", "{vault://env/text/key}", "{vault://other/x}", "{vault://env/}",
	} {
		t.Run(reference, func(t *testing.T) {
			got, g := configOf(t, dumpOf(fields, ""), yamlOf(`{secret: "`+reference+`"}`), map[string]string{"JS": `{"number":1}`, "TEXT": "x"})
			if secret, ok := got["secret"]; secret != "" || !ok {
				t.Errorf("got %q, %v, want the empty string", secret, ok)
			}
			if n := g.log.count("[notice]"); n < 1 || g.log.count("unable to resolve reference "+reference) != 1 {
				t.Errorf("got %d notices, want one line about %s", n, reference)
			}
		})
	}
}

// TestWarnsOfDeprecatedField: when it is set to something else than its old default.
func TestWarnsOfDeprecatedField(t *testing.T) {
	for config, want := range map[string]int{"{name: abc, old: x}": 1, "{name: abc, old: same}": 0, "{name: abc}": 0} {
		g, err := tryDump(t, dumpOf(everything, ""), yamlOf(config))
		if err != nil {
			t.Fatal(err)
		}
		if got := g.log.count("old is deprecated (deprecated after 4.0)"); got != want {
			t.Errorf("%s: got %d warnings, want %d", config, got, want)
		}
	}
}
