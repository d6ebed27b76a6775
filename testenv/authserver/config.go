package authserver

import (
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"phantomtoken/internal/oauth"
)

// Config describes a server. The zero value is a server on a free loopback port that
// knows no user, no scope and no resource.
type Config struct {
	// Issuer is the public URL: https, or http on a loopback host, without query or
	// fragment. Empty: the listener's own URL. A bare path ("/realms/demo") is put behind
	// the listener's URL.
	Issuer string
	// Listen is the TCP address; empty means "127.0.0.1:0". The server speaks plain http;
	// an https issuer needs a proxy in front.
	Listen string
	// Users may sign in. Names must be unique.
	Users []User
	// Clients are known beforehand; they alone may introspect.
	Clients []Client
	// Resources are the protected resources that tokens may be asked for (RFC 8707).
	Resources []string
	// DefaultResource is the audience of tokens asked for without resource; it must be one
	// of Resources. Empty: such tokens have no aud.
	DefaultResource string
	// Scopes are all scopes there are, in the order of the consent page.
	Scopes []Scope
	// TokenLifetime is the life of access tokens; 0 means 15 minutes.
	TokenLifetime time.Duration
	// ClientMetadataHosts are hosts ("host" or "host:port") from which client metadata
	// documents may be fetched over plain http, and from loopback or private addresses.
	// All other documents must be https at public addresses.
	ClientMetadataHosts []string
	// ClientMetadataCAs verifies the hosts of client metadata documents; nil means the
	// system's.
	ClientMetadataCAs *x509.CertPool
	// RedirectSchemes are private-use URI schemes without a period ("cursor") accepted in
	// redirect URIs. Schemes with a period need no mention (RFC 8252 §7.1).
	RedirectSchemes []string
	// MaxRegistrations bounds dynamically registered clients; 0 means 10,000. One more is
	// answered with 429.
	MaxRegistrations int
	// JWTIntrospection adds a JWT form to introspection.
	JWTIntrospection JWTForm
	// ControlListen is the loopback address of the control port; empty: no control port.
	ControlListen string
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Logger takes one line for every event; nil discards them.
	Logger *slog.Logger
}

// User is somebody who can sign in.
type User struct {
	Name     string // sub and username
	Password string
	Region   string         // claim region; left out when empty
	Claims   map[string]any // more claims; must not name those the server sets itself
}

// Client is a client known beforehand.
type Client struct {
	ID     string
	Secret string // empty: a public client
	Name   string // for the pages; empty: the ID
	// AuthMethod is client_secret_basic, client_secret_post or none. Empty: either of the
	// first two for a client with a secret, none for one without.
	AuthMethod string
	// RedirectURIs allow the authorization code grant; the rules of registration hold.
	RedirectURIs []string
	// ClientCredentials allows the client credentials grant: tokens without a user.
	ClientCredentials bool
	// TokenExchange allows the exchange of tokens that name the client in their audience,
	// or were issued to it (RFC 8693).
	TokenExchange bool
	// Scopes the client may ask for; nil means all.
	Scopes []string
	// Claims are put on the client's tokens, for example client_assurance_level.
	Claims map[string]any
}

// Scope is one scope and what it allows.
type Scope struct {
	Name        string
	Description string // in words, for the consent page: "Read stock prices of your region"
	// Audiences are whom a token with this scope may be exchanged for.
	Audiences []string
}

// JWTForm says how introspection answers a request for application/jwt.
type JWTForm string

const (
	// JWTOff answers JSON, whatever the Accept header. The zero value.
	JWTOff JWTForm = ""
	// JWTCurity answers with the JWT as the body, media type application/jwt, and 204
	// without body for an inactive token.
	JWTCurity JWTForm = "Curity"
	// JWTKeycloak answers JSON with the JWT in the member jwt, and only if Accept is
	// exactly application/jwt.
	JWTKeycloak JWTForm = "Keycloak"
)

// Client authentication methods of RFC 7591 §2.
const (
	authNone  = "none"
	authBasic = "client_secret_basic"
	authPost  = "client_secret_post"
)

func (c Config) listen() string {
	if c.Listen == "" {
		return "127.0.0.1:0"
	}
	return c.Listen
}

func (c Config) tokenLifetime() time.Duration {
	if c.TokenLifetime == 0 {
		return 15 * time.Minute
	}
	return c.TokenLifetime
}

func (c Config) maxRegistrations() int {
	if c.MaxRegistrations == 0 {
		return 10_000
	}
	return c.MaxRegistrations
}

func (c Config) now() func() time.Time {
	if c.Now == nil {
		return time.Now
	}
	return c.Now
}

func (c Config) logger() *slog.Logger {
	if c.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return c.Logger
}

func (c Config) scopeNames() oauth.Scopes {
	names := make(oauth.Scopes, len(c.Scopes))
	for i, s := range c.Scopes {
		names[i] = s.Name
	}
	return names
}

// issuerFor is the issuer of a server that listens on addr, and the issuer's path
// without trailing slash.
func (c Config) issuerFor(addr net.Addr) (issuer, path string, err error) {
	issuer = c.Issuer
	if issuer == "" || strings.HasPrefix(issuer, "/") {
		tcp, ok := addr.(*net.TCPAddr)
		if !ok || tcp.IP.IsUnspecified() {
			return "", "", fmt.Errorf("issuer: expected a URL, got %q: a server that listens on all interfaces has no URL of its own", issuer)
		}
		issuer = "http://" + addr.String() + issuer
	}
	u, err := url.Parse(issuer)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || strings.ContainsAny(issuer, "?#"):
		return "", "", fmt.Errorf("issuer: expected a URL without query, fragment and user information (RFC 8414 §2), got %q", issuer)
	case u.Scheme != "https" && (u.Scheme != "http" || !oauth.IsLoopbackHost(u.Hostname())):
		return "", "", fmt.Errorf("issuer: expected https, or http on a loopback host, got %q", issuer)
	}
	return issuer, strings.TrimSuffix(u.Path, "/"), nil
}

// check reports everything that is wrong with c, except its addresses.
func (c Config) check() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	if c.TokenLifetime < 0 {
		fail("token lifetime: expected a positive duration, got %s", c.TokenLifetime)
	}
	if c.MaxRegistrations < 0 {
		fail("max registrations: expected a positive number, got %d", c.MaxRegistrations)
	}
	if !slices.Contains([]JWTForm{JWTOff, JWTCurity, JWTKeycloak}, c.JWTIntrospection) {
		fail("jwt introspection: expected %q, %q or nothing, got %q", JWTCurity, JWTKeycloak, c.JWTIntrospection)
	}
	for _, s := range c.Scopes {
		if parsed, err := oauth.ParseScopes(s.Name); err != nil || len(parsed) != 1 || parsed[0] != s.Name {
			fail("scopes: expected one scope token, got %q", s.Name)
		}
	}
	for _, r := range c.Resources {
		if _, err := oauth.ParseResource(r); err != nil {
			fail("resources: %w", err)
		}
	}
	if c.DefaultResource != "" && !slices.Contains(c.Resources, c.DefaultResource) {
		fail("default resource: expected one of the resources, got %q", c.DefaultResource)
	}
	names := map[string]bool{}
	for _, u := range c.Users {
		if u.Name == "" || u.Password == "" || names[u.Name] {
			fail("users: expected unique names and passwords that are not empty, got user %q", u.Name)
		}
		names[u.Name] = true
		if name := reservedClaim(u.Claims); name != "" {
			fail("users: claim %q of user %q is set by the server itself", name, u.Name)
		}
	}
	for _, name := range c.RedirectSchemes {
		if !redirectScheme(name) || name == "http" || name == "https" {
			fail("redirect schemes: expected a private-use URI scheme such as cursor, got %q", name)
		}
	}
	ids := map[string]bool{}
	for _, cl := range c.Clients {
		if ids[cl.ID] {
			fail("clients: expected unique ids, got %q twice", cl.ID)
		}
		ids[cl.ID] = true
		if err := cl.check(c); err != nil {
			fail("clients: client %q: %w", cl.ID, err)
		}
	}
	return errors.Join(errs...)
}

func (cl Client) check(c Config) error {
	switch {
	case cl.ID == "":
		return errors.New("expected an id, got none")
	case !slices.Contains([]string{"", authNone, authBasic, authPost}, cl.AuthMethod):
		return fmt.Errorf("auth method: expected %s, %s or %s, got %q", authBasic, authPost, authNone, cl.AuthMethod)
	case cl.Secret == "" && (cl.AuthMethod == authBasic || cl.AuthMethod == authPost):
		return fmt.Errorf("expected a secret for auth method %s, got none", cl.AuthMethod)
	case cl.Secret != "" && cl.AuthMethod == authNone:
		return errors.New("expected no secret for auth method none, got one")
	case cl.TokenExchange && cl.Secret == "":
		return errors.New("expected a secret for token exchange, got none")
	case cl.ClientCredentials && cl.Secret == "":
		return errors.New("expected a secret for the client credentials grant, got none")
	case !c.scopeNames().Contains(cl.Scopes):
		return fmt.Errorf("scopes: expected some of %q, got %q", c.scopeNames(), cl.Scopes)
	}
	if name := reservedClaim(cl.Claims); name != "" {
		return fmt.Errorf("claim %q is set by the server itself", name)
	}
	for _, uri := range cl.RedirectURIs {
		if err := checkRedirectURI(uri, c.RedirectSchemes); err != nil {
			return fmt.Errorf("redirect uri %q: %w", uri, err)
		}
	}
	return nil
}

// reservedClaim returns a name in claims that the server sets itself, or "".
func reservedClaim(claims map[string]any) string {
	for _, name := range []string{"active", "scope", "client_id", "username", "token_type", "exp", "iat", "nbf", "sub", "aud", "iss", "jti", "auth_time", "sid", "jwt"} {
		if _, ok := claims[name]; ok {
			return name
		}
	}
	return ""
}
