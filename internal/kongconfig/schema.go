package kongconfig

import (
	"encoding/json"
	"errors"
	"fmt"
)

// schema is the definition of a field in Kong's schema language: a type with attributes. A
// record has fields of its own, and Kong's entities and plugin configurations are records.
// It is read-only once it is built.
type schema struct {
	Type string `json:"type"`

	Required      *bool    `json:"required"` // nil: not said, which is false but for records
	Default       optional `json:"default"`
	Referenceable bool     `json:"referenceable"`
	Abstract      bool     `json:"abstract"`

	// Validators, each with the name it has in a schema.
	Eq         optional      `json:"eq"`
	Ne         optional      `json:"ne"`
	NotOneOf   []any         `json:"not_one_of"`
	OneOf      []any         `json:"one_of"`
	Gt         *float64      `json:"gt"`
	Timestamp  bool          `json:"timestamp"`
	UUID       bool          `json:"uuid"`
	IsRegex    bool          `json:"is_regex"`
	Between    []float64     `json:"between"`
	LenEq      *int          `json:"len_eq"`
	LenMin     *int          `json:"len_min"`
	LenMax     *int          `json:"len_max"`
	StartsWith *string       `json:"starts_with"`
	NotMatch   *string       `json:"not_match"`
	MatchNone  []patternRule `json:"match_none"`
	Match      *string       `json:"match"`
	MatchAll   []patternRule `json:"match_all"`
	MatchAny   *patternRules `json:"match_any"`
	Contains   optional      `json:"contains"`
	Subsets    [][]string    `json:"mutually_exclusive_subsets"`

	Err         string       `json:"err"` // replaces the text of every validator
	Deprecation *deprecation `json:"deprecation"`

	Elements     *schema       `json:"elements"` // of an array or set
	Keys         *schema       `json:"keys"`     // of a map
	Values       *schema       `json:"values"`   // of a map
	Fields       fieldList     `json:"fields"`   // of a record
	EntityChecks []entityCheck `json:"entity_checks"`

	// What only Kong's own schemas have.

	// nilable fields have no default value null (Kong's schema of schemas).
	nilable bool
	// custom is a validator written as a function; it returns what is wrong.
	custom func(any) string
	// check is a check of a whole record, run after everything else.
	check func(record map[string]any) faults
	// shorthands are fields that turn into others.
	shorthands map[string]shorthand
	// subschemaKey names the field whose value chooses one of subschemas, whose fields
	// replace those of the record.
	subschemaKey   string
	subschemas     map[string]*schema
	subschemaError string
	// subschemaDefault serves the values that none of subschemas is for; nil refuses them.
	subschemaDefault *schema
}

// optional is an attribute whose value may be null.
type optional struct {
	set   bool
	value any
}

func some(v any) optional { return optional{set: true, value: v} }

// UnmarshalJSON takes null for a value, as Lua's JSON library does.
func (o *optional) UnmarshalJSON(data []byte) error {
	v, err := parseJSON(data)
	*o = optional{set: true, value: v}
	return err
}

type patternRule struct {
	Pattern string `json:"pattern"`
	Err     string `json:"err"`
}

type patternRules struct {
	Patterns []string `json:"patterns"`
	Err      string   `json:"err"`
}

// deprecation makes a field warn when it is set.
type deprecation struct {
	Message          string   `json:"message"`
	RemovalInVersion string   `json:"removal_in_version"`
	OldDefault       optional `json:"old_default"`
}

// shorthand is a field that is replaced by others.
type shorthand struct {
	*schema
	expand func(any) map[string]any
}

// namedSchema is a field of a record.
type namedSchema struct {
	name string
	*schema
}

// fieldList are the fields of a record in their order: in JSON, objects with one member
// each.
type fieldList []namedSchema

// UnmarshalJSON reads the list; the schema of schemas has checked its form before.
func (l *fieldList) UnmarshalJSON(data []byte) error {
	var entries []map[string]*schema
	if err := json.Unmarshal(data, &entries); err != nil {
		return err
	}
	for _, entry := range entries {
		for name, s := range entry {
			*l = append(*l, namedSchema{name, s})
		}
	}
	return nil
}

// field returns the field of that name, nil if there is none.
func (l fieldList) field(name string) *schema {
	for _, f := range l {
		if f.name == name {
			return f.schema
		}
	}
	return nil
}

// required reports whether the field must have a value.
func (s *schema) required() bool { return s.Required != nil && *s.Required }

// requireRecords makes records required unless they say otherwise, so that the defaults
// inside of records that a user leaves out are filled in.
func (s *schema) requireRecords() {
	if s.Required == nil {
		s.Required = new(true)
	}
	for _, f := range s.Fields {
		if f.Type == "record" {
			f.requireRecords()
		}
	}
}

// Schema is the schema of one plugin's configuration. It is immutable.
type Schema struct{ schema *schema }

// NewSchema reads the schema that a plugin prints, refuses it as Kong does, and makes a
// subschema of Kong's plugin entity of it.
func NewSchema(data []byte) (*Schema, error) {
	s, err := pluginSchema(data)
	if err != nil {
		return nil, err
	}
	return &Schema{s}, nil
}

// Load turns the configuration of a plugin of this schema into what the plugin gets: nulls
// and unset fields are gone, references are what resolve says, and $refs tells which they
// were. Kong does that for every worker that loads the configuration.
func (s *Schema) Load(p *Plugin, resolve func(reference string) string) map[string]any {
	config := s.schema.Fields.field("config")
	if config == nil {
		return map[string]any{}
	}
	return config.load(p.Config, resolve)
}

func pluginSchema(data []byte) (*schema, error) {
	raw, err := parseJSON(data)
	if err != nil {
		return nil, err
	}
	table, ok := raw.(map[string]any)
	if !ok {
		return nil, errors.New("expected the schema to be an object")
	}
	if f := newValidator(nil).validateEntity(metaSubschema(), table); f != nil {
		return nil, errors.New(schemaViolation(f))
	}
	s := new(schema)
	if err := json.Unmarshal(data, s); err != nil {
		return nil, fmt.Errorf("reading the schema: %w", err)
	}
	s.Type = "record"
	s.requireRecords()
	s.Required = nil
	parent := pluginFields(func() *schema { return &schema{Type: "foreign"} })
	name, _ := table["name"].(string)
	for _, f := range s.Fields {
		of := parent.field(f.name)
		if of == nil {
			return nil, fmt.Errorf("error initializing schema for plugin: error in definition of '%s': %s: cannot create a new field", name, f.name)
		}
		if !compatible(of, f.schema) {
			return nil, fmt.Errorf("error initializing schema for plugin: error in definition of '%s': %s: cannot change type in a specialized field", name, f.name)
		}
	}
	return s, nil
}

// compatible reports whether a field of a plugin's schema may replace Kong's.
func compatible(a, b *schema) bool {
	switch {
	case a.Type != b.Type:
		return false
	case a.Type == "array" || a.Type == "set":
		return a.Elements.Type == b.Elements.Type
	case a.Type == "map":
		return a.Keys.Type == b.Keys.Type && a.Values.Type == b.Values.Type
	}
	return true
}

// parseJSON reads JSON into Lua's values.
func parseJSON(data []byte) (any, error) {
	var v any
	if err := json.Unmarshal(data, &v); err != nil {
		return nil, err
	}
	return withNulls(v), nil
}

// withNulls replaces JSON's null, which Lua does not take for an absent value.
func withNulls(v any) any {
	switch v := v.(type) {
	case nil:
		return null{}
	case []any:
		for i := range v {
			v[i] = withNulls(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = withNulls(v[k])
		}
	}
	return v
}
