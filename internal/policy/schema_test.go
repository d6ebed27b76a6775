package policy_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/jsonschema-go/jsonschema"
	"go.yaml.in/yaml/v3"

	"phantomtoken/internal/policy"
)

var update = flag.Bool("update", false, "write docs/policy.schema.json and the table of docs/policy.md")

const schemaFile = "../../docs/policy.schema.json"

// The published schema is the one that Parse checks by.
func TestSchemaFile(t *testing.T) {
	if *update {
		if err := os.WriteFile(schemaFile, policy.Schema(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, policy.Schema()) {
		t.Error("docs/policy.schema.json is not what Schema returns: go test ./internal/policy -update")
	}
}

func resolved(t *testing.T) *jsonschema.Resolved {
	t.Helper()
	var schema jsonschema.Schema
	if err := json.Unmarshal(policy.Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	if schema.Schema != "https://json-schema.org/draft/2020-12/schema" {
		t.Errorf("$schema %q", schema.Schema)
	}
	out, err := schema.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// instance is a YAML text as a JSON Schema sees it.
func instance(text string) (any, error) {
	var v any
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		return nil, err
	}
	data, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var out any
	return out, json.Unmarshal(data, &out)
}

// Every mistake in the structure of a file is one for the schema too. What it cannot say is
// listed here.
func TestSchemaAgreesAboutMistakes(t *testing.T) {
	schema := resolved(t)
	if v, err := instance(full); err != nil || schema.Validate(v) != nil {
		t.Fatalf("the full file: %v, %v", err, schema.Validate(v))
	}
	beyond := []string{
		// Two places that do not fit each other.
		"RepeatedCaller", "RepeatedAudience", "ResourceOfTwoAudiences", "ResourceThatIsAnAudience", "ResourceThatIsItsOwnAudience",
		"LifetimeOfAudienceAboveLimit", "ScopeOutsideOfAudience", "ManyNamesAreShortened", "RuleGrantsOutsideOfAudience", "RuleNameTwice", "UnknownAudience", "ResourceAsAudience",
		"ReservedClaimCopied", "ReservedClaimIssued", "ClaimsOfIdentityProvider", "NoAuthentication", "CertificateOfTwoCallers", "ServiceAccountOfTwoCallers",
		"ToolWithUnknownAudience", "ToolAudienceThatNobodyHas", "ToolScopeThatNobodyHas", "EgressCallerUnknown", "RouteTwice",
		"RouteAudienceUnknown", "RouteAudienceOfOtherCaller", "RouteScopeThatCallerLacks",
		// Values that a pattern does not catch.
		"LifetimeTooLong", "LifetimeTooShort", "Timeout", "RouteHostBadIPv6", "KeySetURLWithPassword", "KeySetURLWithQuery", "UpstreamWithPassword", "UpstreamQuery", "UpstreamFragment",
		"UpstreamDotSegments", "AddressBitsBehindLength", "AddressTooLong", "AddressIPv4InIPv6",
		// What is gone before a schema sees it.
		"OctalActors", "DateInsteadOfText", "Tag", "SecretWithTag", "MergeKey",
	}
	for _, tt := range mistakes() {
		v, err := instance(change(t, tt.old, tt.with))
		refused := err != nil || schema.Validate(v) != nil
		repeated := tt.name == "RepeatedCaller" || tt.name == "RepeatedAudience" // the YAML library refuses these
		if want := !slices.Contains(beyond, tt.name) || repeated; refused != want {
			t.Errorf("%s: refused by the schema %v, want %v", tt.name, refused, want)
		}
	}
}

// Each value of the full file is replaced by values of every kind, and each key removed:
// schema and description refuse the same.
func TestSchemaAgreesAboutStructure(t *testing.T) {
	schema := resolved(t)
	root, err := instance(full)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[bool]int{}
	compare := func(where string) {
		data, err := json.Marshal(root)
		if err != nil {
			t.Fatal(err)
		}
		var v any
		if err := json.Unmarshal(data, &v); err != nil {
			t.Fatal(err)
		}
		bySchema, byParse := schema.Validate(v), policy.Structure(data)
		seen[byParse == nil]++
		if (bySchema == nil) != (byParse == nil) {
			t.Errorf("%s:\nschema: %v\nParse: %v", where, bySchema, byParse)
		}
	}
	values := []any{
		nil, true, 1, 7, 9, 1.5, "", "ok", "OK", "not ok", "mint", "1m", "/a", "/a/", "https://example.com", strings.Repeat("a", 300), strings.Repeat("a", 5000),
		[]any{}, []any{"ok"}, []any{"OK", "OK"}, []any{"ok", 7}, []any{map[string]any{}}, []any{map[string]any{"name": "n", "when": []any{"w"}, "grant": []any{"g"}}},
		map[string]any{}, map[string]any{"ok": map[string]any{}}, map[string]any{"ok": "ok"}, map[string]any{"ok": []any{"ok"}}, map[string]any{"not ok": []any{}},
	}
	var walk func(where string, v any, set func(any))
	walk = func(where string, v any, set func(any)) {
		if set != nil {
			for _, other := range values {
				set(other)
				compare(fmt.Sprintf("%s = %.40v", where, other))
			}
			set(v)
		}
		switch v := v.(type) {
		case []any:
			for i := range v {
				walk(fmt.Sprintf("%s[%d]", where, i), v[i], func(with any) { v[i] = with })
			}
		case map[string]any:
			for _, key := range slices.Sorted(maps.Keys(v)) {
				value := v[key]
				walk(where+"."+key, value, func(with any) { v[key] = with })
				delete(v, key)
				compare(where + "." + key + " removed")
				v[key] = value
			}
		}
	}
	walk("", root, nil)
	if seen[true] < 300 || seen[false] < 1000 {
		t.Errorf("good and bad files: %v", seen)
	}
}
