package traps_test

import (
	"strings"
	"testing"

	"phantomtoken/testenv/authserver"
)

const (
	consumers = `consumers:
- {username: john.doe@demo.example, tags: [mcp], acls: [{group: staff}]}
- {id: 1c8a7b0e-4a5f-4a3e-9a53-6f6c1b1d9c01, username: billing-robot, tags: [partners], acls: [{group: staff}, {group: admin}]}
`
	acl      = "- {name: acl, config: {allow: [staff, admin, 'mcp:write']}}\n"
	aclToken = "- {name: acl, config: {allow: [admin, 'mcp:write'], always_use_authenticated_groups: true}}\n"
	limit    = "- {name: rate-limiting, config: {minute: 2, limit_by: consumer}}\n"
)

func identityOf(lines ...string) string { return "identity: {" + strings.Join(lines, ", ") + "}\n" }

// wantRefusal checks for a refusal by Kong's acl, or by us: in neither case does a client learn
// that another login could help.
func (r *rig) wantRefusal(got response) {
	r.t.Helper()
	r.wantStatus(got, 403)
	if got.challenge() != "" {
		r.t.Errorf("challenge = %q, want none: clients would log in again for nothing", got.challenge())
	}
	if n := len(r.seen()); n != 0 {
		r.t.Errorf("upstream saw %d requests, want none", n)
	}
}

func (r *rig) claiming(claims map[string]any) string {
	return r.token(authserver.Grant{Claims: claims})
}

// A client names a consumer, a credential and groups by headers of its own, in every
// spelling, with the settings on and off. Kong's plugins do not believe them and the
// upstream does not see them.
//
// Covers: BC-13
func TestClientSendsIdentityHeaders(t *testing.T) {
	for name, o := range map[string]options{
		"Off":      {},
		"Groups":   {config: identityOf("groups_claim: scope"), beside: "- {name: acl, config: {deny: [admin]}}\n"},
		"Consumer": {config: identityOf("consumer_claim: sub", "credential_claim: sub"), beside: acl, entities: consumers},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, o)
			forged := []string{}
			for _, h := range []string{
				"X-Consumer-Id", "X-Consumer-ID", "x_consumer_id", "X-Consumer-Username", "X_Consumer-Username", "X-Consumer-Custom-Id",
				"X-Consumer-Groups", "X-Credential-Identifier", "x_credential_identifier", "X-Authenticated-Groups", "X_Authenticated_Groups",
				"X-Authenticated-Userid", "X-Anonymous-Consumer",
			} {
				forged = append(forged, h, "forged")
			}
			r.wantStatus(r.do("POST", "/mcp", r.token(authserver.Grant{}), forged...), 200)
			for header, values := range r.seen()[0].Header {
				if strings.Contains(strings.Join(values, ","), "forged") {
					t.Errorf("upstream got %s: %q", header, values)
				}
			}
			if got := r.seen()[0].Header.Get("X-Consumer-Groups"); name == "Consumer" && got != "staff" {
				t.Errorf("X-Consumer-Groups = %q, want what acl knows of the consumer", got)
			}
		})
	}
}

// Whoever can choose a name at the provider chooses that of a consumer that was made for
// somebody else.
func TestTokenNamesConsumerOfAnotherTenant(t *testing.T) {
	r := start(t, options{config: identityOf("consumer_claim: sub", "consumer_tag: mcp"), beside: acl, entities: consumers})
	r.wantRefusal(r.do("POST", "/mcp", r.claiming(map[string]any{"sub": "billing-robot"})))
	r.wantStatus(r.do("POST", "/mcp", r.token(authserver.Grant{})), 200)
}

// Kong looks a name that has the form of a UUID up as an id.
func TestTokenNamesConsumerByItsID(t *testing.T) {
	r := start(t, options{config: identityOf("consumer_claim: sub"), beside: acl, entities: consumers})
	r.wantRefusal(r.do("POST", "/mcp", r.claiming(map[string]any{"sub": "1c8a7b0e-4a5f-4a3e-9a53-6f6c1b1d9c01"})))
}

// Covers: CH-19
func TestUnknownConsumer(t *testing.T) {
	nobody := map[string]any{"sub": "nobody"}
	t.Run("IsRefused", func(t *testing.T) {
		r := start(t, options{config: identityOf("consumer_claim: sub"), entities: consumers})
		r.wantRefusal(r.do("POST", "/mcp", r.claiming(nobody)))
	})
	t.Run("GoesOnWhereItIsOptional", func(t *testing.T) {
		r := start(t, options{config: identityOf("consumer_claim: sub", "consumer_optional: true", "credential_claim: sub"), entities: consumers})
		r.wantStatus(r.do("POST", "/mcp", r.claiming(nobody)), 200)
	})
	t.Run("IsNotMemberOfAnything", func(t *testing.T) { // 403, not the 500 of an id that acl cannot look up
		r := start(t, options{config: identityOf("consumer_claim: sub", "consumer_optional: true", "credential_claim: sub"), beside: acl, entities: consumers})
		r.wantRefusal(r.do("POST", "/mcp", r.claiming(nobody)))
	})
}

// A consumer who was taken out of the configuration counts no longer, with the first request
// after it.
func TestConsumerTakenOutOfTheConfiguration(t *testing.T) {
	r := start(t, options{config: identityOf("consumer_claim: sub"), entities: consumers})
	for range 4 { // both workers know him
		r.wantStatus(r.do("POST", "/mcp", r.token(authserver.Grant{})), 200)
	}
	if err := r.gw.Reload([]byte(strings.Replace(r.yaml, consumers, "", 1))); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		r.wantStatus(r.do("POST", "/mcp", r.token(authserver.Grant{})), 403)
	}
}

// A user of one provider uses up what a user of another may, by having the same sub.
func TestSubCollisionBetweenIssuers(t *testing.T) {
	r := start(t, options{
		config:   identityOf("credential_claim: sub"),
		override: `authorization_servers: ["ISSUER", "https://other.example"]` + "\n",
		beside:   limit,
	})
	other := r.claiming(map[string]any{"iss": "https://other.example"})
	for _, status := range []int{200, 200, 429} {
		r.wantStatus(r.do("POST", "/mcp", other), status)
	}
	r.wantStatus(r.do("POST", "/mcp", r.token(authserver.Grant{})), 200)
}

// Users behind one address are counted one by one, and a new token is no new budget.
func TestUsersBehindOneAddressAreCountedApart(t *testing.T) {
	r := start(t, options{config: identityOf("credential_claim: sub"), beside: limit})
	for _, status := range []int{200, 200, 429} {
		r.wantStatus(r.do("POST", "/mcp", r.token(authserver.Grant{})), status)
	}
	r.wantStatus(r.do("POST", "/mcp", r.claiming(map[string]any{"sub": "jane"})), 200)
}

// A client without a user is not counted for the user who is called like it.
func TestClientIsNotCountedForAUserOfItsName(t *testing.T) {
	r := start(t, options{
		config:   identityOf("credential_claim: sub"),
		override: "token: {allow_without_user: true}\n", beside: limit,
	})
	robot := r.token(authserver.Grant{NoUser: true, ClientID: "robot", Claims: map[string]any{"sub": nil}})
	for _, status := range []int{200, 200, 429} {
		r.wantStatus(r.do("POST", "/mcp", robot), status)
	}
	r.wantStatus(r.do("POST", "/mcp", r.claiming(map[string]any{"sub": "robot"})), 200)
}

func TestScopesAreGroups(t *testing.T) {
	r := start(t, options{config: identityOf("credential_claim: sub", "groups_claim: scope"), beside: aclToken + limit})
	r.wantRefusal(r.do("POST", "/mcp", r.token(authserver.Grant{})))
	r.wantStatus(r.do("POST", "/mcp", r.token(authserver.Grant{Scope: "mcp:read mcp:write"})), 200)
	if got := r.seen()[0].Header.Get("X-Authenticated-Groups"); got != "mcp:read, mcp:write" {
		t.Errorf("X-Authenticated-Groups = %q, want the scopes of the token", got)
	}
}

// A comma in a scope, or several words in a claim, are no second group.
func TestGroupInjection(t *testing.T) {
	r := start(t, options{config: identityOf("credential_claim: sub", "groups_claim: scope"), beside: aclToken})
	r.wantRefusal(r.do("POST", "/mcp", r.token(authserver.Grant{Scope: "mcp:read mcp:write x,admin"})))
	r = start(t, options{config: identityOf("groups_claim: department"), beside: "- {name: acl, config: {allow: [admin]}}\n"})
	for _, department := range []any{"sales admin", "sales,admin", "Admin", []any{"sales", "admin\x00"}, []any{"sales admin"}, map[string]any{"admin": true}} {
		r.wantRefusal(r.do("POST", "/mcp", r.claiming(map[string]any{"department": department})))
	}
	r.wantStatus(r.do("POST", "/mcp", r.claiming(map[string]any{"department": []any{"sales", "admin"}})), 200)
}

// A token without groups is in none: acl does not answer with a 401, which leads clients to
// another login.
func TestTokenWithoutGroups(t *testing.T) {
	r := start(t, options{config: identityOf("groups_claim: department"), beside: "- {name: acl, config: {allow: [admin]}}\n"})
	r.wantRefusal(r.do("POST", "/mcp", r.token(authserver.Grant{})))
}

// The trap that phantom-token check finds: the credential alone makes acl look for the
// groups of a consumer that there is not.
func TestACLThatWasNotToldOfGroupsOfTheToken(t *testing.T) {
	r := start(t, options{config: identityOf("credential_claim: sub", "groups_claim: scope"), beside: acl})
	r.wantStatus(r.do("POST", "/mcp", r.token(authserver.Grant{Scope: "mcp:read mcp:write"})), 500)
}
