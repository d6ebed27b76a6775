package policy

import (
	"fmt"
	"regexp"
	"strconv"
	"time"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// Bounds of what a file can be, aliases followed.
const (
	maxValues = 100_000
	// maxText is as long as a key or a text of any format can be, in bytes: 4096 characters.
	maxText = 4 * 4096
)

// value is a value of the file, read by its shape. Methods of a nil value give what an
// absent one has. A value that has a problem is kept with what could be read of it, so that
// references to it are not reported too.
type value struct {
	place         // of the key, where there is one
	broken bool   // this value, or one inside of it, has a problem
	void   bool   // it is of another kind and was not read
	preset bool   // not in the file
	shown  place  // of the value itself
	text   string // text
	number int    // integer
	truth  bool   // boolean
	span   time.Duration
	items  []*value // list, object and mapping
	name   string   // key in an object or mapping
}

// get finds a member of an object or mapping.
func (v *value) get(name string) *value {
	if v != nil {
		for _, m := range v.items {
			if m.name == name {
				return m
			}
		}
	}
	return nil
}

func (v *value) all() []*value {
	if v == nil {
		return nil
	}
	return v.items
}

func (v *value) string() string {
	if v == nil {
		return ""
	}
	return v.text
}

func (v *value) integer() int {
	if v == nil {
		return 0
	}
	return v.number
}

func (v *value) duration() time.Duration {
	if v == nil {
		return 0
	}
	return v.span
}

func (v *value) bool() bool { return v != nil && v.truth }

// at is the line of a value; 0 for one that is not in the file.
func (v *value) at() int {
	if v == nil || v.preset {
		return 0
	}
	return v.line
}

// texts are the texts of a list.
func (v *value) texts() []string {
	var out []string
	for _, item := range v.all() {
		out = append(out, item.text)
	}
	return out
}

// reader checks YAML nodes by shapes. It goes no deeper than the shapes do, so neither
// nesting nor an alias inside of its own anchor can keep it busy.
type reader struct {
	*findings
	left     int
	patterns map[string]*regexp.Regexp
	matched  map[text]bool // an alias is matched once
}

// text is one that was compared with a pattern.
type text struct{ pattern, text string }

// read reads the file by its description.
func read(root *yaml.Node, found *findings) *value {
	r := &reader{findings: found, left: maxValues, patterns: make(map[string]*regexp.Regexp), matched: make(map[text]bool)}
	return r.value(root, place{line: root.Line, column: root.Column}, fileShape())
}

// value reads n, which stands at the place at.
func (r *reader) value(n *yaml.Node, at place, s *shape) *value {
	if !r.spend(at) {
		return &value{place: at, shown: at, broken: true, void: true}
	}
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	v := &value{place: at, shown: place{n.Line, n.Column, at.path}}
	before := r.count
	ok := true
	switch {
	case n.Style&yaml.TaggedStyle != 0:
		r.add(v.shown, "expected a value without a tag, got one with a tag")
		ok = false
	case s.kind == kindObject && n.Kind == yaml.MappingNode:
		r.object(n, v, s)
	case s.kind == kindMapping && n.Kind == yaml.MappingNode:
		r.mapping(n, v, s)
	case s.kind == kindList && n.Kind == yaml.SequenceNode:
		r.list(n, v, s)
	case s.kind >= kindText && n.Kind == yaml.ScalarNode:
		ok = r.scalar(n, v, s)
	default:
		r.add(v.shown, "expected %s, got %s", s.want(), got{n, s})
		ok = false
	}
	if ok && s.filled && len(v.items) == 0 && r.count == before {
		r.add(v.shown, "expected %s, got an empty one", s.want())
	}
	v.broken, v.void = r.count > before, !ok
	return v
}

// spend takes one value, or one key without, off what is left. It is false when nothing is.
func (r *reader) spend(at place) bool {
	if r.left--; r.left == 0 {
		r.add(at, "expected at most %d values, aliases followed; got more", maxValues)
	}
	return r.left > 0
}

// key reads a key of a value of the shape s. It is false for one that cannot be used.
func (r *reader) key(n *yaml.Node, parent place, s *shape, seen map[string]int) (place, string, bool) {
	line, column := n.Line, n.Column
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	at := place{line, column, parent.path}
	named := func() place {
		if s.shows(n.Value) {
			return parent.member(n.Value, line, column)
		}
		return at
	}
	switch {
	case n.Tag == "!!merge":
		r.add(at, "expected no merge key (<<): which line decides could not be told any more; write the keys out, or give a whole value an anchor")
	case n.Kind != yaml.ScalarNode || n.Style&yaml.TaggedStyle != 0 || n.Tag != "!!str":
		r.add(at, "expected every key to be text, got %s", gotKey{n, s})
	case n.Value == "":
		r.add(at, "expected every key to have a name, got an empty one")
	case len(n.Value) > maxText:
		r.add(at, "expected every key to have at most %d bytes, got %d", maxText, len(n.Value))
	case seen[n.Value] != 0:
		r.add(named(), "expected every key once, got it again (first on line %d)", seen[n.Value])
	default:
		seen[n.Value] = line
		return named(), n.Value, true
	}
	r.spend(at)
	return at, "", false
}

func (r *reader) object(n *yaml.Node, v *value, s *shape) {
	seen := make(map[string]int)
	for i := 0; i+1 < len(n.Content) && r.left > 0; i += 2 {
		at, name, ok := r.key(n.Content[i], v.place, s, seen)
		if !ok {
			continue
		}
		shape := s.field(name)
		if shape == nil {
			r.add(at, "expected one of the keys %s, got another%s", names(s.names()), meant{name, s.names()})
			r.spend(at)
			continue
		}
		r.member(n.Content[i+1], at, name, v, shape)
	}
	if r.left <= 0 {
		return // not all keys were seen
	}
	for _, f := range s.fields {
		switch {
		case seen[f.name] != 0:
		case f.required:
			r.add(place{v.line, v.column, memberPath(v.path, f.name)}, "expected %s, got nothing", f.want())
		case f.preset != "":
			at := place{v.line, v.column, memberPath(v.path, f.name)}
			v.items = append(v.items, preset(at, f))
		}
	}
	count := 0
	for _, name := range s.one {
		if seen[name] != 0 {
			count++
		}
	}
	if len(s.one) > 0 && count != 1 {
		r.add(v.place, "expected exactly one of %s, got %d of them", names(s.one), count)
	}
	count = 0
	for _, name := range s.some {
		if seen[name] != 0 {
			count++
		}
	}
	if len(s.some) > 0 && count == 0 {
		r.add(v.place, "expected at least one of %s, got none", names(s.some))
	}
}

func (r *reader) mapping(n *yaml.Node, v *value, s *shape) {
	seen := make(map[string]int)
	for i := 0; i+1 < len(n.Content) && r.left > 0; i += 2 {
		at, name, ok := r.key(n.Content[i], v.place, s, seen)
		if !ok {
			continue
		}
		if !r.matches(s.keys, name) {
			r.add(at, "expected the key to be %s, got %s", s.keys.one, literal(name))
		}
		r.member(n.Content[i+1], at, name, v, s.of)
	}
}

func (r *reader) member(n *yaml.Node, at place, name string, v *value, s *shape) {
	m := r.value(n, at, s)
	m.name = name
	v.items = append(v.items, m)
}

func (r *reader) list(n *yaml.Node, v *value, s *shape) {
	if s.longest > 0 && len(n.Content) > s.longest {
		r.add(v.shown, "expected at most %d entries, got %d", s.longest, len(n.Content))
		return
	}
	seen := make(map[string]int)
	for i, c := range n.Content {
		if r.left <= 0 {
			break
		}
		item := r.value(c, place{c.Line, c.Column, fmt.Sprintf("%s[%d]", v.path, i)}, s.of)
		if item.void {
			continue
		}
		if s.of.kind == kindText {
			if first := seen[item.text]; first != 0 {
				r.add(item.shown, "expected every entry once, got one again (first on line %d)", first)
				continue
			}
			seen[item.text] = item.line
		}
		v.items = append(v.items, item)
	}
}

// scalar is false when there is nothing to go on with.
func (r *reader) scalar(n *yaml.Node, v *value, s *shape) bool {
	wrong := func() bool {
		r.add(v.shown, "expected %s, got %s", s.want(), got{n, s})
		return false
	}
	if len(n.Value) > maxText {
		return wrong() // whatever it is to be
	}
	switch s.kind {
	case kindBoolean:
		if n.Tag != "!!bool" {
			return wrong()
		}
		v.truth = n.Value == "true" || n.Value == "True" || n.Value == "TRUE"
	case kindInteger:
		number, err := strconv.Atoi(n.Value)
		// Not 0x8, 0o10 and 1_0, and not 010, which some take for eight.
		if n.Tag != "!!int" || err != nil || strconv.Itoa(number) != n.Value || number < s.least || number > s.most {
			return wrong()
		}
		v.number = number
	case kindDuration:
		if n.Tag != "!!str" || !r.matches(formatDuration(), n.Value) {
			return wrong()
		}
		span, err := time.ParseDuration(n.Value)
		if err != nil || span < s.from || span > s.to {
			return wrong()
		}
		v.span = span
	default:
		if n.Tag != "!!str" {
			return wrong()
		}
		v.text = n.Value
		if s.format.pattern != "" && !r.matches(s.format, n.Value) || !s.accepts(n.Value) {
			wrong() // the text is kept
		}
	}
	return true
}

// presets is an object that is not in the file, with what its keys have then.
func presets(at place, s *shape) *value {
	v := &value{place: at, shown: at, preset: true}
	for _, f := range s.fields {
		if f.preset != "" {
			v.items = append(v.items, preset(place{at.line, at.column, memberPath(at.path, f.name)}, f))
		}
	}
	return v
}

// preset is the value of a key that is not in the file.
func preset(at place, f field) *value {
	v := &value{place: at, shown: at, preset: true, name: f.name}
	switch f.kind {
	case kindDuration:
		v.span, _ = time.ParseDuration(f.preset)
	case kindInteger:
		v.number, _ = strconv.Atoi(f.preset)
	case kindBoolean:
		v.truth = f.preset == "true"
	default:
		v.text = f.preset
	}
	return v
}

func (r *reader) matches(f format, s string) bool {
	key := text{f.pattern, s}
	ok, known := r.matched[key]
	if known {
		return ok
	}
	pattern := r.patterns[f.pattern]
	if pattern == nil {
		pattern = regexp.MustCompile(f.pattern)
		r.patterns[f.pattern] = pattern
	}
	ok = (f.most == 0 || utf8.RuneCountInString(s) <= f.most) && pattern.MatchString(s)
	r.matched[key] = ok
	return ok
}

// got is shown as what stands at n where s was expected. A text where a mapping or a list
// belongs is never quoted: it may be the secret itself, in place of a file that has it.
type got struct {
	n *yaml.Node
	s *shape
}

func (g got) String() string {
	n, s := g.n, g.s
	switch {
	case n.Kind != yaml.ScalarNode, n.Tag == "!!null", s.kind < kindText:
		return noun(n)
	case s.kind == kindText && (s.hides(n.Value) || withheld(n.Value)):
		what := noun(n)
		if n.Tag == "!!str" {
			what = "another text"
		}
		return what + " (not shown: it might be a secret)"
	case s.private, withheld(n.Value):
		return noun(n)
	}
	return literally(n, s.kind == kindText)
}

// gotKey is shown as the key n of a value of the shape s.
type gotKey struct {
	n *yaml.Node
	s *shape
}

func (g gotKey) String() string {
	if g.s.private || withheld(g.n.Value) {
		return noun(g.n)
	}
	return literally(g.n, true)
}

// noun says of what kind n is, and nothing of what it says.
func noun(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Tag == "!!null":
		return "nothing"
	case n.Tag == "!!int", n.Tag == "!!float":
		return "a number"
	case n.Tag == "!!timestamp":
		return "a date"
	case n.Tag == "!!bool":
		return "a boolean"
	}
	return "text"
}

// literally shows n as it is. Where text was expected and something else came, it says what
// to do.
func literally(n *yaml.Node, text bool) string {
	hint := ""
	if text {
		hint = " (text goes in quotes)"
	}
	switch {
	case n.Kind != yaml.ScalarNode, n.Tag == "!!null":
		return noun(n)
	case n.Tag == "!!str":
		return literal(n.Value)
	case n.Tag == "!!int", n.Tag == "!!float":
		return "the number " + clip(n.Value) + hint
	case n.Tag == "!!timestamp":
		return "the date " + clip(n.Value) + hint
	}
	return clip(n.Value) + hint
}
