package policy_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"phantomtoken/internal/oauth"
	"phantomtoken/internal/policy"
)

const (
	api   = "https://api.example.com"
	news  = "https://news.example.com"
	plain = "https://plain.example.com"
)

// Covers: TX-04, TX-05
func TestDecideGrants(t *testing.T) {
	read := oauth.Scopes{"stocks/read"}
	regions := map[string]string{"region": "region", "home": "country"}
	for _, tt := range []struct {
		name string
		q    policy.Question
		want policy.Grant
	}{
		{
			"WhatTheSubjectTokenHas",
			policy.Question{Audience: []string{api}, Granted: oauth.Scopes{"openid", "stocks/read"}},
			policy.Grant{Audience: []string{api}, Scope: read, Claims: regions, Lifetime: 2 * time.Minute, Issue: policy.Mint, Lines: []int{34}},
		},
		{
			"ByResource",
			policy.Question{Audience: []string{api + "/v1"}, Granted: read},
			policy.Grant{Audience: []string{api}, Scope: read, Claims: regions, Lifetime: 2 * time.Minute, Issue: policy.Mint, Lines: []int{34}},
		},
		{
			"ByNameAndResourceOnce",
			policy.Question{Audience: []string{api, api + "/v1", api}, Granted: read},
			policy.Grant{Audience: []string{api}, Scope: read, Claims: regions, Lifetime: 2 * time.Minute, Issue: policy.Mint, Lines: []int{34}},
		},
		{
			"WhatIsAskedFor",
			policy.Question{Audience: []string{api}, Scope: read, Granted: oauth.Scopes{"stocks/trade", "stocks/read"}},
			policy.Grant{Audience: []string{api}, Scope: read, Claims: regions, Lifetime: 2 * time.Minute, Issue: policy.Mint, Lines: []int{34}},
		},
		{
			"ByRule",
			policy.Question{Audience: []string{api}, Granted: oauth.Scopes{"stocks/trade"}},
			policy.Grant{Audience: []string{api}, Scope: oauth.Scopes{"stocks/trade", "orders/read"}, Claims: regions, Lifetime: 2 * time.Minute, Issue: policy.Mint,
				Rules: []string{"orders-for-traders"}, Lines: []int{34, 37}},
		},
		{
			"ByRuleWhenAskedFor",
			policy.Question{Audience: []string{api}, Scope: oauth.Scopes{"orders/read"}, Granted: oauth.Scopes{"stocks/trade"}},
			policy.Grant{Audience: []string{api}, Scope: oauth.Scopes{"orders/read"}, Claims: regions, Lifetime: 2 * time.Minute, Issue: policy.Mint,
				Rules: []string{"orders-for-traders"}, Lines: []int{34, 37}},
		},
		{
			"RuleThatIsNotUsedIsNotNamed",
			policy.Question{Audience: []string{api}, Scope: oauth.Scopes{"stocks/trade"}, Granted: oauth.Scopes{"stocks/trade"}},
			policy.Grant{Audience: []string{api}, Scope: oauth.Scopes{"stocks/trade"}, Claims: regions, Lifetime: 2 * time.Minute, Issue: policy.Mint, Lines: []int{34}},
		},
		{
			"WithoutScope",
			policy.Question{Audience: []string{plain}, Granted: read},
			policy.Grant{Audience: []string{plain}, Scope: oauth.Scopes{}, Lifetime: 5 * time.Minute, Issue: policy.Mint, Lines: []int{42}},
		},
		{
			"ByIdentityProvider",
			policy.Question{Audience: []string{"billing"}, Granted: oauth.Scopes{"billing/read"}},
			policy.Grant{Audience: []string{"billing"}, Scope: oauth.Scopes{"billing/read"}, Lifetime: 5 * time.Minute, Issue: policy.IDP, Lines: []int{43}},
		},
		{
			"SeveralTargetsWhatTheyShare",
			policy.Question{Audience: []string{news, api}, Granted: oauth.Scopes{"news/read", "stocks/read", "stocks/trade"}},
			policy.Grant{Audience: []string{news, api}, Scope: read, Claims: map[string]string{"region": "region"}, Lifetime: 2 * time.Minute, Issue: policy.Mint, Lines: []int{40, 34}},
		},
		{
			"ToolHasItsScopesOnly",
			policy.Question{Tool: "get_stock_prices", Audience: []string{api}, Granted: oauth.Scopes{"stocks/read", "stocks/trade"}},
			policy.Grant{Audience: []string{api}, Scope: read, Claims: regions, Lifetime: 2 * time.Minute, Issue: policy.Mint, Lines: []int{34, 53}},
		},
		{
			"ToolByRule",
			policy.Question{Tool: "get_orders", Audience: []string{api}, Granted: oauth.Scopes{"stocks/trade"}},
			policy.Grant{Audience: []string{api}, Scope: oauth.Scopes{"orders/read"}, Claims: regions, Lifetime: 2 * time.Minute, Issue: policy.Mint,
				Rules: []string{"orders-for-traders"}, Lines: []int{34, 57, 37}},
		},
		{
			"ToolWithoutScope",
			policy.Question{Tool: "get_stock_prices", Audience: []string{plain}, Granted: read},
			policy.Grant{Audience: []string{plain}, Scope: oauth.Scopes{}, Lifetime: 5 * time.Minute, Issue: policy.Mint, Lines: []int{42, 54}},
		},
		{
			"LongestChain",
			policy.Question{Audience: []string{api}, Granted: read, Actors: 3},
			policy.Grant{Audience: []string{api}, Scope: read, Claims: regions, Lifetime: 2 * time.Minute, Issue: policy.Mint, Lines: []int{34}},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := parse(t, full)
			tt.q.Caller = "mcp-server"
			got, err := p.Decide(tt.q)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(*got, tt.want) {
				t.Errorf("got  %+v\nwant %+v", *got, tt.want)
			}
			// What one request was given must not reach into the next.
			if again, err := p.Decide(tt.q); err != nil || !reflect.DeepEqual(*again, tt.want) {
				t.Errorf("again %+v, %v", again, err)
			}
		})
	}
}

// Covers: TX-33, TX-34
func TestDecideRefuses(t *testing.T) {
	read := oauth.Scopes{"stocks/read"}
	for _, tt := range []struct {
		name string
		q    policy.Question
		want policy.Refusal
	}{
		{
			"UnknownCaller", policy.Question{Caller: "stranger", Audience: []string{api}, Granted: read},
			policy.Refusal{Code: "unauthorized_client", Reason: "caller_unknown", Text: "client 'stranger' may not exchange tokens: expected one of callers"},
		},
		{
			"CallerWithoutAudience", policy.Question{Caller: "lonely", Audience: []string{api}, Granted: read},
			policy.Refusal{Code: "unauthorized_client", Reason: "client_without_audience", Text: "client 'lonely' may not exchange tokens: callers.lonely.audiences has none, callers.lonely (line 45)", Line: 45},
		},
		{
			"ChainTooLong", policy.Question{Audience: []string{api}, Granted: read, Actors: 4},
			policy.Refusal{Code: "invalid_request", Reason: "actor_chain", Text: "subject_token was not accepted: expected at most 3 actors in act before the client, got more; the bound is limits.actors (line 4)", Line: 4},
		},
		{
			"NoTarget", policy.Question{Granted: read},
			policy.Refusal{Code: "invalid_target", Reason: "target", Text: "parameter 'audience' or 'resource' is missing: expected one of 'https://api.example.com', 'https://news.example.com', 'https://plain.example.com', 'billing'", Line: 33},
		},
		{
			"UnknownTarget", policy.Question{Audience: []string{"https://evil.example.com"}, Granted: read},
			policy.Refusal{Code: "invalid_target", Reason: "target", Text: "target 'https://evil.example.com' is not configured for client 'mcp-server': expected one of 'https://api.example.com', 'https://news.example.com', 'https://plain.example.com', 'billing'; a new one goes into callers.mcp-server.audiences (line 33)", Line: 33},
		},
		{
			"TargetWithSlash", policy.Question{Audience: []string{"https://api.example.com/"}, Granted: read},
			policy.Refusal{Code: "invalid_target", Reason: "target", Text: "target 'https://api.example.com/' is not configured for client 'mcp-server': expected one of 'https://api.example.com', 'https://news.example.com', 'https://plain.example.com', 'billing'; a new one goes into callers.mcp-server.audiences (line 33)", Line: 33},
		},
		{
			"TargetOfOtherCase", policy.Question{Audience: []string{"Billing"}, Granted: oauth.Scopes{"billing/read"}},
			policy.Refusal{Code: "invalid_target", Reason: "target", Text: "target 'Billing' is not configured for client 'mcp-server': expected one of 'https://api.example.com', 'https://news.example.com', 'https://plain.example.com', 'billing'; a new one goes into callers.mcp-server.audiences (line 33)", Line: 33},
		},
		{
			"UnknownTargetInCompany", policy.Question{Audience: []string{api, "https://evil.example.com"}, Granted: read},
			policy.Refusal{Code: "invalid_target", Reason: "target", Text: "target 'https://evil.example.com' is not configured for client 'mcp-server': expected one of 'https://api.example.com', 'https://news.example.com', 'https://plain.example.com', 'billing'; a new one goes into callers.mcp-server.audiences (line 33)", Line: 33},
		},
		{
			"IdentityProviderInCompany", policy.Question{Audience: []string{api, "billing"}, Granted: oauth.Scopes{"stocks/read", "billing/read"}},
			policy.Refusal{Code: "invalid_target", Reason: "target_issue", Text: "the targets have no token in common, since the identity provider issues those for 'billing': ask for one target at a time; the key is audiences.billing.issue (line 19)", Line: 19},
		},
		{
			"ScopeThatIsNotListed", policy.Question{Audience: []string{api}, Scope: oauth.Scopes{"admin"}, Granted: oauth.Scopes{"admin"}},
			policy.Refusal{Code: "invalid_scope", Reason: "scope", Text: "scope 'admin' is not configured for the target: expected one of 'stocks/read', 'stocks/trade', 'orders/read'; a new one goes into callers.mcp-server.audiences['https://api.example.com'].scopes (line 35)", Line: 35},
		},
		{
			"ScopeThatOneTargetLacks", policy.Question{Audience: []string{api, news}, Scope: oauth.Scopes{"stocks/trade"}, Granted: oauth.Scopes{"stocks/trade"}},
			policy.Refusal{Code: "invalid_scope", Reason: "scope", Text: "scope 'stocks/trade' is not configured for the target: expected one of 'stocks/read'; a new one goes into callers.mcp-server.audiences['https://news.example.com'].scopes (line 41)", Line: 41},
		},
		{
			"ScopeThatIsNotGranted", policy.Question{Audience: []string{api}, Scope: oauth.Scopes{"stocks/trade"}, Granted: read},
			policy.Refusal{Code: "invalid_scope", Reason: "scope", Text: "scope 'stocks/trade' is not granted to the subject token: expected one of 'stocks/read'; the user has to authorize it first", Line: 35},
		},
		{
			"ScopeOfRuleWithoutItsCondition", policy.Question{Audience: []string{api}, Scope: oauth.Scopes{"orders/read"}, Granted: read},
			policy.Refusal{Code: "invalid_scope", Reason: "scope", Text: "scope 'orders/read' is given by rule 'orders-for-traders' (line 37) to subject tokens with 'stocks/trade', got 'stocks/read'; the user has to authorize them first", Line: 37},
		},
		{
			"ScopeOfRuleThatTheTokenHasButNotItsCondition", policy.Question{Audience: []string{api}, Scope: oauth.Scopes{"orders/read"}, Granted: oauth.Scopes{"orders/read"}},
			policy.Refusal{Code: "invalid_scope", Reason: "scope", Text: "scope 'orders/read' is given by rule 'orders-for-traders' (line 37) to subject tokens with 'stocks/trade', got 'orders/read'; the user has to authorize them first", Line: 37},
		},
		{
			"NothingGranted", policy.Question{Audience: []string{api}, Granted: oauth.Scopes{"openid"}},
			policy.Refusal{Code: "invalid_scope", Reason: "scope", Text: "the subject token has none of the scopes configured for the target: expected one of 'stocks/read', 'stocks/trade', 'orders/read' (callers.mcp-server.audiences['https://api.example.com'].scopes (line 35)), got 'openid'", Line: 35},
		},
		{
			"NothingGrantedForOneOfTwo", policy.Question{Audience: []string{api, news}, Granted: oauth.Scopes{"stocks/trade"}},
			policy.Refusal{Code: "invalid_scope", Reason: "scope", Text: "the subject token has none of the scopes configured for the target: expected one of 'stocks/read', 'news/read' (callers.mcp-server.audiences['https://news.example.com'].scopes (line 41)), got 'stocks/trade'", Line: 41},
		},
		{
			"NothingInCommon", policy.Question{Audience: []string{api, news}, Granted: oauth.Scopes{"stocks/trade", "news/read"}},
			policy.Refusal{Code: "invalid_scope", Reason: "scope", Text: "the subject token has no scope that is configured for every target (callers.mcp-server.audiences['https://api.example.com'].scopes (line 35), callers.mcp-server.audiences['https://news.example.com'].scopes (line 41)): ask for one target at a time", Line: 35},
		},
		{
			"UnknownTool", policy.Question{Tool: "rm", Audience: []string{api}, Granted: read},
			policy.Refusal{Code: "invalid_target", Reason: "tool", Text: "tool 'rm' is not configured: expected one of tools (line 49)", Line: 49},
		},
		{
			"ToolRequires", policy.Question{Tool: "get_stock_prices", Audience: []string{api}, Granted: oauth.Scopes{"stocks/trade"}},
			policy.Refusal{Code: "invalid_scope", Reason: "scope", Text: "tool 'get_stock_prices' requires scope 'stocks/read', which is not granted to the subject token: got 'stocks/trade'; the user has to authorize it first: tools.get_stock_prices.requires (line 51)", Line: 51},
		},
		{
			"ToolTarget", policy.Question{Tool: "get_orders", Audience: []string{news}, Granted: read},
			policy.Refusal{Code: "invalid_target", Reason: "tool", Text: "target 'https://news.example.com' is not configured for tool 'get_orders': expected one of 'https://api.example.com'; a new one goes into tools.get_orders.audiences (line 56)", Line: 56},
		},
		{
			"ToolScope", policy.Question{Tool: "get_stock_prices", Audience: []string{api}, Scope: oauth.Scopes{"stocks/trade"}, Granted: oauth.Scopes{"stocks/read", "stocks/trade"}},
			policy.Refusal{Code: "invalid_scope", Reason: "scope", Text: "scope 'stocks/trade' is not configured for tool 'get_stock_prices': expected one of 'stocks/read'; a new one goes into tools.get_stock_prices.audiences['https://api.example.com'] (line 53)", Line: 53},
		},
		{
			"ToolScopesThatTheUserLacks", policy.Question{Tool: "get_orders", Audience: []string{api}, Granted: read},
			policy.Refusal{Code: "invalid_scope", Reason: "scope", Text: "none of the scopes configured for tool 'get_orders' can be had: expected one of 'orders/read' (tools.get_orders.audiences['https://api.example.com'] (line 57)), got 'stocks/read'", Line: 57},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.q.Caller == "" {
				tt.q.Caller = "mcp-server"
			}
			grant, err := parse(t, full).Decide(tt.q)
			var refusal *policy.Refusal
			if grant != nil || !errors.As(err, &refusal) {
				t.Fatalf("Decide: %+v, %v", grant, err)
			}
			if *refusal != tt.want {
				t.Errorf("got  %+v\nwant %+v", *refusal, tt.want)
			}
			if !strings.HasPrefix(err.Error(), tt.want.Code+": ") {
				t.Errorf("Error: %s", err)
			}
		})
	}
}

// A file without tools says nothing about them.
func TestDecideMindsNoToolWithoutTools(t *testing.T) {
	before, _, _ := strings.Cut(full, "tools:")
	g, err := parse(t, before).Decide(policy.Question{Caller: "mcp-server", Tool: "anything", Audience: []string{api}, Granted: oauth.Scopes{"stocks/read"}})
	if err != nil || !reflect.DeepEqual(g.Scope, oauth.Scopes{"stocks/read"}) {
		t.Errorf("Decide: %+v, %v", g, err)
	}
}

// The default bound of the chain is eight, the caller included.
// Covers: TX-40
func TestDecideBoundsTheChainByDefault(t *testing.T) {
	p := parse(t, change(t, "  actors: 4\n", ""))
	q := policy.Question{Caller: "mcp-server", Audience: []string{plain}, Actors: 7}
	if _, err := p.Decide(q); err != nil {
		t.Error(err)
	}
	q.Actors++
	_, err := p.Decide(q)
	var refusal *policy.Refusal
	if !errors.As(err, &refusal) || refusal.Reason != "actor_chain" || refusal.Line != 0 {
		t.Errorf("Decide: %v", err)
	}
}

func TestZeroPolicyRefusesEverything(t *testing.T) {
	if g, err := new(policy.Policy).Decide(policy.Question{Caller: "a", Audience: []string{"b"}}); g != nil || err == nil {
		t.Errorf("Decide: %+v, %v", g, err)
	}
}

// It runs for every request.
func TestDecideIsThrifty(t *testing.T) {
	p := parse(t, full)
	q := policy.Question{Caller: "mcp-server", Audience: []string{api}, Scope: oauth.Scopes{"stocks/read"}, Granted: oauth.Scopes{"stocks/read"}}
	if n := testing.AllocsPerRun(100, func() { _, _ = p.Decide(q) }); n > 1 {
		t.Errorf("%v allocations with a scope that was asked for, want 1", n)
	}
	q.Scope = nil
	if n := testing.AllocsPerRun(100, func() { _, _ = p.Decide(q) }); n > 2 {
		t.Errorf("%v allocations, want 2", n)
	}
}
