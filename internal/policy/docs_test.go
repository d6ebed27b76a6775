package policy_test

import (
	"os"
	"strings"
	"testing"

	"phantomtoken/internal/oauth"
	"phantomtoken/internal/policy"
)

const docsFile = "../../docs/policy.md"

func docs(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(docsFile)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// The table of keys is made from the description that Parse checks by.
func TestDocsHaveEveryKey(t *testing.T) {
	const begin, end = "<!-- keys: go test ./internal/policy -update -->\n", "<!-- /keys -->"
	doc := docs(t)
	before, rest, ok := strings.Cut(doc, begin)
	_, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatal("docs/policy.md has no place for the table")
	}
	want := before + begin + policy.KeyTable() + end + after
	if *update {
		if err := os.WriteFile(docsFile, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if doc != want {
		t.Error("the table of docs/policy.md is not that of the description: go test ./internal/policy -update")
	}
}

// example is the YAML block below a heading.
func example(t *testing.T, heading string) string {
	t.Helper()
	_, rest, ok := strings.Cut(docs(t), "### "+heading+"\n")
	_, rest, found := strings.Cut(rest, "```yaml\n")
	block, _, closed := strings.Cut(rest, "```\n")
	if !ok || !found || !closed {
		t.Fatalf("docs/policy.md has no example below %q", heading)
	}
	return block
}

// Every example is a file that the sidecar takes, and does what the text beside it says.
func TestDocsExamples(t *testing.T) {
	const orders, prices, inside = "https://orders.internal.example.com", "get_stock_prices", "https://mcp.internal.example.com"
	for _, tt := range []struct {
		heading string
		q       policy.Question
		want    string // scope, or the code of a refusal
	}{
		{"One server, one API", policy.Question{Audience: []string{api + "/v1"}, Granted: oauth.Scopes{"openid", "stocks/read", "stocks/trade"}}, "stocks/read"},
		{"Two servers in a chain", policy.Question{Audience: []string{orders}, Granted: oauth.Scopes{"orders/read", "stocks/read"}}, "orders/read stocks/read"},
		{"Two servers in a chain", policy.Question{Caller: "orders-server", Audience: []string{api}, Granted: oauth.Scopes{"orders/read", "stocks/read"}, Actors: 2}, "stocks/read"},
		{"Two servers in a chain", policy.Question{Caller: "orders-server", Audience: []string{api}, Granted: oauth.Scopes{"orders/read"}, Actors: 2}, "invalid_scope"},
		{"Two servers in a chain", policy.Question{Caller: "orders-server", Audience: []string{api}, Granted: oauth.Scopes{"stocks/read"}, Actors: 3}, "invalid_request"},
		{"A table of tools", policy.Question{Tool: prices, Audience: []string{api}, Granted: oauth.Scopes{"stocks/read", "stocks/trade"}}, "stocks/read"},
		{"A table of tools", policy.Question{Tool: "sell_stock", Audience: []string{api}, Granted: oauth.Scopes{"stocks/read", "stocks/trade"}}, "invalid_target"},
		{"A table of tools", policy.Question{Tool: "buy_stock", Audience: []string{api}, Granted: oauth.Scopes{"stocks/trade"}}, "invalid_scope"},
		{"A scope by a rule", policy.Question{Audience: []string{api}, Granted: oauth.Scopes{"stocks/trade"}}, "stocks/trade orders/read"},
		{"A scope by a rule", policy.Question{Audience: []string{api}, Granted: oauth.Scopes{"stocks/read", "orders/read"}}, "stocks/read"},
		{"Egress", policy.Question{Audience: []string{news}, Granted: oauth.Scopes{"news/read"}}, "news/read"},
		{"Tokens of the identity provider", policy.Question{Audience: []string{api}, Granted: oauth.Scopes{"stocks/read"}}, "stocks/read"},
	} {
		if tt.q.Caller == "" {
			tt.q.Caller = "mcp-server"
		}
		p := parse(t, example(t, tt.heading))
		if c, _ := p.Caller("mcp-server"); c.SubjectAudience != inside {
			t.Errorf("%s: caller %+v", tt.heading, c)
		}
		got := ""
		if e := p.Explain(tt.q); e.Refusal != nil {
			got = e.Refusal.Code
		} else {
			got = e.Grant.Scope.String()
		}
		if got != tt.want {
			t.Errorf("%s: %+v: %s, want %s", tt.heading, tt.q, got, tt.want)
		}
	}
	doc := docs(t)
	for rest := doc; ; {
		_, after, ok := strings.Cut(rest, "```yaml\n")
		if !ok {
			break
		}
		var block string
		block, rest, _ = strings.Cut(after, "```\n")
		parse(t, block)
	}
}

// What the page shows of explain is what explain says.
func TestDocsExplain(t *testing.T) {
	p, doc := parse(t, example(t, "A scope by a rule")), docs(t)
	for _, q := range []policy.Question{
		{Caller: "mcp-server", Audience: []string{api}, Granted: oauth.Scopes{"openid", "stocks/trade"}},
		{Caller: "mcp-server", Audience: []string{api}, Scope: oauth.Scopes{"orders/read"}, Granted: oauth.Scopes{"stocks/read"}},
	} {
		if want := "```text\n" + p.Explain(q).String() + "```\n"; !strings.Contains(doc, want) {
			t.Errorf("docs/policy.md lacks\n%s", want)
		}
	}
}

func TestDocsHaveEveryReason(t *testing.T) {
	doc := docs(t)
	for _, reason := range []string{
		policy.ReasonCaller, policy.ReasonUnauthorized, policy.ReasonActors, policy.ReasonTool, policy.ReasonTarget, policy.ReasonIssue, policy.ReasonScope,
	} {
		if !strings.Contains(doc, "| `"+reason+"` |") {
			t.Errorf("docs/policy.md lacks the reason %s", reason)
		}
	}
}
