package kongconfig

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

func uuidField() *schema { return &schema{Type: "string", UUID: true} }

func timestampField() *schema { return &schema{Type: "integer", Timestamp: true} }

func stringField() *schema { return &schema{Type: "string"} }

func integerField(least, most float64, def any) *schema {
	return &schema{Type: "integer", Between: []float64{least, most}, Default: some(def)}
}

func booleanField(def bool) *schema {
	return &schema{Type: "boolean", Required: new(true), Default: some(def)}
}

func nameField() *schema {
	return &schema{Type: "string", custom: func(v any) string {
		name := text(v)
		if !utf8.ValidString(name) {
			return "invalid utf-8 character sequence"
		}
		for _, r := range name {
			if r < 0x80 && !isAlphanumeric(r) && !strings.ContainsRune(".-_~", r) {
				return fmt.Sprintf("invalid value '%s': the only accepted ascii characters are alphanumerics or ., -, _, and ~", name)
			}
		}
		return ""
	}}
}

func isAlphanumeric(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
}

func tagsField() *schema {
	return &schema{Type: "set", Elements: &schema{Type: "string", Required: new(true), custom: func(v any) string {
		for _, r := range text(v) {
			if r < ' ' || r == ',' || r == '/' || r == 0x7f {
				return fmt.Sprintf("invalid tag '%s': expected printable ascii (except `,` and `/`) or valid utf-8 sequences", text(v))
			}
		}
		return ""
	}}}
}

func protocols() []any {
	return []any{"grpc", "grpcs", "http", "https", "tcp", "tls", "tls_passthrough", "udp"}
}

func protocolField() *schema { return &schema{Type: "string", OneOf: protocols()} }

// foreignField refers to another entity. In a nested entity it cannot be set: the parent
// is what it refers to.
func foreignField(nested bool) *schema {
	if nested {
		return &schema{Type: "foreign", Eq: some(null{}), Default: some(null{})}
	}
	return &schema{Type: "string", Default: some(null{})}
}

func pathField() *schema {
	return &schema{
		Type: "string", StartsWith: new("/"),
		MatchNone: []patternRule{{Pattern: "//", Err: "must not have empty segments"}},
		custom:    func(v any) string { return invalidPath(text(v)) },
	}
}

// invalidPath says what is wrong with a URL path, nothing if it is right.
func invalidPath(path string) string {
	if ok, _ := LuaMatch(path, "^/[%w%.%-%_%~%/%%%:%@%!%$%&%'%(%)%*%+%,%;%=]*$"); !ok {
		return fmt.Sprintf("invalid path: '%s' (characters outside of the reserved list of RFC 3986 found)", path)
	}
	return badPercent(path)
}

func badPercent(path string) string {
	for i := 0; i < len(path); i++ {
		if path[i] != '%' {
			continue
		}
		if i+2 >= len(path) {
			return fmt.Sprintf("invalid url-encoded value: '%s'", path[i:])
		}
		if _, err := strconv.ParseUint(path[i+1:i+3], 16, 8); err != nil {
			return fmt.Sprintf("invalid url-encoded value: '%s'", path[i:i+3])
		}
		i += 2
	}
	return ""
}

// invalidRouterPath says what is wrong with a path of a route: a prefix in normal form, or
// a regular expression after "~".
func (f *Format) invalidRouterPath(v any) string {
	path := text(v)
	pattern, isRegex := strings.CutPrefix(path, "~")
	if !isRegex {
		if fault := badPercent(path); fault != "" {
			return fault
		}
		if normal := NormalizePath(path); normal != path {
			return fmt.Sprintf("non-normalized path, consider use '%s' instead", normal)
		}
		return ""
	}
	// Kong's expressions are PCRE, which knows more.
	if _, err := regexp.Compile(pattern); err != nil && f.Player != "" {
		return fmt.Sprintf("invalid regex: '%s' (%s knows RE2 only: %v)", pattern, f.Player, err)
	}
	return ""
}

// invalidHost says what is wrong with a host name or address; a port is none of it.
func invalidHost(v any) string {
	host := text(v)
	name, port, hasPort := strings.Cut(host, ":")
	if strings.Count(host, ":") > 1 {
		if ok, _ := LuaMatch(strings.Trim(host, "[]"), "^[%x:%.]+$"); !ok {
			return "invalid value: " + host
		}
		return ""
	}
	if hasPort && strings.Trim(port, "0123456789") == "" && port != "" {
		return "must not have a port"
	}
	if hasPort || !isHostname(name) {
		return "invalid value: " + host
	}
	return ""
}

func isHostname(name string) bool {
	if ok, _ := LuaMatch(name, "^[%d%a%-%.%_]+$"); !ok {
		return false
	}
	labels := strings.Split(name, ".")
	for i, label := range labels {
		if strings.HasSuffix(label, "-") || label == "" && i != len(labels)-1 {
			return false
		}
	}
	return true
}

func routerHostField() *schema {
	return &schema{
		Type:     "string",
		MatchAll: []patternRule{{Pattern: "^[^*]*%*?[^*]*$", Err: "invalid wildcard: must have at most one wildcard"}},
		MatchAny: &patternRules{Patterns: []string{"^%*%.", "%.%*$", "^[^*]*$"}, Err: "invalid wildcard: must be placed at leftmost or rightmost label"},
		custom: func(v any) string {
			host, _, _ := strings.Cut(strings.ReplaceAll(text(v), "*", "abc"), ":")
			if !isHostname(host) && !strings.HasPrefix(text(v), "[") {
				return "invalid hostname: " + text(v)
			}
			return ""
		},
	}
}

func headerNameField() *schema {
	return &schema{
		Type:      "string",
		MatchNone: []patternRule{{Pattern: "^[Hh][Oo][Ss][Tt]$", Err: "cannot contain 'host' header, which must be specified in the 'hosts' attribute"}},
		custom: func(v any) string {
			if ok, _ := LuaMatch(text(v), "^[%w%-_]+$"); !ok {
				return fmt.Sprintf("bad header name '%s', allowed characters are A-Z, a-z, 0-9, '_', and '-'", text(v))
			}
			return ""
		},
	}
}

// extraFields are those that every entity of a declarative configuration may have.
func extraFields() fieldList {
	return fieldList{
		{"_comment", stringField()},
		{"_ignore", &schema{Type: "array", Elements: &schema{Type: "any"}}},
	}
}
