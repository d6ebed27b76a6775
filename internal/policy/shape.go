package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// kind is what a value of the file is.
type kind int

const (
	kindObject   kind = iota // a mapping whose keys are known: fields
	kindMapping              // a mapping whose keys are names: keys, of
	kindList                 // of
	kindText                 // format, enum
	kindDuration             // shortest, longest
	kindInteger              // least, most
	kindBoolean
)

// shape describes a value of the file, for Parse, for the JSON Schema and for the table in
// the documentation.
type shape struct {
	kind kind
	doc  string // a sentence without full stop
	// what names an object or a mapping in messages: "a caller".
	what string

	fields  []field  // object
	one     []string // object: exactly one of these
	some    []string // object: at least one of these
	filled  bool     // object, mapping, list: not empty
	keys    format   // mapping
	of      *shape   // mapping, list
	longest int      // list: how many at most; 0 for no bound but that of the file
	private bool     // neither the value nor unknown keys of it are ever shown: somebody might have put a secret here

	format format   // text
	enum   []string // text

	from, to    time.Duration // duration
	least, most int           // integer
	preset      string        // what counts when the key is missing; empty for nothing
}

// field is a key of an object.
type field struct {
	name     string
	required bool
	*shape
}

// field finds a key.
func (s *shape) field(name string) *shape {
	for _, f := range s.fields {
		if f.name == name {
			return f.shape
		}
	}
	return nil
}

// names lists the keys of an object.
func (s *shape) names() []string {
	var out []string
	for _, f := range s.fields {
		out = append(out, f.name)
	}
	return out
}

// want says what is expected, for messages.
func (s *shape) want() string {
	switch s.kind {
	case kindObject, kindMapping:
		return s.what
	case kindList:
		return "a list of " + s.of.format.many
	case kindDuration:
		return "a duration such as 30s from " + short(s.from) + " to " + short(s.to)
	case kindInteger:
		if s.least == s.most {
			return fmt.Sprint(s.least)
		}
		return fmt.Sprintf("a whole number from %d to %d", s.least, s.most)
	case kindBoolean:
		return "true or false"
	}
	if len(s.enum) > 0 {
		return strings.Join(s.enum, " or ")
	}
	return s.format.one
}

// hides reports whether text must not be shown: it might be a secret, or have one before
// an @, in a query or in a fragment.
func (s *shape) hides(text string) bool {
	return s.private || s.format == formatURL() && strings.ContainsAny(text, "@?#")
}

// hidden makes s private, with all that is inside.
func hidden(s *shape) *shape {
	s.private = true
	for _, f := range s.fields {
		hidden(f.shape)
	}
	if s.of != nil {
		hidden(s.of)
	}
	return s
}

// maxUnknown is how many bytes of an unknown key are shown: the longest that has a meaning
// has less than half.
const maxUnknown = 64

// shows reports whether a key of s may be shown. Any known one may; an unknown one only if
// it looks like a key, and nowhere that s is private.
func (s *shape) shows(key string) bool {
	switch {
	case s.kind == kindMapping:
		return !withheld(key)
	case s.field(key) != nil:
		return true
	}
	return !s.private && len(key) <= maxUnknown && !strings.ContainsFunc(key, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && !strings.ContainsRune("_.:/-", r)
	})
}

// accepts reports whether text is one of the enum.
func (s *shape) accepts(text string) bool { return len(s.enum) == 0 || slices.Contains(s.enum, text) }

// short is d without the zeros at its end: 1h instead of 1h0m0s.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// format is a kind of text. Its pattern is understood alike by Go and by JSON Schema
// (ECMA-262 with Unicode), so what an editor marks is what Parse refuses.
type format struct {
	one, many string // for messages
	pattern   string
	most      int // characters; 0 for no bound
}

// formatName is any name. A pattern would be taken literally, blanks come from lists that
// were split wrongly, and two names must not look like one: beside ASCII there are characters
// that cannot be seen, and others that look like a letter of it.
func formatName(one, many string) format {
	return format{one + " of printable ASCII without blanks and *", many, `^[!-)+-~]+$`, 1024}
}

// formatScope is a scope token (RFC 6749 §3.3).
func formatScope() format {
	return format{"a scope token of printable ASCII without blanks, quotes and backslashes", "scope tokens", `^[!#-\[\]-~]+$`, 256}
}

func formatFile() format {
	return format{"the path of a file", "paths of files", `^[^\p{Cc}]+$`, 4096}
}

func formatVariable() format {
	return format{"the name of an environment variable of letters, digits and _", "names of environment variables", `^[A-Za-z_][A-Za-z0-9_]*$`, 256}
}

func formatDuration() format {
	return format{"a duration", "durations", `^([0-9]{1,9}(\.[0-9]{1,9})?(ms|s|m|h))+$`, 64}
}

func formatURL() format {
	return format{"an absolute http or https URL", "URLs", `^https?://[!-~]+$`, 2048}
}

// formatSPIFFE is a SPIFFE id with a path: a trust domain alone is not a workload.
func formatSPIFFE() format {
	return format{"a SPIFFE id such as spiffe://example.com/ns/mcp/sa/server", "SPIFFE ids",
		`^spiffe://[a-z0-9._-]+(/([A-Za-z0-9_-][A-Za-z0-9._-]*|\.[A-Za-z0-9_-][A-Za-z0-9._-]*|\.\.[A-Za-z0-9._-]+))+$`, 2048}
}

// formatDNS is a DNS name without wildcard.
func formatDNS() format {
	return format{"a DNS name in lower case without wildcard", "DNS names",
		`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$`, 253}
}

// formatLabel is what Kubernetes takes for a namespace (RFC 1123 label).
func formatLabel() format {
	return format{"a namespace of lower-case letters, digits and hyphens", "namespaces", `^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`, 63}
}

// formatHost is a name or an address without port.
func formatHost() format {
	return format{"a host without port (an IPv6 address in brackets)", "hosts",
		`^([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])$`, 253}
}

// formatPath is a path prefix that can be compared byte by byte: no percent sign, behind
// which a slash or a dot could hide, no empty and no dot segment, no backslash, no pattern.
func formatPath() format {
	const c, dot = `[A-Za-z0-9_~!$&'()+,=:@-]`, `[A-Za-z0-9._~!$&'()+,=:@-]`
	return format{"a path that begins with / and does not end with it, without empty or dot segments, percent signs, semicolons and *", "paths",
		`^(/|(/(` + c + dot + `*|\.` + c + dot + `*|\.\.` + dot + `+))+)$`, 1024}
}

func formatPrefix() format {
	return format{"a range of addresses such as 10.1.0.0/16", "ranges of addresses", `^[0-9A-Fa-f:.]+/[0-9]{1,3}$`, 64}
}
