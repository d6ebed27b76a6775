package tokenexchange_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"testing"

	"phantomtoken/tokenexchange"
)

// TestRefusalHidesSecretInAnyMember: what a service sends back of the secret or a token, in
// whatever form and member, ends in no text.
func TestRefusalHidesSecretInAnyMember(t *testing.T) {
	const id, secret, token = "mcp server", "s3cret-VERY-long+secret/0001", "opaque.Subject_Token-0123456789abcdef"
	basic := base64.StdEncoding.EncodeToString
	for _, tc := range []struct{ name, value string }{
		{"secret", secret},
		{"secret as far as a code could have it", "s3cret-VERY-long"},
		{"subject token", token},
		{"base64 of the pair", basic([]byte(id + ":" + secret))},
		{"base64 of the pair as it is sent", basic([]byte(url.QueryEscape(id) + ":" + url.QueryEscape(secret)))},
		{"base64url of the secret", base64.RawURLEncoding.EncodeToString([]byte(secret))},
		{"form-encoded secret", url.QueryEscape(secret)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, member := range []string{"error", "error_description", "error_uri"} {
				members := map[string]string{"error": "invalid_request"}
				members[member] = tc.value
				body, err := json.Marshal(members)
				if err != nil {
					t.Fatal(err)
				}
				client := newClient(t, answer(400, "application/json", string(body)), func(c *tokenexchange.Config) { c.ClientID, c.ClientSecret = id, secret })
				_, err = client.Exchange(t.Context(), tokenexchange.Request{SubjectToken: token})
				var refused *tokenexchange.Error
				if !errors.As(err, &refused) {
					t.Fatalf("got error %v, want a refusal", err)
				}
				if strings.Contains(err.Error(), tc.value) || member != "error" && strings.Contains(refused.Description+refused.URI, tc.value) {
					t.Errorf("%s: got %q, %+v, want it without %q", member, err, *refused, tc.value)
				}
			}
		})
	}
}

// TestErrorPrintsKnownCodesOnly: a code is the one text of the other side that Error prints.
func TestErrorPrintsKnownCodesOnly(t *testing.T) {
	for _, tc := range []struct{ code, want string }{
		{"invalid_scope", "token exchange refused: invalid_scope (status 400)"},
		{"s3cret-VERY-secret", "token exchange refused: an error code of its own (status 400)"},
		{"", "token exchange refused: no error code (status 400)"},
	} {
		if got := (&tokenexchange.Error{Code: tc.code, Status: 400}).Error(); got != tc.want {
			t.Errorf("got %q, want %q", got, tc.want)
		}
	}
}

// TestConfigAndClientDoNotPrintTheSecret, whatever the verb.
func TestConfigAndClientDoNotPrintTheSecret(t *testing.T) {
	cfg := tokenexchange.Config{Endpoint: "https://sts.example/token?key=MARKED-KEY", ClientID: "mcp-server", ClientSecret: "MARKED-SECRET"}
	client, err := tokenexchange.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	logger := slog.New(slog.NewTextHandler(&log, nil))
	logger.Info("x", "config", cfg, "client", client)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		fmt.Fprintf(&log, verb+verb+verb+verb, cfg, &cfg, client, *client)
	}
	if strings.Contains(log.String(), "MARKED") || !strings.Contains(log.String(), "mcp-server") || !strings.Contains(log.String(), "https://sts.example/token") {
		t.Errorf("got %s\nwant client id and endpoint without the secret", &log)
	}
}

// TestRejectsThousandsOfScopes on both sides of the call, before they are compared.
func TestRejectsThousandsOfScopes(t *testing.T) {
	check := func(side string, err error) {
		var refused *tokenexchange.Error
		if !errors.As(err, &refused) || refused.Code != tokenexchange.ErrorInvalidScope {
			t.Errorf("%s: got error %v, want invalid_scope", side, err)
		}
	}
	_, err := tokenexchange.ParseRequest(url.Values{
		"grant_type": {grantType}, "subject_token": {"x"}, "subject_token_type": {accessTokenType}, "scope": {manyScopes()},
	})
	check("parsing", err)
	_, err = tokenexchange.Request{SubjectToken: "x", Scope: strings.Fields(manyScopes())}.Form()
	check("sending", err)

	many := strings.Repeat("same ", 100_000) + "other"
	got, err := tokenexchange.ParseRequest(url.Values{
		"grant_type": {grantType}, "subject_token": {"x"}, "subject_token_type": {accessTokenType}, "scope": {many},
	})
	if err != nil || len(got.Scope) != 2 {
		t.Errorf("repeated scopes: got %d, error %v, want 2", len(got.Scope), err)
	}
}

// TestRejectsNameBelowLocalhost: a resolver asks the DNS for it.
func TestRejectsNameBelowLocalhost(t *testing.T) {
	cfg := tokenexchange.Config{Endpoint: "http://sts.localhost:9200/token", ClientID: "c", ClientSecret: "s"}
	if _, err := tokenexchange.New(cfg); err == nil || !strings.Contains(err.Error(), "InsecureAllowHTTP") {
		t.Errorf("got error %v, want one that names InsecureAllowHTTP", err)
	}
}
