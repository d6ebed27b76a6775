package main

import (
	"encoding/json"
	"errors"
	"fmt"
)

// Config is what an operator writes under config: in kong.yml. The names are those of the
// Kong schema in schema.go, which says what each field is for; a test keeps the two in
// step. Times are whole seconds.
type Config struct {
	// The keys of the Lua plugin of this name, with the same meaning.
	IntrospectionEndpoint string   `json:"introspection_endpoint"`
	ClientID              string   `json:"client_id"`
	ClientSecret          string   `json:"client_secret"`
	TokenCacheSeconds     int      `json:"token_cache_seconds"`
	Scope                 string   `json:"scope"`
	TrustedWebOrigins     []string `json:"trusted_web_origins"`
	VerifySSL             bool     `json:"verify_ssl"`

	Resource             string              `json:"resource"`
	AuthorizationServers []string            `json:"authorization_servers"`
	Metadata             MetadataConfig      `json:"metadata"`
	Realm                string              `json:"realm"`
	Introspection        IntrospectionConfig `json:"introspection"`
	Token                TokenConfig         `json:"token"`
	PhantomToken         PhantomTokenConfig  `json:"phantom_token"`
	Identity             IdentityConfig      `json:"identity"`
	Cache                CacheConfig         `json:"cache"`
	CORS                 CORSConfig          `json:"cors"`
	InsecureHTTPHosts    []string            `json:"insecure_http_hosts"`
}

// MetadataConfig is what the protected resource metadata says beside resource and
// authorization_servers (RFC 9728 §2).
type MetadataConfig struct {
	ResourceName          string   `json:"resource_name"`
	ResourceDocumentation string   `json:"resource_documentation"`
	ResourcePolicyURI     string   `json:"resource_policy_uri"`
	ResourceTOSURI        string   `json:"resource_tos_uri"`
	ScopesSupported       []string `json:"scopes_supported"`
	MaxAgeSeconds         int      `json:"max_age_seconds"`
	AtRoot                bool     `json:"at_root"`
}

// IntrospectionConfig says how the provider is asked.
type IntrospectionConfig struct {
	AuthMethod        string  `json:"auth_method"`
	TokenTypeHint     bool    `json:"token_type_hint"`
	TimeoutSeconds    int     `json:"timeout_seconds"`
	CAFile            string  `json:"ca_file"`
	CACertificates    *string `json:"ca_certificates"` // present and empty: an unresolved reference
	MaxResponseBytes  int     `json:"max_response_bytes"`
	FailuresPerMinute int     `json:"failures_per_minute"`
}

// TokenConfig is what an access token must satisfy.
type TokenConfig struct {
	Issuer             string                `json:"issuer"`
	InternalURL        string                `json:"internal_url"`
	JWKSURI            string                `json:"jwks_uri"`
	Audience           []string              `json:"audience"`
	AudienceCheck      string                `json:"audience_check"`
	AllowWithoutUser   bool                  `json:"allow_without_user"`
	ClientsWithoutUser []string              `json:"clients_without_user"`
	RequiredClaims     []RequiredClaimConfig `json:"required_claims"`
	LeewaySeconds      int                   `json:"leeway_seconds"`
	MaxLength          int                   `json:"max_length"`
}

// RequiredClaimConfig is a claim without which an access token is refused.
type RequiredClaimConfig struct {
	Claim  string   `json:"claim"`
	Values []string `json:"values"`
	Reason string   `json:"reason"`
}

// PhantomTokenConfig is the token that goes upstream.
type PhantomTokenConfig struct {
	Mode              string            `json:"mode"`
	Issuer            string            `json:"issuer"`
	Audience          string            `json:"audience"`
	LifetimeSeconds   int               `json:"lifetime_seconds"`
	SigningKey        string            `json:"signing_key"`
	SigningKeyFile    string            `json:"signing_key_file"`
	PublishedKeyFiles []string          `json:"published_key_files"`
	Algorithm         string            `json:"algorithm"`
	Claims            map[string]string `json:"claims"`
	SubjectClaim      string            `json:"subject_claim"`
	TokenEndpoint     string            `json:"token_endpoint"`
	ExchangeScope     string            `json:"exchange_scope"`
	ClearHeaders      []string          `json:"clear_headers"`
}

// IdentityConfig is what Kong's own plugins are told of the caller.
type IdentityConfig struct {
	ConsumerClaim    string `json:"consumer_claim"`
	ConsumerTag      string `json:"consumer_tag"`
	ConsumerOptional bool   `json:"consumer_optional"`
	CredentialClaim  string `json:"credential_claim"`
	GroupsClaim      string `json:"groups_claim"`
}

// CacheConfig bounds what is remembered of the provider's answers.
type CacheConfig struct {
	MaxEntries      int `json:"max_entries"`
	MaxBytes        int `json:"max_bytes"`
	NegativeSeconds int `json:"negative_seconds"`
}

// CORSConfig is what browsers are told.
type CORSConfig struct {
	Enabled       bool `json:"enabled"`
	MaxAgeSeconds int  `json:"max_age_seconds"`
}

// Values of enumerated fields.
const (
	audienceRequired    = "required"
	audienceWhenPresent = "when_present"
	audienceOff         = "off"

	modeMint          = "mint"
	modeIntrospection = "introspection"
	modeExchange      = "exchange"
)

// defaultConfig holds the defaults of the schema. Kong fills them in as well; here they
// serve whoever runs the plugin without a schema.
func defaultConfig() Config {
	return Config{
		TokenCacheSeconds:    300,
		TrustedWebOrigins:    []string{},
		VerifySSL:            true,
		AuthorizationServers: []string{},
		Metadata: MetadataConfig{
			ScopesSupported: []string{},
			MaxAgeSeconds:   300,
			AtRoot:          true,
		},
		Introspection: IntrospectionConfig{
			TokenTypeHint:     true,
			TimeoutSeconds:    5,
			MaxResponseBytes:  1 << 20,
			FailuresPerMinute: 300,
		},
		Token: TokenConfig{
			Audience:           []string{},
			ClientsWithoutUser: []string{},
			RequiredClaims:     []RequiredClaimConfig{},
			LeewaySeconds:      30,
			MaxLength:          16384,
		},
		PhantomToken: PhantomTokenConfig{
			LifetimeSeconds:   300,
			PublishedKeyFiles: []string{},
			Claims:            map[string]string{},
			ClearHeaders:      []string{},
		},
		Cache: CacheConfig{
			MaxEntries:      50_000,
			MaxBytes:        64 << 20,
			NegativeSeconds: 5,
		},
		CORS: CORSConfig{
			Enabled:       true,
			MaxAgeSeconds: 3600,
		},
		InsecureHTTPHosts: []string{},
	}
}

// origin is what Kong says about where a configuration belongs. It comes among the fields
// of the configuration, together with other keys that are of no interest here.
type origin struct {
	PluginID string `json:"__plugin_id"`
	RouteID  string `json:"route_id"` // empty for a plugin of a service or of everything
}

// decodeConfig reads the JSON object that Kong sends. Unknown keys are Kong's own. An
// error names the field and never quotes a value; what could be read comes with it.
func decodeConfig(data []byte) (Config, origin, error) {
	cfg := defaultConfig()
	var from origin
	_ = json.Unmarshal(data, &from) // for the log only
	err := json.Unmarshal(data, &cfg)
	var mismatch *json.UnmarshalTypeError
	switch {
	case err == nil:
		return cfg, from, nil
	case errors.As(err, &mismatch) && mismatch.Field != "":
		return cfg, from, fmt.Errorf("%s: expected %s, got something else", mismatch.Field, mismatch.Type)
	default:
		return cfg, from, errors.New("configuration: expected a JSON object, got something else")
	}
}
