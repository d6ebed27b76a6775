package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"reflect"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"

	"phantomtoken/internal/oauth"
	"phantomtoken/sidecar/sts"
)

// envPrefix begins the name of every variable.
const envPrefix = "TOKEN_EXCHANGE_"

// config is what the environment says. The tags hold what -help prints: kind, default (or
// need) and meaning.
type config struct {
	// Listen is where to serve. The default is reached from this machine (or pod) only.
	Listen string `env:"LISTEN" envDefault:"127.0.0.1:9200" kind:"host:port" help:"Address to serve on."`
	// Issuer is the URL of the sidecar. No default: tokens are bound to it.
	Issuer string `env:"ISSUER" kind:"URL" need:"required" help:"URL of this sidecar as APIs reach it: iss of the tokens it issues. Metadata, keys and /token are served below its path. https, or http on this machine."`
	// SigningKeyFile is the private key. No default; the file is created when absent.
	SigningKeyFile string `env:"SIGNING_KEY_FILE" kind:"path" need:"required" help:"Private key that signs, as JWK or PEM, readable by its owner only. Created when there is none."`
	// SigningAlgorithm matters for RSA keys in PEM and for new keys. Default: the key's own.
	SigningAlgorithm string `env:"SIGNING_ALGORITHM" kind:"ES256, RS256, PS256 or EdDSA" help:"Algorithm of the signing key. When empty it is the key's own, and ES256 for a new key."`
	// PublishedKeyFiles are keys that verify but do not sign. Default: none.
	PublishedKeyFiles []string `env:"PUBLISHED_KEY_FILES" kind:"paths, comma separated" help:"Further private keys whose public halves are published: the next signing key before its turn, the last one until its tokens have expired."`
	// TokenLifetime is the longest life of an issued token. Default: 5m.
	TokenLifetime time.Duration `env:"TOKEN_LIFETIME" envDefault:"5m" kind:"duration" help:"Longest life of an issued token, 10s to 1h. None outlives the token it was exchanged for."`

	// SubjectIssuer is the gateway. No default.
	SubjectIssuer string `env:"SUBJECT_ISSUER" kind:"URL" need:"required" help:"Issuer of the phantom tokens that are exchanged: phantom_token.issuer of the gateway, byte for byte."`
	// SubjectKeyFiles are the gateway's keys in files. Default: none, see SubjectJWKSURI.
	SubjectKeyFiles []string `env:"SUBJECT_KEY_FILES" kind:"paths, comma separated" need:"this or SUBJECT_JWKS_URI" help:"Files with public keys of the gateway, as JWK Set, JWK or PEM; of a private key the public half counts. Metadata and keys of the gateway are then served here too."`
	// SubjectJWKSURI is where the gateway publishes its keys. Default: none, see
	// SubjectKeyFiles.
	SubjectJWKSURI string `env:"SUBJECT_JWKS_URI" kind:"URL" need:"this or SUBJECT_KEY_FILES" help:"Where the gateway publishes its public keys; the sidecar is not ready before it had them once, and stays ready after that."`

	// Clients are the callers. At least one.
	Clients []clientConfig `envPrefix:"CLIENTS_"`

	// InsecureHTTPHosts loosens the rule that URLs are https. Default: none.
	InsecureHTTPHosts []string `env:"INSECURE_HTTP_HOSTS" kind:"hosts, comma separated" help:"Hosts to which plain http is accepted beside this machine, for networks that are trusted."`
}

// clientConfig is a caller and what it may have.
type clientConfig struct {
	// ID is the client_id. Required.
	ID string `env:"ID" kind:"text" need:"required" help:"client_id of a service that may exchange tokens."`
	// Secret is the client_secret. This or SecretFile.
	Secret string `env:"SECRET" kind:"text, secret" need:"this or SECRET_FILE" help:"client_secret of that service; at least 16 random bytes."`
	// SecretFile holds the secret; a line break at its end does not count. This or Secret.
	SecretFile string `env:"SECRET_FILE" kind:"path" need:"this or SECRET" help:"File with the client_secret, which only its owner may write."`
	// AllowWithoutUser accepts tokens without a user. Default: false.
	AllowWithoutUser bool `env:"ALLOW_WITHOUT_USER" envDefault:"false" kind:"true or false" help:"Whether this client may exchange phantom tokens of clients without a user, whose sub is a client and not a person."`
	// SubjectAudience is the aud of the tokens it may exchange. Required.
	SubjectAudience string `env:"SUBJECT_AUDIENCE" kind:"text" need:"required" help:"aud that a phantom token must have to be exchanged by this client: phantom_token.audience of its route at the gateway."`
	// Audiences are its targets. Default: none, it may not exchange anything then.
	Audiences []audienceConfig `envPrefix:"AUDIENCES_"`
}

// audienceConfig is a target of a caller.
type audienceConfig struct {
	// Name is the audience or resource to ask for. Required.
	Name string `env:"NAME" kind:"text" need:"required" help:"Target that the client may ask for, as audience or resource; aud of the issued token."`
	// Scopes bounds the scope. Default: none.
	Scopes []string `env:"SCOPES" kind:"scopes, comma separated" help:"Scopes that a token for this target may have, if the phantom token has them. None: tokens without scope."`
	// Claims are copied. Default: none.
	Claims []string `env:"CLAIMS" kind:"names, comma separated" help:"Claims that are copied from the phantom token."`
}

// maxSecretFile bounds what is read of a secret file.
const maxSecretFile = 4 << 10

// readConfig reads the variables, "NAME=value" each, and the secret files. The error names
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
	cfg := new(config)
	// The prefix alone is no setting; it keeps the map from being empty, which the parser
	// would take for "use the environment of the process".
	variables[envPrefix] = ""
	err := env.ParseWithOptions(cfg, env.Options{Environment: variables, Prefix: envPrefix})
	for _, err := range flatten(err) {
		problems = append(problems, describe(err, variables))
		cfg.TokenLifetime = time.Minute // one problem is enough; nothing runs with it
	}
	delete(variables, envPrefix)
	problems = append(problems, unknownVariables(variables)...)
	for i := range cfg.Clients {
		client := &cfg.Clients[i]
		name := fmt.Sprintf("%sCLIENTS_%d_SECRET_FILE", envPrefix, i)
		switch {
		case client.SecretFile == "":
		case client.Secret != "":
			problems = append(problems, fmt.Errorf("%s: expected the secret once, got it in %s too", name, strings.TrimSuffix(name, "_FILE")))
		default:
			if client.Secret, err = readSecret(client.SecretFile); err != nil {
				problems = append(problems, fmt.Errorf("%s: %w", name, err))
				client.Secret = "unreadable, which is one problem already" // nothing runs with it
			}
		}
	}
	cfg.tidy()
	return cfg, errors.Join(problems...)
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
	return fmt.Errorf("%s: expected a %s such as %s, got %q", name, field.Tag.Get("kind"), field.Tag.Get("envDefault"), variables[name])
}

func readSecret(path string) (string, error) {
	info, err := os.Stat(path) // before opening: to open a named pipe would wait for its writer
	if err != nil {
		return "", withoutPath(err)
	}
	if !info.Mode().IsRegular() {
		return "", errors.New("expected a regular file with the secret")
	}
	f, err := os.Open(path)
	if err != nil {
		return "", withoutPath(err)
	}
	defer f.Close()
	// The open file, not the name: what is checked is what is read.
	if info, err = f.Stat(); err != nil {
		return "", withoutPath(err)
	}
	if perm := info.Mode().Perm(); perm&0o022 != 0 {
		return "", fmt.Errorf("expected a file that only its owner may write, got mode %04o; run chmod go-w", perm)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxSecretFile+1))
	if err != nil {
		return "", withoutPath(err)
	}
	secret := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	if secret == "" || len(data) > maxSecretFile {
		return "", fmt.Errorf("expected a file with a secret of 1 to %d bytes, got %d or more", maxSecretFile, len(secret))
	}
	return secret, nil
}

// withoutPath drops the path of a file error: by mistake the variable may hold the secret
// itself.
func withoutPath(err error) error {
	if file := (*fs.PathError)(nil); errors.As(err, &file) {
		err = file.Err
	}
	return fmt.Errorf("expected the path of a readable file with the secret: %w", err)
}

// tidy drops empty entries and the spaces around the others, so that "a, b" is a list of
// two and an empty variable a list of none.
func (c *config) tidy() {
	for _, list := range []*[]string{&c.PublishedKeyFiles, &c.SubjectKeyFiles, &c.InsecureHTTPHosts} {
		*list = trimmed(*list)
	}
	for i := range c.Clients {
		for j := range c.Clients[i].Audiences {
			audience := &c.Clients[i].Audiences[j]
			audience.Scopes, audience.Claims = trimmed(audience.Scopes), trimmed(audience.Claims)
		}
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

// clients are the callers as package sts knows them.
func (c *config) clients() []sts.Client {
	out := make([]sts.Client, len(c.Clients))
	for i, client := range c.Clients {
		out[i] = sts.Client{ID: client.ID, Secret: client.Secret, AllowWithoutUser: client.AllowWithoutUser, SubjectAudience: client.SubjectAudience}
		for _, audience := range client.Audiences {
			out[i].Audiences = append(out[i].Audiences, sts.Audience{
				Name: audience.Name, Scopes: oauth.Scopes(audience.Scopes), Claims: audience.Claims,
			})
		}
	}
	return out
}

// warn logs what works and is probably not what was meant.
func (c *config) warn(logger *slog.Logger, address net.Addr) {
	for i, client := range c.Clients {
		name := fmt.Sprintf("%sCLIENTS_%d_", envPrefix, i)
		if len(client.Audiences) == 0 {
			logger.Warn("client may not exchange tokens", "caller", client.ID, "setting", name+"AUDIENCES_0_NAME")
		}
		if client.AllowWithoutUser {
			logger.Warn("client may exchange tokens without a user", "caller", client.ID, "setting", name+"ALLOW_WITHOUT_USER")
		}
	}
	if tcp, ok := address.(*net.TCPAddr); ok && !tcp.IP.IsLoopback() {
		logger.Warn("serving plain http beyond this machine", "address", address.String(), "setting", envPrefix+"LISTEN")
	}
}
