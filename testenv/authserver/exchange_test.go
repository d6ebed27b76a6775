package authserver_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"phantomtoken/testenv/authserver"
)

const (
	tokenExchange = "urn:ietf:params:oauth:grant-type:token-exchange"
	accessToken   = "urn:ietf:params:oauth:token-type:access_token"
	apiAudience   = "https://api.demo.example"
)

func startExchanging(t *testing.T) *server {
	return start(t, func(c *authserver.Config) {
		c.Clients[0].TokenExchange = true
		c.Scopes[0].Audiences = []string{apiAudience}
		c.Scopes[1].Audiences = []string{"https://trade.demo.example"}
	})
}

func (s *server) exchange(change url.Values, header ...string) answer {
	s.t.Helper()
	form := url.Values{"grant_type": {tokenExchange}, "subject_token_type": {accessToken}}
	for name, values := range change {
		form[name] = values
		if len(values) == 0 {
			delete(form, name)
		}
	}
	if len(header) == 0 {
		header = []string{"Authorization", basic("api-gateway-client", "s3cret:with%odd+chars")}
	}
	return s.post("/token", form, header...)
}

func payload(t *testing.T, jwt string) map[string]any {
	t.Helper()
	parts := strings.Split(jwt, ".")
	if len(parts) != 3 {
		t.Fatalf("got a token of %d parts, want a JWT", len(parts))
	}
	b, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestExchange(t *testing.T) {
	s := startExchanging(t)
	subject := s.IssueToken(authserver.Grant{Scope: "stocks/read stocks/trade", Resource: resource, Resources: []string{"api-gateway-client"}})
	tests := []struct {
		name       string
		form       url.Values
		wantAud    any
		wantScope  string
		wantRegion any
	}{
		{"NarrowedToOneAudience", url.Values{"scope": {"stocks/read"}, "audience": {apiAudience}}, apiAudience, "stocks/read", "USA"},
		{"AllThatTheScopesLeadTo", url.Values{"scope": {"stocks/read"}}, []any{"api-gateway-client", resource, apiAudience}, "stocks/read", "USA"},
		{"TwoAudiences", url.Values{"scope": {"stocks/read stocks/trade"}, "audience": {apiAudience, "https://trade.demo.example"}}, []any{apiAudience, "https://trade.demo.example"}, "stocks/read stocks/trade", "USA"},
		{"WithoutScopeTheClaimsAreGone", url.Values{"audience": {resource}}, resource, "", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.form.Set("subject_token", subject)
			a := s.exchange(tt.form)
			if a.status != http.StatusOK {
				t.Fatalf("got %d %s, want 200", a.status, a.body)
			}
			got := a.object(t)
			if got["issued_token_type"] != accessToken || got["token_type"] != "Bearer" || got["expires_in"] != 300.0 || got["scope"] != tt.wantScope {
				t.Errorf("got %v", got)
			}
			claims := payload(t, got["access_token"].(string))
			if !reflect.DeepEqual(claims["aud"], tt.wantAud) || claims["region"] != tt.wantRegion || claims["scope"] != tt.wantScope {
				t.Errorf("claims %v, want aud %v, scope %q, region %v", claims, tt.wantAud, tt.wantScope, tt.wantRegion)
			}
			if claims["sub"] != john || claims["azp"] != "api-gateway-client" || claims["iss"] != s.Issuer() {
				t.Errorf("claims %v, want the user, the requester and the issuer", claims)
			}
			if !s.active(got["access_token"].(string)) {
				t.Error("the exchanged token is not active")
			}
		})
	}
	if n := s.Exchanges(); n != len(tests) {
		t.Errorf("Exchanges() = %d, want %d", n, len(tests))
	}
}

// TestExchangeChain: the result can be exchanged further by whom it names.
func TestExchangeChain(t *testing.T) {
	s := startExchanging(t)
	subject := s.IssueToken(authserver.Grant{Scope: "stocks/read", Resource: resource, Resources: []string{"api-gateway-client"}})
	first := s.exchange(url.Values{"subject_token": {subject}, "scope": {"stocks/read"}}).object(t)["access_token"].(string)
	if a := s.exchange(url.Values{"subject_token": {first}, "scope": {"stocks/read"}, "audience": {apiAudience}}); a.status != http.StatusOK {
		t.Errorf("got %d %s, want 200", a.status, a.body)
	}
	s.Revoke(subject)
	if !s.active(first) {
		t.Error("revoking the subject token ended the exchanged one, want it to live on as Keycloak's does")
	}
}

func TestExchangeRefusals(t *testing.T) {
	s := startExchanging(t)
	good := s.IssueToken(authserver.Grant{Scope: "stocks/read", Resource: resource, Resources: []string{"api-gateway-client"}})
	foreign := s.IssueToken(authserver.Grant{Scope: "stocks/read", Resource: resource})
	over := s.IssueToken(authserver.Grant{Scope: "stocks/read", Resource: "api-gateway-client", Lifetime: time.Minute})
	s.clock.Step(time.Minute)
	tests := []struct {
		name       string
		form       url.Values
		header     []string
		wantStatus int
		wantError  string
		wantText   string
	}{
		{"ExpiredSubject", url.Values{"subject_token": {over}}, nil, 400, "invalid_request", "Invalid token"},
		{"UnknownSubject", url.Values{"subject_token": {"garbage"}}, nil, 400, "invalid_request", "Invalid token"},
		{"NoSubject", nil, nil, 400, "invalid_request", "'subject_token' required"},
		{"NoSubjectType", url.Values{"subject_token": {good}, "subject_token_type": nil}, nil, 400, "invalid_request", "'subject_token_type' required"},
		{"RefreshTokenAsSubject", url.Values{"subject_token": {good}, "subject_token_type": {"urn:ietf:params:oauth:token-type:refresh_token"}}, nil, 400, "invalid_request", "access tokens only"},
		{"AnotherTypeWanted", url.Values{"subject_token": {good}, "requested_token_type": {"urn:ietf:params:oauth:token-type:id_token"}}, nil, 400, "invalid_request", "requested_token_type unsupported"},
		{"Actor", url.Values{"subject_token": {good}, "actor_token": {good}}, nil, 400, "invalid_request", "actor_token"},
		{"Resource", url.Values{"subject_token": {good}, "resource": {resource}}, nil, 400, "invalid_target", "audience"},
		{"RejectsTokenOfAnotherServer", url.Values{"subject_token": {foreign}}, nil, 403, "access_denied", "Client is not within the token audience"},
		{"RejectsWiderScope", url.Values{"subject_token": {good}, "scope": {"stocks/read stocks/trade"}}, nil, 400, "invalid_scope", "not present in the initial access token"},
		{"MalformedScope", url.Values{"subject_token": {good}, "scope": {`a"b`}}, nil, 400, "invalid_scope", "scope"},
		{"UnknownAudience", url.Values{"subject_token": {good}, "scope": {"stocks/read"}, "audience": {"https://nobody.example"}}, nil, 400, "invalid_client", "Audience not found"},
		{"AudienceOfAnotherScope", url.Values{"subject_token": {good}, "scope": {"stocks/read"}, "audience": {"https://trade.demo.example"}}, nil, 400, "invalid_request", "Requested audience not available"},
		{"ParameterTwice", url.Values{"subject_token": {good, good}}, nil, 400, "invalid_request", "twice"},
		{"WrongSecret", url.Values{"subject_token": {good}}, []string{"Authorization", basic("api-gateway-client", "wrong")}, 401, "invalid_client", ""},
		{"ClientWithoutTheGrant", url.Values{"subject_token": {good}}, []string{"Authorization", basic("backend", "backend-secret")}, 400, "invalid_request", "not enabled"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := s.exchange(tt.form, tt.header...)
			text, _ := a.object(t)["error_description"].(string)
			if a.status != tt.wantStatus || a.object(t)["error"] != tt.wantError || !strings.Contains(text, tt.wantText) {
				t.Errorf("got %d %s, want %d %s with %q", a.status, a.body, tt.wantStatus, tt.wantError, tt.wantText)
			}
		})
	}
}

func TestExchangeTrouble(t *testing.T) {
	s := startExchanging(t)
	form := url.Values{"subject_token": {s.IssueToken(authserver.Grant{Scope: "stocks/read", Resource: "api-gateway-client"})}, "scope": {"stocks/read"}}
	s.ExchangeTrouble(authserver.Trouble{Status: 503, Body: []byte("<html>"), ContentType: "text/html"})
	if a := s.exchange(form); a.status != 503 || a.body != "<html>" || a.header.Get("Content-Type") != "text/html" {
		t.Errorf("got %d %s", a.status, a.body)
	}
	s.ExchangeTrouble(authserver.Trouble{Rewrite: func(claims map[string]any) { claims["sub"] = "jane" }})
	if got := payload(t, s.exchange(form).object(t)["access_token"].(string)); got["sub"] != "jane" {
		t.Errorf("claims %v, want the rewritten sub", got)
	}
	s.ExchangeTrouble(authserver.Trouble{})
	if a := s.exchange(form); a.status != 200 {
		t.Errorf("healed: got %d %s", a.status, a.body)
	}
}
