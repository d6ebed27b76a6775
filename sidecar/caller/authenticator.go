package caller

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"phantomtoken/internal/keyring"
	"phantomtoken/internal/oauth"
)

// MethodKubernetes is the Identity.Method of a service account token. No registry has a name
// for it; what the caller sends is what RFC 7523 §2.2 says.
const MethodKubernetes = "kubernetes"

// Identity is who asks.
type Identity struct {
	ID string // client_id of a registered caller
	// Method is how it said so: client_secret_basic, client_secret_post, private_key_jwt,
	// tls_client_auth or MethodKubernetes.
	Method string
}

// Authenticator finds out who asks. It is immutable but for the keys it fetches, and safe
// for concurrent use.
type Authenticator struct {
	now     func() time.Time
	ours    []string // aud of client assertions
	replay  *Replay
	callers map[string]*registered // by client_id
	nobody  *registered            // stands in for an unknown client_id

	cluster         string // issuer of the Kubernetes cluster, "" without one
	clusterAudience string
	serviceAccounts *keyring.Verifier

	spiffe, dns, accounts map[string]*registered // by SPIFFE id, DNS name, sub

	methods, algorithms []string

	keySets *KeySets
	keyURLs []string // what was taken from keySets, once for each caller
	closed  sync.Once
}

// Methods lists what callers can use, for token_endpoint_auth_methods_supported (RFC 8414
// §2): only what at least one caller is registered for. Kubernetes tokens count as
// private_key_jwt.
func (a *Authenticator) Methods() []string { return slices.Clone(a.methods) }

// Algorithms lists the algorithms that client assertions may be signed with, for
// token_endpoint_auth_signing_alg_values_supported (RFC 8414 §2); none when no caller uses
// assertions.
func (a *Authenticator) Algorithms() []string { return slices.Clone(a.algorithms) }

// Close gives up the keys that Config.KeySets keeps for the callers. Requests that are under
// way are not disturbed, nor is a fetch that they wait for.
func (a *Authenticator) Close() {
	a.closed.Do(func() {
		for _, url := range a.keyURLs {
			a.keySets.release(url)
		}
	})
}

// Authenticate finds out who sent r, whose body was read into form (and whose URL has no
// parameters). ctx bounds the wait for keys. The error is a *Refusal.
func (a *Authenticator) Authenticate(ctx context.Context, r *http.Request, form url.Values) (Identity, error) {
	p, err := read(r, form)
	if err != nil {
		return Identity{}, err
	}
	switch p.method {
	case oauth.AuthPrivateKeyJWT:
		return a.byAssertion(ctx, p.assertion, p.id)
	case oauth.AuthTLS:
		return a.byCertificate(r.TLS, p.id)
	default:
		return a.bySecret(p)
	}
}

// bySecret gives an unknown id, a caller without a secret and a wrong secret the same path
// and the same answer.
func (a *Authenticator) bySecret(p presented) (Identity, error) {
	known, ok := a.callers[p.id]
	if !ok {
		known = a.nobody
	}
	if !known.hasSecret(digest(p.secret)) || !ok {
		return Identity{}, invalidClient("expected the id and secret of a configured caller (authentication.secret_files or secret_variables in the policy file); with client_secret_basic both are form-encoded before base64")
	}
	return Identity{ID: known.id, Method: p.method}, nil
}

// none is the answer to a request without credentials.
func (a *Authenticator) none() error {
	supported := "a method that the policy file has for this caller"
	if len(a.methods) > 0 {
		supported = strings.Join(a.methods, " or ")
	}
	return invalidClient("expected client authentication by %s, got none", supported)
}
