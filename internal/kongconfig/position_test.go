package kongconfig_test

import (
	"testing"

	"phantomtoken/internal/kongconfig"
)

func TestLocate(t *testing.T) {
	const text = `_format_version: "3.0"
x: &shared
  realm: a
  scope: b
services:
- name: up
  plugins:
  - name: p
    config:
      <<: *shared
      scope: c
      list: [1,
             2]
- &anchor
  name: second
- *anchor
`
	tests := []struct {
		name, path string
		line       int
	}{
		{"top level", "_format_version", 1},
		{"element", "services[0]", 6},
		{"field", "services[0].plugins[0].name", 8},
		{"merged field", "services[0].plugins[0].config.realm", 3},
		{"field beside a merged one", "services[0].plugins[0].config.scope", 11},
		{"element on a later line", "services[0].plugins[0].config.list[1]", 13},
		{"missing field is where its record is", "services[0].plugins[0].config.resource", 9},
		{"missing record", "services[0].plugins[0].config.metadata.at_root", 9},
		{"alias", "services[2]", 16},
		{"inside an alias", "services[2].name", 15},
		{"nothing known", "routes[0]", 1},
	}
	positions := kongconfig.Locate([]byte(text))
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := positions.At(tt.path); got.Line != tt.line {
				t.Errorf("At(%q): got line %d, want %d", tt.path, got.Line, tt.line)
			}
		})
	}
}

// FuzzLocate: whatever the text, places are inside of it or unknown.
func FuzzLocate(f *testing.F) {
	f.Add("a: [1, {b: c}]\n")
	f.Add("a: &x {b: *x}\n")
	f.Add("a: &x [1]\nb: {<<: [*x, {c: 1}], c: 2}\n")
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := kongconfig.ParseYAML([]byte(text)); err != nil {
			return
		}
		if at := kongconfig.Locate([]byte(text)).At("a.b[0]"); at.Line < 0 || at.Column < 0 {
			t.Errorf("got %+v", at)
		}
	})
}
