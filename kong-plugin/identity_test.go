package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/Kong/go-pdk/server/kong_plugin_protocol"

	"phantomtoken/kong-plugin/pluginserver"
)

func johnsConsumer() *kong_plugin_protocol.Consumer {
	return &kong_plugin_protocol.Consumer{
		Id: "1c8a7b0e-4a5f-4a3e-9a53-6f6c1b1d9c01", Username: "john", CustomId: "42", CreatedAt: 1_700_000_000, Tags: []string{"mcp"},
	}
}

func groupsIn(got httpResult) []string {
	v, ok := got.shared["authenticated_groups"]
	if !ok {
		return nil
	}
	groups := []string{}
	for _, e := range v.GetListValue().GetValues() {
		groups = append(groups, e.GetStringValue())
	}
	return groups
}

// TestIdentityCosts pins what each setting costs a cached request, in calls of Kong's PDK,
// all of them within the two writes that every request takes: none without the settings.
func TestIdentityCosts(t *testing.T) {
	usual := []string{"request.get_headers", "request.get_path_with_query", "service.request.set_header"}
	for _, tt := range []struct {
		name     string
		identity map[string]any
		first    []string // asked once in a while, before what is done
		further  []string
	}{
		{name: "Off"},
		{name: "Credential", identity: map[string]any{"credential_claim": "sub"}, further: []string{"client.authenticate"}},
		{name: "Groups", identity: map[string]any{"groups_claim": "scope"}, further: []string{"ctx.shared.set"}},
		{
			name: "Consumer", identity: map[string]any{"consumer_claim": "sub"},
			first: []string{"client.load_consumer"}, further: []string{"client.authenticate"},
		},
		{
			name: "All", identity: map[string]any{"consumer_claim": "sub", "credential_claim": "sub", "groups_claim": "scope"},
			first: []string{"client.load_consumer"}, further: []string{"client.authenticate", "ctx.shared.set"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			idp := startIDP(t)
			idp.says(goodClaims(idp))
			p := startPlugin(t)
			route := p.instance(1, with(mintConfig(t, idp), map[string]any{"identity": tt.identity}))
			req := bearer(testToken)
			req.consumers = map[string]*kong_plugin_protocol.Consumer{"john": johnsConsumer()}
			// An unknown token has a budget of its address.
			for _, first := range [][]string{append([]string{"client.get_forwarded_ip"}, tt.first...), nil} {
				want := slices.Concat(usual[:2], first, usual[2:], tt.further)
				if got := route.do(req); got.status != 0 || !slices.Equal(got.methods, want) {
					t.Errorf("answered %d after %v, want it forwarded after %v; log:\n%s", got.status, got.methods, want, p.log)
				}
			}
		})
	}
}

// TestIdentityReachesKong follows consumer, credential and groups to Kong.
func TestIdentityReachesKong(t *testing.T) {
	idp := startIDP(t)
	idp.says(goodClaims(idp))
	p := startPlugin(t)
	route := p.instance(1, with(mintConfig(t, idp), map[string]any{"identity": map[string]any{
		"consumer_claim": "sub", "consumer_tag": "mcp", "credential_claim": "sub", "groups_claim": "scope",
	}}))
	req := bearer(testToken,
		pluginserver.Header{Name: "x-consumer-id", Value: "root"},
		pluginserver.Header{Name: "X_Credential_Identifier", Value: "root"},
		pluginserver.Header{Name: "x-authenticated-groups", Value: "admin"},
	)
	req.consumers = map[string]*kong_plugin_protocol.Consumer{"john": johnsConsumer()}
	for range 2 { // from Kong, then from memory
		got := route.do(req)
		c, credential := got.authenticated.GetConsumer(), got.authenticated.GetCredential()
		if want := johnsConsumer(); c.GetId() != want.Id || c.GetUsername() != want.Username || c.GetCustomId() != want.CustomId ||
			c.GetCreatedAt() != want.CreatedAt || !slices.Equal(c.GetTags(), want.Tags) {
			t.Errorf("consumer = %v, want %v", c, want)
		}
		if credential.GetConsumerId() != c.GetId() || len(credential.GetId()) != 36 {
			t.Errorf("credential = %v, want a UUID that belongs to the consumer", credential)
		}
		if groups := groupsIn(got); !slices.Equal(groups, []string{"stocks/read"}) {
			t.Errorf("groups = %q, want the scopes", groups)
		}
		for _, name := range []string{"x-consumer-id", "X_Credential_Identifier", "x-authenticated-groups"} {
			if v, ok := got.upstream[name]; !ok || v != "" {
				t.Errorf("header %s = %q, want it removed", name, v)
			}
		}
		for name := range got.upstream {
			if name != "Authorization" && got.upstream[name] != "" {
				t.Errorf("header %s is set: the phantom token alone tells the upstream who is calling", name)
			}
		}
	}
	noSecrets(t, p)
}

// A raw claim is neither what Kong counts by nor what its logs show.
func TestCredentialTellsNothingOfTheUser(t *testing.T) {
	idp := startIDP(t)
	claims := goodClaims(idp)
	claims["email"] = "john@demo.example"
	idp.says(claims)
	p := startPlugin(t)
	got := p.instance(1, with(mintConfig(t, idp), map[string]any{"identity": map[string]any{"credential_claim": "email"}})).do(bearer(testToken))
	if id := got.authenticated.GetCredential().GetId(); id == "" || strings.Contains(got.authenticated.String(), "john") || strings.Contains(id, testToken) {
		t.Errorf("authenticated = %v, want a UUID alone", got.authenticated)
	}
	if got.authenticated.GetConsumer() != nil || got.authenticated.GetCredential().GetConsumerId() != "" {
		t.Errorf("authenticated = %v, want no consumer", got.authenticated)
	}
}

func TestConsumersAreRememberedForAWhile(t *testing.T) {
	idp := startIDP(t)
	idp.says(goodClaims(idp))
	p := startPlugin(t)
	config := with(mintConfig(t, idp), map[string]any{"identity": map[string]any{"consumer_claim": "sub"}})
	asked := func(route *kongRoute, consumers map[string]*kong_plugin_protocol.Consumer, status int) bool {
		t.Helper()
		req := bearer(testToken)
		req.consumers = consumers
		got := route.do(req)
		if got.status != status {
			t.Errorf("status = %d, want %d; log:\n%s", got.status, status, p.log)
		}
		return slices.Contains(got.methods, "client.load_consumer")
	}
	john := map[string]*kong_plugin_protocol.Consumer{"john": johnsConsumer()}
	route := p.instance(1, config)
	for i := range 2 {
		if !asked(route, nil, 403) {
			t.Errorf("request %d of an unknown consumer: Kong was not asked, want it asked each time", i)
		}
	}
	if !asked(route, john, 0) || asked(route, nil, 0) {
		t.Error("a known consumer was not looked up exactly once")
	}
	if !asked(p.instance(2, config), john, 0) {
		t.Error("a new configuration remembers consumers of the old one, which may have lost them")
	}
	p.clock.Advance(consumerLife)
	if !asked(route, nil, 403) {
		t.Error("a consumer that was taken away counts for longer than it may")
	}
}

func TestIdentitySettingsThatContradict(t *testing.T) {
	for _, tt := range []struct {
		name     string
		identity map[string]any
		change   map[string]any
		want     string
	}{
		{"TagWithoutConsumer", map[string]any{"consumer_tag": "mcp"}, nil, "identity.consumer_tag: expected together with identity.consumer_claim"},
		{"OptionalWithoutConsumer", map[string]any{"consumer_optional": true, "credential_claim": "sub"}, nil, "identity.consumer_optional: expected together with identity.consumer_claim"},
		{"OptionalWithoutCredential", map[string]any{"consumer_claim": "sub", "consumer_optional": true}, nil, "identity.consumer_optional: expected together with identity.credential_claim"},
		{
			"UsernamesOfTwoIssuers", map[string]any{"consumer_claim": "sub"},
			map[string]any{"authorization_servers": []string{"https://a.example", "https://b.example"}},
			"identity.consumer_claim: expected one issuer, token.issuer or a single one of authorization_servers, got 2",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			idp := startIDP(t)
			p := startPlugin(t)
			config := with(with(mintConfig(t, idp), map[string]any{"identity": tt.identity}), tt.change)
			if got := p.instance(1, config).do(bearer(testToken)); got.status != 500 || !strings.Contains(p.log.String(), tt.want) {
				t.Errorf("status = %d, log:\n%s\nwant 500 and %s", got.status, p.log, tt.want)
			}
		})
	}
}

func TestWarnsOfConsumerClaimsThatUsersChange(t *testing.T) {
	idp := startIDP(t)
	p := startPlugin(t)
	config := with(mintConfig(t, idp), map[string]any{"identity": map[string]any{"consumer_claim": "preferred_username"}})
	p.instance(1, config)
	if !strings.Contains(p.log.String(), "identity.consumer_claim is a claim that users can change") {
		t.Errorf("log:\n%s\nwant a warning", p.log)
	}
}
