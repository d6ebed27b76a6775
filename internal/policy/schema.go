package policy

import (
	"bytes"
	"encoding/json"
	"strconv"
)

// Schema is the JSON Schema (2020-12) of the policy file, made from the description that
// Parse checks by. It says all about the structure of a file and nothing about what one part
// of it must be for another to fit: that is Parse's.
func Schema() []byte {
	s := schemaOf(fileShape())
	s.Schema = "https://json-schema.org/draft/2020-12/schema"
	s.Title = "Policy of the token exchange sidecar"
	compact, err := marshal(s)
	if err != nil {
		return nil // strings and numbers only: cannot fail
	}
	var out bytes.Buffer
	_ = json.Indent(&out, compact, "", "  ") // made a line above
	out.WriteByte('\n')
	return out.Bytes()
}

// schemaNode is a schema; its keywords are written in this order.
type schemaNode struct {
	Schema               string        `json:"$schema,omitempty"`
	Title                string        `json:"title,omitempty"`
	Description          string        `json:"description,omitempty"`
	Type                 string        `json:"type,omitempty"`
	Const                int           `json:"const,omitempty"`
	Enum                 []string      `json:"enum,omitempty"`
	Minimum              int           `json:"minimum,omitempty"`
	Maximum              int           `json:"maximum,omitempty"`
	Pattern              string        `json:"pattern,omitempty"`
	MaxLength            int           `json:"maxLength,omitempty"`
	Default              any           `json:"default,omitempty"`
	Required             []string      `json:"required,omitempty"`
	OneOf                []schemaNode  `json:"oneOf,omitempty"`
	AnyOf                []schemaNode  `json:"anyOf,omitempty"`
	Properties           schemaMembers `json:"properties,omitempty"`
	MinProperties        int           `json:"minProperties,omitempty"`
	PropertyNames        *schemaNode   `json:"propertyNames,omitempty"`
	AdditionalProperties any           `json:"additionalProperties,omitempty"`
	MinItems             int           `json:"minItems,omitempty"`
	MaxItems             int           `json:"maxItems,omitempty"`
	UniqueItems          bool          `json:"uniqueItems,omitempty"`
	Items                *schemaNode   `json:"items,omitempty"`
}

// schemaMembers are properties in the order of the description.
type schemaMembers []schemaMember

type schemaMember struct {
	name string
	*schemaNode
}

// MarshalJSON writes an object.
func (m schemaMembers) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, member := range m {
		value, err := marshal(member.schemaNode)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Quote(member.name) + ":")
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

func schemaOf(s *shape) *schemaNode {
	n := &schemaNode{Description: s.doc}
	filled := 0
	if s.filled {
		filled = 1
	}
	switch s.kind {
	case kindObject:
		n.Type, n.AdditionalProperties, n.MinProperties = "object", false, filled
		for _, f := range s.fields {
			n.Properties = append(n.Properties, schemaMember{f.name, schemaOf(f.shape)})
			if f.required {
				n.Required = append(n.Required, f.name)
			}
		}
		n.OneOf, n.AnyOf = requiring(s.one), requiring(s.some)
	case kindMapping:
		n.Type, n.MinProperties = "object", filled
		n.PropertyNames = &schemaNode{Pattern: s.keys.pattern, MaxLength: s.keys.most}
		n.AdditionalProperties = schemaOf(s.of)
	case kindList:
		n.Type, n.MinItems, n.MaxItems = "array", filled, s.longest
		n.UniqueItems = s.of.kind == kindText
		n.Items = schemaOf(s.of)
	case kindDuration:
		n.Type, n.Pattern, n.MaxLength = "string", formatDuration().pattern, formatDuration().most
		n.Description += "; from " + short(s.from) + " to " + short(s.to)
	case kindInteger:
		n.Type, n.Minimum, n.Maximum = "integer", s.least, s.most
		if s.least == s.most {
			n.Const, n.Minimum, n.Maximum = s.least, 0, 0
		}
	case kindBoolean:
		n.Type = "boolean"
	case kindText:
		n.Type, n.Enum, n.Pattern, n.MaxLength = "string", s.enum, s.format.pattern, s.format.most
	}
	if s.preset != "" {
		n.Default = s.preset
		switch v := preset(place{}, field{shape: s}); s.kind {
		case kindInteger:
			n.Default = v.number
		case kindBoolean:
			n.Default = v.truth
		}
	}
	return n
}

// requiring has a schema for each name that wants the name.
func requiring(names []string) (out []schemaNode) {
	for _, name := range names {
		out = append(out, schemaNode{Required: []string{name}})
	}
	return out
}
