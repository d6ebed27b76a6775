package policy_test

import (
	"testing"

	"phantomtoken/internal/oauth"
	"phantomtoken/internal/policy"
)

// BenchmarkDecide is what the policy costs a request.
func BenchmarkDecide(b *testing.B) {
	p := parse(b, full)
	granted := oauth.Scopes{"openid", "stocks/read", "stocks/trade"}
	one := []string{"https://api.example.com/v1"}
	for _, bm := range []struct {
		name string
		q    policy.Question
	}{
		{"no-scope-asked", policy.Question{Caller: "mcp-server", Audience: []string{"https://news.example.com"}, Granted: granted}},
		{"scope-asked", policy.Question{Caller: "mcp-server", Audience: one, Scope: oauth.Scopes{"stocks/read"}, Granted: granted}},
		{"rule", policy.Question{Caller: "mcp-server", Audience: one, Granted: granted}},
		{"tool", policy.Question{Caller: "mcp-server", Tool: "get_stock_prices", Audience: one, Granted: granted}},
		{"two-targets", policy.Question{Caller: "mcp-server", Audience: []string{one[0], "https://news.example.com"}, Granted: granted}},
	} {
		b.Run(bm.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := p.Decide(bm.q); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
