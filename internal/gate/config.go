package gate

import (
	"context"
	"log/slog"
	"time"

	"phantomtoken/internal/introspection"
	"phantomtoken/internal/keyring"
	"phantomtoken/internal/oauth"
	"phantomtoken/internal/tokencache"
)

// Introspector answers what an access token is worth (RFC 7662). An inactive token is an
// answer, not an error; every error means that nothing is known.
type Introspector interface {
	Introspect(ctx context.Context, token string) (*introspection.Result, error)
}

// AudienceCheck says when a token must name the resource.
type AudienceCheck int

const (
	// AudienceRequired refuses a token whose answer has no audience. The zero value.
	AudienceRequired AudienceCheck = iota
	// AudienceWhenPresent lets an answer without audience through.
	AudienceWhenPresent
	// AudienceOff checks nothing: every active token of the provider opens the route.
	AudienceOff
)

// RequiredClaim is a claim without which a token is refused with 401 invalid_token.
type RequiredClaim struct {
	Claim  string   // path into the answer, members joined by dots
	Values []string // accepted values, as text; empty accepts any value but null, false, "", [] and {}
	Reason string   // error_description; must pass oauth.CheckDescription
}

// TokenPolicy is what an introspected token must satisfy.
type TokenPolicy struct {
	Issuer             string        // iss, compared byte by byte when the answer has one; empty compares nothing
	Audiences          []string      // accepted beside the resource itself
	AudienceCheck      AudienceCheck // see the constants
	Scopes             oauth.Scopes  // all of them are required
	RequiredClaims     []RequiredClaim
	AllowWithoutUser   bool     // accept client-credentials tokens of every client
	ClientsWithoutUser []string // or of these client ids
	Leeway             time.Duration
	MaxLength          int // bytes of an access token
}

// CORS is what browsers are told. The zero value says nothing.
type CORS struct {
	Enabled bool
	Origins []string // exact origins; empty means any
	MaxAge  time.Duration
}

// Config is everything that shapes the decisions of one plugin instance. It is
// immutable once given to New.
type Config struct {
	// Resource is the protected resource; zero derives it from the hosts of the route.
	Resource oauth.Resource
	// Metadata is published as the protected resource metadata; its Resource is filled in.
	Metadata       oauth.ProtectedResourceMetadata
	MetadataMaxAge time.Duration
	// MetadataAtRoot serves the document at the root well-known path too.
	MetadataAtRoot bool
	// Realm goes into challenges that have no metadata to point to.
	Realm string

	Token TokenPolicy
	// Phantom is the way to the token that goes upstream: Mint, Relay or Exchange.
	Phantom Phantom
	// Identity is what the gateway's own plugins are told of the caller.
	Identity Identity
	// Issuers are the issuers whose metadata and keys are served on these routes.
	Issuers []*keyring.Issuer
	CORS    CORS

	Introspector Introspector
	// IntrospectionID tells the answers of one introspection configuration from another's:
	// they are never shared in the cache (RFC 7662 §5).
	IntrospectionID [32]byte
	Cache           *tokencache.Cache
	CacheTTL        time.Duration // zero caches nothing
	NegativeTTL     time.Duration // life of inactive answers in the cache

	// Failures limits inactive answers per client address; nil limits nothing.
	Failures *tokencache.Limiter

	// ClearHeaders are further request headers that never reach the upstream, beside the
	// built-in list.
	ClearHeaders []string

	// Timeout bounds the wait for the provider; it must be positive.
	Timeout time.Duration
	Now     func() time.Time // nil: time.Now
	Logger  *slog.Logger     // nil: discard
}
