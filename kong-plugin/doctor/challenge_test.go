package doctor_test

import (
	"fmt"
	"testing"

	"phantomtoken/kong-plugin/doctor"
)

func TestParseChallenges(t *testing.T) {
	for _, tt := range []struct {
		name, value, want string
	}{
		{"One", `Bearer resource_metadata="https://a/b", scope="x y"`, `Bearer[resource_metadata="https://a/b" scope="x y"]`},
		{"Two", `Bearer a="1", DPoP algs="ES256 EdDSA"`, `Bearer[a="1"] DPoP[algs="ES256 EdDSA"]`},
		{"SchemeAlone", `Negotiate`, `Negotiate[]`},
		{"SchemeAloneFirst", `Negotiate, Bearer a="1"`, `Negotiate[] Bearer[a="1"]`},
		{"UnquotedURL", `Bearer resource_metadata=https://a/b?c, scope=x`, `Bearer[resource_metadata=https://a/b?c scope=x]`},
		{"BlanksAroundEquals", `Bearer a = "1" , b= 2`, `Bearer[a="1" b=2]`},
		{"CommaAndSchemeInsideQuotes", `Bearer a="x, DPoP b=1"`, `Bearer[a="x, DPoP b=1"]`},
		{"Escape", `Bearer a="say \"x\""`, `Bearer[a=escaped "say \"x\""]`},
		{"Unterminated", `Bearer a="x`, `Bearer[a="x"]`},
		{"Empty", `Bearer scope=""`, `Bearer[scope=""]`},
		{"Nothing", ``, ``},
		{"Garbage", `"", =, {`, ``},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := doctor.DescribeChallenges(tt.value); got != tt.want {
				t.Errorf("%s: got %s, want %s", tt.value, got, tt.want)
			}
		})
	}
}

// FuzzParseChallenges: every field is read to its end, and a challenge that is written as
// the gateway writes its own is found in it.
func FuzzParseChallenges(f *testing.F) {
	f.Add(`Bearer a="1", DPoP b=2`, "x")
	f.Add(`"", =, \"`, `a b`)
	f.Add("Bearer\ta=\"\\", "https://gw.example.com/.well-known/x")
	f.Fuzz(func(t *testing.T, value, param string) {
		doctor.DescribeChallenges(value)
		for _, c := range param {
			if c < 0x20 || c > 0x7e || c == '"' || c == '\\' {
				return
			}
		}
		written := `Bearer resource_metadata="` + param + `"`
		if got, want := doctor.DescribeChallenges(written), fmt.Sprintf("Bearer[resource_metadata=%q]", param); got != want {
			t.Errorf("%s: got %s, want %s", written, got, want)
		}
	})
}
