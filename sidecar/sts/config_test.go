package sts_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"phantomtoken/internal/keyring"
	"phantomtoken/internal/oauth"
	"phantomtoken/sidecar/sts"
)

const maxLife = time.Hour

// TestNew refuses what cannot work, with the variable to change in the message.
func TestNew(t *testing.T) {
	ring := newRing(t, keyring.ES256)
	secret := func(s string) func(*sts.Config) { return func(c *sts.Config) { c.Clients[0].Secret = s } }
	claim := func(s string) func(*sts.Config) {
		return func(c *sts.Config) { c.Clients[0].Audiences[0].Claims = []string{s} }
	}
	for _, tc := range []struct {
		name   string
		change func(*sts.Config)
		want   []string // parts of the message; empty: accepted
	}{
		{name: "good", change: func(*sts.Config) {}},
		{name: "http on loopback", change: func(c *sts.Config) { c.Issuer = "http://127.0.0.1:9200" }},
		{name: "http by name", change: func(c *sts.Config) { c.Issuer, c.InsecureHosts = "http://sidecar:9200", []string{"sidecar"} }},
		{name: "nothing", change: func(c *sts.Config) { *c = sts.Config{} },
			want: []string{
				"TOKEN_EXCHANGE_ISSUER: expected the URL of this service, got nothing",
				"TOKEN_EXCHANGE_SUBJECT_ISSUER: expected", "TOKEN_EXCHANGE_TOKEN_LIFETIME: expected 10s to 1h0m0s, got 0s",
				"TOKEN_EXCHANGE_CLIENTS_0_ID: expected at least one client",
			}},
		{name: "no signing key", change: func(c *sts.Config) { c.Ring = nil }, want: []string{"expected keys to sign"}},
		{name: "no subject keys", change: func(c *sts.Config) { c.SubjectKeys = nil }, want: []string{"keys of the subject issuer"}},
		{name: "http elsewhere", change: func(c *sts.Config) { c.Issuer = "http://sidecar:9200" },
			want: []string{"TOKEN_EXCHANGE_ISSUER: expected https", "TOKEN_EXCHANGE_INSECURE_HTTP_HOSTS"}},
		{name: "issuer with a query", change: func(c *sts.Config) { c.Issuer = "https://sts.example?x" }, want: []string{"TOKEN_EXCHANGE_ISSUER: expected a URL without query"}},
		{name: "issuer with a fragment", change: func(c *sts.Config) { c.Issuer = "https://sts.example#x" }, want: []string{"TOKEN_EXCHANGE_ISSUER: expected a URL without fragment"}},
		{name: "RejectsSameIssuerForBoth", change: func(c *sts.Config) { c.SubjectIssuer = c.Issuer }, want: []string{"TOKEN_EXCHANGE_SUBJECT_ISSUER: expected another issuer"}},
		{name: "short life", change: func(c *sts.Config) { c.Lifetime = time.Second }, want: []string{"TOKEN_EXCHANGE_TOKEN_LIFETIME", "got 1s"}},
		{name: "long life", change: func(c *sts.Config) { c.Lifetime = 2 * time.Hour }, want: []string{"TOKEN_EXCHANGE_TOKEN_LIFETIME", "got 2h"}},
		{name: "empty client", change: func(c *sts.Config) { c.Clients[1] = sts.Client{} },
			want: []string{"TOKEN_EXCHANGE_CLIENTS_1_ID: expected a client id", "TOKEN_EXCHANGE_CLIENTS_1_SECRET: expected a secret (or a file with it in TOKEN_EXCHANGE_CLIENTS_1_SECRET_FILE)", "TOKEN_EXCHANGE_CLIENTS_1_SUBJECT_AUDIENCE: expected"}},
		{name: "RejectsTwoClientsOfOneID", change: func(c *sts.Config) { c.Clients[1].ID = mcpServer },
			want: []string{"TOKEN_EXCHANGE_CLIENTS_1_ID: expected an id of its own, got that of TOKEN_EXCHANGE_CLIENTS_0_ID"}},
		{name: "target without a name", change: func(c *sts.Config) { c.Clients[0].Audiences[1].Name = "" }, want: []string{"TOKEN_EXCHANGE_CLIENTS_0_AUDIENCES_1_NAME: expected"}},
		{name: "target twice", change: func(c *sts.Config) { c.Clients[0].Audiences[1].Name = apiAudience },
			want: []string{"TOKEN_EXCHANGE_CLIENTS_0_AUDIENCES_1_NAME: expected a name of its own, got that of TOKEN_EXCHANGE_CLIENTS_0_AUDIENCES_0_NAME"}},
		{name: "two scopes in one", change: func(c *sts.Config) { c.Clients[0].Audiences[0].Scopes = oauth.Scopes{"a b"} },
			want: []string{`TOKEN_EXCHANGE_CLIENTS_0_AUDIENCES_0_SCOPES: expected scope tokens separated by commas, got "a b"`}},
		{name: "scope with a quote", change: func(c *sts.Config) { c.Clients[0].Audiences[0].Scopes = oauth.Scopes{`a"`} },
			want: []string{`TOKEN_EXCHANGE_CLIENTS_0_AUDIENCES_0_SCOPES`}},
		{name: "RejectsClaimThatIdentifies", change: func(c *sts.Config) { c.Clients[0].Audiences[0].Claims = []string{"region", "sub"} },
			want: []string{`TOKEN_EXCHANGE_CLIENTS_0_AUDIENCES_0_CLAIMS: expected names of claims about the user, got "sub"`}},
		{name: "RejectsShortSecret", change: secret("fifteen-bytes-x"), want: []string{"TOKEN_EXCHANGE_CLIENTS_0_SECRET: expected at least 16 random bytes, got 15"}},
		{name: "RejectsUnresolvedVaultReference", change: secret("{vault://env/MARKED-secret}"), want: []string{"TOKEN_EXCHANGE_CLIENTS_0_SECRET: expected a secret, got a reference"}},
		{name: "RejectsUnresolvedKubernetesReference", change: secret("$(MARKED_CLIENT_SECRET)"), want: []string{"TOKEN_EXCHANGE_CLIENTS_0_SECRET: expected a secret, got a reference"}},
		{name: "RejectsUnresolvedShellReference", change: secret("${MARKED_CLIENT_SECRET}"), want: []string{"TOKEN_EXCHANGE_CLIENTS_0_SECRET: expected a secret, got a reference"}},
		{name: "RejectsSecretOfTwoLines", change: secret("MARKED-MARKED-MARKED\r\n2"), want: []string{"TOKEN_EXCHANGE_CLIENTS_0_SECRET: expected a secret of one line"}},
		{name: "RejectsBlankAroundSecret", change: secret("MARKED-MARKED-MARKED "), want: []string{"TOKEN_EXCHANGE_CLIENTS_0_SECRET: expected a secret without blanks around it"}},
		{name: "RejectsBlankInID", change: func(c *sts.Config) { c.Clients[0].ID = "mcp server" }, want: []string{"TOKEN_EXCHANGE_CLIENTS_0_ID: expected a name without blanks"}},
		{name: "RejectsBlankInSubjectAudience", change: func(c *sts.Config) { c.Clients[0].SubjectAudience = "a\tb" }, want: []string{"TOKEN_EXCHANGE_CLIENTS_0_SUBJECT_AUDIENCE: expected a name without blanks"}},
		{name: "RejectsPatternAsTarget", change: func(c *sts.Config) { c.Clients[0].Audiences[0].Name = "https://*.example" }, want: []string{"TOKEN_EXCHANGE_CLIENTS_0_AUDIENCES_0_NAME: expected a name without blanks and without *"}},
		{name: "RejectsPatternAsClaim", change: claim("*"), want: []string{"TOKEN_EXCHANGE_CLIENTS_0_AUDIENCES_0_CLAIMS"}},
		{name: "RejectsTwoClaimsInOne", change: claim("region tenant"), want: []string{"TOKEN_EXCHANGE_CLIENTS_0_AUDIENCES_0_CLAIMS"}},
		{name: "RejectsScopeUnderAnotherName", change: claim("scp"), want: []string{"TOKEN_EXCHANGE_CLIENTS_0_AUDIENCES_0_CLAIMS", `"scp"`}},
		{name: "RejectsPermissions", change: claim("permissions"), want: []string{"TOKEN_EXCHANGE_CLIENTS_0_AUDIENCES_0_CLAIMS"}},
		{name: "RejectsAuthorizationDetails", change: claim("authorization_details"), want: []string{"TOKEN_EXCHANGE_CLIENTS_0_AUDIENCES_0_CLAIMS"}},
		{name: "RejectsReservedClaimInOtherCase", change: claim("Sub"), want: []string{"TOKEN_EXCHANGE_CLIENTS_0_AUDIENCES_0_CLAIMS", `"Sub"`}},
		{name: "RejectsConfirmationClaim", change: func(c *sts.Config) { c.Clients[0].Audiences[0].Claims = []string{"cnf"} },
			want: []string{`TOKEN_EXCHANGE_CLIENTS_0_AUDIENCES_0_CLAIMS`, `"cnf"`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := sts.Config{
				Issuer: "https://sts.example", Ring: ring, Lifetime: 5 * time.Minute,
				SubjectIssuer: "https://gw.example/phantom", SubjectKeys: ring, Clients: clients(),
			}
			tc.change(&cfg)
			service, err := sts.New(cfg)
			if (err == nil) != (len(tc.want) == 0) || (service == nil) != (err != nil) {
				t.Fatalf("got service %t, error %v", service != nil, err)
			}
			if err != nil && slices.ContainsFunc(tc.want, func(s string) bool { return !strings.Contains(err.Error(), s) }) {
				t.Errorf("got error %v\nwant one with %q", err, tc.want)
			}
			if err != nil && strings.Contains(err.Error(), "INSECURE") != slices.ContainsFunc(tc.want, func(s string) bool { return strings.Contains(s, "INSECURE") }) {
				t.Errorf("got error %v, want the hint at INSECURE_HTTP_HOSTS where it helps only", err)
			}
			if err != nil && strings.Contains(err.Error(), "MARKED") {
				t.Errorf("error has a secret: %v", err)
			}
		})
	}
}
