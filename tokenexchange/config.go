package tokenexchange

import (
	"cmp"
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// AuthMethod is how a client proves who it is at the token endpoint, with the names of
// the OAuth registry (RFC 7591 §2, RFC 8705 §2.1.1) where there is one.
type AuthMethod string

const (
	// AuthBasic sends id and secret in the Authorization field, each form-encoded first
	// (RFC 6749 §2.3.1). The default.
	AuthBasic AuthMethod = "client_secret_basic"
	// AuthPost sends them as client_id and client_secret in the body.
	AuthPost AuthMethod = "client_secret_post"
	// AuthPrivateKeyJWT sends a JWT signed with ClientKey, a new one with each call (RFC 7523
	// §2.2). No secret leaves the program.
	AuthPrivateKeyJWT AuthMethod = "private_key_jwt"
	// AuthAssertionFile sends the content of AssertionFile as such a JWT: a token that the
	// platform gives to this program and renews, for example a projected service account
	// token of Kubernetes. The registry has no name for it.
	AuthAssertionFile AuthMethod = "client_assertion_file"
	// AuthTLS sends the client_id alone (RFC 8705 §2): the certificate with which Transport
	// connects is the proof.
	AuthTLS AuthMethod = "tls_client_auth"
)

// Config is what a [Client] needs to know. Endpoint and ClientID are required, and what the
// AuthMethod needs: ClientSecret, or one of the fields named there. Every other field has a
// default that fits most programs.
type Config struct {
	// Endpoint is the URL of the token endpoint: https, or http on this machine.
	Endpoint string
	// ClientID is the name of this program at the endpoint. With [AuthAssertionFile] it may
	// be empty: the assertion says who it is.
	ClientID string
	// ClientSecret is for [AuthBasic] and [AuthPost].
	ClientSecret string
	// AuthMethod is [AuthBasic] when empty.
	AuthMethod AuthMethod

	// ClientKey signs for [AuthPrivateKeyJWT]: ECDSA on P-256 (ES256), Ed25519 (EdDSA), or RSA
	// of 2048 bits or more (RS256). It must be safe for concurrent use, as the keys of the
	// standard library are.
	ClientKey crypto.Signer
	// ClientKeyID is the kid of ClientKey, as the endpoint knows it. Optional.
	ClientKeyID string
	// ClientKeyAlgorithm chooses PS256 for an RSA key. Empty otherwise.
	ClientKeyAlgorithm string
	// AssertionAudience is the aud of what ClientKey signs: what the endpoint takes for its
	// own name, for example its issuer. Endpoint when empty.
	AssertionAudience string
	// AssertionFile is for [AuthAssertionFile]. It is read again once what was read is older
	// than a minute.
	AssertionFile string

	// Cache keeps the tokens that were issued. nil keeps none: each Exchange makes a call.
	Cache *CacheConfig
	// Timeout bounds a whole exchange, reading the answer included. 5 seconds when 0.
	Timeout time.Duration
	// Transport makes the calls. nil means one of the client's own: system roots, TLS 1.2
	// or newer, no proxy from the environment. Set it for an extra CA, a client certificate
	// or tracing. Redirects are never followed, whatever it is.
	Transport http.RoundTripper
	// InsecureAllowHTTP accepts an http Endpoint on another machine: tokens and secret
	// then cross the network in the clear.
	InsecureAllowHTTP bool
	// Now is the clock that exp is compared with. time.Now when nil.
	Now func() time.Time
}

// String describes the configuration without the secret.
func (c Config) String() string {
	return fmt.Sprintf("token exchange as client %q at %s", c.ClientID, where(c.Endpoint))
}

// GoString is String, so that no verb of fmt prints the secret.
func (c Config) GoString() string { return c.String() }

// LogValue describes the configuration without the secret.
func (c Config) LogValue() slog.Value {
	return slog.GroupValue(slog.String("endpoint", where(c.Endpoint)), slog.String("client_id", c.ClientID))
}

// where is an endpoint as texts show it: without user information and query.
func where(endpoint string) string {
	u, err := url.Parse(endpoint)
	if err != nil {
		return "an endpoint that is no URL"
	}
	return u.Scheme + "://" + u.Host + u.EscapedPath()
}

func (c *Config) timeout() time.Duration { return cmp.Or(c.Timeout, 5*time.Second) }

func (c *Config) authMethod() AuthMethod { return cmp.Or(c.AuthMethod, AuthBasic) }

func (c *Config) now() time.Time {
	if c.Now == nil {
		return time.Now()
	}
	return c.Now()
}

// check reports everything that is wrong with the configuration, and returns how the client
// proves who it is. The messages name the field; they do not quote the secret.
func (c *Config) check() (prover, error) {
	var problems []error
	problem := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }

	u, err := url.Parse(c.Endpoint)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http":
		problem("Endpoint: expected the https URL of a token endpoint, got something else")
	case u.User != nil:
		problem("Endpoint: expected a URL without user information; use ClientID and ClientSecret")
	case strings.Contains(c.Endpoint, "#"):
		problem("Endpoint: expected a URL without fragment")
	case u.Scheme == "http" && !isLoopback(u.Hostname()) && !c.InsecureAllowHTTP:
		problem("Endpoint: expected https, got http to %q, which is not this machine; use https, or set InsecureAllowHTTP if that network is trusted", u.Host)
	}
	if c.ClientID == "" && c.authMethod() != AuthAssertionFile {
		problem("ClientID: expected the id of this client at the token endpoint, got nothing")
	}
	prove, err := c.prover()
	if err != nil {
		problems = append(problems, err)
	}
	if c.Timeout < 0 {
		problem("Timeout: expected a positive duration, got %s", c.Timeout)
	}
	return prove, errors.Join(problems...)
}

func isLoopback(host string) bool {
	if host = strings.TrimSuffix(strings.ToLower(host), "."); host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}
