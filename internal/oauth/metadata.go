package oauth

// ProtectedResourceMetadata is the document of RFC 9728 §2. Members without a value are
// left out, as §3.2 demands. Not supported: signed_metadata, jwks_uri, DPoP and mutual
// TLS members, language tags.
type ProtectedResourceMetadata struct {
	Resource               string   `json:"resource"`                           // Required.
	AuthorizationServers   []string `json:"authorization_servers,omitempty"`    // Required here: MCP wants at least one.
	ScopesSupported        []string `json:"scopes_supported,omitempty"`         // Recommended.
	BearerMethodsSupported []string `json:"bearer_methods_supported,omitempty"` // Always ["header"].
	ResourceName           string   `json:"resource_name,omitempty"`            // Recommended, for people.
	ResourceDocumentation  string   `json:"resource_documentation,omitempty"`
	ResourcePolicyURI      string   `json:"resource_policy_uri,omitempty"`
	ResourceTOSURI         string   `json:"resource_tos_uri,omitempty"`
}

// IssuerMetadata is the metadata of an issuer that only signs tokens: enough of RFC 8414
// §2 and OpenID Connect Discovery §3 for a verifier to find the keys and the algorithms.
type IssuerMetadata struct {
	Issuer            string   `json:"issuer"`
	JWKSURI           string   `json:"jwks_uri"`
	TokenEndpoint     string   `json:"token_endpoint,omitempty"`
	TokenEndpointAuth []string `json:"token_endpoint_auth_methods_supported,omitempty"`
	// TokenEndpointAlgorithms are for clients that authenticate with a JWT.
	TokenEndpointAlgorithms []string `json:"token_endpoint_auth_signing_alg_values_supported,omitempty"`
	GrantTypesSupported     []string `json:"grant_types_supported,omitempty"`
	ResponseTypesSupported  []string `json:"response_types_supported,omitempty"`
	SubjectTypesSupported   []string `json:"subject_types_supported,omitempty"`
	// IDTokenAlgorithms is what OpenID Connect libraries read to learn the signing
	// algorithms; no ID token is ever issued.
	IDTokenAlgorithms []string `json:"id_token_signing_alg_values_supported,omitempty"`
}

// Client authentication methods at an endpoint (RFC 7591 §2), as metadata and
// configurations name them.
const (
	AuthBasic         = "client_secret_basic" // id and secret in an Authorization field
	AuthPost          = "client_secret_post"  // id and secret in the form
	AuthPrivateKeyJWT = "private_key_jwt"     // a JWT signed by the client (RFC 7523 §2.2)
	AuthTLS           = "tls_client_auth"     // a certificate of an authority (RFC 8705 §2.1)
)
