package kongtest

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// encodeConfig writes a configuration as Kong's JSON library does: 16 digits of a number,
// slashes escaped, strings byte by byte whether they are UTF-8 or not.
func encodeConfig(config map[string]any) []byte {
	var b strings.Builder
	encodeJSON(&b, config)
	return []byte(b.String())
}

func encodeJSON(b *strings.Builder, v any) {
	switch v := v.(type) {
	case bool:
		b.WriteString(strconv.FormatBool(v))
	case float64:
		b.WriteString(strconv.FormatFloat(v, 'g', 16, 64))
	case int64:
		b.WriteString(strconv.FormatInt(v, 10))
	case string:
		encodeJSONString(b, v)
	case []any:
		b.WriteByte('[')
		for i, e := range v {
			if i > 0 {
				b.WriteByte(',')
			}
			encodeJSON(b, e)
		}
		b.WriteByte(']')
	case map[string]any:
		b.WriteByte('{')
		first := true
		for k, e := range v { // in no particular order, like Lua's tables
			if !first {
				b.WriteByte(',')
			}
			first = false
			encodeJSONString(b, k)
			b.WriteByte(':')
			encodeJSON(b, e)
		}
		b.WriteByte('}')
	default:
		b.WriteString("null")
	}
}

func encodeJSONString(b *strings.Builder, s string) {
	b.WriteByte('"')
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case '"', '\\', '/':
			b.WriteByte('\\')
			b.WriteByte(c)
		case '\b':
			b.WriteString(`\b`)
		case '\f':
			b.WriteString(`\f`)
		case '\n':
			b.WriteString(`\n`)
		case '\r':
			b.WriteString(`\r`)
		case '\t':
			b.WriteString(`\t`)
		default:
			if c < 0x20 || c == 0x7f {
				fmt.Fprintf(b, `\u%04x`, c)
			} else {
				b.WriteByte(c)
			}
		}
	}
	b.WriteByte('"')
}

// sortedKeys returns the keys of a map in order.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
