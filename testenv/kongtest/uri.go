package kongtest

import (
	"strconv"
	"strings"
)

// reservedChars stay percent-encoded when Kong normalises a path.
const reservedChars = "!*'();:@&=+$,/?%#[]"

// normalizePath is Kong's normalize(uri, true): percent-encoded unreserved and other
// characters are decoded, dot segments removed, slashes merged.
func normalizePath(uri string) string {
	if uri == "" || uri == "/" {
		return uri
	}
	uri = decodeUnreserved(uri)
	if !strings.Contains(uri, ".") && !strings.Contains(uri, "//") {
		return uri
	}
	var out []string
	pop := func() {
		if len(out) > 0 {
			out = out[:len(out)-1]
		}
	}
	for uri != "" {
		switch {
		case uri == "/.":
			uri = "/"
		case uri == "/..":
			uri = "/"
			pop()
		case uri == "." || uri == "..":
			uri = ""
		case strings.HasPrefix(uri, "../"):
			uri = uri[3:]
		case strings.HasPrefix(uri, "./"), strings.HasPrefix(uri, "/./"):
			uri = uri[2:]
		case strings.HasPrefix(uri, "/../"):
			uri = uri[3:]
			pop()
		case strings.HasPrefix(uri, "//"):
			uri = uri[1:]
		default:
			end := strings.IndexByte(uri[1:], '/') + 1
			if end == 0 {
				end = len(uri)
			}
			out = append(out, uri[:end])
			uri = uri[end:]
		}
	}
	return strings.Join(out, "")
}

func decodeUnreserved(uri string) string {
	if !strings.Contains(uri, "%") {
		return uri
	}
	var b strings.Builder
	for i := 0; i < len(uri); i++ {
		if uri[i] == '%' && i+2 < len(uri) {
			if n, err := strconv.ParseUint(uri[i+1:i+3], 16, 8); err == nil {
				if strings.IndexByte(reservedChars, byte(n)) >= 0 {
					b.WriteString(strings.ToUpper(uri[i : i+3]))
				} else {
					b.WriteByte(byte(n))
				}
				i += 2
				continue
			}
		}
		b.WriteByte(uri[i])
	}
	return b.String()
}

// escapeURI is Kong's escape: what cannot stand in a request line is percent-encoded, what
// is encoded already stays.
func escapeURI(uri string) string {
	return percentEscape(uri, func(c byte) bool {
		l := c | 0x20
		return ('a' > l || l > 'z') && (c < '0' || c > '9') && strings.IndexByte("!#$&'()*+,/:;=?@[]-_.~%", c) < 0
	})
}

// unescapeURI is ngx.unescape_uri: percent sequences and plus signs; what is malformed
// stays.
func unescapeURI(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '+':
			b.WriteByte(' ')
			continue
		case s[i] == '%' && i+2 < len(s):
			if n, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(n))
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// escapeComponent is ngx.escape_uri: everything but unreserved characters is encoded.
func escapeComponent(s string) string {
	return percentEscape(s, func(c byte) bool {
		l := c | 0x20
		return ('a' > l || l > 'z') && (c < '0' || c > '9') && strings.IndexByte("-._~", c) < 0
	})
}

// queryArg is one argument of a query string; flag says that it had no "=".
type queryArg struct {
	key, value string
	flag       bool
}

// parseQuery is ngx.req.get_uri_args: at most limit arguments, in order.
func parseQuery(query string, limit int) []queryArg {
	var args []queryArg
	for part := range strings.SplitSeq(query, "&") {
		if len(args) == limit {
			break
		}
		key, value, found := strings.Cut(part, "=")
		if key == "" && value == "" {
			continue
		}
		args = append(args, queryArg{key: unescapeURI(key), value: unescapeURI(value), flag: !found})
	}
	return args
}
