package policy

import (
	"net/netip"
	"net/url"
	"time"

	"phantomtoken/internal/oauth"
)

// Policy is a policy file that was read and found good by Parse. It is immutable and safe
// for concurrent use. What its methods return shares memory with it and must not be changed.
// The zero value has no caller: it refuses everything.
type Policy struct {
	version   string
	limits    Limits
	lines     limitLines
	audiences []*audience
	callers   []*caller
	byID      map[string]*caller
	resources map[string]string // of audiences → name of the audience
	tools     map[string]*tool
	toolsLine int
	egress    *Egress
}

// Limits are bounds for everything that is issued.
type Limits struct {
	// TokenLifetime (limits.token_lifetime) is the longest life of an issued token, 10 s to
	// 1 h.
	TokenLifetime time.Duration
	// Actors (limits.actors) is the longest chain of actors in an issued token, the caller
	// included, 2 to 8.
	Actors int
}

// limitLines is where the limits stand; 0 for a default.
type limitLines struct{ lifetime, actors int }

// Issue says who issues the tokens for an audience.
type Issue string

const (
	// Mint has the sidecar sign the token itself.
	Mint Issue = "mint"
	// IDP delegates to the identity provider (RFC 8693 at its token endpoint).
	IDP Issue = "idp"
)

// Audience is what can be reached: an entry of audiences.
type Audience struct {
	// Name is the key: aud of the issued tokens, byte by byte.
	Name string
	// Resources are further names that a caller may ask by (RFC 8707 §2).
	Resources []string
	// Issue is Mint or IDP.
	Issue Issue
	// TokenLifetime is the longest life of a token for it; the one of the limits where the
	// file names none.
	TokenLifetime time.Duration
	// Scopes is the most that any token for it has.
	Scopes oauth.Scopes
	// Claims maps claims of the issued token to claims of the subject token.
	Claims map[string]string
	// Line is where the entry begins.
	Line int
}

// Caller is who may exchange tokens: an entry of callers.
type Caller struct {
	// ID is the key: client_id.
	ID string
	// SubjectAudience is the aud of the tokens that this caller may exchange: those that
	// were meant for it. Otherwise a service could turn any token it sees into another.
	SubjectAudience string
	// Authentication is how the caller proves who it is. It has no method for a caller that
	// only uses egress.
	Authentication Authentication
	// AllowWithoutUser accepts tokens of clients that act for themselves.
	AllowWithoutUser bool
	// AcceptExchanged accepts tokens that this service issued, beside the gateway's.
	AcceptExchanged bool
	// Actors are the sub of the actor tokens that the caller may show.
	Actors []string
	// Line is where the entry begins.
	Line int
}

// Authentication holds the methods by which a caller may authenticate; any one of them is
// enough. The zero value has none.
type Authentication struct {
	// SecretFiles and SecretVariables are files and environment variables with a client
	// secret each.
	SecretFiles, SecretVariables []string
	// PrivateKeyJWT is where the public keys of the caller are (RFC 7523); nil for none.
	PrivateKeyJWT *KeySet
	// MTLS is the name in the caller's certificate; nil for none.
	MTLS *Certificate
	// Kubernetes is the service account of the caller; nil for none.
	Kubernetes *ServiceAccount
}

// IsZero reports whether there is no method.
func (a *Authentication) IsZero() bool {
	return len(a.SecretFiles) == 0 && len(a.SecretVariables) == 0 && a.PrivateKeyJWT == nil && a.MTLS == nil && a.Kubernetes == nil
}

// KeySet is where a JSON Web Key Set is. One of its fields is set.
type KeySet struct {
	JWKSFile string
	JWKSURI  string // absolute http or https URL; whether http will do is for oauth.CheckTransport
}

// Certificate names the subject of a client certificate. One of its fields is set.
type Certificate struct {
	SPIFFEID string // URI in the subject alternative names
	DNSName  string // DNS name there, in lower case
}

// ServiceAccount is a service account of a Kubernetes cluster.
type ServiceAccount struct{ Namespace, Name string }

// Egress is the configuration of the egress proxy.
type Egress struct {
	// Caller is who the application behind the proxy is.
	Caller string
	// Routes are in file order. No two have the same Host and Path.
	Routes []Route
}

// Route says what becomes of a request to the egress proxy. Of the routes that fit a request
// one with a Host goes before one without, then the longest Path.
type Route struct {
	// Host is the host of the request in lower case, without port; an IPv6 address in
	// brackets. Empty for any.
	Host string
	// Path is a prefix of the path that ends at a segment boundary. It begins with a slash
	// and does not end with one. Empty for any.
	Path string
	// StripPath takes Path off before the rest is put behind the path of Upstream.
	StripPath bool
	// Upstream is an absolute http or https URL without user information, query, fragment
	// and slash at the end. Whether http will do is for oauth.CheckTransport. It must not be
	// changed.
	Upstream *url.URL
	// Audience is one of the audiences of the caller.
	Audience string
	// Scopes are asked for; empty for whatever the caller may have.
	Scopes oauth.Scopes
	// CAFile has the only authorities that are trusted for this upstream. Empty for those of
	// the system.
	CAFile string
	// Addresses are ranges that would be refused otherwise.
	Addresses []netip.Prefix
	// Timeout is how long the first byte of the answer may take.
	Timeout time.Duration
	// Line is where the entry begins.
	Line int
}

// Version identifies the bytes of the file: the first 16 hex digits of their SHA-256.
func (p *Policy) Version() string { return p.version }

// Limits returns the limits of the file.
func (p *Policy) Limits() Limits { return p.limits }

// Audiences returns what can be reached, in file order.
func (p *Policy) Audiences() []Audience {
	out := make([]Audience, len(p.audiences))
	for i, a := range p.audiences {
		out[i] = a.Audience
	}
	return out
}

// Callers returns who may exchange tokens, in file order.
func (p *Policy) Callers() []Caller {
	out := make([]Caller, len(p.callers))
	for i, c := range p.callers {
		out[i] = c.Caller
	}
	return out
}

// Caller returns the caller of that client_id. It is false when there is none.
func (p *Policy) Caller(id string) (Caller, bool) {
	c, ok := p.byID[id]
	if !ok {
		return Caller{}, false
	}
	return c.Caller, true
}

// Egress returns the configuration of the egress proxy. It is false when the file has none.
func (p *Policy) Egress() (Egress, bool) {
	if p.egress == nil {
		return Egress{}, false
	}
	return *p.egress, true
}

// audience is an Audience made ready for questions.
type audience struct {
	Audience
	path         string
	broken       bool           // has a problem, so nothing is compared with it
	lines        map[string]int // scope → line
	lifetimeLine int            // 0 for a default
	issueLine    int            // 0 for a default
	claimLines   map[string]int // by name in the issued token
}

// caller is a Caller made ready for questions.
type caller struct {
	Caller
	path          string
	audiencesLine int
	names         []string           // of its targets, in file order
	targets       map[string]*target // by name of the audience
	resources     map[string]string  // of all audiences → name of the audience
}

// target is an audience as one caller may use it.
type target struct {
	*audience
	path       string
	broken     bool // has a problem, so nothing is compared with it
	line       int
	scopesLine int
	scopes     oauth.Scopes
	lines      map[string]int // scope → line
	rules      []rule
	reach      map[string]bool // scopes and what rules grant

	// What a grant for this target alone has, made once.
	alone      []string
	aloneLines []int
}

// rule is the only way to a scope that the subject token lacks.
type rule struct {
	name        string
	when, grant oauth.Scopes
	line        int
}

// tool is what a call made for a tool may do.
type tool struct {
	path          string
	line          int
	requires      oauth.Scopes
	requiresLine  int
	audiencesLine int
	names         []string
	targets       map[string]toolTarget // by name of the audience
}

type toolTarget struct {
	path   string
	line   int
	scopes oauth.Scopes
	lines  map[string]int // scope → line
}
