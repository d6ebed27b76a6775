package kongconfig

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Position is a place in a file. Lines and columns count from 1; the zero value is no place.
type Position struct{ Line, Column int }

// Positions tells where the fields of a document stand. It is immutable.
type Positions struct{ byPath map[string]Position }

// Locate reads the places of all fields of a YAML document. The document must be one that
// ParseYAML accepts; of any other the places are those that could be found.
func Locate(text []byte) *Positions {
	p := locator{byPath: map[string]Position{}, left: maxYAMLValues}
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err == nil && doc.Kind == yaml.DocumentNode {
		p.walk("", doc.Content[0], false)
	}
	return &Positions{p.byPath}
}

// At returns where the field of that path (services[0].routes[0].name) stands, or the
// nearest one above it that does.
func (p *Positions) At(path string) Position {
	for {
		if at, ok := p.byPath[path]; ok {
			return at
		}
		i := strings.LastIndexAny(path, ".[")
		if i < 0 {
			return p.byPath[""]
		}
		path = path[:i]
	}
}

type locator struct {
	byPath map[string]Position
	left   int
}

// walk notes node and what is inside. The fields of a merged mapping stand behind those
// that are written out.
func (l *locator) walk(path string, n *yaml.Node, merged bool) {
	if l.left--; l.left < 0 {
		return
	}
	if _, known := l.byPath[path]; !known {
		l.byPath[path] = Position{n.Line, n.Column}
	} else if merged {
		return
	}
	l.inside(path, n, merged)
}

func (l *locator) inside(path string, n *yaml.Node, merged bool) {
	switch n.Kind {
	case yaml.AliasNode:
		// An alias stands where it is written, what is inside where its anchor is. A document
		// that was parsed before has no alias inside of its own anchor.
		if l.left--; l.left >= 0 {
			l.inside(path, n.Alias, merged)
		}
	case yaml.SequenceNode:
		for i, e := range n.Content {
			l.walk(fmt.Sprintf("%s[%d]", path, i), e, merged)
		}
	case yaml.MappingNode:
		var merges []*yaml.Node
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, value := n.Content[i], n.Content[i+1]
			if key.Tag == "!!merge" {
				merges = append(merges, value)
				continue
			}
			next := key.Value
			if path != "" {
				next = path + "." + key.Value
			}
			if _, known := l.byPath[next]; merged && known {
				continue
			}
			// The line of the name, where an editor should jump to.
			l.byPath[next] = Position{key.Line, key.Column}
			l.inside(next, value, merged)
		}
		for _, m := range merges {
			if m.Kind == yaml.SequenceNode { // the first wins
				for _, e := range m.Content {
					l.inside(path, e, true)
				}
				continue
			}
			l.inside(path, m, true)
		}
	}
}
