package kongconfig

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// metaSubschema is Kong's schema of the schemas of plugins, in the language that it
// describes.
func metaSubschema() *schema {
	attributes := &schema{Type: "record"}
	str := func() *schema { return &schema{Type: "string"} }
	boolean := func() *schema { return &schema{Type: "boolean"} }
	integer := func() *schema { return &schema{Type: "integer"} }
	value := func() *schema { return &schema{Type: "any"} }
	function := func() *schema { return &schema{Type: "function"} }
	list := func(of *schema) *schema { return &schema{Type: "array", Elements: of} }
	record := func(fields ...namedSchema) *schema { return &schema{Type: "record", Fields: fields} }
	required := func(s *schema) *schema {
		s.Required = new(true)
		return s
	}
	names := func() *schema { return list(str()) }

	patterns := func() *schema {
		return list(record(namedSchema{"pattern", required(str())}, namedSchema{"err", str()}))
	}
	validators := func() fieldList {
		return fieldList{
			{"between", &schema{Type: "array", Elements: &schema{Type: "number"}, LenEq: new(2)}},
			{"eq", value()}, {"ne", value()}, {"gt", &schema{Type: "number"}},
			{"len_eq", integer()}, {"len_min", integer()}, {"len_max", integer()},
			{"match", str()}, {"not_match", str()}, {"match_all", patterns()}, {"match_none", patterns()},
			{"match_any", record(namedSchema{"patterns", required(names())}, namedSchema{"err", str()})},
			{"starts_with", str()}, {"one_of", list(value())}, {"not_one_of", list(value())}, {"contains", value()},
			{"is_regex", boolean()}, {"timestamp", boolean()}, {"uuid", boolean()},
			{"custom_validator", function()},
			{"mutually_exclusive_subsets", list(names())},
		}
	}
	entry := &schema{Type: "map", Keys: str(), Values: attributes, LenEq: new(1)}
	fields := &schema{Type: "array", Elements: entry}

	conditions := func() *schema {
		return record(append(validators(), fieldList{
			{"required", boolean()}, {"elements", attributes}, {"keys", attributes}, {"values", attributes},
		}...)...)
	}
	rules := fieldList{
		{"at_least_one_of", names()},
		{"conditional_at_least_one_of", record(fieldList{
			{"if_field", str()}, {"if_match", conditions()}, {"then_at_least_one_of", names()}, {"then_err", str()},
			{"else_match", conditions()}, {"else_then_at_least_one_of", names()}, {"else_then_err", str()},
		}...)},
		{"only_one_of", names()}, {"distinct", names()},
		{"conditional", record(fieldList{
			{"if_field", str()}, {"if_match", conditions()}, {"then_field", str()}, {"then_match", conditions()}, {"then_err", str()},
		}...)},
		{"custom_entity_check", record(fieldList{
			{"field_sources", names()}, {"fn", function()},
			{"run_with_missing_fields", boolean()}, {"run_with_invalid_fields", boolean()},
		}...)},
		{"mutually_required", names()}, {"mutually_exclusive", names()},
		{"mutually_exclusive_sets", record(namedSchema{"set1", names()}, namedSchema{"set2", names()})},
	}
	ruleNames := make([]string, len(rules))
	for i, r := range rules {
		ruleNames[i] = r.name
	}
	entityChecks := list(&schema{
		Type: "record", Fields: rules,
		EntityChecks: []entityCheck{{Name: "only_one_of", Fields: ruleNames}},
	})
	shorthands := list(&schema{Type: "map", Keys: str(), LenEq: new(1), Values: record(namedSchema{"func", required(function())})})
	transformations := list(&schema{
		Type: "record",
		Fields: fieldList{
			{"input", names()}, {"needs", names()}, {"on_write", function()}, {"on_read", function()},
		},
		EntityChecks: []entityCheck{{Name: "at_least_one_of", Fields: []string{"on_write", "on_read"}}},
	})

	attributes.Fields = append(fieldList{
		{"type", required(&schema{Type: "string", OneOf: []any{
			"array", "set", "string", "number", "boolean", "integer", "foreign", "map", "record", "function", "json",
		}})},
		{"required", boolean()}, {"reference", str()},
		{"description", &schema{Type: "string", LenMin: new(10), LenMax: new(500)}},
		{"examples", list(value())}, {"auto", boolean()}, {"unique", boolean()}, {"unique_across_ws", boolean()},
		{"on_delete", &schema{Type: "string", OneOf: []any{"restrict", "cascade", "null"}}},
		{"default", &schema{Type: "self"}},
		{"abstract", boolean()}, {"generate_admin_api", boolean()}, {"immutable", boolean()}, {"err", str()},
		{"encrypted", boolean()}, {"referenceable", boolean()}, {"json_schema", record()}, {"transient", boolean()},
		{"deprecation", record(fieldList{
			{"message", required(str())}, {"removal_in_version", required(str())}, {"old_default", value()},
			{"replaced_with", list(record(fieldList{
				{"path", &schema{Type: "array", LenMin: new(1), Required: new(true), Elements: str()}},
				{"reverse_mapping_function", function()},
			}...))},
		}...)},
	}, validators()...)
	attributes.Fields = append(attributes.Fields, fieldList{
		{"elements", attributes}, {"keys", attributes}, {"values", attributes}, {"fields", fields},
		{"entity_checks", entityChecks}, {"shorthand_fields", shorthands},
	}...)
	for _, f := range attributes.Fields {
		f.schema.nilable = !f.required()
	}

	return &schema{
		Type: "record",
		Fields: fieldList{
			{"name", required(str())}, {"fields", required(list(entry))}, {"entity_checks", entityChecks},
			{"shorthand_fields", shorthands}, {"transformations", transformations}, {"check", function()},
		},
		check: checkFields,
	}
}

// attributeTypes are the types that may have certain attributes.
func attributeTypes() map[string][]string {
	numeric := []string{"integer", "number"}
	unique := []string{"string", "number", "integer", "foreign"}
	return map[string][]string{
		"between": numeric, "timestamp": numeric,
		"len_eq": {"array", "set", "string", "map"},
		"match":  {"string"}, "is_regex": {"string"}, "uuid": {"string"},
		"one_of": {"string", "number", "integer"}, "contains": {"array", "set"},
		"unique": unique, "unique_across_ws": unique,
		"abstract":    {"string", "number", "integer", "record", "array", "set", "map"},
		"json_schema": {"json"},
		"transient":   {"string", "number", "integer", "array", "set", "boolean"},
	}
}

// checkFields checks what the schema of schemas cannot say: which attributes a type must
// and must not have.
func checkFields(record map[string]any) faults {
	var found faults
	list, _ := record["fields"].([]any)
	for _, e := range list {
		entry, _ := e.(map[string]any)
		for name, f := range entry {
			if field, ok := f.(map[string]any); ok {
				found = checkField(name, field, found)
			}
		}
	}
	return found
}

func checkField(name string, field map[string]any, found faults) faults {
	kind := text(field["type"])
	if kind == "json" {
		return found.add(name, "fields of type 'json' are not modelled here")
	}
	required := map[string][]string{
		"array": {"elements"}, "set": {"elements"}, "map": {"keys", "values"}, "record": {"fields"},
	}[kind]
	if field["abstract"] == true && kind == "record" {
		required = nil
	}
	for _, attribute := range required {
		if v := field[attribute]; v == nil || v == (null{}) {
			found = found.add(name, fmt.Sprintf("field of type '%s' must declare '%s'", kind, attribute))
		}
	}
	for attribute, types := range attributeTypes() {
		if v, ok := field[attribute]; ok && v != (null{}) && !slices.Contains(types, kind) {
			found = found.add(name, fmt.Sprintf("field of type '%s' cannot have attribute '%s'", kind, attribute))
		}
	}
	for _, nested := range []string{"elements", "keys", "values"} {
		if inner, ok := field[nested].(map[string]any); ok {
			found = checkField(name, inner, found)
		}
	}
	for k, fault := range checkFields(field) {
		found = found.add(k, fault)
	}
	return found
}

// asSchema reads a definition from a table.
func asSchema(table map[string]any) (*schema, error) {
	data, err := json.Marshal(withoutNulls(table))
	if err != nil {
		return nil, err
	}
	s := new(schema)
	return s, json.Unmarshal(data, s)
}

// withoutNulls turns null back into what JSON writes as null.
func withoutNulls(v any) any {
	switch v := v.(type) {
	case null:
		return nil
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = withoutNulls(v[i])
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for k := range v {
			out[k] = withoutNulls(v[k])
		}
		return out
	}
	return v
}

// schemaViolation is Kong's text for the faults of a schema.
func schemaViolation(f faults) string {
	var parts []string
	if texts, ok := f[entityFaults].([]string); ok {
		parts = append(parts, texts...)
	}
	for _, name := range sortedKeys(f) {
		switch fault := f[name].(type) {
		case faults:
			for _, sub := range sortedKeys(fault) {
				value := fault[sub]
				if inner, ok := value.(faults); ok {
					value = prettyTable(inner, "")
				}
				parts = append(parts, fmt.Sprintf("%s.%s: %v", name, luaIndex(sub), value))
			}
		case string:
			parts = append(parts, name+": "+fault)
		}
	}
	if len(parts) == 1 {
		return "schema violation (" + parts[0] + ")"
	}
	return fmt.Sprintf("%d schema violations (%s)", len(parts), strings.Join(parts, "; "))
}

// luaIndex turns the number of an element into Lua's, which begins with 1.
func luaIndex(name string) string {
	if i, ok := elementNumber(name); ok {
		return strconv.Itoa(i + 1)
	}
	return name
}

// elementNumber reads the name of an element, "[0]".
func elementNumber(name string) (int, bool) {
	digits, ok := strings.CutPrefix(name, "[")
	if !ok {
		return 0, false
	}
	n, err := strconv.Atoi(strings.TrimSuffix(digits, "]"))
	return n, err == nil
}

// prettyTable writes faults as Lua's pl.pretty does.
func prettyTable(f faults, indent string) string {
	var b strings.Builder
	b.WriteString("{\n")
	names := sortedKeys(f)
	for i, name := range names {
		b.WriteString(indent + "  ")
		if n, ok := elementNumber(name); !ok {
			b.WriteString(name + " = ")
		} else if n != i {
			fmt.Fprintf(&b, "[%d] = ", n+1)
		}
		switch fault := f[name].(type) {
		case faults:
			b.WriteString(prettyTable(fault, indent+"  "))
		case []string:
			b.WriteString("{\n")
			for _, text := range fault {
				fmt.Fprintf(&b, "%s    %q\n", indent, text)
			}
			b.WriteString(indent + "  }")
		default:
			fmt.Fprintf(&b, "%q", fault)
		}
		if i < len(names)-1 {
			b.WriteByte(',')
		}
		b.WriteByte('\n')
	}
	b.WriteString(indent + "}")
	return b.String()
}
