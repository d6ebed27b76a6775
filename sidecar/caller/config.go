package caller

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"
	"unicode"

	"phantomtoken/internal/keyring"
	"phantomtoken/internal/oauth"
)

// Config is what is the same for all callers. Messages about it name the environment
// variables of the sidecar, the only place where it comes from.
type Config struct {
	// Issuer and TokenEndpoint are the URLs of this service. A client assertion must name
	// one of them in aud, byte by byte, and nobody else: the token endpoint is what RFC
	// 7523 §3 wants, the issuer what its successor wants. Required.
	Issuer, TokenEndpoint string
	// Kubernetes is the cluster whose service accounts may be callers; nil without one.
	Kubernetes *Kubernetes

	// Lookup reads an environment variable; nil means os.LookupEnv.
	Lookup func(variable string) (string, bool)
	// KeySets keeps the keys that callers publish at a URL. It outlives the Authenticator: the
	// next one, of another policy, should get the same, or the keys are fetched anew. nil
	// means one of its own.
	KeySets *KeySets
	// InsecureHosts are hosts to which plain http is accepted beside loopback, for jwks_uri.
	InsecureHosts []string
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Logger gets what goes wrong behind the requests; nil discards.
	Logger *slog.Logger
}

// Kubernetes is a cluster that issues service account tokens.
type Kubernetes struct {
	Issuer string            // iss of its tokens, byte by byte; required
	Keys   keyring.KeySource // the keys of that issuer; required; its owner closes it
	// Audience is what tokens must have as their only aud; empty means Config.Issuer. It
	// cannot be the cluster's issuer, which is the aud of tokens for the API server.
	Audience string
}

// Caller is a registered caller and the ways in which it may say who it is. It may have
// several; one without any is never authenticated.
type Caller struct {
	ID string // client_id; unique

	// SecretFiles and SecretVariables are files and environment variables with one secret
	// each. All of them are good: while a secret is being replaced there are two.
	SecretFiles, SecretVariables []string
	// JWKSFile or JWKSURI has the public keys for private_key_jwt.
	JWKSFile, JWKSURI string
	// SPIFFEID or DNSName is what its certificate has: the one URI, or one of the DNS names.
	SPIFFEID, DNSName string
	// ServiceAccount is its identity in the cluster; nil without one.
	ServiceAccount *ServiceAccount

	// Where begins messages: the path of all this in the policy file, such as "12:
	// callers.mcp-server.authentication".
	Where string
}

// ServiceAccount names a Kubernetes service account.
type ServiceAccount struct {
	Namespace, Name string
}

// subject is the sub of its tokens.
func (s *ServiceAccount) subject() string {
	return "system:serviceaccount:" + s.Namespace + ":" + s.Name
}

// check keeps colons out: with them two accounts could have one sub.
func (s *ServiceAccount) check() error {
	if !isKubernetesName(s.Namespace, 63, "-") {
		return fmt.Errorf("namespace: expected 1 to 63 lower case letters, digits and hyphens, got %q", s.Namespace)
	}
	if !isKubernetesName(s.Name, 253, "-.") {
		return fmt.Errorf("service_account: expected 1 to 253 lower case letters, digits, hyphens and dots, got %q", s.Name)
	}
	return nil
}

func isKubernetesName(s string, most int, marks string) bool {
	return s != "" && len(s) <= most && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789"+marks) == ""
}

const (
	// leeway is the accepted difference between our clock and that of who made an assertion.
	leeway = 30 * time.Second
	// maxAssertionLife is how far away exp may be: what is longer would have to be
	// remembered longer.
	maxAssertionLife = 5 * time.Minute
)

// registered is a Caller made ready for requests.
type registered struct {
	id string
	// secrets are digests. Every caller has as many, the missing ones random, so that the
	// comparison is the same work for all.
	secrets    [][sha256.Size]byte
	assertions *keyring.Verifier // nil without keys
	mtls       bool
}

// New reads secret and key files and makes an Authenticator; it makes no request. replay
// outlives it: the next Authenticator, of another policy, must get the same. The error has
// all problems in it, each with its place; no secret is in it. Call Close when done.
func New(cfg Config, callers []Caller, replay *Replay) (*Authenticator, error) {
	if cfg.Lookup == nil {
		cfg.Lookup = os.LookupEnv
	}
	if cfg.KeySets == nil {
		cfg.KeySets = new(KeySets)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	b := &builder{
		cfg: cfg,
		a: &Authenticator{
			now:      cfg.Now,
			ours:     []string{cfg.Issuer, cfg.TokenEndpoint},
			replay:   replay,
			keySets:  cfg.KeySets,
			callers:  make(map[string]*registered, len(callers)),
			spiffe:   make(map[string]*registered),
			dns:      make(map[string]*registered),
			accounts: make(map[string]*registered),
		},
	}
	if replay == nil {
		b.problem("expected a memory for used client assertions, got none")
	}
	if cfg.Issuer == "" || cfg.TokenEndpoint == "" {
		b.problem("TOKEN_EXCHANGE_ISSUER: expected the URL of this service, got nothing")
	}
	b.cluster()
	for i := range callers {
		b.caller(&callers[i])
	}
	b.finish()
	if err := errors.Join(b.problems...); err != nil {
		b.a.Close()
		return nil, err
	}
	return b.a, nil
}

// builder makes an Authenticator and collects what is wrong on the way.
type builder struct {
	cfg      Config
	a        *Authenticator
	problems []error
}

func (b *builder) problem(format string, args ...any) {
	b.problems = append(b.problems, fmt.Errorf(format, args...))
}

func (b *builder) cluster() {
	k := b.cfg.Kubernetes
	if k == nil {
		return
	}
	b.a.cluster = k.Issuer
	b.a.clusterAudience = k.Audience
	if k.Audience == "" {
		b.a.clusterAudience = b.cfg.Issuer
	}
	switch {
	case k.Issuer == "":
		b.problem("TOKEN_EXCHANGE_KUBERNETES_ISSUER: expected the issuer of service account tokens, got nothing")
	case b.a.clusterAudience == k.Issuer:
		// Every pod has a token with that audience and shows it to others.
		b.problem("TOKEN_EXCHANGE_KUBERNETES_AUDIENCE: expected an audience of this service alone, got the issuer of the cluster")
	case b.a.clusterAudience == "": // reported as the missing issuer
	default:
		var err error
		b.a.serviceAccounts, err = keyring.NewVerifier(keyring.VerifierConfig{
			Issuer:    k.Issuer,
			Audiences: []string{b.a.clusterAudience},
			Keys:      k.Keys,
			Types:     []string{"", "jwt"}, // Kubernetes sends none
			Leeway:    leeway,
			Now:       b.cfg.Now,
		})
		if err != nil {
			b.problem("TOKEN_EXCHANGE_KUBERNETES_ISSUER: %w", err)
		}
	}
}

func (b *builder) caller(c *Caller) {
	// key is what follows Where: "" or, with a dot before it, a key of the policy file.
	at := func(key, format string, args ...any) {
		b.problem("%s%s: %w", c.Where, key, fmt.Errorf(format, args...))
	}
	switch {
	case c.ID == "" || strings.ContainsFunc(c.ID, unicode.IsControl):
		at("", "expected a client_id without control characters, got %q", c.ID)
	case b.a.callers[c.ID] != nil:
		at("", "expected a client_id of its own, got %q again", c.ID)
	case b.cfg.Kubernetes != nil && c.ID == b.cfg.Kubernetes.Issuer:
		at("", "expected another client_id than the issuer of the cluster (TOKEN_EXCHANGE_KUBERNETES_ISSUER), got the same")
	}
	r := &registered{id: c.ID}
	b.a.callers[c.ID] = r

	secret := func(s string, err error) error {
		if err == nil {
			err = checkSecret(s)
		}
		r.secrets = append(r.secrets, digest(s))
		return err
	}
	for i, path := range c.SecretFiles {
		if err := secret(ReadSecret(path)); err != nil {
			at(fmt.Sprintf(".secret_files[%d]", i), "%w", err)
		}
	}
	for i, name := range c.SecretVariables {
		// The name is not in the message: by mistake it may be the secret.
		key := fmt.Sprintf(".secret_variables[%d]", i)
		if value, set := b.cfg.Lookup(name); !set {
			at(key, "expected the name of an environment variable that is set, got another")
		} else if err := secret(value, nil); err != nil {
			at(key, "%w", err)
		}
	}
	b.keys(c, r, at)
	b.certificate(c, r, at)
	if c.ServiceAccount != nil {
		switch err := c.ServiceAccount.check(); {
		case err != nil:
			at(".kubernetes", "%w", err)
		case b.cfg.Kubernetes == nil:
			at(".kubernetes", "expected the issuer of the cluster in TOKEN_EXCHANGE_KUBERNETES_ISSUER, got none")
		default:
			b.claim(b.a.accounts, c.ServiceAccount.subject(), r, ".kubernetes", "a service account", at)
		}
	}
}

// claim registers a name that must be that of one caller.
func (b *builder) claim(names map[string]*registered, name string, r *registered, key, what string, at func(string, string, ...any)) {
	if other := names[name]; other != nil {
		at(key, "expected %s of its own, got that of caller %q", what, other.id)
		return
	}
	names[name] = r
}

func (b *builder) keys(c *Caller, r *registered, at func(string, string, ...any)) {
	var keys keyring.KeySource
	switch {
	case c.JWKSFile == "" && c.JWKSURI == "":
		return
	case c.JWKSFile != "" && c.JWKSURI != "":
		at(".private_key_jwt", "expected jwks_file or jwks_uri, got both")
		return
	case c.JWKSFile != "":
		public, err := keyring.LoadPublic(c.JWKSFile)
		if err != nil {
			at(".private_key_jwt.jwks_file", "%w", err)
			return
		}
		keys = public
	default:
		remote, err := b.cfg.KeySets.take(keyring.RemoteConfig{URL: c.JWKSURI, InsecureHosts: b.cfg.InsecureHosts, Now: b.cfg.Now, Logger: b.cfg.Logger})
		if err != nil {
			if _, malformed := oauth.ParseResource(c.JWKSURI); malformed == nil { // then it is http that is wrong
				err = fmt.Errorf("%w (the variable is TOKEN_EXCHANGE_INSECURE_HTTP_HOSTS)", err)
			}
			at(".private_key_jwt.jwks_uri", "%w", err)
			return
		}
		b.a.keyURLs = append(b.a.keyURLs, c.JWKSURI)
		keys = remote
	}
	if c.ID == "" || b.cfg.Issuer == "" || b.cfg.TokenEndpoint == "" {
		return // reported already
	}
	verifier, err := keyring.NewVerifier(keyring.VerifierConfig{
		Issuer:    c.ID,
		Audiences: b.a.ours,
		Keys:      keys,
		// An access token must never be taken for an assertion; at+jwt is not in the list.
		Types:            []string{"", "jwt", "client-authentication+jwt"},
		IssuedAtOptional: true,
		Leeway:           leeway,
		Now:              b.cfg.Now,
	})
	if err != nil {
		at(".private_key_jwt", "%w", err)
		return
	}
	r.assertions = verifier
}

func (b *builder) certificate(c *Caller, r *registered, at func(string, string, ...any)) {
	switch {
	case c.SPIFFEID == "" && c.DNSName == "":
		return
	case c.SPIFFEID != "" && c.DNSName != "":
		at(".mtls", "expected spiffe_id or dns_name, got both")
	case c.SPIFFEID != "":
		if !isSPIFFEID(c.SPIFFEID) {
			at(".mtls.spiffe_id", "expected spiffe://trust-domain/path, got %q", c.SPIFFEID)
			return
		}
		b.claim(b.a.spiffe, c.SPIFFEID, r, ".mtls.spiffe_id", "a SPIFFE id", at)
	default:
		if !isDNSName(c.DNSName) {
			at(".mtls.dns_name", "expected a DNS name in lower case without wildcard, got %q", c.DNSName)
			return
		}
		b.claim(b.a.dns, c.DNSName, r, ".mtls.dns_name", "a DNS name", at)
	}
	r.mtls = true
}

// finish fills what depends on all callers.
func (b *builder) finish() {
	most := 0
	var assertions bool
	for _, r := range b.a.callers {
		most = max(most, len(r.secrets))
		assertions = assertions || r.assertions != nil
	}
	for _, r := range b.a.callers {
		r.pad(most)
	}
	b.a.nobody = new(registered)
	b.a.nobody.pad(most)

	if most > 0 {
		b.a.methods = append(b.a.methods, oauth.AuthBasic, oauth.AuthPost)
	}
	if assertions || len(b.a.accounts) > 0 {
		b.a.methods = append(b.a.methods, oauth.AuthPrivateKeyJWT)
		b.a.algorithms = []string{keyring.ES256, keyring.RS256, keyring.PS256, keyring.EdDSA}
	}
	if len(b.a.spiffe)+len(b.a.dns) > 0 {
		b.a.methods = append(b.a.methods, oauth.AuthTLS)
	}
}

// pad adds digests that no secret has.
func (r *registered) pad(count int) {
	for len(r.secrets) < count {
		var none [sha256.Size]byte
		_, _ = rand.Read(none[:]) // documented never to fail
		r.secrets = append(r.secrets, none)
	}
}
