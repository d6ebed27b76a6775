package authserver

import (
	"encoding/json"
	"slices"

	"phantomtoken/internal/oauth"
)

// serverMetadata is the document of RFC 8414 §2 with the members that OpenID Connect
// Discovery §3 requires beside it, so that one document serves both kinds of reader.
type serverMetadata struct {
	Issuer                        string   `json:"issuer"`
	AuthorizationEndpoint         string   `json:"authorization_endpoint"`
	TokenEndpoint                 string   `json:"token_endpoint"`
	RegistrationEndpoint          string   `json:"registration_endpoint"`
	IntrospectionEndpoint         string   `json:"introspection_endpoint"`
	RevocationEndpoint            string   `json:"revocation_endpoint"`
	JWKSURI                       string   `json:"jwks_uri"`
	ScopesSupported               []string `json:"scopes_supported,omitempty"`
	ResponseTypesSupported        []string `json:"response_types_supported"`
	ResponseModesSupported        []string `json:"response_modes_supported"`
	GrantTypesSupported           []string `json:"grant_types_supported"`
	CodeChallengeMethodsSupported []string `json:"code_challenge_methods_supported"`
	TokenEndpointAuthMethods      []string `json:"token_endpoint_auth_methods_supported"`
	IntrospectionEndpointAuth     []string `json:"introspection_endpoint_auth_methods_supported"`
	RevocationEndpointAuth        []string `json:"revocation_endpoint_auth_methods_supported"`
	IssParameterSupported         bool     `json:"authorization_response_iss_parameter_supported"`
	ClientIDMetadataDocuments     bool     `json:"client_id_metadata_document_supported"`
	RequestParameterSupported     bool     `json:"request_parameter_supported"`
	RequestURIParameterSupported  bool     `json:"request_uri_parameter_supported"` // true when absent, so it is said
	SubjectTypesSupported         []string `json:"subject_types_supported"`
	IDTokenSigningAlgValues       []string `json:"id_token_signing_alg_values_supported"`
	ProtectedResources            []string `json:"protected_resources,omitempty"` // RFC 9728 §4
	UILocalesSupported            []string `json:"ui_locales_supported"`
}

func (s *Server) metadata() ([]byte, error) {
	return json.Marshal(serverMetadata{
		Issuer:                        s.issuer,
		AuthorizationEndpoint:         s.url(pathAuthorize),
		TokenEndpoint:                 s.url(pathToken),
		RegistrationEndpoint:          s.url(pathRegister),
		IntrospectionEndpoint:         s.url(pathIntrospect),
		RevocationEndpoint:            s.url(pathRevoke),
		JWKSURI:                       s.url(pathJWKS),
		ScopesSupported:               s.cfg.scopeNames(),
		ResponseTypesSupported:        []string{"code"},
		ResponseModesSupported:        []string{"query"},
		GrantTypesSupported:           s.grantTypes(),
		CodeChallengeMethodsSupported: []string{"S256"},
		TokenEndpointAuthMethods:      []string{authNone, authBasic, authPost},
		IntrospectionEndpointAuth:     []string{authBasic, authPost},
		RevocationEndpointAuth:        []string{authNone, authBasic, authPost},
		IssParameterSupported:         true,
		ClientIDMetadataDocuments:     true,
		SubjectTypesSupported:         []string{"public"},
		IDTokenSigningAlgValues:       []string{"ES256"},
		ProtectedResources:            s.cfg.Resources,
		UILocalesSupported:            []string{"en"},
	})
}

func (s *Server) grantTypes() []string {
	types := []string{grantAuthorizationCode, grantClientCredentials}
	if slices.ContainsFunc(s.cfg.Clients, func(c Client) bool { return c.TokenExchange }) {
		types = append(types, grantTokenExchange)
	}
	return types
}

// metadataPaths are all places where a client may look: the well-known path inserted
// before the issuer's path (RFC 8414 §3.1, also in its OpenID form) and appended to it
// (OpenID Connect Discovery §4). Without a path these are two.
func (s *Server) metadataPaths() []string {
	return []string{
		oauth.WellKnownAuthorizationServer + s.prefix,
		oauth.WellKnownOpenIDConfiguration + s.prefix,
		s.prefix + oauth.WellKnownAuthorizationServer,
		s.prefix + oauth.WellKnownOpenIDConfiguration,
	}
}
