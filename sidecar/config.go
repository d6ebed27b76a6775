package main

import (
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"
)

// envPrefix begins the name of every variable.
const envPrefix = "TOKEN_EXCHANGE_"

// config is what the environment says: where things are. Who may what stands in the policy
// file. The tags hold what -help prints: kind, default (or need) and meaning.
type config struct {
	// Listen is where to serve. The default is reached from this machine (or pod) only.
	Listen string `env:"LISTEN" envDefault:"127.0.0.1:9200" kind:"host:port" help:"Address to serve on."`
	// Issuer is the URL of the sidecar. No default: tokens are bound to it.
	Issuer string `env:"ISSUER" kind:"URL" need:"required" help:"URL of this sidecar as APIs reach it: iss of the tokens it mints. Metadata, keys and /token are served below its path. https, or http on this machine."`
	// PolicyFile says who may what. No default.
	PolicyFile string `env:"POLICY_FILE" kind:"path" need:"required" help:"Policy file: callers, audiences, scopes, tools, egress routes. Read again when it changes, and on SIGHUP; the secrets and keys that it names are read with it, so send SIGHUP after a change of those alone. A file that cannot work is refused, and the last good one stays."`

	// SigningKeyFile is the private key, or a folder of them. No default; it is created when
	// absent.
	SigningKeyFile string `env:"SIGNING_KEY_FILE" kind:"path" need:"required" help:"Private key that signs, as JWK or PEM, readable by its owner only; created when there is none. Or a folder of keys that take turns, see docs/keys.md."`
	// SigningAlgorithm matters for RSA keys in PEM and for new keys. Default: the key's own.
	SigningAlgorithm string `env:"SIGNING_ALGORITHM" kind:"ES256, RS256, PS256 or EdDSA" help:"Algorithm of the signing key. When empty it is the key's own, and ES256 for a new key."`
	// KeyRotation is how often a new key takes its turn. Default: never by itself.
	KeyRotation time.Duration `env:"KEY_ROTATION" kind:"duration" need:"optional" help:"How often a new key takes its turn, for example 720h; SIGNING_KEY_FILE is a folder then. When empty, keys change when somebody changes the files."`
	// PublishedKeyFiles are keys that verify but do not sign. Default: none.
	PublishedKeyFiles []string `env:"PUBLISHED_KEY_FILES" kind:"paths, comma separated" help:"Further private keys whose public halves are published, beside a signing key in one file: the next signing key before its turn, the last one until its tokens have expired."`

	// SubjectIssuer is the gateway. No default.
	SubjectIssuer string `env:"SUBJECT_ISSUER" kind:"URL" need:"required" help:"Issuer of the phantom tokens that are exchanged: phantom_token.issuer of the gateway, or the identity provider where the gateway passes on its tokens; byte for byte."`
	// SubjectMode is the way in which the gateway makes phantom tokens. Default: mint.
	SubjectMode string `env:"SUBJECT_MODE" envDefault:"mint" kind:"mint, introspection or exchange" help:"phantom_token.mode of the gateway. Only tokens of the modes introspection and exchange can be exchanged at the identity provider (issue: idp)."`
	// SubjectKeyFiles are the gateway's keys in files. Default: none, see SubjectJWKSURI.
	SubjectKeyFiles []string `env:"SUBJECT_KEY_FILES" kind:"paths, comma separated" need:"this or SUBJECT_JWKS_URI" help:"Files with public keys of that issuer, as JWK Set, JWK or PEM; of a private key the public half counts. Metadata and keys of the gateway are then served here too."`
	// SubjectJWKSURI is where the gateway publishes its keys. Default: none, see
	// SubjectKeyFiles.
	SubjectJWKSURI string `env:"SUBJECT_JWKS_URI" kind:"URL" need:"this or SUBJECT_KEY_FILES" help:"Where that issuer publishes its public keys; the sidecar is not ready before it had them once."`

	// Provider is the identity provider. Default: none.
	Provider providerConfig `envPrefix:"IDP_"`
	// Kubernetes is the cluster. Default: none.
	Kubernetes kubernetesConfig `envPrefix:"KUBERNETES_"`
	// TLS is for callers that prove who they are by certificate. Default: plain http.
	TLS tlsConfig `envPrefix:"TLS_"`

	// EgressListen is where the application sends its calls. Default: nowhere.
	EgressListen string `env:"EGRESS_LISTEN" kind:"host:port or unix:path" help:"Where the egress proxy listens for this application, on this machine: 127.0.0.1:9201 or unix:/run/token-exchange/egress.sock. The routes stand in the policy file."`
	// MetricsListen is where metrics are served. Default: nowhere.
	MetricsListen string `env:"METRICS_LISTEN" kind:"host:port" help:"Address to serve Prometheus metrics on, at /metrics. They hold names of the policy, no token and no user."`
	// LogLevel is debug or info. Default: info, which has every decision.
	LogLevel slog.Level `env:"LOG_LEVEL" envDefault:"info" kind:"level, info or debug" help:"info has a line for every decision; debug also has requests at the proxy that carry no token or were given up."`
	// CacheEntries bounds the memory of issued tokens. Default: 10000.
	CacheEntries int `env:"CACHE_ENTRIES" envDefault:"10000" kind:"number" help:"How many issued tokens are kept to be given out again, at most; 2.5 KB each."`

	// InsecureHTTPHosts loosens the rule that URLs are https. Default: none.
	InsecureHTTPHosts []string `env:"INSECURE_HTTP_HOSTS" kind:"hosts, comma separated" help:"Hosts to which plain http is accepted beside this machine, for networks that are trusted."`

	// lookup reads a variable that the policy file names.
	lookup func(string) (string, bool)
}

// providerConfig is the identity provider that issues tokens for audiences with issue: idp.
type providerConfig struct {
	// TokenEndpoint is asked. Without it there is no provider.
	TokenEndpoint string `env:"TOKEN_ENDPOINT" kind:"URL" help:"Token endpoint of the identity provider, for audiences with issue: idp."`
	// Issuer is iss of what it issues. Default: SUBJECT_ISSUER.
	Issuer string `env:"ISSUER" kind:"URL" need:"default SUBJECT_ISSUER" help:"Issuer of the tokens that it issues."`
	// JWKSURI has its keys. Default: those of SUBJECT_ISSUER.
	JWKSURI string `env:"JWKS_URI" kind:"URL" need:"required where the issuer is another one than SUBJECT_ISSUER" help:"Where it publishes its keys. When empty, those of SUBJECT_ISSUER."`
	// ClientID and the secret are this sidecar's credentials there.
	ClientID   string `env:"CLIENT_ID" kind:"text" need:"required with IDP_TOKEN_ENDPOINT" help:"client_id of this sidecar there; the phantom tokens name it in their aud."`
	Secret     string `env:"CLIENT_SECRET" kind:"text, secret" need:"this or IDP_CLIENT_SECRET_FILE" help:"client_secret of this sidecar there."`
	SecretFile string `env:"CLIENT_SECRET_FILE" kind:"path" need:"this or IDP_CLIENT_SECRET" help:"File with that client_secret, which only its owner may write."`
	// AuthMethod is how they are sent. Default: client_secret_basic.
	AuthMethod string `env:"AUTH_METHOD" envDefault:"client_secret_basic" kind:"client_secret_basic or client_secret_post" help:"How client_id and client_secret are sent there."`
	// CAFile bounds the authorities. Default: those of the system.
	CAFile string `env:"CA_FILE" kind:"path" help:"File with the certificates, in PEM, of the only authorities that the certificate of the identity provider may come from."`
}

// configured reports whether anything was set.
func (c *providerConfig) configured() bool {
	return *c != providerConfig{AuthMethod: c.AuthMethod}
}

// kubernetesConfig is the cluster whose service account tokens prove who a caller is.
type kubernetesConfig struct {
	Issuer   string `env:"ISSUER" kind:"URL" help:"Issuer of the service account tokens of the cluster, for callers with kubernetes in the policy file."`
	JWKSURI  string `env:"JWKS_URI" kind:"URL" need:"required with KUBERNETES_ISSUER" help:"Where the cluster publishes its keys."`
	CAFile   string `env:"CA_FILE" kind:"path" help:"File with the certificates of the only authorities that the certificate of that URL may come from."`
	Audience string `env:"AUDIENCE" kind:"text" need:"default ISSUER" help:"aud that a service account token must have."`
}

// tlsConfig makes the token endpoint serve https.
type tlsConfig struct {
	CertificateFile string `env:"CERTIFICATE_FILE" kind:"path" need:"with TLS_KEY_FILE" help:"Certificate chain of this sidecar, in PEM; read again when it changes. Without it, plain http is served."`
	KeyFile         string `env:"KEY_FILE" kind:"path" need:"with TLS_CERTIFICATE_FILE" help:"Private key to that certificate."`
	ClientCAFile    string `env:"CLIENT_CA_FILE" kind:"path" need:"required for callers with mtls" help:"Certificates of the authorities that certificates of callers come from, in PEM."`
}

// readConfig reads the variables, "NAME=value" each. The error names
// every variable that cannot be read or does not exist; no secret is in it. The config
// returned beside an error has what could be read. What the values mean is checked by build.
func readConfig(environ []string) (*config, error) {
	variables := make(map[string]string)
	for _, entry := range environ {
		if name, value, ok := strings.Cut(entry, "="); ok && strings.HasPrefix(name, envPrefix) {
			variables[name] = value
		}
	}
	var problems []error
	cfg := &config{lookup: lookupIn(environ)}
	// The prefix alone is no setting; it keeps the map from being empty, which the parser
	// would take for "use the environment of the process".
	variables[envPrefix] = ""
	err := env.ParseWithOptions(cfg, env.Options{Environment: variables, Prefix: envPrefix})
	for _, err := range flatten(err) {
		problems = append(problems, describe(err, variables))
		cfg.KeyRotation, cfg.CacheEntries = 0, 1 // one problem is enough; nothing runs with it
	}
	delete(variables, envPrefix)
	problems = append(problems, unknownVariables(variables)...)
	cfg.tidy()
	return cfg, errors.Join(problems...)
}

// lookupIn reads variables of environ, of which the last one of a name counts.
func lookupIn(environ []string) func(string) (string, bool) {
	values := make(map[string]string, len(environ))
	for _, entry := range environ {
		if name, value, ok := strings.Cut(entry, "="); ok {
			values[name] = value
		}
	}
	return func(name string) (string, bool) {
		value, ok := values[name]
		return value, ok
	}
}

func flatten(err error) []error {
	if all := (env.AggregateError{}); errors.As(err, &all) {
		return all.Errors
	}
	if err != nil {
		return []error{err}
	}
	return nil
}

// describe names the variable where the parser names the field of the struct. No field that
// has to be parsed is a secret.
func describe(err error, variables map[string]string) error {
	parse := env.ParseError{}
	if !errors.As(err, &parse) {
		return err
	}
	field, ok := reflect.TypeFor[config]().FieldByName(parse.Name)
	if !ok {
		return err
	}
	name := envPrefix + field.Tag.Get("env")
	example := field.Tag.Get("envDefault")
	if example == "" {
		example = "720h"
	}
	return fmt.Errorf("%s: expected a %s such as %s, got %q", name, field.Tag.Get("kind"), example, variables[name])
}

// tidy drops empty entries and the spaces around the others, so that "a, b" is a list of
// two and an empty variable a list of none.
func (c *config) tidy() {
	for _, list := range []*[]string{&c.PublishedKeyFiles, &c.SubjectKeyFiles, &c.InsecureHTTPHosts} {
		*list = trimmed(*list)
	}
}

func trimmed(list []string) []string {
	var out []string
	for _, v := range list {
		if v = strings.TrimSpace(v); v != "" {
			out = append(out, v)
		}
	}
	return out
}
