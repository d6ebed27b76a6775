package kongconfig

import (
	"fmt"
	"math"
	"reflect"
	"strings"
)

// faults are the errors found in a record or list: by field name, or by the number of an
// element as "[0]". A fault is a text, or the faults inside. Those of the whole record are
// under entityFaults, as texts.
type faults map[string]any

const entityFaults = "@entity"

func (f faults) add(name string, fault any) faults {
	if f == nil {
		f = faults{}
	}
	f[name] = fault
	return f
}

// addEntity adds a fault of the record as a whole.
func (f faults) addEntity(text string) faults {
	texts, _ := f[entityFaults].([]string)
	return f.add(entityFaults, append(texts, text))
}

// set adds a fault at a dotted name.
func (f faults) set(name string, fault any) faults {
	head, tail, dotted := strings.Cut(name, ".")
	if !dotted {
		return f.add(name, fault)
	}
	inner, _ := f[head].(faults)
	return f.add(head, inner.set(tail, fault))
}

// validator validates values against schemas. It is used by one goroutine.
type validator struct {
	warn func(text string) // deprecations
}

func newValidator(warn func(string)) *validator {
	if warn == nil {
		warn = func(string) {}
	}
	return &validator{warn: warn}
}

const errRequired = "required field missing"

// validateEntity validates a complete record as it was written, without filling it.
func (v *validator) validateEntity(s *schema, record map[string]any) faults {
	if s.subschemaKey != "" {
		switch key := record[s.subschemaKey]; {
		case key == nil || key == null{}:
			return faults{s.subschemaKey: errRequired}
		case s.subschema(record) == nil:
			text := "unknown type: %s"
			if s.subschemaError != "" {
				text = s.subschemaError
			}
			if list, ok := key.([]any); ok && len(list) > 0 {
				key = list[0]
			}
			return faults{s.subschemaKey: fmt.Sprintf(text, tostring(key))}
		}
	}
	var found faults
	fields := s.fieldsFor(record)
	for _, name := range sortedKeys(record) {
		f := fields.field(name)
		if f == nil {
			if name != "updated_at" { // never validated
				found = found.add(name, "unknown field")
			}
			continue
		}
		if f.Type == "self" {
			if def, err := asSchema(record); err == nil {
				if fault := v.field(def, record[name]); fault != nil {
					found = found.add(name, fault)
				}
			}
			continue
		}
		if fault := v.field(f, record[name]); fault != nil {
			found = found.add(name, fault)
		}
	}
	for _, f := range fields {
		if value := record[f.name]; f.required() && (value == nil || value == null{}) {
			found = found.add(f.name, errRequired)
		}
	}
	found = v.entityChecks(s.EntityChecks, fields, record, found)
	if sub := s.subschema(record); sub != nil {
		found = v.entityChecks(sub.EntityChecks, fields, record, found)
	}
	if s.check != nil && found == nil {
		found = s.check(record)
	}
	if len(found) == 0 {
		return nil
	}
	return found
}

// field validates the value of one field. It returns nil, a text, or faults.
func (v *validator) field(s *schema, value any) any {
	if value == (null{}) {
		return s.validateNull()
	}
	if s.Eq.set && s.Eq.value == (null{}) {
		return s.or("value must be null")
	}
	if s.Abstract {
		return "error in schema definition: abstract field was not specialized"
	}
	if d := s.Deprecation; d != nil && !(d.OldDefault.set && reflect.DeepEqual(value, d.OldDefault.value)) {
		v.warn(fmt.Sprintf("%s (deprecated after %s)", d.Message, d.RemovalInVersion))
	}
	fault, done := v.typed(s, value)
	if fault != nil || done {
		return fault
	}
	for _, check := range s.validators() {
		if text := check(value); text != "" {
			return s.or(text)
		}
	}
	return nil
}

// or returns the schema's own text instead of a validator's.
func (s *schema) or(text string) string {
	if s.Err != "" {
		return s.Err
	}
	return text
}

func (s *schema) validateNull() any {
	switch {
	case s.Ne.set && s.Ne.value == null{}:
		return s.or("value must not be null")
	case s.Eq.set && s.Eq.value != null{}:
		return "value must be " + tostring(s.Eq.value)
	case s.required():
		return errRequired
	}
	return nil
}

// typed checks the type and what is inside. done says that no validator runs.
func (v *validator) typed(s *schema, value any) (fault any, done bool) {
	switch s.Type {
	case "array", "set":
		list, ok := value.([]any)
		if m, isMap := value.(map[string]any); isMap && len(m) == 0 {
			ok = true
		}
		if !ok {
			return "expected " + article(s.Type), true
		}
		var found faults
		for i, e := range list {
			if f := v.element(s.Elements, e); f != nil {
				found = found.add(fmt.Sprintf("[%d]", i), f)
			}
		}
		if found != nil {
			return found, true
		}
	case "map":
		return v.mapFault(s, value), false
	case "record":
		record, ok := value.(map[string]any)
		if list, isList := value.([]any); isList {
			record, ok = map[string]any{}, true
			for i := range list {
				record[fmt.Sprint(i+1)] = list[i]
			}
		}
		if !ok {
			return "expected a record", true
		}
		filled, found := v.fill(s, record)
		if found == nil {
			found = v.validateEntity(s, filled)
		}
		if found != nil {
			return found, true
		}
	case "integer":
		if f, ok := value.(float64); !ok || f != math.Trunc(f) || math.IsInf(f, 0) {
			return "expected an integer", true
		}
	case "number":
		if _, ok := value.(float64); !ok {
			return "expected a number", true
		}
	case "boolean":
		if _, ok := value.(bool); !ok {
			return "expected a boolean", true
		}
	case "string":
		text, ok := value.(string)
		if !ok {
			return "expected a string", true
		}
		if s.Referenceable && IsReference(text) {
			return nil, true
		}
	case "function":
		return "expected a function", true
	case "foreign", "any":
	default:
		return "invalid type: " + s.Type, true
	}
	return nil, false
}

func article(kind string) string {
	if kind == "array" {
		return "an array"
	}
	return "a " + kind
}

// element validates an element of a list, a key or a value of a map: they are required.
func (v *validator) element(s *schema, value any) any {
	if value == (null{}) && !s.Ne.set && !s.Eq.set {
		return errRequired
	}
	return v.field(s, value)
}

// mapFault validates a map. As in Kong a fault does not say at which key it is.
func (v *validator) mapFault(s *schema, value any) any {
	m, ok := value.(map[string]any)
	if list, isList := value.([]any); isList {
		if len(list) == 0 {
			return nil
		}
		return v.element(s.Keys, float64(1))
	}
	if !ok {
		return "expected a map"
	}
	for _, k := range sortedKeys(m) {
		if f := v.element(s.Keys, k); f != nil {
			return f
		}
		if f := v.element(s.Values, m[k]); f != nil {
			return f
		}
	}
	return nil
}
