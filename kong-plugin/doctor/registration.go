package doctor

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// redirectURI is where the registered client would listen: loopback, as native clients do
// (RFC 8252 §7.3).
const redirectURI = "http://127.0.0.1:33418/callback"

// clientMetadata is what a public MCP client sends to register (RFC 7591 §2).
const clientMetadata = `{"client_name":"` + userAgent + `","redirect_uris":["` + redirectURI +
	`"],"grant_types":["authorization_code"],"response_types":["code"],"token_endpoint_auth_method":"none"}`

// registration looks at the registration endpoint, and uses it when asked to.
func (v *visit) registration(ctx context.Context, s *Step) {
	var as *server
	for _, candidate := range v.servers {
		if text(candidate.document, "registration_endpoint") != "" {
			as = candidate
			break
		}
	}
	if as == nil {
		s.skip("no authorization server has a registration endpoint")
		return
	}
	endpoint := text(as.document, "registration_endpoint")
	s.Seen = endpoint
	if err := v.checkLocation(endpoint); err != nil {
		s.fault("AS-02", "registration_endpoint "+endpoint, "an https URL that other computers reach", "correct the public URL of the authorization server")
		return
	}
	if !v.cfg.Register {
		if a := v.ask(ctx, v.others, http.MethodGet, endpoint, "", "Accept", "application/json"); a.err != nil || a.status == http.StatusNotFound || a.status >= 500 {
			s.fault("MCP-45", "GET "+endpoint+": "+a.String(), "an endpoint that exists (405, for example)", "make it reachable for clients")
			return
		}
		v.preflight(ctx, s, v.others, endpoint, http.MethodPost, []string{"content-type"})
		s.note("nothing was registered; -register tries it")
		return
	}
	a := v.ask(ctx, v.others, http.MethodPost, endpoint, clientMetadata, "Content-Type", "application/json", "Accept", "application/json")
	client := a.object()
	switch {
	case a.err == nil && (a.status == http.StatusUnauthorized || a.status == http.StatusForbidden):
		s.fault("MCP-45", "POST "+endpoint+": "+a.String()+" "+a.errorOf(), "201: MCP clients have nothing to show here", "allow anonymous registration (Keycloak: policies of anonymous access, trusted hosts)")
		return
	case a.err != nil || a.status != http.StatusCreated && a.status != http.StatusOK || text(client, "client_id") == "":
		s.fault("MCP-45", "POST "+endpoint+": "+a.String()+" "+a.errorOf(), "201 with a client_id", "see the log of the authorization server")
		return
	}
	s.Seen = "registered " + text(client, "client_id")
	if method := text(client, "token_endpoint_auth_method"); method != "" && method != "none" {
		s.note("asked for a public client, got one with %s", method)
	}
	v.unregister(ctx, s, client, endpoint)
}

// unregister removes the client again (RFC 7592 §2.3). The access token for that goes to
// the host that gave it, and to nobody else.
func (v *visit) unregister(ctx context.Context, s *Step, client map[string]any, endpoint string) {
	place, token := text(client, "registration_client_uri"), text(client, "registration_access_token")
	if place == "" || token == "" {
		s.note("the server offers no way to remove a client (RFC 7592): remove %s by hand", text(client, "client_id"))
		return
	}
	at, err := url.Parse(place)
	of, err2 := url.Parse(endpoint)
	if err != nil || err2 != nil || at.Scheme != of.Scheme || !strings.EqualFold(at.Host, of.Host) {
		s.note("registration_client_uri is on another host: remove %s by hand", text(client, "client_id"))
		return
	}
	a := v.ask(ctx, v.others, http.MethodDelete, place, "", "Authorization", "Bearer "+token)
	if a.err != nil || a.status != http.StatusNoContent && a.status != http.StatusOK {
		s.note("removing it failed (%s): remove %s by hand", strings.ReplaceAll(a.String(), token, "[token]"), text(client, "client_id"))
		return
	}
	s.Seen += fmt.Sprintf(" and removed it (%d)", a.status)
}
