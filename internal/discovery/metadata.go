package discovery

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"phantomtoken/internal/oauth"
)

// metadata is what is used of a metadata document (RFC 8414 §2). Members that the
// document lacks are empty.
type metadata struct {
	introspectionEndpoint string
	introspectionAuth     []string // introspection_endpoint_auth_methods_supported
	tokenEndpoint         string
	tokenAuth             []string // token_endpoint_auth_methods_supported
	jwksURI               string
}

// errNoMetadata says that a document is something else than metadata.
var errNoMetadata = errors.New("no metadata of an issuer")

// parseMetadata reads the metadata of issuer. The text of an error names members and
// quotes nothing of data. It wraps errNoMetadata if data is not metadata of anybody.
func parseMetadata(data []byte, issuer string) (*metadata, error) {
	claims, err := oauth.ParseClaims(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoMetadata, err)
	}
	got, _ := claims["issuer"].(string)
	switch {
	case got == "":
		return nil, fmt.Errorf("%w: expected member issuer, got none", errNoMetadata)
	case strings.TrimSuffix(got, "/") == strings.TrimSuffix(issuer, "/") && got != issuer:
		return nil, errors.New("expected exactly this issuer, got the same with a slash more or less at its end")
	case strings.EqualFold(got, issuer) && got != issuer:
		return nil, errors.New("expected exactly this issuer, got the same in other letter case")
	case got != issuer:
		return nil, errors.New("expected exactly this issuer, got another one")
	}
	m := &metadata{}
	for _, member := range []struct {
		name string
		to   *string
	}{
		{"introspection_endpoint", &m.introspectionEndpoint},
		{"token_endpoint", &m.tokenEndpoint},
		{"jwks_uri", &m.jwksURI},
	} {
		if v := claims[member.name]; v != nil {
			var ok bool
			if *member.to, ok = v.(string); !ok {
				return nil, fmt.Errorf("member %s: expected a string", member.name)
			}
		}
	}
	if m.introspectionAuth, err = texts(claims, "introspection_endpoint_auth_methods_supported"); err != nil {
		return nil, err
	}
	if m.tokenAuth, err = texts(claims, "token_endpoint_auth_methods_supported"); err != nil {
		return nil, err
	}
	return m, nil
}

func texts(claims map[string]any, name string) ([]string, error) {
	if claims[name] == nil {
		return nil, nil
	}
	list, ok := claims[name].([]any)
	if !ok {
		return nil, fmt.Errorf("member %s: expected an array of strings", name)
	}
	out := make([]string, len(list))
	for i, v := range list {
		if out[i], ok = v.(string); !ok {
			return nil, fmt.Errorf("member %s: expected an array of strings", name)
		}
	}
	return out, nil
}

// authMethod chooses from the methods that an endpoint supports. Without a list it is
// client_secret_basic (RFC 8414 §2). "" means that none of ours is among them.
func authMethod(supported []string) string {
	if len(supported) == 0 || slices.Contains(supported, oauth.AuthBasic) {
		return oauth.AuthBasic
	}
	if slices.Contains(supported, oauth.AuthPost) {
		return oauth.AuthPost
	}
	return ""
}

// places are the URLs at which the metadata of issuer may be, in the order in which they
// are tried. A slash at the end of the issuer is dropped (RFC 8414 §3.1).
func places(issuer *url.URL) []string {
	origin := originOf(issuer)
	path := strings.TrimSuffix(issuer.EscapedPath(), "/")
	out := []string{
		origin + oauth.WellKnownAuthorizationServer + path,
		origin + oauth.WellKnownOpenIDConfiguration + path,
	}
	if path != "" {
		out = append(out, origin+path+oauth.WellKnownOpenIDConfiguration)
	}
	return out
}

func originOf(u *url.URL) string { return u.Scheme + "://" + u.Host }
