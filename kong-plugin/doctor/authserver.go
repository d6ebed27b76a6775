package doctor

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"phantomtoken/internal/oauth"
)

// server is an authorization server that could be read.
type server struct {
	issuer   string
	document map[string]any
}

// authorizationServers reads the metadata of each server that the resource names, in the
// order in which clients look for it.
func (v *visit) authorizationServers(ctx context.Context, s *Step) {
	issuers := texts(v.document, "authorization_servers")
	if len(issuers) == 0 {
		s.skip("no metadata names one")
		return
	}
	asked := 0
	for _, issuer := range issuers {
		if v.checkLocation(issuer) != nil {
			continue // told with the metadata; nobody is sent there by us
		}
		asked++
		if found := v.discover(ctx, s, issuer); found != nil {
			v.servers = append(v.servers, found)
			v.judgeServer(s, found)
		}
	}
	if asked == 0 {
		s.skip("the metadata names none that may be asked")
		return
	}
	s.Seen = strings.Join(issuers, " ")
}

// discover tries the places of MCP authorization server discovery: RFC 8414 §3.1, its
// OpenID form, OpenID Connect Discovery §4.
func (v *visit) discover(ctx context.Context, s *Step, issuer string) *server {
	id, err := oauth.ParseResource(issuer)
	if err != nil {
		return nil // told with the metadata
	}
	origin := strings.TrimSuffix(strings.TrimSuffix(issuer, "/"), id.Path())
	places := []string{
		origin + oauth.WellKnownAuthorizationServer + id.Path(),
		origin + oauth.WellKnownOpenIDConfiguration + id.Path(),
	}
	if id.Path() != "" {
		places = append(places, origin+id.Path()+oauth.WellKnownOpenIDConfiguration)
	}
	var tried []string
	for _, place := range places {
		a := v.get(ctx, place)
		document := a.object()
		if a.err != nil || a.status != http.StatusOK || document == nil {
			tried = append(tried, "GET "+place+": "+a.String())
			continue
		}
		if named := text(document, "issuer"); named != issuer {
			s.fault("MCP-07", fmt.Sprintf("%s says issuer %q", place, named), fmt.Sprintf("%q, byte for byte what authorization_servers says: clients reject anything else", issuer),
				"set authorization_servers to the issuer in its own metadata, or correct the public URL of the authorization server")
		}
		if len(tried) > 0 {
			s.note("found at the place number %d only: some clients try fewer (%s)", len(tried)+1, strings.Join(tried, "; "))
		}
		v.allowed(s, "metadata of "+issuer, a, "CO-10")
		return &server{issuer, document}
	}
	s.fault("AS-01", strings.Join(tried, "; "), "the authorization server's metadata at one of these places",
		"make it reachable for clients under the very host of the issuer, or correct authorization_servers")
	return nil
}

// judgeServer looks for what MCP clients need of an authorization server.
func (v *visit) judgeServer(s *Step, as *server) {
	whose := " of " + as.issuer
	for _, name := range []string{"authorization_endpoint", "token_endpoint"} {
		endpoint := text(as.document, name)
		if err := v.checkLocation(endpoint); err != nil {
			s.fault("AS-02", fmt.Sprintf("%s%s is %q", name, whose, endpoint), "an https URL that other computers reach", "correct the public URL of the authorization server")
		}
	}
	if methods := texts(as.document, "code_challenge_methods_supported"); !slices.Contains(methods, "S256") {
		s.fault("MCP-46", fmt.Sprintf("code_challenge_methods_supported%s is %q", whose, methods), "S256 among them: clients refuse to log in without PKCE", "switch PKCE with S256 on at the authorization server")
	}
	cimd, _ := as.document["client_id_metadata_document_supported"].(bool)
	if text(as.document, "registration_endpoint") == "" && !cimd {
		s.fault("MCP-45", "neither registration_endpoint nor client_id_metadata_document_supported"+whose, "one of them: a client that nobody entered cannot get an id",
			"switch on dynamic registration or client id metadata documents; without them every client has to be entered by hand")
	}
	if methods := texts(as.document, "token_endpoint_auth_methods_supported"); len(methods) > 0 && !slices.Contains(methods, "none") {
		s.note("token_endpoint_auth_methods_supported%s lacks none: most MCP clients are public", whose)
	}
	if supported, _ := as.document["authorization_response_iss_parameter_supported"].(bool); !supported {
		s.note("authorization_response_iss_parameter_supported%s is not true (RFC 9207)", whose)
	}
}
