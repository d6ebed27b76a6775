//go:build keycloak

package keycloak_test

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"testing"

	"phantomtoken/testenv/agent"
	"phantomtoken/testenv/probe"
)

// client is an OAuth client by hand: whatever a real one sends can be sent by it.
type client struct {
	w            *world
	id, secret   string
	resource     string       // empty: the MCP server
	scope        string       // empty: stocks/read
	registration probe.Answer // to its registration
}

// register registers a client with the body of a real one.
func (w *world) register(t *testing.T, body map[string]any, header ...string) *client {
	t.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	c := &client{w: w}
	c.registration = w.outside.Do(t, http.MethodPost, w.keycloak.RegistrationEndpoint(), string(data), append(header, "Content-Type", "application/json")...)
	object := c.registration.Object()
	c.id, _ = object["client_id"].(string)
	c.secret, _ = object["client_secret"].(string)
	return c
}

// mustRegister is register for a client that the realm takes.
func (w *world) mustRegister(t *testing.T, body map[string]any, header ...string) *client {
	t.Helper()
	c := w.register(t, body, header...)
	if c.registration.Status != http.StatusCreated || c.id == "" {
		t.Fatalf("registration: got status %d, %s; want 201", c.registration.Status, c.registration.Body)
	}
	return c
}

// authorizationURL is where the client sends its user. More values may replace others; an
// empty one leaves its parameter out.
func (c *client) authorizationURL(redirectURI, verifier string, more map[string]string) string {
	sum := sha256.Sum256([]byte(verifier))
	query := url.Values{
		"response_type": {"code"}, "client_id": {c.id}, "redirect_uri": {redirectURI}, "state": {"some state"},
		"scope": {cmp.Or(c.scope, "stocks/read")}, "resource": {cmp.Or(c.resource, c.w.MCPURL)},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
	}
	for name, value := range more {
		query.Set(name, value)
		if value == "" {
			query.Del(name)
		}
	}
	return c.w.keycloak.Endpoint("auth") + "?" + query.Encode()
}

// logIn has a person sign in and allow access, and returns the answer of the token endpoint.
func (c *client) logIn(t *testing.T, p *agent.Person, redirectURI string) probe.Answer {
	t.Helper()
	verifier := rand.Text() + rand.Text()
	result, err := p.Authorize(t.Context(), c.authorizationURL(redirectURI, verifier, nil), redirectURI)
	if err != nil {
		t.Fatal(err)
	}
	if result.Get("code") == "" || result.Get("state") != "some state" || result.Get("iss") != c.w.keycloak.Issuer() {
		t.Fatalf("redirect: got error %q, state %q, iss %q; want a code", result.Get("error"), result.Get("state"), result.Get("iss"))
	}
	return c.token(t, url.Values{
		"grant_type": {"authorization_code"}, "code": {result.Get("code")}, "redirect_uri": {redirectURI},
		"code_verifier": {verifier}, "resource": {cmp.Or(c.resource, c.w.MCPURL)},
	})
}

// token asks the token endpoint, with the secret in the form if the client has one.
func (c *client) token(t *testing.T, form url.Values) probe.Answer {
	t.Helper()
	form.Set("client_id", c.id)
	if c.secret != "" {
		form.Set("client_secret", c.secret)
	}
	return c.w.post(t, "token", form)
}

func (w *world) person(t *testing.T, name string) *agent.Person {
	t.Helper()
	p, err := agent.NewPerson(name, w.password)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// nativeClient is the registration of a plain public client, and its redirect.
func nativeClient() (body map[string]any, redirectURI string) {
	const redirect = "http://127.0.0.1:43210/callback"
	return map[string]any{
		"client_name": "Native application", "redirect_uris": []string{redirect},
		"grant_types": []string{"authorization_code"}, "response_types": []string{"code"}, "token_endpoint_auth_method": "none",
	}, redirect
}

// freshToken is an access token of a new client and a new session of the user.
func (w *world) freshToken(t *testing.T, user string) string {
	t.Helper()
	body, redirect := nativeClient()
	a := w.mustRegister(t, body).logIn(t, w.person(t, user), redirect)
	token, _ := a.Object()["access_token"].(string)
	if token == "" {
		t.Fatalf("token endpoint: got status %d, %s; want a token", a.Status, a.Body)
	}
	return token
}
