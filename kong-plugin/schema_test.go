package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
)

var update = flag.Bool("update", false, "write testdata/schema.json anew")

// decodedSchema is the schema as Kong reads it.
func decodedSchema(t *testing.T) map[string]any {
	t.Helper()
	b, err := json.Marshal(pluginSchema("phantom-token"))
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestSchemaIsTheGoldenOne shows every change of what operators may write. Write the file
// anew with: go test ./kong-plugin -run TestSchemaIsTheGoldenOne -update
func TestSchemaIsTheGoldenOne(t *testing.T) {
	var got bytes.Buffer
	enc := json.NewEncoder(&got)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(pluginSchema("phantom-token")); err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", "schema.json")
	if *update {
		if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("schema differs from %s; if that is meant, run the test with -update", golden)
	}
}

// eachField calls visit for every field of a record, with its path.
func eachField(record map[string]any, path string, visit func(path string, field map[string]any)) {
	fields, _ := record["fields"].([]any)
	for _, f := range fields {
		for name, field := range f.(map[string]any) {
			field := field.(map[string]any)
			at := name
			if path != "" {
				at = path + "." + name
			}
			visit(at, field)
			eachField(field, at, visit)
			if elements, ok := field["elements"].(map[string]any); ok {
				eachField(elements, at, visit)
			}
		}
	}
}

// TestSchemaUsesOnlyWhatKongKnows guards the start of Kong, which an unknown attribute or a
// description of the wrong length prevents.
func TestSchemaUsesOnlyWhatKongKnows(t *testing.T) {
	known := []string{
		"type", "required", "default", "description", "referenceable", "encrypted", "err",
		"elements", "keys", "values", "fields", "entity_checks", "reference", "eq",
		"one_of", "not_one_of", "between", "match", "not_match",
	}
	eachField(decodedSchema(t), "", func(path string, field map[string]any) {
		for attribute := range field {
			if !slices.Contains(known, attribute) {
				t.Errorf("%s: attribute %q is not known to be one of Kong's", path, attribute)
			}
		}
		if text, _ := field["description"].(string); len(text) < 10 || len(text) > 500 {
			t.Errorf("%s: description has %d characters, want 10 to 500", path, len(text))
		}
		if field["type"] == nil {
			t.Errorf("%s: no type", path)
		}
	})
}

// TestSchemaAndConfigAgree keeps the schema and the Go struct in step: the same fields of
// the same types, and the same defaults.
func TestSchemaAndConfigAgree(t *testing.T) {
	var config map[string]any
	for _, f := range decodedSchema(t)["fields"].([]any) {
		if c, ok := f.(map[string]any)["config"]; ok {
			config = c.(map[string]any)
		}
	}
	compareRecord(t, "config", config, reflect.TypeFor[Config](), asJSON(t, defaultConfig()))
}

func asJSON(t *testing.T, v any) any {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var out any
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// compareRecord compares one record. defaults is the JSON of Go's default value, or nil
// inside of arrays, where Go has none.
func compareRecord(t *testing.T, path string, schema map[string]any, typ reflect.Type, defaults any) {
	t.Helper()
	inSchema := map[string]map[string]any{}
	for _, f := range schema["fields"].([]any) {
		for name, field := range f.(map[string]any) {
			inSchema[name] = field.(map[string]any)
		}
	}
	for i := range typ.NumField() {
		f := typ.Field(i)
		name := f.Tag.Get("json")
		at := path + "." + name
		field := inSchema[name]
		if field == nil {
			t.Errorf("%s: in Config and not in the schema", at)
			continue
		}
		delete(inSchema, name)
		optional := f.Type.Kind() == reflect.Pointer // absent is not empty
		if optional {
			f.Type = f.Type.Elem()
		}
		if got := schemaType(f.Type); got != field["type"] {
			t.Errorf("%s: Go wants the type %s, the schema says %v", at, got, field["type"])
			continue
		}
		var value any
		if m, ok := defaults.(map[string]any); ok {
			value = m[name]
		}
		switch field["type"] {
		case "record":
			compareRecord(t, at, field, f.Type, value)
			continue
		case "array":
			if f.Type.Elem().Kind() == reflect.Struct {
				compareRecord(t, at, field["elements"].(map[string]any), f.Type.Elem(), nil)
			}
		}
		if defaults == nil {
			continue
		}
		want, ok := field["default"]
		if !ok && !optional {
			want = map[string]any{"string": "", "boolean": false, "integer": 0.0}[field["type"].(string)]
		}
		if !reflect.DeepEqual(value, want) {
			t.Errorf("%s: Go's default is %v, the schema's %v", at, value, want)
		}
	}
	for name := range inSchema {
		t.Errorf("%s.%s: in the schema and not in Config", path, name)
	}
}

func schemaType(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "string"
	case reflect.Bool:
		return "boolean"
	case reflect.Int:
		return "integer"
	case reflect.Slice:
		return "array"
	case reflect.Map:
		return "map"
	case reflect.Struct:
		return "record"
	default:
		return fmt.Sprint(t)
	}
}

// Secrets must be referenceable, or they stand in kong.yml in clear.
//
// Covers: JW-16
func TestSecretsAreReferenceableAndEncrypted(t *testing.T) {
	want := map[string]bool{"config.client_secret": true, "config.phantom_token.signing_key": true}
	eachField(decodedSchema(t), "", func(path string, field map[string]any) {
		if got := field["referenceable"] == true && field["encrypted"] == true; got != want[path] {
			t.Errorf("%s: referenceable and encrypted = %v, want %v", path, got, want[path])
		}
	})
}
