package egress

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// errAmbiguous is matched by the errors of canonicalPath.
var errAmbiguous = errors.New("ambiguous path")

// ambiguous is one reason for errAmbiguous, a text that is fit for the application.
type ambiguous string

func (a ambiguous) Error() string        { return string(a) }
func (a ambiguous) Is(target error) bool { return target == errAmbiguous }

// canonicalPath returns the form of an escaped path in which prefixes are compared: without
// needless escapes, with hex digits in capitals (RFC 3986 §6.2.2). It refuses what servers
// do not agree about, so that no server sees another path than the one that was routed:
// dot segments, also behind the parameters of a segment (/..;x/), empty segments,
// backslashes, encoded slashes, control characters, text that is not UTF-8, and these things
// encoded twice.
func canonicalPath(escaped string) (string, error) {
	if !strings.HasPrefix(escaped, "/") {
		return "", ambiguous("the path does not begin with a slash")
	}
	canonical := escaped
	if strings.IndexByte(escaped, '%') >= 0 {
		var err error
		if canonical, err = decodeUnreserved(escaped); err != nil {
			return "", err
		}
	}
	for i := range len(canonical) {
		if c := canonical[i]; c < 0x20 || c == 0x7f || c == '\\' {
			return "", ambiguous("the path has a backslash or a control character")
		}
	}
	return canonical, checkSegments(canonical)
}

func checkSegments(canonical string) error {
	rest := canonical[1:]
	for {
		segment, after, more := strings.Cut(rest, "/")
		name := beforeParameters(segment)
		switch {
		case name == "." || name == "..":
			return ambiguous("the path has a dot segment")
		case name == "" && (more || segment != ""):
			return ambiguous("the path has an empty segment")
		case !more:
			return nil
		}
		rest = after
	}
}

// beforeParameters is a segment of a canonical path without its parameters (RFC 3986 §3.3), as
// some servers look at it. They are not of one mind about an encoded semicolon.
func beforeParameters(segment string) string {
	if i := strings.IndexByte(segment, ';'); i >= 0 {
		segment = segment[:i]
	}
	if i := strings.Index(segment, "%3B"); i >= 0 {
		segment = segment[:i]
	}
	return segment
}

// withoutParameters is a canonical path without the parameters of its segments.
func withoutParameters(canonical string) string {
	if !hasParameters(canonical) {
		return canonical
	}
	segments := strings.Split(canonical, "/")
	for i, s := range segments {
		segments[i] = beforeParameters(s)
	}
	return strings.Join(segments, "/")
}

func hasParameters(canonical string) bool {
	return strings.IndexByte(canonical, ';') >= 0 || strings.Contains(canonical, "%3B")
}

// decodeUnreserved decodes the escapes that no server may tell from the character itself
// (RFC 3986 §2.3), and refuses those that are dangerous.
func decodeUnreserved(escaped string) (string, error) {
	var canonical, decoded strings.Builder
	canonical.Grow(len(escaped))
	decoded.Grow(len(escaped))
	for i := 0; i < len(escaped); i++ {
		c := escaped[i]
		if c != '%' {
			canonical.WriteByte(c)
			decoded.WriteByte(c)
			continue
		}
		c, ok := unhex(escaped[i:])
		if !ok {
			return "", ambiguous("the path has a malformed escape")
		}
		if c == '/' || c == '\\' || c < 0x20 || c == 0x7f {
			return "", ambiguous("the path has an encoded slash, backslash or control character")
		}
		decoded.WriteByte(c)
		if isUnreserved(c) {
			canonical.WriteByte(c)
		} else {
			canonical.WriteString(strings.ToUpper(escaped[i : i+3]))
		}
		i += 2
	}
	// What a second decoding would turn into something that is refused above.
	once := decoded.String()
	if !utf8.ValidString(once) {
		return "", ambiguous("the path is not UTF-8")
	}
	for i := range len(once) {
		if c, ok := unhex(once[i:]); ok && (c == '.' || c == '/' || c == '\\' || c == '%' || c < 0x20 || c == 0x7f) {
			return "", ambiguous("the path has an escape that is encoded twice")
		}
	}
	return canonical.String(), nil
}

// unhex decodes the escape that s begins with.
func unhex(s string) (byte, bool) {
	if len(s) < 3 || s[0] != '%' {
		return 0, false
	}
	hi, ok1 := hexDigit(s[1])
	lo, ok2 := hexDigit(s[2])
	return hi<<4 | lo, ok1 && ok2
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

func isUnreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '.' || c == '_' || c == '~'
}

// basePath is a configured path as it is compared and joined: canonical, without a slash at
// the end. Empty is the root.
func basePath(configured string) (string, error) {
	if configured == "" {
		return "", nil
	}
	for i := range len(configured) {
		if c := configured[i]; c <= 0x20 || c >= 0x7f || strings.IndexByte("\"#<>?^`{|}", c) >= 0 {
			return "", fmt.Errorf("expected it percent-encoded, without query and fragment, got byte %#02x", c)
		}
	}
	canonical, err := canonicalPath(configured)
	return strings.TrimSuffix(canonical, "/"), err
}

// below reports whether a canonical path is prefix or below it, at a segment boundary.
func below(canonical, prefix string) bool {
	return strings.HasPrefix(canonical, prefix) && (len(canonical) == len(prefix) || canonical[len(prefix)] == '/')
}

// afterSegments cuts the first n segments off an escaped path. Since encoded slashes are
// refused, the path has its slashes where its canonical form has them.
func afterSegments(escaped string, n int) string {
	for ; n > 0; n-- {
		i := strings.IndexByte(escaped[1:], '/')
		if i < 0 {
			return ""
		}
		escaped = escaped[1+i:]
	}
	return escaped
}
