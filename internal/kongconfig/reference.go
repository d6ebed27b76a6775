package kongconfig

import "fmt"

// Reference is a text in the configuration of a plugin that looks like a reference to a
// vault.
type Reference struct {
	Field string // inside of the configuration: phantom_token.signing_key
	Text  string // {vault://env/…}
	// Resolved says that Kong resolves it: the field is referenceable. In any other field
	// the text itself arrives at the plugin.
	Resolved bool
}

// References returns the references in the configuration of a plugin of this schema.
func (s *Schema) References(p *Plugin) []Reference {
	config := s.schema.Fields.field("config")
	if config == nil {
		return nil
	}
	var found []Reference
	config.references("", p.Config, &found)
	return found
}

func (s *schema) references(path string, value any, found *[]Reference) {
	switch v := value.(type) {
	case string:
		if IsReference(v) {
			*found = append(*found, Reference{Field: path, Text: v, Resolved: s.Type == "string" && s.Referenceable})
		}
	case []any:
		if s.Elements == nil {
			return
		}
		for i, e := range v {
			s.Elements.references(fmt.Sprintf("%s[%d]", path, i), e, found)
		}
	case map[string]any:
		for _, name := range sortedKeys(v) {
			inner := s.Values
			if s.Type == "record" {
				inner = s.Fields.field(name)
			}
			if inner == nil {
				continue
			}
			at := name
			if path != "" {
				at = path + "." + name
			}
			inner.references(at, v[name], found)
		}
	}
}
