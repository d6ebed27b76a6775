package policy_test

import (
	"encoding/json"
	"testing"

	"phantomtoken/internal/oauth"
	"phantomtoken/internal/policy"
)

func TestExplain(t *testing.T) {
	for _, tt := range []struct {
		name string
		q    policy.Question
		want string
	}{
		{"Granted", policy.Question{Audience: []string{api + "/v1"}, Granted: oauth.Scopes{"openid", "stocks/trade"}}, `line 22   callers.mcp-server: the caller is known
line 4    limits.actors: 2 with the caller, at most 4
line 34   callers.mcp-server.audiences['https://api.example.com']: the caller may reach 'https://api.example.com/v1', which is a resource of it; aud is 'https://api.example.com'
line 35   callers.mcp-server.audiences['https://api.example.com'].scopes: 'openid' of the subject token is not listed, left out
line 35   callers.mcp-server.audiences['https://api.example.com'].scopes: 'stocks/trade' is listed, and the subject token has it
line 37   rule 'orders-for-traders': gives 'orders/read', since the subject token has 'stocks/trade'
line 9    audiences['https://api.example.com'].token_lifetime: lives 2m at most
line 13   audiences['https://api.example.com'].claims.home is copied from 'country' of the subject token
line 12   audiences['https://api.example.com'].claims.region is copied from 'region' of the subject token
          granted: a token for 'https://api.example.com' with scope 'stocks/trade orders/read', for 2m at most, issued by mint, by rule 'orders-for-traders'
`},
		{"RuleThatGivesNothing", policy.Question{Audience: []string{api}, Scope: oauth.Scopes{"stocks/read"}, Granted: oauth.Scopes{"stocks/read"}}, `line 22   callers.mcp-server: the caller is known
line 4    limits.actors: 2 with the caller, at most 4
line 34   callers.mcp-server.audiences['https://api.example.com']: the caller may reach 'https://api.example.com'
line 35   callers.mcp-server.audiences['https://api.example.com'].scopes: 'stocks/read' is listed, and the subject token has it
line 9    audiences['https://api.example.com'].token_lifetime: lives 2m at most
line 13   audiences['https://api.example.com'].claims.home is copied from 'country' of the subject token
line 12   audiences['https://api.example.com'].claims.region is copied from 'region' of the subject token
          granted: a token for 'https://api.example.com' with scope 'stocks/read', for 2m at most, issued by mint
`},
		{"Tool", policy.Question{Tool: "get_stock_prices", Audience: []string{api}, Granted: oauth.Scopes{"stocks/read", "stocks/trade"}}, `line 22   callers.mcp-server: the caller is known
line 4    limits.actors: 2 with the caller, at most 4
line 50   tools.get_stock_prices: the tool is known
line 51   tools.get_stock_prices.requires: the subject token has 'stocks/read'
line 34   callers.mcp-server.audiences['https://api.example.com']: the caller may reach 'https://api.example.com'
line 53   tools.get_stock_prices.audiences['https://api.example.com']: the tool may reach the target
line 35   callers.mcp-server.audiences['https://api.example.com'].scopes: 'stocks/read' is listed, and the subject token has it
line 35   callers.mcp-server.audiences['https://api.example.com'].scopes: 'stocks/trade' is listed, and the subject token has it
line 53   tools.get_stock_prices.audiences['https://api.example.com']: 'stocks/trade' is not listed for the tool, left out
line 53   tools.get_stock_prices.audiences['https://api.example.com']: 'orders/read' is not listed for the tool, left out
line 9    audiences['https://api.example.com'].token_lifetime: lives 2m at most
line 13   audiences['https://api.example.com'].claims.home is copied from 'country' of the subject token
line 12   audiences['https://api.example.com'].claims.region is copied from 'region' of the subject token
          granted: a token for 'https://api.example.com' with scope 'stocks/read', for 2m at most, issued by mint
`},
		{"IdentityProvider", policy.Question{Audience: []string{"billing"}, Granted: oauth.Scopes{"billing/read"}}, `line 22   callers.mcp-server: the caller is known
line 4    limits.actors: 2 with the caller, at most 4
line 43   callers.mcp-server.audiences.billing: the caller may reach 'billing'
line 44   callers.mcp-server.audiences.billing.scopes: 'billing/read' is listed, and the subject token has it
line 3    limits.token_lifetime: lives 5m at most
line 19   audiences.billing.issue: the identity provider issues the token
          granted: a token for 'billing' with scope 'billing/read', for 5m at most, issued by idp
`},
		{"SeveralTargets", policy.Question{Audience: []string{api, news}, Granted: oauth.Scopes{"stocks/read", "news/read"}}, `line 22   callers.mcp-server: the caller is known
line 4    limits.actors: 2 with the caller, at most 4
line 34   callers.mcp-server.audiences['https://api.example.com']: the caller may reach 'https://api.example.com'
line 40   callers.mcp-server.audiences['https://news.example.com']: the caller may reach 'https://news.example.com'
line 35   callers.mcp-server.audiences['https://api.example.com'].scopes: 'stocks/read' is listed, and the subject token has it
line 35   callers.mcp-server.audiences['https://api.example.com'].scopes: 'news/read' of the subject token is not listed, left out
line 37   rule 'orders-for-traders': gives nothing, since the subject token lacks one of 'stocks/trade'
line 41   callers.mcp-server.audiences['https://news.example.com'].scopes: 'stocks/read' is listed, and the subject token has it
line 41   callers.mcp-server.audiences['https://news.example.com'].scopes: 'news/read' is listed, but not for every target, left out
line 9    audiences['https://api.example.com'].token_lifetime: lives 2m at most
line 12   audiences['https://api.example.com'].claims.region is copied from 'region' of the subject token
          granted: a token for 'https://api.example.com', 'https://news.example.com' with scope 'stocks/read', for 2m at most, issued by mint
`},
		{"Refused", policy.Question{Audience: []string{api}, Scope: oauth.Scopes{"stocks/read", "stocks/trade"}, Granted: oauth.Scopes{"stocks/read"}}, `line 22   callers.mcp-server: the caller is known
line 4    limits.actors: 2 with the caller, at most 4
line 34   callers.mcp-server.audiences['https://api.example.com']: the caller may reach 'https://api.example.com'
line 35   callers.mcp-server.audiences['https://api.example.com'].scopes: 'stocks/read' is listed, and the subject token has it
line 35   refused: invalid_scope: scope 'stocks/trade' is not granted to the subject token: expected one of 'stocks/read'; the user has to authorize it first
`},
		{"RefusedAtOnce", policy.Question{Caller: "stranger"}, `          refused: unauthorized_client: client 'stranger' may not exchange tokens: expected one of callers
`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.q.Caller == "" {
				tt.q.Caller = "mcp-server"
			}
			e := parse(t, full).Explain(tt.q)
			if got := e.String(); got != tt.want {
				t.Errorf("String:\n%swant\n%s", got, tt.want)
			}
		})
	}
}

func TestExplainDefaults(t *testing.T) {
	e := parse(t, change(t, "limits:\n  token_lifetime: 5m\n  actors: 4\n", "")).Explain(policy.Question{Caller: "mcp-server", Audience: []string{plain}})
	want := `line 19   callers.mcp-server: the caller is known
default   limits.actors: 2 with the caller, at most 8
line 39   callers.mcp-server.audiences['https://plain.example.com']: the caller may reach 'https://plain.example.com'
line 39   callers.mcp-server.audiences['https://plain.example.com']: no scopes are listed, a token without scope
default   limits.token_lifetime: lives 5m at most
          granted: a token for 'https://plain.example.com' without scope, for 5m at most, issued by mint
`
	if got := e.String(); got != want {
		t.Errorf("String:\n%swant\n%s", got, want)
	}
}

func TestExplanationAsJSON(t *testing.T) {
	for _, tt := range []struct {
		name string
		q    policy.Question
		want string
	}{
		{"Granted", policy.Question{Caller: "mcp-server", Audience: []string{api}, Scope: oauth.Scopes{"orders/read"}, Granted: oauth.Scopes{"stocks/trade"}}, `{"outcome":"granted","steps":[{"line":22,"text":"callers.mcp-server: the caller is known"},{"line":4,"text":"limits.actors: 2 with the caller, at most 4"},{"line":34,"text":"callers.mcp-server.audiences['https://api.example.com']: the caller may reach 'https://api.example.com'"},{"line":37,"text":"rule 'orders-for-traders': gives 'orders/read', since the subject token has 'stocks/trade'"},{"line":9,"text":"audiences['https://api.example.com'].token_lifetime: lives 2m at most"},{"line":13,"text":"audiences['https://api.example.com'].claims.home is copied from 'country' of the subject token"},{"line":12,"text":"audiences['https://api.example.com'].claims.region is copied from 'region' of the subject token"}],"grant":{"audience":["https://api.example.com"],"scope":"orders/read","claims":{"home":"country","region":"region"},"lifetime_seconds":120,"issue":"mint","rules":["orders-for-traders"],"lines":[34,37]}}`},
		{"Refused", policy.Question{Caller: "stranger"}, `{"outcome":"refused","steps":[],"refusal":{"error":"unauthorized_client","reason":"caller_unknown","description":"client 'stranger' may not exchange tokens: expected one of callers"}}`},
		{"RefusedByLine", policy.Question{Caller: "mcp-server", Granted: oauth.Scopes{"stocks/trade"}}, `{"outcome":"refused","steps":[{"line":22,"text":"callers.mcp-server: the caller is known"},{"line":4,"text":"limits.actors: 2 with the caller, at most 4"}],"refusal":{"error":"invalid_target","reason":"target","description":"parameter 'audience' or 'resource' is missing: expected one of 'https://api.example.com', 'https://news.example.com', 'https://plain.example.com', 'billing'","line":33}}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := json.Marshal(parse(t, full).Explain(tt.q))
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != tt.want {
				t.Errorf("JSON:\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
}
