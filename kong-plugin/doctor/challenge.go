package doctor

import (
	"slices"
	"strings"
)

// challenge is one challenge of a WWW-Authenticate field as it was written.
type challenge struct {
	scheme string
	params []param
}

// param is one parameter. Clients differ in what they can read, so how it was written
// counts.
type param struct {
	name, value     string
	quoted, escaped bool
}

// get returns the first parameter of that name; names are not case-sensitive.
func (c *challenge) get(name string) string {
	if c == nil {
		return ""
	}
	for _, p := range c.params {
		if strings.EqualFold(p.name, name) {
			return p.value
		}
	}
	return ""
}

func (c *challenge) has(name string) bool {
	return c != nil && slices.ContainsFunc(c.params, func(p param) bool { return strings.EqualFold(p.name, name) })
}

// parseChallenges reads the values of WWW-Authenticate (RFC 9110 §11.6.1), forgivingly: it
// takes unquoted URLs, and what makes no sense ends a challenge.
func parseChallenges(values []string) []*challenge {
	var out []*challenge
	for _, value := range values {
		var current *challenge
		r := &reader{s: value}
		for {
			r.skip(", \t")
			if r.end() {
				break
			}
			word := r.token()
			if word == "" { // what cannot be the beginning of anything
				r.i++
				continue
			}
			r.skip(" \t")
			if current != nil && r.peek() == '=' {
				r.i++
				r.skip(" \t")
				p := param{name: word}
				p.value, p.quoted, p.escaped = r.value()
				current.params = append(current.params, p)
				continue
			}
			current = &challenge{scheme: word}
			out = append(out, current)
		}
	}
	return out
}

type reader struct {
	s string
	i int
}

func (r *reader) end() bool { return r.i >= len(r.s) }

func (r *reader) peek() byte {
	if r.end() {
		return 0
	}
	return r.s[r.i]
}

func (r *reader) skip(set string) int {
	n := 0
	for !r.end() && strings.IndexByte(set, r.s[r.i]) >= 0 {
		r.i++
		n++
	}
	return n
}

// token reads the characters of RFC 9110 §5.6.2.
func (r *reader) token() string {
	start := r.i
	for !r.end() {
		c := r.s[r.i]
		if c <= 0x20 || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			break
		}
		r.i++
	}
	return r.s[start:r.i]
}

func (r *reader) value() (value string, quoted, escaped bool) {
	if r.peek() != '"' {
		start := r.i
		for !r.end() && strings.IndexByte(", \t", r.s[r.i]) < 0 {
			r.i++
		}
		return r.s[start:r.i], false, false
	}
	var b strings.Builder
	for r.i++; !r.end(); r.i++ {
		c := r.s[r.i]
		if c == '"' {
			r.i++
			break
		}
		if c == '\\' && r.i+1 < len(r.s) {
			escaped = true
			r.i++
			c = r.s[r.i]
		}
		b.WriteByte(c)
	}
	return b.String(), true, escaped
}
