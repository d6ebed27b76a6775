package kongconfig

import "fmt"

// Consumer is a consumer of the declarative configuration.
type Consumer struct {
	ID       string   `json:"id"`
	Username string   `json:"username"`
	CustomID string   `json:"custom_id"`
	Tags     []string `json:"tags"`

	Groups []string `json:"-"` // of the acl plugin
	At     string   `json:"-"` // where it stands: consumers[0]
}

// consumersField is the list of consumers. Any plugin may hang entities of its own on a
// consumer, so that without a player nothing is said of them.
func (f *Format) consumersField() *schema {
	if f.Player == "" {
		return &schema{Type: "any"}
	}
	return arrayOf(&schema{
		Type: "record",
		Fields: append(fieldList{
			{"id", uuidField()}, {"created_at", timestampField()}, {"updated_at", timestampField()},
			{"username", stringField()}, {"custom_id", stringField()}, {"tags", tagsField()},
			{"acls", arrayOf(&schema{Type: "record", Fields: append(fieldList{
				{"id", uuidField()}, {"created_at", timestampField()},
				{"group", &schema{Type: "string", Required: new(true)}}, {"tags", tagsField()},
			}, extraFields()...)})},
		}, extraFields()...),
		EntityChecks: []entityCheck{{Name: "at_least_one_of", Fields: []string{"custom_id", "username"}}},
	})
}

// consumers takes in the consumers. Their ids are derived from their usernames.
func (l *flattener) consumers(list any) {
	customIDs := map[string]bool{}
	for i, record := range records(list) {
		c := new(Consumer)
		if l.Player == "" { // unchecked, so it may be anything
			c.ID, _ = record["id"].(string)
			c.Username, _ = record["username"].(string)
			c.CustomID, _ = record["custom_id"].(string)
			c.Tags = texts(record["tags"])
		} else {
			groups := record["acls"]
			delete(record, "acls")
			l.into(record, c)
			for _, acl := range records(groups) {
				c.Groups = append(c.Groups, text(acl["group"]))
			}
		}
		c.At = fmt.Sprintf("consumers[%d]", i)
		c.ID = l.register(c.At, "consumers", c.ID, c.Username, c.Username)
		if c.CustomID != "" && customIDs[c.CustomID] {
			l.fault(c.At, "uniqueness violation: 'consumers' entity with custom_id set to '%s' already declared", c.CustomID)
		}
		customIDs[c.CustomID] = true
		l.out.Consumers = append(l.out.Consumers, c)
	}
}

func texts(v any) []string {
	list, _ := v.([]any)
	var out []string
	for _, e := range list {
		if s, ok := e.(string); ok {
			out = append(out, s)
		}
	}
	return out
}
