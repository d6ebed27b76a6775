package sts_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"phantomtoken/internal/keyring"
)

// FuzzTokenEndpoint: whatever is sent, the answer is JSON of RFC 6749, never a fault of ours,
// never storable; a token comes out only for a request that authenticated the MCP server
// and names one of its targets, and it verifies for exactly that. SUBJECT in the body stands
// for a good phantom token, SECRET for the secret.
func FuzzTokenEndpoint(f *testing.F) {
	w := newWorld(f, nil)
	const formType = "application/x-www-form-urlencoded"
	good := httptest.NewRequest(http.MethodPost, "/token", nil)
	setBasic(good, mcpServer, mcpSecret)
	basic := good.Header.Get("Authorization")
	base := "grant_type=" + grantType + "&subject_token=SUBJECT&subject_token_type=" + accessTokenType

	f.Add(basic, formType, base+"&audience="+apiAudience+"&scope=stocks/read")
	f.Add(basic, formType, base+"&resource="+ordersURI+"&audience="+apiAudience)
	f.Add(basic, formType, base+"&audience=reports&requested_token_type="+jwtType)
	f.Add("", formType+"; charset=utf-8", base+"&audience="+apiAudience+"&client_id=mcp-server&client_secret=SECRET")
	f.Add(basic, formType, base+"&audience="+apiAudience+"&audience=x&scope=a+b&scope=")
	f.Add("Basic Og==", formType, "grant_type=password")
	f.Add("Bearer x", "application/json", `{"grant_type":1}`)
	f.Add(basic, formType, "%zz=%00;&&=")

	f.Fuzz(func(t *testing.T, authorization, contentType, body string) {
		w.t = t
		body = strings.NewReplacer("SUBJECT", w.mint(nil), "SECRET", url.QueryEscape(mcpSecret)).Replace(body)
		r := httptest.NewRequest(http.MethodPost, "/token", strings.NewReader(body))
		r.Header["Content-Type"] = []string{contentType}
		if authorization != "" {
			r.Header["Authorization"] = []string{authorization}
		}
		rec := httptest.NewRecorder()
		w.service.ServeHTTP(rec, r)

		var answer struct {
			Token string `json:"access_token"`
			Error string `json:"error"`
		}
		if err := json.Unmarshal(rec.Body.Bytes(), &answer); err != nil {
			t.Fatalf("status %d with a body that is no JSON: %q", rec.Code, rec.Body)
		}
		if rec.Header().Get("Cache-Control") != "no-store" || rec.Header().Get("Content-Type") != "application/json" {
			t.Errorf("header %v", rec.Header())
		}
		switch rec.Code {
		case 400, 413:
		case 401:
			if answer.Error != "invalid_client" || rec.Header().Get("WWW-Authenticate") == "" {
				t.Errorf("401 with %s, header %v", rec.Body, rec.Header())
			}
		case 200:
			form, err := url.ParseQuery(body)
			if err != nil {
				t.Fatal(err)
			}
			if form.Get("client_secret") != mcpSecret && !strings.Contains(decoded(authorization), mcpSecret) {
				t.Errorf("a token for credentials %q", authorization)
			}
			verifier, err := keyring.NewVerifier(keyring.VerifierConfig{Issuer: w.url, Audiences: []string{apiAudience, ordersURI, "reports"}, Keys: w.own, Now: w.now})
			if err != nil {
				t.Fatal(err)
			}
			verified, err := verifier.Verify(t.Context(), answer.Token)
			if err != nil {
				t.Fatalf("verifying what was issued: %v", err)
			}
			in := verified.Introspection
			if in.Subject != w.subject().Subject || in.Expiry.After(w.subject().Expiry) || !w.subject().Scope.Contains(in.Scope) {
				t.Errorf("issued more than the subject has: %v", in.Claims)
			}
			return
		default:
			t.Errorf("status %d %s", rec.Code, rec.Body)
		}
		if answer.Error == "" || answer.Token != "" {
			t.Errorf("status %d with %s", rec.Code, rec.Body)
		}
	})
}

// decoded is what an Authorization field of the scheme Basic says, in whatever spelling.
func decoded(authorization string) string {
	_, encoded, _ := strings.Cut(authorization, " ")
	data, err := base64.StdEncoding.DecodeString(strings.TrimSpace(encoded))
	if err != nil {
		return ""
	}
	text, err := url.QueryUnescape(string(data))
	if err != nil {
		return ""
	}
	return text
}
