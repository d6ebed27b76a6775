package keycloak_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"phantomtoken/internal/oauth"
	"phantomtoken/internal/policy"
	"phantomtoken/testenv"
)

// TestDocumentedRuleForTheAdvisor puts the block of docs/keycloak.md into the policy file of
// the sample: the scope of the advisor alone then leads to the stocks server, and to no more
// there than before.
func TestDocumentedRuleForTheAdvisor(t *testing.T) {
	doc, err := os.ReadFile("../../docs/keycloak.md")
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile("../../deploy/sidecar/policy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	const start = "\n  advisor:\n"
	_, block, found := strings.Cut(string(doc), "```yaml"+start)
	block, _, closed := strings.Cut(block, "```")
	before, rest, inFile := strings.Cut(string(file), start)
	if !found || !closed || !inFile {
		t.Fatal("expected the caller advisor in docs/keycloak.md and in deploy/sidecar/policy.yaml")
	}
	_, after, _ := strings.Cut(rest, "\n\n")
	for _, tt := range []struct {
		name    string
		file    string
		granted oauth.Scopes
		asked   oauth.Scopes
		want    oauth.Scopes // none: refused
	}{
		{"SampleNeedsTheScopeOfTheUser", string(file), oauth.Scopes{testenv.ScopeAdvisor}, nil, nil},
		{"SampleKeepsIt", string(file), oauth.Scopes{testenv.ScopeAdvisor, testenv.ScopeRead}, nil, oauth.Scopes{testenv.ScopeRead}},
		{"Rule", before + start + block + "\n" + after, oauth.Scopes{testenv.ScopeAdvisor}, nil, oauth.Scopes{testenv.ScopeRead}},
		{"RuleGivesNoMore", before + start + block + "\n" + after, oauth.Scopes{testenv.ScopeAdvisor, testenv.ScopeTrade}, oauth.Scopes{testenv.ScopeTrade}, nil},
		{"RuleNeedsTheScopeOfTheAdvisor", before + start + block + "\n" + after, oauth.Scopes{testenv.ScopeRead}, nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := policy.Parse([]byte(tt.file))
			if err != nil {
				t.Fatal(err)
			}
			grant, err := p.Decide(policy.Question{
				Caller: "advisor", Audience: []string{testenv.MCPAudience}, Scope: tt.asked, Granted: tt.granted,
			})
			if (err == nil) != (tt.want != nil) {
				t.Fatalf("got %v, want scopes %q", err, tt.want)
			}
			if err == nil && !slices.Equal(grant.Scope, tt.want) {
				t.Errorf("got %q, want %q", grant.Scope, tt.want)
			}
		})
	}
}
