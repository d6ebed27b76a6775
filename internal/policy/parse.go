package policy

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// maxBytes bounds a policy file.
const maxBytes = 1 << 20

// maxDepth bounds how deep collections of a file can stand in each other, unknown keys
// included. The deepest that means something stands at half of it.
const maxDepth = 20

// Parse reads a policy file: one YAML document of at most 1 MiB. It is strict: unknown and
// repeated keys, tags, merge keys and values of another kind are refused, and so is what
// could never take effect. Anchors and aliases of whole values are followed. Parse reads no
// other file and asks nobody.
//
// What a file can cost is bounded, whatever is in it: well below a second for a whole MiB.
//
// Every error is Problems. The policy is nil then.
func Parse(data []byte) (*Policy, error) {
	found := new(findings)
	root := document(data, found)
	if root == nil {
		return nil, found.err()
	}
	file := read(root, found)
	if file.void {
		return nil, found.err()
	}
	b := &builder{findings: found, names: make(map[string]named), reach: make(map[*audience]*reach),
		policy: &Policy{byID: make(map[string]*caller), resources: make(map[string]string)}}
	b.build(file)
	if err := found.err(); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(data)
	b.policy.version = hex.EncodeToString(sum[:8])
	return b.policy, nil
}

// document reads the one document in data. It is nil when there is none that could be
// looked into.
func document(data []byte, found *findings) *yaml.Node {
	if len(data) > maxBytes {
		found.add(place{line: 1, column: 1}, "expected at most %d bytes, got %d", maxBytes, len(data))
		return nil
	}
	if at, ok := notUTF8(data); ok {
		found.add(at, "expected UTF-8, got a byte that is none")
		return nil
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	err := decoder.Decode(&doc)
	if errors.Is(err, io.EOF) || err == nil && (len(doc.Content) == 0 || doc.Content[0].Tag == "!!null") {
		found.add(place{line: 1, column: 1}, "expected a policy, got an empty file")
		return nil
	}
	if err != nil {
		malformed(err, data, found)
		return nil
	}
	if err := decoder.Decode(&second); err == nil {
		found.add(place{line: second.Line, column: second.Column}, "expected one document, got another one")
		return nil
	} else if !errors.Is(err, io.EOF) {
		malformed(err, data, found)
		return nil
	}
	root := doc.Content[0]
	if deep := tooDeep(root, maxDepth); deep != nil {
		found.add(place{line: deep.Line, column: deep.Column}, "expected values nested at most %d deep, got more", maxDepth)
		return nil
	}
	if version := otherVersion(root); version != nil {
		// Whatever else is wrong with such a file, it is not for this program to say.
		found.add(place{version.Line, version.Column, "version"}, "expected 1, got another version: this program reads version 1 of the format")
		return nil
	}
	return root
}

// tooDeep finds a collection that stands deeper than left others. Aliases are not followed.
func tooDeep(n *yaml.Node, left int) *yaml.Node {
	if n.Kind != yaml.MappingNode && n.Kind != yaml.SequenceNode {
		return nil
	}
	if left == 0 {
		return n
	}
	for _, c := range n.Content {
		if deep := tooDeep(c, left-1); deep != nil {
			return deep
		}
	}
	return nil
}

// otherVersion finds a version that is a number other than 1.
func otherVersion(root *yaml.Node) *yaml.Node {
	if root.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(root.Content); i += 2 {
			if value := root.Content[i+1]; root.Content[i].Value == "version" && value.Tag == "!!int" && value.Value != "1" {
				return value
			}
		}
	}
	return nil
}

// notUTF8 finds the first byte that is not UTF-8.
func notUTF8(data []byte) (place, bool) {
	if utf8.Valid(data) {
		return place{}, false
	}
	at := place{line: 1, column: 1}
	for len(data) > 0 {
		r, size := utf8.DecodeRune(data)
		if r == utf8.RuneError && size == 1 {
			break
		}
		at.column++
		if r == '\n' {
			at.line, at.column = at.line+1, 1
		}
		data = data[size:]
	}
	return at, true
}

// malformed reports what the YAML parser says, in words of its own: those of the parser may
// quote the file. It knows the line, mostly, and no column: the first character of the line
// is pointed at.
func malformed(err error, data []byte, found *findings) {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	at := place{line: 1, column: 1}
	if rest, ok := strings.CutPrefix(text, "line "); ok {
		if number, why, ok := strings.Cut(rest, ": "); ok {
			if line, err := strconv.Atoi(number); err == nil && line > 0 {
				at.line, text = line, why
			}
		}
	} else if name, ok := strings.CutPrefix(text, "unknown anchor '"); ok {
		name = strings.TrimSuffix(name, "' referenced")
		at.line += bytes.Count(data[:max(0, bytes.Index(data, []byte("*"+name)))], []byte("\n"))
	}
	lines := bytes.Split(data, []byte("\n"))
	at.line = min(at.line, len(lines))
	line := lines[at.line-1]
	at.column += len(line) - len(bytes.TrimLeft(line, " "))
	found.add(at, "expected YAML, got %s", notYAML(text))
}

// notYAML translates what the YAML parser says.
func notYAML(text string) string {
	switch text {
	case "found character that cannot start any token":
		return "a character that nothing begins with, such as a tab, @ or %: put texts with it in quotes"
	case "found a tab character that violates indentation", "found a tab character where an indentation space is expected":
		return "a tab: indent with spaces"
	case "mapping values are not allowed in this context":
		return "a colon where no key can be: check the indentation, and put texts with a colon in quotes"
	case "could not find expected ':'":
		return "a key without a colon"
	case "did not find expected key":
		return "something else than the next key of a mapping: check the indentation, and quotes and brackets above"
	case "did not find expected '-' indicator", "block sequence entries are not allowed in this context":
		return "something else than the next entry of a list: check the indentation, and quotes and brackets above"
	case "did not find expected ',' or ']'", "did not find expected ',' or '}'", "did not find expected node content":
		return "a bracket without its end, or entries in it without a comma"
	case "found unexpected end of stream":
		return "a quote without its end"
	case "found unknown escape character":
		return "an unknown escape in double quotes: use single ones"
	case "control characters are not allowed":
		return "a control character"
	}
	switch {
	case strings.HasPrefix(text, "unknown anchor "):
		return "an alias (*) without its anchor (&) above: put texts that begin with * in quotes"
	case strings.HasPrefix(text, "exceeded max depth "):
		return "values nested too deep"
	}
	return "something else"
}

// builder makes a policy of a file whose structure was read, and checks what a structure
// cannot say.
type builder struct {
	*findings
	policy *Policy
	names  map[string]named // of audiences: keys and resources
	keys   []string         // of audiences, in file order
	reach  map[*audience]*reach
	// unknown is true when the audiences of the file could not be read: then what is not found
	// there is not reported.
	unknown bool
}

// named is what a name of an audience stands for.
type named struct {
	audience *audience
	key      bool // not one of its resources
	line     int
}

func (b *builder) build(file *value) {
	limits := file.get("limits")
	if limits == nil { // what is inside of it has defaults
		limits = presets(place{file.line, file.column, "limits"}, limitsShape())
	}
	lifetime, actors := limits.get("token_lifetime"), limits.get("actors")
	b.policy.limits = Limits{TokenLifetime: lifetime.duration(), Actors: actors.integer()}
	b.policy.lines = limitLines{lifetime.at(), actors.at()}
	b.audiences(file.get("audiences"))
	b.callers(file.get("callers"))
	b.tools(file.get("tools"))
	b.egress(file.get("egress"))
	b.methods(file.get("callers"), file.get("egress"))
}

// find looks an audience up by its key, for a reference at v. It is nil when there is none
// or when it has problems of its own.
func (b *builder) find(name string, at place) *audience {
	n, ok := b.names[name]
	switch {
	case ok && n.key:
		return n.audience
	case ok:
		b.add(at, "expected the key of an audience, got a resource of it: write %s", quote(n.audience.Name))
	case !b.unknown:
		b.add(at, "expected one of audiences (%s), got %s%s", names(b.keys), quote(name), meant{name, b.keys})
	}
	return nil
}

// within reports scopes of list that allowed, the scopes at the path of, does not have.
func (b *builder) within(list *value, allowed []string, lines map[string]int, of string) {
	for _, scope := range list.all() {
		if lines[scope.text] == 0 {
			b.add(scope.shown, "expected a scope of %s (%s), got %s%s", of, names(allowed), quote(scope.text), meant{scope.text, allowed})
		}
	}
}

// lines maps each text of a list to its line.
func lines(list *value) map[string]int {
	out := make(map[string]int)
	for _, item := range list.all() {
		out[item.text] = item.line
	}
	return out
}
