package kongtest_test

import (
	"strings"
	"testing"

	"phantomtoken/testenv/kongtest"
)

// TestLuaPatterns has Lua 5.1's answers.
func TestLuaPatterns(t *testing.T) {
	tests := []struct {
		text, pattern string
		want          bool
	}{
		{"abc", "b", true}, {"abc", "^b", false}, {"abc", "^a.c$", true}, {"abc", "^abc$x", false}, {"a$", "a$", false}, {"a$b", "a$b", true},
		{"", "", true}, {"", "^$", true}, {"x", "^$", false},
		{"a1", "^%a%d$", true}, {"a1", "^%A", false}, {"é", "^%a", false}, {"_", "^%w$", false}, {"\t", "^%s$", true}, {"F", "^%x$", true},
		{"!", "^%p$", true}, {"\x01", "^%c$", true}, {"A", "^%u$", true}, {"a", "^%l$", true}, {"a", "^%L$", false}, {"a.b", "^a%.b$", true},
		{"\x00", "^%z$", true}, {"]", "^[]]$", true}, {"^", "^[x^]$", true}, {"b", "^[^a-c]$", false}, {"d", "^[^a-c]$", true}, {"-", "^[a-]$", true},
		{"5", "^[%d]$", true}, {"%", "^[%%]$", true}, {"a-b", "^[%w%-]+$", true},
		{"aaa", "^a*$", true}, {"", "^a+$", false}, {"aaa", "^a-$", true}, {"ab", "^a?b$", true}, {"b", "^a?b$", true}, {"aab", "^a-b$", true},
		{"key=value", "^(%w+)=(%w+)$", true}, {"abab", "^(ab)%1$", true}, {"abac", "^(ab)%1$", false}, {"x", "^()x()$", true},
		{"f(a(b)c)d", "^f%b()d$", true}, {"f(a(b)c", "%b()", true}, {"f(a", "%b()", false},
		{"THE (quick) fox", "%f[%a]%a+%f[%A]", true}, {"abc", "^%f[%a]abc%f[%z]", true},
		{"https://a", "^https?://", true}, {"ftp://a", "^https?://", false}, {"*.example.com", "^%*%.", true}, {"a*b*c", "^[^*]*%*?[^*]*$", false},
	}
	for _, tt := range tests {
		got, err := kongtest.LuaMatch(tt.text, tt.pattern)
		if got != tt.want || err != nil {
			t.Errorf("%q against %q: got %v, %v, want %v", tt.text, tt.pattern, got, err, tt.want)
		}
	}
}

// TestLuaPatternsMalformed are errors, as they are in Lua.
func TestLuaPatternsMalformed(t *testing.T) {
	for _, pattern := range []string{"%", "[a", "[^", "[%", "(a", "a)", "%1", "(%1)", "%b", "%bx", "%f", "%fa", strings.Repeat("()", 33)} {
		if ok, err := kongtest.LuaMatch("aaa", pattern); err == nil && ok {
			t.Errorf("%q: got a match, want an error or none", pattern)
		}
	}
}

// TestLuaPatternsAreBounded: what would run for years ends with an error.
func TestLuaPatternsAreBounded(t *testing.T) {
	if _, err := kongtest.LuaMatch(strings.Repeat("a", 100), strings.Repeat("a*", 20)+"b"); err == nil {
		t.Error("got no error, want one")
	}
	if _, err := kongtest.LuaMatch(strings.Repeat("a", 1000), strings.Repeat("a?", 1000)); err == nil {
		t.Error("got no error for a deep pattern, want one")
	}
}

// FuzzLuaMatch: never panics, ends, and a plain text matches itself.
func FuzzLuaMatch(f *testing.F) {
	for _, seed := range [][2]string{
		{"abc", "^(%a)%1-[^x]*%b()$"}, {"", "%f[%w]"}, {"aaa", "a-a*a+a?"}, {"[]", "[]]"}, {"x", "%"}, {"", "[^"}, {"a", "(()"}, {"ab", "%2"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, text, pattern string) {
		_, _ = kongtest.LuaMatch(text, pattern)
		quoted := strings.Builder{}
		for i := 0; i < len(text); i++ {
			if c := text[i]; c < 0x80 && !isAlphanumeric(c) && c != 0 {
				quoted.WriteByte('%')
			}
			quoted.WriteByte(text[i])
		}
		if ok, err := kongtest.LuaMatch(text, "^"+quoted.String()+"$"); err == nil && !ok {
			t.Errorf("%q does not match itself", text)
		}
	})
}

func isAlphanumeric(c byte) bool {
	return 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9'
}

// FuzzParseYAML: never panics, and gives nothing but Lua's values.
func FuzzParseYAML(f *testing.F) {
	for _, seed := range []string{"a: [1, yes, ~, 'x', 1:30, 0x1f]", "a: &a {b: c}\nd: {<<: *a}", "- - -", "a: !!str 1", "? a\n: b", "{", "&a [*a]"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		value, err := kongtest.ParseYAML(data)
		if err == nil {
			checkLua(t, value)
		}
	})
}

func checkLua(t *testing.T, v any) {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			checkLua(t, e)
		}
	case map[string]any:
		for _, e := range v {
			checkLua(t, e)
		}
	case string, bool, float64, kongtest.Null:
	default:
		t.Errorf("got a %T", v)
	}
}
