package kongconfig

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// validators returns the checks of the schema's attributes in Kong's order. Each returns
// what is wrong, or nothing.
func (s *schema) validators() []func(any) string {
	var checks []func(any) string
	when := func(set bool, check func(any) string) {
		if set {
			checks = append(checks, check)
		}
	}
	when(s.Eq.set, func(v any) string {
		return unless(reflect.DeepEqual(v, s.Eq.value), "value must be %s", tostring(s.Eq.value))
	})
	when(s.Ne.set, func(v any) string {
		return unless(!reflect.DeepEqual(v, s.Ne.value), "value must not be %s", tostring(v))
	})
	when(s.NotOneOf != nil, func(v any) string {
		return unless(!slices.Contains(s.NotOneOf, v), "must not be one of: %s", joinValues(s.NotOneOf))
	})
	when(s.OneOf != nil, func(v any) string {
		return unless(slices.Contains(s.OneOf, v), "expected one of: %s", joinValues(s.OneOf))
	})
	when(s.Gt != nil, func(v any) string {
		f, ok := v.(float64)
		return unless(ok && f > *s.Gt, "value must be greater than %s", luaNumber(*s.Gt))
	})
	when(s.Timestamp, func(v any) string {
		f, ok := v.(float64)
		return unless(ok && f > 0, "expected a valid timestamp")
	})
	when(s.UUID, func(v any) string { return unless(IsUUID(text(v)), "expected a valid UUID") })
	when(s.IsRegex, func(v any) string {
		_, err := regexp.Compile(text(v))
		return unless(err == nil, "not a valid regex: %s", text(v))
	})
	when(len(s.Between) == 2, func(v any) string {
		f, ok := v.(float64)
		return unless(ok && f >= s.Between[0] && f <= s.Between[1],
			"value should be between %d and %d", int64(s.Between[0]), int64(s.Between[1]))
	})
	when(s.LenEq != nil, func(v any) string { return unless(length(v) == *s.LenEq, "length must be %d", *s.LenEq) })
	least := s.LenMin
	if least == nil && s.Type == "string" {
		least = new(1) // empty strings are not accepted by default
	}
	when(least != nil, func(v any) string { return unless(length(v) >= *least, "length must be at least %d", *least) })
	when(s.LenMax != nil, func(v any) string { return unless(length(v) <= *s.LenMax, "length must be at most %d", *s.LenMax) })
	when(s.StartsWith != nil, func(v any) string {
		return unless(strings.HasPrefix(text(v), *s.StartsWith), "should start with: %s", *s.StartsWith)
	})
	checks = append(checks, s.patternValidators()...)
	when(s.Contains.set, func(v any) string {
		list, _ := v.([]any)
		return unless(slices.Contains(list, s.Contains.value), "expected to contain: %s", tostring(s.Contains.value))
	})
	when(s.custom != nil, func(v any) string { return s.custom(v) })
	when(s.Subsets != nil, func(v any) string { return exclusiveSubsets(v, s.Subsets) })
	return checks
}

// patternValidators are the validators that take Lua patterns.
func (s *schema) patternValidators() []func(any) string {
	var checks []func(any) string
	matches := func(v any, pattern string) (bool, string) {
		ok, err := LuaMatch(text(v), pattern)
		if err != nil {
			return false, fmt.Sprintf("pattern %q: %v", pattern, err)
		}
		return ok, ""
	}
	one := func(pattern string, want bool) func(any) string {
		return func(v any) string {
			ok, bad := matches(v, pattern)
			if bad != "" {
				return bad
			}
			return unless(ok == want, "invalid value: %s", text(v))
		}
	}
	rule := func(r patternRule, want bool) func(any) string {
		return func(v any) string {
			ok, bad := matches(v, r.Pattern)
			if bad != "" || ok == want {
				return bad
			}
			if r.Err == "" {
				return "invalid value: " + text(v)
			}
			return r.Err
		}
	}
	if s.NotMatch != nil {
		checks = append(checks, one(*s.NotMatch, false))
	}
	for _, r := range s.MatchNone {
		checks = append(checks, rule(r, false))
	}
	if s.Match != nil {
		checks = append(checks, one(*s.Match, true))
	}
	for _, r := range s.MatchAll {
		checks = append(checks, rule(r, true))
	}
	if any := s.MatchAny; any != nil {
		checks = append(checks, func(v interface{}) string {
			for _, pattern := range any.Patterns {
				if ok, bad := matches(v, pattern); ok || bad != "" {
					return bad
				}
			}
			if any.Err == "" {
				return "invalid value: " + text(v)
			}
			return any.Err
		})
	}
	return checks
}

func unless(ok bool, format string, args ...any) string {
	if ok {
		return ""
	}
	return fmt.Sprintf(format, args...)
}

func text(v any) string {
	s, _ := v.(string)
	return s
}

func length(v any) int {
	switch v := v.(type) {
	case string:
		return len(v)
	case []any:
		return len(v)
	case map[string]any:
		return len(v)
	}
	return 0
}

func joinValues(values []any) string {
	texts := make([]string, len(values))
	for i, v := range values {
		texts[i] = tostring(v)
	}
	return strings.Join(texts, ", ")
}

// IsUUID: 36 characters, either case.
func IsUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := 0; i < len(s); i++ {
		dash := i == 8 || i == 13 || i == 18 || i == 23
		if dash != (s[i] == '-') || !dash && !strings.ContainsRune("0123456789abcdefABCDEF", rune(s[i])) {
			return false
		}
	}
	return true
}

// exclusiveSubsets: the values may come from one of the subsets only.
func exclusiveSubsets(v any, subsets [][]string) string {
	list, _ := v.([]any)
	var hit []string
	for _, subset := range subsets {
		if slices.ContainsFunc(list, func(e any) bool { return slices.Contains(subset, text(e)) }) {
			hit = append(hit, "("+quotedList(subset)+")")
		}
	}
	return unless(len(hit) <= 1, "these sets are mutually exclusive: %s", strings.Join(hit, ", "))
}

func quotedList(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = "'" + w + "'"
	}
	return strings.Join(quoted, ", ")
}
