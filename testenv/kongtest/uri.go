package kongtest

import (
	"strconv"
	"strings"
)

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
