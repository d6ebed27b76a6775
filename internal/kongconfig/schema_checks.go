package kongconfig

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// entityCheck is a rule across the fields of a record. Name says which; Fields are those
// of the rules that take a list, the others have their own members.
type entityCheck struct {
	Name        string
	Fields      []string
	Conditional *conditional
	AtLeast     *conditionalAtLeast
	Sets        *exclusiveSets
}

type conditional struct {
	IfField   string  `json:"if_field"`
	IfMatch   *schema `json:"if_match"`
	ThenField string  `json:"then_field"`
	ThenMatch *schema `json:"then_match"`
	ThenErr   string  `json:"then_err"`
}

type conditionalAtLeast struct {
	IfField              string   `json:"if_field"`
	IfMatch              *schema  `json:"if_match"`
	ThenAtLeastOneOf     []string `json:"then_at_least_one_of"`
	ThenErr              string   `json:"then_err"`
	ElseMatch            *schema  `json:"else_match"`
	ElseThenAtLeastOneOf []string `json:"else_then_at_least_one_of"`
	ElseThenErr          string   `json:"else_then_err"`
}

type exclusiveSets struct {
	Set1 []string `json:"set1"`
	Set2 []string `json:"set2"`
}

// UnmarshalJSON reads an object with one member, the rule's name.
func (c *entityCheck) UnmarshalJSON(data []byte) error {
	var rule map[string]json.RawMessage
	if err := json.Unmarshal(data, &rule); err != nil {
		return err
	}
	for name, arg := range rule {
		if string(arg) == "null" {
			continue
		}
		c.Name = name
		var target any = &c.Fields
		switch name {
		case "conditional":
			target = &c.Conditional
		case "conditional_at_least_one_of":
			target = &c.AtLeast
		case "mutually_exclusive_sets":
			target = &c.Sets
		}
		if err := json.Unmarshal(arg, target); err != nil {
			return err
		}
	}
	return nil
}

// names are the fields that the rule looks at.
func (c *entityCheck) names() []string {
	switch {
	case c.Conditional != nil:
		return []string{c.Conditional.IfField, c.Conditional.ThenField}
	case c.AtLeast != nil:
		return slices.Concat([]string{c.AtLeast.IfField}, c.AtLeast.ThenAtLeastOneOf, c.AtLeast.ElseThenAtLeastOneOf)
	case c.Sets != nil:
		return slices.Concat(c.Sets.Set1, c.Sets.Set2)
	}
	return c.Fields
}

// entityChecks runs the rules and returns found with what they found.
func (v *validator) entityChecks(checks []entityCheck, fields fieldList, record map[string]any, found faults) faults {
	for i := range checks {
		found = v.entityCheck(&checks[i], fields, record, found)
	}
	return found
}

func (v *validator) entityCheck(c *entityCheck, fields fieldList, record map[string]any, found faults) faults {
	broken := false
	for _, name := range c.names() {
		if _, bad := found[name]; bad {
			broken = true
		}
		// A reference stands for a value that is not known yet.
		f := fieldAt(fields, name)
		if f != nil && f.Type == "string" && f.Referenceable && IsReference(text(valueAt(record, name))) {
			return found
		}
	}
	if broken && (c.Name == "mutually_required" || c.Name == "mutually_exclusive" || c.Name == "mutually_exclusive_sets") {
		return found
	}
	filled := func(name string) bool { return isNonempty(valueAt(record, name)) }
	count := 0
	for _, name := range c.Fields {
		if filled(name) {
			count++
		}
	}
	list := quotedList(c.Fields)
	switch c.Name {
	case "at_least_one_of":
		if count == 0 {
			return found.addEntity("at least one of these fields must be non-empty: " + list)
		}
	case "only_one_of":
		if count != 1 {
			return found.addEntity("exactly one of these fields must be non-empty: " + list)
		}
	case "mutually_required":
		if count != 0 && count != len(c.Fields) {
			return found.addEntity("all or none of these fields must be set: " + list)
		}
	case "mutually_exclusive":
		if count > 1 {
			return found.addEntity("only one or none of these fields must be set: " + list)
		}
	case "distinct":
		for i, a := range c.Fields {
			for _, b := range c.Fields[:i] {
				if filled(a) && filled(b) && reflect.DeepEqual(valueAt(record, a), valueAt(record, b)) {
					return found.addEntity("values of these fields must be distinct: " + list)
				}
			}
		}
	case "mutually_exclusive_sets":
		one, other := slices.Clone(c.Sets.Set1), slices.Clone(c.Sets.Set2)
		empty := func(name string) bool { return !filled(name) }
		one, other = slices.DeleteFunc(one, empty), slices.DeleteFunc(other, empty)
		if len(one) > 0 && len(other) > 0 {
			return found.addEntity(fmt.Sprintf("these sets are mutually exclusive: (%s), (%s)", quotedList(one), quotedList(other)))
		}
	case "conditional":
		return v.conditional(c.Conditional, fields, record, found)
	case "conditional_at_least_one_of":
		return v.conditionalAtLeast(c.AtLeast, fields, record, found)
	}
	return found
}

// conditional: if one field is so, another must be so.
func (v *validator) conditional(c *conditional, fields fieldList, record map[string]any, found faults) faults {
	if v.holds(c.IfMatch, fields, c.IfField, record) != nil {
		return found
	}
	then := valueAt(record, c.ThenField)
	if then == nil {
		then = null{}
	}
	failed := "failed conditional validation given value of field '" + c.IfField + "'"
	if c.ThenMatch.required() && then == (null{}) {
		return found.set(c.ThenField, errRequired).addEntity(failed)
	}
	if fault := v.field(overlay(fieldAt(fields, c.ThenField), c.ThenMatch), then); fault != nil {
		if c.ThenErr != "" {
			failed = strings.ReplaceAll(c.ThenErr, "%s", c.IfField)
		}
		return found.set(c.ThenField, fault).addEntity(failed)
	}
	return found
}

// conditionalAtLeast: if one field is so, one of others must be set.
func (v *validator) conditionalAtLeast(c *conditionalAtLeast, fields fieldList, record map[string]any, found faults) faults {
	if valueAt(record, c.IfField) == nil {
		return found
	}
	names, custom := c.ThenAtLeastOneOf, c.ThenErr
	if v.holds(c.IfMatch, fields, c.IfField, record) != nil {
		if c.ElseMatch == nil || v.holds(c.ElseMatch, fields, c.IfField, record) != nil {
			return found
		}
		names, custom = c.ElseThenAtLeastOneOf, c.ElseThenErr
	}
	if slices.ContainsFunc(names, func(name string) bool { return isNonempty(valueAt(record, name)) }) {
		return found
	}
	if custom != "" {
		return found.addEntity(strings.ReplaceAll(custom, "%s", quotedList(names)))
	}
	return found.addEntity("at least one of these fields must be non-empty: " + quotedList(names))
}

// holds validates a field against a condition laid over its definition.
func (v *validator) holds(condition *schema, fields fieldList, name string, record map[string]any) any {
	value := valueAt(record, name)
	if value == nil {
		value = null{}
	}
	return v.field(overlay(fieldAt(fields, name), condition), value)
}

// overlay is the definition of a field with the attributes of a condition in front.
func overlay(base, condition *schema) *schema {
	merged := schema{Type: "any"}
	if base != nil {
		merged = *base
	}
	from := reflect.ValueOf(condition).Elem()
	to := reflect.ValueOf(&merged).Elem()
	for i := range from.NumField() {
		if to.Field(i).CanSet() && !from.Field(i).IsZero() {
			to.Field(i).Set(from.Field(i))
		}
	}
	return &merged
}

// valueAt returns the value at a dotted name, nil if there is none.
func valueAt(record map[string]any, name string) any {
	head, tail, dotted := strings.Cut(name, ".")
	if !dotted {
		return record[name]
	}
	inner, ok := record[head].(map[string]any)
	if !ok {
		return nil
	}
	return valueAt(inner, tail)
}

// fieldAt returns the field at a dotted name, nil if there is none.
func fieldAt(fields fieldList, name string) *schema {
	head, tail, dotted := strings.Cut(name, ".")
	f := fields.field(head)
	if f == nil || !dotted {
		return f
	}
	return fieldAt(f.Fields, tail)
}

// isNonempty reports whether a value counts as set: null, "" and empty tables do not.
func isNonempty(v any) bool {
	switch v := v.(type) {
	case nil, null:
		return false
	case string, []any, map[string]any:
		return length(v) > 0
	}
	return true
}
