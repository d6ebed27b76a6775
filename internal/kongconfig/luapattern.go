package kongconfig

import (
	"errors"
	"strings"
)

// Lua patterns, as match, not_match, match_all, match_any and match_none of a schema use
// them: a port of the matcher of Lua 5.1 for string.match, reduced to "does it match".

var (
	errPatternMalformed = errors.New("malformed pattern")
	errPatternTooLong   = errors.New("pattern too complex")
)

const (
	maxPatternCaptures = 32 // LUA_MAXCAPTURES
	maxPatternDepth    = 200
	// maxPatternSteps bounds the backtracking of one match; Lua would go on.
	maxPatternSteps = 1_000_000
)

// Lengths of captures that are not complete.
const (
	captureOpen     = -1
	capturePosition = -2
)

// LuaMatch reports whether pattern matches somewhere in s (at its beginning, if it starts
// with ^).
func LuaMatch(s, pattern string) (bool, error) {
	p, anchored := strings.CutPrefix(pattern, "^")
	m := luaMatcher{src: s, pattern: p}
	for start := 0; start <= len(s); start++ {
		m.level, m.depth = 0, 0
		end, err := m.match(start, 0)
		if err != nil {
			return false, err
		}
		if end >= 0 {
			for _, c := range m.captures[:m.level] {
				if c.length == captureOpen {
					return false, errPatternMalformed // unfinished capture
				}
			}
			return true, nil
		}
		if anchored {
			break
		}
	}
	return false, nil
}

type luaMatcher struct {
	src, pattern string
	level        int
	captures     [maxPatternCaptures]struct{ start, length int }
	depth, steps int
}

// match matches the pattern from p at position s of the source. It returns the end of the
// match, or -1.
func (m *luaMatcher) match(s, p int) (int, error) {
	if m.depth++; m.depth > maxPatternDepth {
		return -1, errPatternTooLong
	}
	defer func() { m.depth-- }()
	for p < len(m.pattern) {
		if m.steps++; m.steps > maxPatternSteps {
			return -1, errPatternTooLong
		}
		switch c := m.pattern[p]; {
		case c == '(':
			if p+1 < len(m.pattern) && m.pattern[p+1] == ')' {
				return m.openCapture(s, p+2, capturePosition)
			}
			return m.openCapture(s, p+1, captureOpen)
		case c == ')':
			return m.closeCapture(s, p+1)
		case c == '$' && p+1 == len(m.pattern):
			if s == len(m.src) {
				return s, nil
			}
			return -1, nil
		case c == '%' && p+1 < len(m.pattern) && m.pattern[p+1] == 'b':
			end, err := m.balance(s, p+2)
			if err != nil || end < 0 {
				return -1, err
			}
			s, p = end, p+4
			continue
		case c == '%' && p+1 < len(m.pattern) && m.pattern[p+1] == 'f':
			next, ok, err := m.frontier(s, p+2)
			if err != nil || !ok {
				return -1, err
			}
			p = next
			continue
		case c == '%' && p+1 < len(m.pattern) && m.pattern[p+1] >= '0' && m.pattern[p+1] <= '9':
			end, err := m.backReference(s, m.pattern[p+1])
			if err != nil || end < 0 {
				return -1, err
			}
			s, p = end, p+2
			continue
		}
		end, err := m.classEnd(p)
		if err != nil {
			return -1, err
		}
		matched := s < len(m.src) && m.single(m.src[s], p, end)
		var quantifier byte
		if end < len(m.pattern) {
			quantifier = m.pattern[end]
		}
		switch quantifier {
		case '?':
			if matched {
				if e, err := m.match(s+1, end+1); err != nil || e >= 0 {
					return e, err
				}
			}
			p = end + 1
		case '*':
			return m.maxExpand(s, p, end)
		case '+':
			if !matched {
				return -1, nil
			}
			return m.maxExpand(s+1, p, end)
		case '-':
			return m.minExpand(s, p, end)
		default:
			if !matched {
				return -1, nil
			}
			s, p = s+1, end
		}
	}
	return s, nil
}

func (m *luaMatcher) openCapture(s, p, length int) (int, error) {
	if m.level >= maxPatternCaptures {
		return -1, errPatternMalformed
	}
	m.captures[m.level].start, m.captures[m.level].length = s, length
	m.level++
	end, err := m.match(s, p)
	if end < 0 {
		m.level--
	}
	return end, err
}

func (m *luaMatcher) closeCapture(s, p int) (int, error) {
	i := m.level - 1
	for i >= 0 && m.captures[i].length != captureOpen {
		i--
	}
	if i < 0 {
		return -1, errPatternMalformed
	}
	m.captures[i].length = s - m.captures[i].start
	end, err := m.match(s, p)
	if end < 0 {
		m.captures[i].length = captureOpen
	}
	return end, err
}

// balance is %bxy: from an x to the y that closes it.
func (m *luaMatcher) balance(s, p int) (int, error) {
	if p+1 >= len(m.pattern) {
		return -1, errPatternMalformed
	}
	if s >= len(m.src) || m.src[s] != m.pattern[p] {
		return -1, nil
	}
	open, closing, depth := m.pattern[p], m.pattern[p+1], 1
	for i := s + 1; i < len(m.src); i++ {
		switch m.src[i] {
		case closing:
			if depth--; depth == 0 {
				return i + 1, nil
			}
		case open:
			depth++
		}
	}
	return -1, nil
}

// frontier is %f[set]: the border where the set begins to match.
func (m *luaMatcher) frontier(s, p int) (next int, ok bool, err error) {
	if p >= len(m.pattern) || m.pattern[p] != '[' {
		return 0, false, errPatternMalformed
	}
	end, err := m.classEnd(p)
	if err != nil {
		return 0, false, err
	}
	var before, after byte
	if s > 0 {
		before = m.src[s-1]
	}
	if s < len(m.src) {
		after = m.src[s]
	}
	return end, !m.set(before, p, end-1) && m.set(after, p, end-1), nil
}

func (m *luaMatcher) backReference(s int, digit byte) (int, error) {
	i := int(digit) - '1'
	if i < 0 || i >= m.level || m.captures[i].length == captureOpen {
		return -1, errPatternMalformed
	}
	length := max(m.captures[i].length, 0)
	text := m.src[m.captures[i].start : m.captures[i].start+length]
	if strings.HasPrefix(m.src[s:], text) {
		return s + length, nil
	}
	return -1, nil
}

func (m *luaMatcher) maxExpand(s, p, end int) (int, error) {
	count := 0
	for s+count < len(m.src) && m.single(m.src[s+count], p, end) {
		count++
	}
	for ; count >= 0; count-- {
		if e, err := m.match(s+count, end+1); err != nil || e >= 0 {
			return e, err
		}
	}
	return -1, nil
}

func (m *luaMatcher) minExpand(s, p, end int) (int, error) {
	for {
		if e, err := m.match(s, end+1); err != nil || e >= 0 {
			return e, err
		}
		if s >= len(m.src) || !m.single(m.src[s], p, end) {
			return -1, nil
		}
		s++
	}
}

// classEnd returns where the single-character class at p ends.
func (m *luaMatcher) classEnd(p int) (int, error) {
	c := m.pattern[p]
	p++
	switch c {
	case '%':
		if p >= len(m.pattern) {
			return 0, errPatternMalformed
		}
		return p + 1, nil
	case '[':
		if p < len(m.pattern) && m.pattern[p] == '^' {
			p++
		}
		for first := true; ; first = false {
			if p >= len(m.pattern) {
				return 0, errPatternMalformed
			}
			c := m.pattern[p]
			if c == ']' && !first {
				return p + 1, nil
			}
			p++
			if c == '%' {
				if p >= len(m.pattern) {
					return 0, errPatternMalformed
				}
				p++
			}
		}
	}
	return p, nil
}

// single reports whether c matches the class from p to end.
func (m *luaMatcher) single(c byte, p, end int) bool {
	switch m.pattern[p] {
	case '.':
		return true
	case '%':
		return luaClass(c, m.pattern[p+1])
	case '[':
		return m.set(c, p, end-1)
	default:
		return m.pattern[p] == c
	}
}

// set reports whether c is in the set whose brackets stand at p and last.
func (m *luaMatcher) set(c byte, p, last int) bool {
	in := true
	if m.pattern[p+1] == '^' {
		in = false
		p++
	}
	for p++; p < last; p++ {
		switch {
		case m.pattern[p] == '%':
			p++
			if luaClass(c, m.pattern[p]) {
				return in
			}
		case p+2 < last && m.pattern[p+1] == '-':
			if m.pattern[p] <= c && c <= m.pattern[p+2] {
				return in
			}
			p += 2
		case m.pattern[p] == c:
			return in
		}
	}
	return !in
}

// luaClass reports whether c is in the class %class; an upper-case letter is its
// complement, anything else stands for itself.
func luaClass(c, class byte) bool {
	l := c | 0x20
	alpha := 'a' <= l && l <= 'z'
	digit := '0' <= c && c <= '9'
	var in bool
	switch class | 0x20 {
	case 'a':
		in = alpha
	case 'c':
		in = c < 0x20 || c == 0x7f
	case 'd':
		in = digit
	case 'l':
		in = 'a' <= c && c <= 'z'
	case 'p':
		in = c > 0x20 && c < 0x7f && !alpha && !digit
	case 's':
		in = c == ' ' || '\t' <= c && c <= '\r'
	case 'u':
		in = 'A' <= c && c <= 'Z'
	case 'w':
		in = alpha || digit
	case 'x':
		in = digit || 'a' <= l && l <= 'f'
	case 'z':
		in = c == 0
	default:
		return class == c
	}
	return in == (class >= 'a')
}
