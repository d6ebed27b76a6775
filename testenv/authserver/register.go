package authserver

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"time"
	"unicode"
	"unicode/utf8"

	"phantomtoken/internal/oauth"
)

const (
	maxRegistrationBytes = 16 << 10
	maxRedirectURIs      = 20
	maxClientName        = 100 // characters
)

// registration is the client metadata of RFC 7591 §2 that this server reads. Everything
// else in a request is ignored, as that section demands.
type registration struct {
	RedirectURIs            []string `json:"redirect_uris"`
	TokenEndpointAuthMethod string   `json:"token_endpoint_auth_method"`
	GrantTypes              []string `json:"grant_types"`
	ResponseTypes           []string `json:"response_types"`
	ClientName              string   `json:"client_name,omitempty"`
	ClientURI               string   `json:"client_uri,omitempty"`
	ApplicationType         string   `json:"application_type,omitempty"`
	Scope                   string   `json:"scope,omitempty"`
}

// registrationAnswer is the client information response of RFC 7591 §3.2.1.
type registrationAnswer struct {
	ClientID              string `json:"client_id"`
	ClientSecret          string `json:"client_secret,omitempty"`
	ClientIDIssuedAt      int64  `json:"client_id_issued_at"`
	ClientSecretExpiresAt *int64 `json:"client_secret_expires_at,omitempty"` // required beside a secret; 0 is never
	registration
}

// register is the client registration endpoint (RFC 7591 §3), open to anyone.
func (s *Server) register(w http.ResponseWriter, r *http.Request) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		writeError(w, r, badRequest(errInvalidClientMetadata, "expected content type application/json"))
		return
	}
	body, e := readBody(w, r, maxRegistrationBytes)
	if e != nil {
		e.Code = errInvalidClientMetadata
		writeError(w, r, e)
		return
	}
	claims, err := oauth.ParseClaims(body)
	if err != nil {
		writeError(w, r, badRequest(errInvalidClientMetadata, "expected a JSON object whose members occur once"))
		return
	}
	reg, e := parseRegistration(claims, s.cfg)
	if e != nil {
		s.log.Info("registration refused", "error", e.Code, "reason", e.Description)
		writeError(w, r, e)
		return
	}

	cl := reg.client("dyn-"+rand.Text(), s.cfg.scopeNames())
	answer := registrationAnswer{ClientID: cl.id, ClientIDIssuedAt: s.now().Unix(), registration: reg}
	if reg.TokenEndpointAuthMethod != authNone {
		answer.ClientSecret = newSecret()
		answer.ClientSecretExpiresAt = new(int64)
		cl.secret = sha256.Sum256([]byte(answer.ClientSecret))
	}
	if !s.store.addDynamic(cl) {
		w.Header().Set("Retry-After", "3600")
		writeError(w, r, &oauth.Error{Code: oauth.ErrorTooManyRequests, Description: "no more clients can be registered here", Status: http.StatusTooManyRequests, RetryAfter: time.Hour})
		return
	}
	out, err := json.Marshal(answer)
	if err != nil {
		s.log.Error("encoding registration", "err", err)
		writeError(w, r, &oauth.Error{Code: oauth.ErrorServerError, Status: http.StatusInternalServerError})
		return
	}
	s.log.Info("client registered", "client_id", cl.id, "client_name", cl.name)
	writeJSON(w, http.StatusCreated, out)
}

// client is the client that reg describes; the caller sets the secret.
func (reg registration) client(id string, all oauth.Scopes) *client {
	scopes, _ := oauth.ParseScopes(reg.Scope) // checked before
	if len(scopes) == 0 {
		scopes = all
	}
	name := reg.ClientName
	if name == "" {
		name = "An application without a name"
	}
	return &client{
		id:           id,
		name:         name,
		redirectURIs: reg.RedirectURIs,
		authMethod:   reg.TokenEndpointAuthMethod,
		scopes:       scopes,
		claims:       dynamicClaims(),
	}
}

// parseRegistration checks client metadata and replaces what this server does not give,
// as RFC 7591 §2 allows: refresh tokens and the scopes openid and offline_access are
// left out of the answer rather than refused, because nearly every client asks for them.
func parseRegistration(claims map[string]any, cfg Config) (registration, *oauth.Error) {
	in := metadataReader{claims: claims}
	reg := registration{
		RedirectURIs:            in.list("redirect_uris"),
		TokenEndpointAuthMethod: in.text("token_endpoint_auth_method"),
		GrantTypes:              in.list("grant_types"),
		ResponseTypes:           in.list("response_types"),
		ClientName:              in.text("client_name"),
		ClientURI:               in.text("client_uri"),
		ApplicationType:         in.text("application_type"),
		Scope:                   in.text("scope"),
	}
	for _, name := range []string{"client_uri", "logo_uri", "tos_uri", "policy_uri"} {
		in.webURL(name)
	}
	if in.err != nil {
		return registration{}, in.err
	}
	for _, check := range []func(*registration, Config) *oauth.Error{
		checkName, checkAuthMethod, checkGrants, checkScope, checkRedirectURIs,
	} {
		if e := check(&reg, cfg); e != nil {
			return registration{}, e
		}
	}
	return reg, nil
}

// checkName refuses names that would lie on the consent page: too long to read, or with
// characters that are not seen but change what is.
func checkName(reg *registration, _ Config) *oauth.Error {
	if utf8.RuneCountInString(reg.ClientName) > maxClientName {
		return badRequest(errInvalidClientMetadata, fmt.Sprintf("client_name: expected at most %d characters", maxClientName))
	}
	for _, c := range reg.ClientName {
		if c == utf8.RuneError || unicode.Is(unicode.C, c) || unicode.Is(unicode.Zl, c) || unicode.Is(unicode.Zp, c) {
			return badRequest(errInvalidClientMetadata, "client_name: expected text without control or direction characters")
		}
	}
	return nil
}

func checkAuthMethod(reg *registration, _ Config) *oauth.Error {
	switch reg.TokenEndpointAuthMethod {
	case "":
		reg.TokenEndpointAuthMethod = authBasic // RFC 7591 §2: the default
	case authNone, authBasic, authPost:
	default:
		return badRequest(errInvalidClientMetadata, "token_endpoint_auth_method: expected none, client_secret_basic or client_secret_post")
	}
	return nil
}

func checkGrants(reg *registration, _ Config) *oauth.Error {
	if len(reg.GrantTypes) == 0 {
		reg.GrantTypes = []string{grantAuthorizationCode}
	}
	if !slices.Contains(reg.GrantTypes, grantAuthorizationCode) {
		return badRequest(errInvalidClientMetadata, "grant_types: expected authorization_code")
	}
	for _, g := range reg.GrantTypes {
		switch g {
		case grantAuthorizationCode, "refresh_token", "urn:ietf:params:oauth:grant-type:device_code":
		default: // above all client_credentials: a token of anybody's, without a user
			return badRequest(errInvalidClientMetadata, "grant_types: expected authorization_code only")
		}
	}
	reg.GrantTypes = []string{grantAuthorizationCode}

	for _, t := range reg.ResponseTypes {
		if t != "code" {
			return badRequest(errInvalidClientMetadata, "response_types: expected code only")
		}
	}
	reg.ResponseTypes = []string{"code"}
	return nil
}

func checkScope(reg *registration, cfg Config) *oauth.Error {
	scopes, err := oauth.ParseScopes(reg.Scope)
	if err != nil {
		return badRequest(errInvalidClientMetadata, "scope: expected scope tokens separated by spaces")
	}
	known := cfg.scopeNames()
	if len(scopes) == 0 {
		reg.Scope = known.String()
		return nil
	}
	scopes = withoutOpenID(scopes)
	if !known.Contains(scopes) {
		return badRequest(errInvalidClientMetadata, "scope: expected some of "+known.String())
	}
	if len(scopes) == 0 {
		scopes = known
	}
	reg.Scope = scopes.String()
	return nil
}

// withoutOpenID drops the scopes for ID tokens and refresh tokens, which are not given
// here. Clients are told by the scope of the answer (RFC 6749 §3.3, RFC 7591 §3.2.1).
func withoutOpenID(scopes oauth.Scopes) oauth.Scopes {
	var out oauth.Scopes
	for _, s := range scopes {
		if s != "openid" && s != "offline_access" {
			out = append(out, s)
		}
	}
	return out
}

func checkRedirectURIs(reg *registration, cfg Config) *oauth.Error {
	if len(reg.RedirectURIs) == 0 {
		return badRequest(errInvalidRedirectURI, "redirect_uris: expected at least one")
	}
	if len(reg.RedirectURIs) > maxRedirectURIs {
		return badRequest(errInvalidRedirectURI, fmt.Sprintf("redirect_uris: expected at most %d", maxRedirectURIs))
	}
	switch reg.ApplicationType {
	case "", "native", "web":
	default:
		return badRequest(errInvalidClientMetadata, "application_type: expected native or web")
	}
	for i, uri := range reg.RedirectURIs {
		if err := checkRedirectURI(uri, cfg.RedirectSchemes); err != nil {
			return badRequest(errInvalidRedirectURI, fmt.Sprintf("redirect_uris, number %d: %s", i+1, err))
		}
		u, err := url.Parse(uri)
		if err != nil || reg.ApplicationType == "web" && u.Scheme != "https" && u.Scheme != "http" {
			return badRequest(errInvalidRedirectURI, "redirect_uris: expected https for application_type web")
		}
	}
	return nil
}

// metadataReader reads members of client metadata and remembers the first mistake.
type metadataReader struct {
	claims map[string]any
	err    *oauth.Error
}

func (m *metadataReader) fail(name, want string) {
	if m.err == nil {
		m.err = badRequest(errInvalidClientMetadata, name+": expected "+want)
	}
}

func (m *metadataReader) text(name string) string {
	switch v := m.claims[name].(type) {
	case nil:
		return ""
	case string:
		return v
	default:
		m.fail(name, "a string")
		return ""
	}
}

func (m *metadataReader) list(name string) []string {
	switch v := m.claims[name].(type) {
	case nil:
		return nil
	case []any:
		out := make([]string, 0, len(v))
		for _, e := range v {
			s, ok := e.(string)
			if !ok {
				m.fail(name, "an array of strings")
				return nil
			}
			out = append(out, s)
		}
		return out
	default:
		m.fail(name, "an array of strings")
		return nil
	}
}

func (m *metadataReader) webURL(name string) {
	s := m.text(name)
	if s == "" {
		return
	}
	if u, err := url.Parse(s); err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		m.fail(name, "an http or https URL")
	}
}
