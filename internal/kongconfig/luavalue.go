package kongconfig

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// tostring is Lua's tostring.
func tostring(v any) string {
	switch v := v.(type) {
	case nil:
		return "nil"
	case null:
		return "userdata: NULL"
	case string:
		return v
	case bool:
		return strconv.FormatBool(v)
	case float64:
		return luaNumber(v)
	default:
		return fmt.Sprintf("table: %p", &v)
	}
}

// luaType is Lua's type of a value that was read from JSON.
func luaType(v any) string {
	switch v.(type) {
	case string:
		return "string"
	case bool:
		return "boolean"
	case float64:
		return "number"
	case null:
		return "userdata"
	default:
		return "table"
	}
}

// luaNumber formats a number as Lua does, "%.14g".
func luaNumber(f float64) string { return strconv.FormatFloat(f, 'g', 14, 64) }

// sortedKeys returns the keys of a map in order.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
