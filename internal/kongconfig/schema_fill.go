package kongconfig

import (
	"maps"
	"slices"
)

// fill returns record with every default in its place, at every depth, and null where
// nothing was said: Kong's process_auto_fields for an insert. Unknown fields stay, for
// validation to find them.
func (v *validator) fill(s *schema, record map[string]any) (map[string]any, faults) {
	out := maps.Clone(record)
	if out == nil {
		out = map[string]any{}
	}
	var found faults
	for _, name := range sortedKeys(s.shorthands) {
		short := s.shorthands[name]
		value, ok := out[name]
		if !ok {
			continue
		}
		if f := v.field(short.schema, value); f != nil {
			found = found.add(name, f)
			continue
		}
		delete(out, name)
		maps.Copy(out, short.expand(value))
	}
	if found != nil {
		return nil, found
	}
	for _, f := range s.fieldsFor(out) {
		if value := v.adjust(f.schema, out[f.name]); value != nil {
			out[f.name] = value
		}
	}
	return out, nil
}

// adjust returns the value of a field with its defaults. A nil value is absent.
func (v *validator) adjust(s *schema, value any) any {
	if s.Abstract {
		return value
	}
	if s.Type == "record" {
		if value == nil && !s.required() {
			return v.missing(s)
		}
		if value == nil {
			value = v.missing(s)
		}
		if record, ok := value.(map[string]any); ok {
			filled, f := v.fill(s, record)
			if f != nil {
				return record // validation finds it again
			}
			return filled
		}
		return value
	}
	switch list := value.(type) {
	case []any:
		if s.Type == "array" || s.Type == "set" {
			return v.adjustList(s, list)
		}
	case map[string]any:
		if s.Type == "map" {
			out := make(map[string]any, len(list))
			for k, e := range list {
				out[k] = v.adjust(s.Values, e)
			}
			return out
		}
	}
	if value == nil {
		return v.missing(s)
	}
	return value
}

func (v *validator) adjustList(s *schema, list []any) []any {
	out := make([]any, 0, len(list))
	for _, e := range list {
		if s.Type == "set" && isScalar(e) && slices.Contains(out, e) {
			continue
		}
		out = append(out, v.adjust(s.Elements, e))
	}
	return out
}

func isScalar(v any) bool {
	switch v.(type) {
	case string, float64, bool:
		return true
	}
	return false
}

// missing is the value of a field that was left out; nil if there is none.
func (v *validator) missing(s *schema) any {
	switch {
	case s.Default.set:
		return deepCopy(s.Default.value)
	case s.nilable:
		return nil
	case !s.required():
		return null{}
	case s.Abstract:
		return nil
	case s.Type == "record":
		filled, _ := v.fill(s, nil)
		return filled
	default:
		return nil // validation says that it is required
	}
}

func deepCopy(v any) any {
	switch v := v.(type) {
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = deepCopy(e)
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			out[k] = deepCopy(e)
		}
		return out
	default:
		return v
	}
}

// resolver resolves a vault reference to its value, which is empty if there is none.
type resolver func(reference string) string

// load is Schema.Load for one record, which must be filled.
func (s *schema) load(record map[string]any, resolve resolver) map[string]any {
	out := map[string]any{}
	refs := map[string]any{}
	for _, f := range s.fieldsFor(record) {
		value, ref := f.loadValue(record[f.name], resolve)
		if ref != nil {
			refs[f.name] = ref
		} else if text, ok := value.(string); ok && text == "" && (f.LenMin == nil || *f.LenMin > 0) {
			continue
		}
		if value != nil {
			out[f.name] = value
		}
	}
	if len(refs) > 0 {
		out["$refs"] = refs
	}
	return out
}

// loadValue returns the value of one field, and the reference or references it had.
func (s *schema) loadValue(value any, resolve resolver) (out, refs any) {
	switch v := value.(type) {
	case null:
		return nil, nil
	case string:
		if s.Type == "string" && s.Referenceable && IsReference(v) {
			return resolve(v), v
		}
	case map[string]any:
		if s.Type == "record" {
			return s.load(v, resolve), nil
		}
		if s.Type == "map" {
			return loadMap(s.Values, v, resolve)
		}
		if len(v) == 0 && (s.Type == "array" || s.Type == "set") {
			return []any{}, nil
		}
	case []any:
		if s.Type == "map" || s.Type == "record" { // only an empty one passes validation
			return map[string]any{}, nil
		}
		return loadList(s.Elements, v, resolve)
	}
	return value, nil
}

func loadMap(s *schema, m map[string]any, resolve resolver) (out, refs any) {
	loaded, found := map[string]any{}, map[string]any{}
	for k, e := range m {
		value, ref := s.loadValue(e, resolve)
		if value != nil {
			loaded[k] = value
		}
		if ref != nil {
			found[k] = ref
		}
	}
	if len(found) == 0 {
		return loaded, nil
	}
	return loaded, found
}

func loadList(s *schema, list []any, resolve resolver) (out, refs any) {
	loaded, found := []any{}, []any{}
	for i, e := range list {
		value, ref := s.loadValue(e, resolve)
		loaded = append(loaded, value)
		if ref != nil {
			for len(found) < i {
				found = append(found, nil)
			}
			found = append(found, ref)
		}
	}
	if len(found) == 0 {
		return loaded, nil
	}
	return loaded, found
}

// fieldsFor returns the fields of a record: those of its subschema in the place of its
// own.
func (s *schema) fieldsFor(record map[string]any) fieldList {
	sub := s.subschema(record)
	if sub == nil {
		return s.Fields
	}
	fields := make(fieldList, len(s.Fields))
	for i, f := range s.Fields {
		fields[i] = f
		if special := sub.Fields.field(f.name); special != nil {
			fields[i].schema = special
		}
	}
	return fields
}

// subschema is the subschema that the record chooses, by its name or by the first of a
// set of names that has one.
func (s *schema) subschema(record map[string]any) *schema {
	if s.subschemaKey == "" {
		return nil
	}
	switch key := record[s.subschemaKey].(type) {
	case string:
		if sub := s.subschemas[key]; sub != nil {
			return sub
		}
		return s.subschemaDefault
	case []any:
		for _, e := range key {
			if name, ok := e.(string); ok && s.subschemas[name] != nil {
				return s.subschemas[name]
			}
		}
	}
	return nil
}
