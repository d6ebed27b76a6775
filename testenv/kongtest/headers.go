package kongtest

import (
	"slices"
	"strings"
)

// field is one header field as it stands on the wire.
type field struct{ name, value string }

// headers are the header fields of a request or a response in their order. Their
// operations are those of nginx and its Lua module, which know three ways to compare
// names: exactly but for case (setting, clearing), with dashes and underscores alike
// (variables $http_…), and lower case as key of a table.
type headers []field

// first returns the first field of that name, any case.
func (h headers) first(name string) (string, bool) {
	for _, f := range h {
		if strings.EqualFold(f.name, name) {
			return f.value, true
		}
	}
	return "", false
}

// variable is nginx's $http_NAME: dashes and underscores are the same, several fields are
// joined.
func (h headers) variable(name string) (string, bool) {
	name = variableName(name)
	var values []string
	for _, f := range h {
		if variableName(f.name) == name {
			values = append(values, f.value)
		}
	}
	if values == nil {
		return "", false
	}
	sep := ", "
	if name == "cookie" {
		sep = "; "
	}
	return strings.Join(values, sep), true
}

// variableName maps a header name to the name of nginx's variable for it.
func variableName(name string) string {
	return strings.ReplaceAll(lower(name), "-", "_")
}

// lower is strings.ToLower for ASCII: bytes above are left alone, as nginx does.
func lower(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return 'A' <= r && r <= 'Z' }) {
		return s
	}
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// headerTable is what ngx.req.get_headers returns: values by lower-case name.
type headerTable map[string][]string

// table builds the table from the first limit fields (fields, not names).
func (h headers) table(limit int) headerTable {
	t := headerTable{}
	for _, f := range h[:min(limit, len(h))] {
		key := lower(f.name)
		t[key] = append(t[key], f.value)
	}
	return t
}

// get is an access to the table from Lua: the key itself, then with dashes for
// underscores.
func (t headerTable) get(name string) []string {
	if v, ok := t[name]; ok {
		return v
	}
	return t[strings.ReplaceAll(lower(name), "_", "-")]
}

// value is Kong's get_header(name, ctx): the first value in the table.
func (t headerTable) value(name string) (string, bool) {
	if v := t.get(name); len(v) > 0 {
		return v[0], true
	}
	return "", false
}

// singleRequestHeaders hold one value only: setting several keeps the last.
func singleRequestHeaders() []string {
	return []string{
		"host", "connection", "if-modified-since", "if-unmodified-since", "if-match",
		"if-none-match", "user-agent", "referer", "content-length", "content-type", "range",
		"if-range", "transfer-encoding", "expect", "upgrade", "accept-encoding", "via",
		"authorization", "keep-alive", "x-real-ip", "depth", "destination", "overwrite", "date",
	}
}

// singleResponseHeaders hold one value only: setting or adding several keeps the last.
// WWW-Authenticate is one of them in the nginx of Kong 3.9.
func singleResponseHeaders() []string {
	return []string{
		"server", "date", "content-encoding", "location", "refresh", "last-modified",
		"content-range", "accept-ranges", "www-authenticate", "expires", "e-tag", "etag",
		"content-length", "content-type",
	}
}

// set is ngx.req.set_header and ngx.header[name] = values: fields of that name are
// replaced in place by the first value, the others are appended. No value removes them.
// An underscore in name is not a dash.
func (h *headers) set(name string, values, single []string) {
	name = escapeHeaderName(name)
	if len(values) > 1 && slices.Contains(single, lower(name)) {
		values = values[len(values)-1:]
	}
	placed := false
	*h = slices.DeleteFunc(*h, func(f field) bool {
		if !strings.EqualFold(f.name, name) {
			return false
		}
		if placed || len(values) == 0 {
			return true
		}
		placed = true
		return false
	})
	if len(values) == 0 {
		return
	}
	for i := range *h {
		if placed && strings.EqualFold((*h)[i].name, name) {
			(*h)[i].value = escapeHeaderValue(values[0])
		}
	}
	if !placed {
		*h = append(*h, field{name, escapeHeaderValue(values[0])})
	}
	for _, v := range values[1:] {
		*h = append(*h, field{name, escapeHeaderValue(v)})
	}
}

// add is ngx.resp.add_header: one more field, or another value of one that stands alone.
func (h *headers) add(name string, values, single []string) {
	for _, v := range values {
		if slices.Contains(single, lower(name)) {
			h.set(name, []string{v}, nil)
			continue
		}
		*h = append(*h, field{escapeHeaderName(name), escapeHeaderValue(v)})
	}
}

// clear is ngx.req.clear_header.
func (h *headers) clear(name string) { h.set(name, nil, nil) }

// escapeHeaderValue writes control characters, line ends among them, as %XX.
func escapeHeaderValue(s string) string {
	return percentEscape(s, func(c byte) bool { return c < 0x20 && c != '\t' || c == 0x7f })
}

// escapeHeaderName writes everything that cannot stand in a name as %XX.
func escapeHeaderName(s string) string {
	return percentEscape(s, func(c byte) bool {
		return c <= 0x20 || c >= 0x7f || strings.IndexByte(`"(),/:;?<=>@[]\{}`, c) >= 0
	})
}

func percentEscape(s string, escape func(byte) bool) string {
	const hex = "0123456789ABCDEF"
	var b []byte
	for i := 0; i < len(s); i++ {
		c := s[i]
		if !escape(c) {
			if b != nil {
				b = append(b, c)
			}
			continue
		}
		if b == nil {
			b = append(make([]byte, 0, len(s)+8), s[:i]...)
		}
		b = append(b, '%', hex[c>>4], hex[c&15])
	}
	if b == nil {
		return s
	}
	return string(b)
}
