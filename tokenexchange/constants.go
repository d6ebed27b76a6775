package tokenexchange

// GrantType is the grant_type of a token exchange (RFC 8693 §2.1).
const GrantType = "urn:ietf:params:oauth:grant-type:token-exchange"

// Token type identifiers (RFC 8693 §3), values of subject_token_type, actor_token_type,
// requested_token_type and issued_token_type.
const (
	TokenTypeAccessToken  = "urn:ietf:params:oauth:token-type:access_token"
	TokenTypeRefreshToken = "urn:ietf:params:oauth:token-type:refresh_token"
	TokenTypeIDToken      = "urn:ietf:params:oauth:token-type:id_token"
	TokenTypeSAML1        = "urn:ietf:params:oauth:token-type:saml1"
	TokenTypeSAML2        = "urn:ietf:params:oauth:token-type:saml2"
	TokenTypeJWT          = "urn:ietf:params:oauth:token-type:jwt"
)

// Token type identifiers of drafts that build on RFC 8693: identity assertion
// authorization grants and transaction tokens.
const (
	TokenTypeIDJAG    = "urn:ietf:params:oauth:token-type:id-jag"
	TokenTypeTxnToken = "urn:ietf:params:oauth:token-type:txn_token"
)

// Values of token_type (RFC 8693 §2.2.1). They are compared without regard to case.
const (
	// Bearer is a token that is used as RFC 6750 says.
	Bearer = "Bearer"
	// NotApplicable is the token_type of an issued token that is not an access token.
	NotApplicable = "N_A"
)

// Error codes of a token endpoint: RFC 6749 §5.2 in its order.
const (
	ErrorInvalidRequest       = "invalid_request"
	ErrorInvalidClient        = "invalid_client"
	ErrorInvalidGrant         = "invalid_grant"
	ErrorUnauthorizedClient   = "unauthorized_client"
	ErrorUnsupportedGrantType = "unsupported_grant_type"
	ErrorInvalidScope         = "invalid_scope"
)

// ErrorInvalidTarget says that a resource or audience is unknown, malformed or refused
// (RFC 8693 §2.2.2, RFC 8707 §2).
const ErrorInvalidTarget = "invalid_target"

// Error codes of RFC 6749 §4.1.2.1 that token endpoints use when the fault is not the
// client's.
const (
	ErrorServerError            = "server_error"
	ErrorTemporarilyUnavailable = "temporarily_unavailable"
)

// ClientAssertionTypeJWT is the client_assertion_type of a JWT that says who the client is
// (RFC 7523 §2.2).
const ClientAssertionTypeJWT = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
