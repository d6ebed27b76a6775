package tokenexchange_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"phantomtoken/tokenexchange"
)

const (
	accessTokenType = "urn:ietf:params:oauth:token-type:access_token"
	grantType       = "urn:ietf:params:oauth:grant-type:token-exchange"
)

// TestWireNames spells the identifiers of RFC 8693 §2.1 and §3, RFC 6749 §5.2 and RFC 8707 §2
// literally, so that a slip in a constant is seen.
func TestWireNames(t *testing.T) {
	for _, tc := range []struct{ name, got, want string }{
		{"grant type", tokenexchange.GrantType, "urn:ietf:params:oauth:grant-type:token-exchange"},
		{"access token", tokenexchange.TokenTypeAccessToken, "urn:ietf:params:oauth:token-type:access_token"},
		{"refresh token", tokenexchange.TokenTypeRefreshToken, "urn:ietf:params:oauth:token-type:refresh_token"},
		{"ID token", tokenexchange.TokenTypeIDToken, "urn:ietf:params:oauth:token-type:id_token"},
		{"SAML 1", tokenexchange.TokenTypeSAML1, "urn:ietf:params:oauth:token-type:saml1"},
		{"SAML 2", tokenexchange.TokenTypeSAML2, "urn:ietf:params:oauth:token-type:saml2"},
		{"JWT", tokenexchange.TokenTypeJWT, "urn:ietf:params:oauth:token-type:jwt"},
		{"ID-JAG", tokenexchange.TokenTypeIDJAG, "urn:ietf:params:oauth:token-type:id-jag"},
		{"transaction token", tokenexchange.TokenTypeTxnToken, "urn:ietf:params:oauth:token-type:txn_token"},
		{"bearer", tokenexchange.Bearer, "Bearer"},
		{"not applicable", tokenexchange.NotApplicable, "N_A"},
		{"invalid_request", tokenexchange.ErrorInvalidRequest, "invalid_request"},
		{"invalid_client", tokenexchange.ErrorInvalidClient, "invalid_client"},
		{"invalid_grant", tokenexchange.ErrorInvalidGrant, "invalid_grant"},
		{"unauthorized_client", tokenexchange.ErrorUnauthorizedClient, "unauthorized_client"},
		{"unsupported_grant_type", tokenexchange.ErrorUnsupportedGrantType, "unsupported_grant_type"},
		{"invalid_scope", tokenexchange.ErrorInvalidScope, "invalid_scope"},
		{"invalid_target", tokenexchange.ErrorInvalidTarget, "invalid_target"},
		{"server_error", tokenexchange.ErrorServerError, "server_error"},
		{"temporarily_unavailable", tokenexchange.ErrorTemporarilyUnavailable, "temporarily_unavailable"},
		{"basic", string(tokenexchange.AuthBasic), "client_secret_basic"},
		{"post", string(tokenexchange.AuthPost), "client_secret_post"},
	} {
		if tc.got != tc.want {
			t.Errorf("%s: got %q, want %q", tc.name, tc.got, tc.want)
		}
	}
}

// TestParseRequest covers the parameter rules of the token endpoint.
//
// Covers: TX-30, TX-31, RI-01, RI-04
func TestParseRequest(t *testing.T) {
	// base is added to the body of each case unless the case names the parameter itself.
	base := url.Values{
		"grant_type":         {grantType},
		"subject_token":      {"s"},
		"subject_token_type": {accessTokenType},
	}
	minimal := tokenexchange.Request{SubjectToken: "s", SubjectTokenType: accessTokenType}
	with := func(change func(*tokenexchange.Request)) tokenexchange.Request {
		r := minimal
		change(&r)
		return r
	}
	for _, tc := range []struct {
		name     string
		body     string
		want     tokenexchange.Request
		wantCode string
		wantText string // part of the description
	}{
		{name: "minimal", body: "", want: minimal},
		{name: "everything", body: "actor_token=a&actor_token_type=t&resource=https://r/1&resource=https://r/2&audience=x&audience=y&scope=a+b&requested_token_type=" + accessTokenType,
			want: tokenexchange.Request{
				SubjectToken: "s", SubjectTokenType: accessTokenType, ActorToken: "a", ActorTokenType: "t",
				Resource: []string{"https://r/1", "https://r/2"}, Audience: []string{"x", "y"},
				Scope: []string{"a", "b"}, RequestedTokenType: accessTokenType,
			}},
		{name: "empty values are absent", body: "scope=&audience=&resource=&actor_token=&actor_token_type=&requested_token_type=", want: minimal},
		{name: "unknown parameter is ignored", body: "foo=1", want: minimal},
		{name: "repeated audience with an empty one", body: "audience=&audience=x", want: with(func(r *tokenexchange.Request) { r.Audience = []string{"x"} })},
		{name: "resource keeps its bytes", body: "resource=" + url.QueryEscape("https://API.example.com:443/x/%7e/?a=%20"),
			want: with(func(r *tokenexchange.Request) { r.Resource = []string{"https://API.example.com:443/x/%7e/?a=%20"} })},
		{name: "resource may be a URN", body: "resource=urn:example:api", want: with(func(r *tokenexchange.Request) { r.Resource = []string{"urn:example:api"} })},
		{name: "resource and audience stay apart", body: "resource=https://same&audience=https://same",
			want: with(func(r *tokenexchange.Request) {
				r.Resource, r.Audience = []string{"https://same"}, []string{"https://same"}
			})},
		{name: "scope repeats", body: "scope=+a++b+a+", want: with(func(r *tokenexchange.Request) { r.Scope = []string{"a", "b"} })},

		{name: "grant type missing", body: "grant_type=", wantCode: "invalid_request", wantText: "'grant_type' is missing"},
		{name: "grant type password", body: "grant_type=password", wantCode: "unsupported_grant_type", wantText: "got 'password'"},
		{name: "subject token missing", body: "subject_token=", wantCode: "invalid_request", wantText: "'subject_token' is missing"},
		{name: "subject token type missing", body: "subject_token_type=", wantCode: "invalid_request", wantText: "'subject_token_type' is missing"},
		{name: "actor token without type", body: "actor_token=a", wantCode: "invalid_request", wantText: "'actor_token_type' is missing"},
		{name: "actor token type without token", body: "actor_token_type=a", wantCode: "invalid_request", wantText: "only together with actor_token"},
		{name: "RejectsRepeatedSubjectToken", body: "subject_token=s&subject_token=t", wantCode: "invalid_request", wantText: "'subject_token': expected once"},
		{name: "RejectsRepeatedScopeWithEmptyFirst", body: "scope=&scope=a", wantCode: "invalid_request", wantText: "'scope': expected once"},
		{name: "RejectsRepeatedUnknownParameter", body: "foo=1&foo=2", wantCode: "invalid_request", wantText: "'foo': expected once"},
		{name: "RejectsRepeatedClientID", body: "client_id=a&client_id=b", wantCode: "invalid_request", wantText: "'client_id': expected once"},
		{name: "RejectsRelativeResource", body: "resource=/api", wantCode: "invalid_target", wantText: "got '/api'"},
		{name: "RejectsResourceWithFragment", body: "resource=https://r/%23x", wantCode: "invalid_target", wantText: "without fragment"},
		{name: "RejectsResourceWithEmptyFragment", body: "resource=https://r/%23", wantCode: "invalid_target", wantText: "without fragment"},
		{name: "RejectsSecondResourceBad", body: "resource=https://r&resource=bad", wantCode: "invalid_target", wantText: "got 'bad'"},
		{name: "RejectsResourceWithLineBreak", body: "resource=https://r/%0aX", wantCode: "invalid_target", wantText: "got 'https://r/?X'"},
		{name: "RejectsScopeWithQuote", body: "scope=a%22b", wantCode: "invalid_scope", wantText: "got 'a'b'"},
		{name: "RejectsScopeWithTab", body: "scope=a%09b", wantCode: "invalid_scope", wantText: "got 'a?b'"},
		{name: "RejectsSubjectTokenWithSpace", body: "subject_token=a+b", wantCode: "invalid_request", wantText: "'subject_token': expected printable ASCII"},
		{name: "long value is cut", body: "grant_type=" + strings.Repeat("x", 1000), wantCode: "unsupported_grant_type", wantText: strings.Repeat("x", 128) + "...'"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			form, err := url.ParseQuery(tc.body)
			if err != nil {
				t.Fatal(err)
			}
			for name, values := range base {
				if _, given := form[name]; !given {
					form[name] = values
				}
			}
			got, err := tokenexchange.ParseRequest(form)
			if tc.wantCode == "" {
				if err != nil || !reflect.DeepEqual(got, tc.want) {
					t.Errorf("got %s, error %v\nwant %s", dump(got), err, dump(tc.want))
				}
				return
			}
			var e *tokenexchange.Error
			if !errors.As(err, &e) {
				t.Fatalf("got error %v, want an *Error", err)
			}
			if e.Code != tc.wantCode || e.Status != 400 || !strings.Contains(e.Description, tc.wantText) {
				t.Errorf("got %q, %d, %q\nwant %q, 400, …%q…", e.Code, e.Status, e.Description, tc.wantCode, tc.wantText)
			}
			if strings.ContainsAny(e.Description, "\"\\\n\t") {
				t.Errorf("description %q has characters that RFC 6749 section 5.2 forbids", e.Description)
			}
		})
	}
}

// dump shows all fields, tokens too, which String does not.
func dump(r tokenexchange.Request) string {
	type bare tokenexchange.Request
	return fmt.Sprintf("%+v", bare(r))
}

// TestForm checks the encoding and that what ParseRequest refuses is never sent.
//
// Covers: TX-01, TX-02, TX-03, TX-04, TX-06
func TestForm(t *testing.T) {
	for _, tc := range []struct {
		name     string
		request  tokenexchange.Request
		want     url.Values
		wantCode string
	}{
		{
			name:    "defaults",
			request: tokenexchange.Request{SubjectToken: "s"},
			want: url.Values{
				"grant_type": {grantType}, "subject_token": {"s"},
				"subject_token_type": {accessTokenType}, "requested_token_type": {accessTokenType},
			},
		},
		{
			name: "everything",
			request: tokenexchange.Request{
				SubjectToken: "s", SubjectTokenType: "st", ActorToken: "a", ActorTokenType: "at",
				Resource: []string{"https://API.example.com/x/"}, Audience: []string{"one", "two"},
				Scope: []string{"a", "b"}, RequestedTokenType: "rt",
			},
			want: url.Values{
				"grant_type": {grantType}, "subject_token": {"s"}, "subject_token_type": {"st"},
				"actor_token": {"a"}, "actor_token_type": {"at"},
				"resource": {"https://API.example.com/x/"}, "audience": {"one", "two"},
				"scope": {"a b"}, "requested_token_type": {"rt"},
			},
		},
		{name: "no subject token", request: tokenexchange.Request{}, wantCode: "invalid_request"},
		{name: "actor token without type", request: tokenexchange.Request{SubjectToken: "s", ActorToken: "a"}, wantCode: "invalid_request"},
		{name: "actor token type alone", request: tokenexchange.Request{SubjectToken: "s", ActorTokenType: "a"}, wantCode: "invalid_request"},
		{name: "relative resource", request: tokenexchange.Request{SubjectToken: "s", Resource: []string{"x"}}, wantCode: "invalid_target"},
		{name: "empty audience", request: tokenexchange.Request{SubjectToken: "s", Audience: []string{""}}, wantCode: "invalid_target"},
		{name: "two scopes in one", request: tokenexchange.Request{SubjectToken: "s", Scope: []string{"a b"}}, wantCode: "invalid_scope"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := tc.request.Form()
			if tc.wantCode == "" {
				if err != nil || !reflect.DeepEqual(got, tc.want) {
					t.Errorf("got %v, error %v\nwant %v", got, err, tc.want)
				}
				return
			}
			var e *tokenexchange.Error
			if !errors.As(err, &e) || e.Code != tc.wantCode || e.Status != 0 {
				t.Errorf("got error %v, want %s with status 0", err, tc.wantCode)
			}
		})
	}
}

// TestTokensAreNotPrinted prints values that hold tokens in every way a program might.
func TestTokensAreNotPrinted(t *testing.T) {
	const marked = "MARKED-TOKEN"
	request := tokenexchange.Request{SubjectToken: marked, ActorToken: marked, Audience: []string{"api"}}
	response := tokenexchange.Response{AccessToken: marked, TokenType: "Bearer"}
	var out strings.Builder
	for _, v := range []any{request, &request, response, &response} {
		fmt.Fprintf(&out, "%v %+v %#v %s\n", v, v, v, v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("value", "v", v)
		slog.New(slog.NewTextHandler(&out, nil)).Info("value", "v", v)
	}
	if strings.Contains(out.String(), marked) {
		t.Errorf("a token was printed:\n%s", out.String())
	}
}

// FuzzParseRequest: never panics; an error comes alone and is fit for the wire; what was
// accepted survives encoding and parsing unchanged.
func FuzzParseRequest(f *testing.F) {
	for _, seed := range []string{
		"grant_type=" + grantType + "&subject_token=s&subject_token_type=" + accessTokenType,
		"grant_type=" + grantType + "&subject_token=s&subject_token_type=t&audience=a&audience=b&resource=https://R/%7e&scope=a+b&requested_token_type=t",
		"grant_type=" + grantType + "&subject_token=s&subject_token_type=t&actor_token=a&actor_token_type=b",
		"grant_type=password&username=u",
		"subject_token=a&subject_token=b",
		"scope=%00&resource=%23",
		"",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		form, err := url.ParseQuery(body)
		if err != nil {
			return
		}
		got, err := tokenexchange.ParseRequest(form)
		if err != nil {
			var e *tokenexchange.Error
			if !errors.As(err, &e) || e.Code == "" || e.Status != 400 || e.Description == "" {
				t.Errorf("got error %#v, want a complete *Error", err)
			}
			if !reflect.DeepEqual(got, tokenexchange.Request{}) {
				t.Errorf("got request %s beside error %v", dump(got), err)
			}
			return
		}
		if got.RequestedTokenType == "" {
			got.RequestedTokenType = accessTokenType // what Form sends
		}
		encoded, err := got.Form()
		if err != nil {
			t.Fatalf("parsed request %s does not encode: %v", dump(got), err)
		}
		again, err := tokenexchange.ParseRequest(encoded)
		if err != nil || !reflect.DeepEqual(again, got) {
			t.Errorf("after encoding: got %s, error %v\nwant %s", dump(again), err, dump(got))
		}
	})
}
