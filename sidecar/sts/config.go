package sts

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"
	"unicode"

	"phantomtoken/internal/keyring"
	"phantomtoken/internal/oauth"
)

// Config is what a Service issues and accepts. It is immutable once given to New. Messages
// about it name the environment variables of the sidecar, the only place where it comes
// from.
type Config struct {
	// Issuer is the URL of this service, iss of what it issues: https, or http to a loopback
	// host or to one of InsecureHosts.
	Issuer string
	// Ring signs; its public keys are published.
	Ring *keyring.Ring
	// Lifetime is the longest life of an issued token, 10 s to 1 h.
	Lifetime time.Duration

	// SubjectIssuer is the iss that a subject token must have: the gateway's.
	SubjectIssuer string
	// SubjectKeys are the keys of SubjectIssuer.
	SubjectKeys keyring.KeySource
	// SubjectDocuments are metadata and keys of SubjectIssuer, served here too; nil when
	// only the gateway serves them.
	SubjectDocuments *keyring.Issuer

	// Clients are the callers; at least one.
	Clients []Client

	// InsecureHosts are hosts to which plain http is accepted beside loopback.
	InsecureHosts []string

	// Now is the clock; time.Now when nil.
	Now func() time.Time
	// Logger gets one line per decision; nil discards them.
	Logger *slog.Logger
}

// Client is a caller that may exchange tokens.
type Client struct {
	ID     string // client_id
	Secret string // client_secret
	// AllowWithoutUser accepts tokens of clients that act for themselves. What is issued for
	// them has the client nested in act.
	AllowWithoutUser bool
	// SubjectAudience is the aud of the tokens that this caller may exchange: those that
	// were meant for it. Otherwise a service could turn any token it sees into another.
	SubjectAudience string
	// Audiences are the targets of this caller. None makes every exchange of it
	// unauthorized_client.
	Audiences []Audience
}

// Audience is a target of a caller.
type Audience struct {
	// Name is asked for as audience or resource, byte by byte, and becomes aud.
	Name string
	// Scopes is the most that a token for this target has. Empty means tokens without
	// scope.
	Scopes oauth.Scopes
	// Claims are copied from the subject token when it has them.
	Claims []string
}

const (
	minLifetime = 10 * time.Second
	maxLifetime = time.Hour
)

// reserved reports whether a claim cannot be copied from a subject token: it says something
// about that token, not about the user; or it would bind the issued one to a key that the
// caller does not have (cnf); or it grants something beside scope, unbounded by the target
// (scp, permissions, authorization_details). Some readers do not mind the case of names.
func reserved(claim string) bool {
	switch strings.ToLower(claim) {
	case "iss", "sub", "aud", "exp", "nbf", "iat", "jti", "client_id", "azp", "act", "may_act", "cnf", "active",
		"scope", "scp", "permissions", "authorization_details":
		return true
	}
	return false
}

// isName reports whether s can be a name in a setting. A pattern would be taken literally,
// and blanks come from lists that were split wrongly.
func isName(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r == '*' || unicode.IsSpace(r) || unicode.IsControl(r) })
}

// minSecret is the length in bytes below which a secret could be guessed (RFC 6749 §10.10).
// Nothing slows guessing down: a secret of this length, if random, needs no more.
const minSecret = 16

// checkSecret refuses what can be guessed, and references that somebody else should have
// resolved: everybody who reads the deployment files knows those.
func checkSecret(secret string) error {
	switch {
	case strings.ContainsAny(secret, "\r\n\x00"):
		return errors.New("expected a secret of one line, got several")
	case strings.TrimSpace(secret) != secret:
		return errors.New("expected a secret without blanks around it, got some")
	case strings.HasPrefix(secret, "{vault://"), strings.HasPrefix(secret, "$(") && strings.HasSuffix(secret, ")"), strings.HasPrefix(secret, "${") && strings.HasSuffix(secret, "}"):
		return errors.New("expected a secret, got a reference that nobody resolved")
	case len(secret) < minSecret:
		return fmt.Errorf("expected at least %d random bytes, got %d", minSecret, len(secret))
	}
	return nil
}

// setting is the name of the variable of a caller, for messages.
func setting(client int, name string) string {
	return fmt.Sprintf("TOKEN_EXCHANGE_CLIENTS_%d_%s", client, name)
}

// targetSetting is the name of the variable of a target of a caller, for messages.
func targetSetting(client, audience int, name string) string {
	return setting(client, fmt.Sprintf("AUDIENCES_%d_%s", audience, name))
}

// Check reports every problem that a setting can cause, each with its variable. Ring and
// the keys of the subject issuer are not settings; New wants them. No message quotes a
// secret.
func (c *Config) Check() error {
	var problems []error
	problem := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }

	if err := c.checkIssuer(c.Issuer); err != nil {
		problem("TOKEN_EXCHANGE_ISSUER: %w", err)
	}
	if c.SubjectIssuer == "" {
		problem("TOKEN_EXCHANGE_SUBJECT_ISSUER: expected the issuer of the gateway's phantom tokens, got nothing")
	} else if c.SubjectIssuer == c.Issuer {
		problem("TOKEN_EXCHANGE_SUBJECT_ISSUER: expected another issuer than TOKEN_EXCHANGE_ISSUER, got the same; exchanged tokens could be exchanged again")
	}
	if c.Lifetime < minLifetime || c.Lifetime > maxLifetime {
		problem("TOKEN_EXCHANGE_TOKEN_LIFETIME: expected %s to %s, got %s", minLifetime, maxLifetime, c.Lifetime)
	}
	if len(c.Clients) == 0 {
		problem("%s: expected at least one client, got none", setting(0, "ID"))
	}
	ids := make(map[string]int)
	for i := range c.Clients {
		client := &c.Clients[i]
		if first, twice := ids[client.ID]; twice && client.ID != "" {
			problem("%s: expected an id of its own, got that of %s", setting(i, "ID"), setting(first, "ID"))
		}
		ids[client.ID] = i
		problems = append(problems, client.check(i)...)
	}
	return errors.Join(problems...)
}

func (c *Config) checkIssuer(issuer string) error {
	if issuer == "" {
		return errors.New("expected the URL of this service, got nothing")
	}
	if err := oauth.CheckTransport(issuer, c.InsecureHosts); err != nil {
		if _, malformed := oauth.ParseResource(issuer); malformed == nil { // then it is http that is wrong
			err = fmt.Errorf("%w (the variable is TOKEN_EXCHANGE_INSECURE_HTTP_HOSTS)", err)
		}
		return err
	}
	if u, err := url.Parse(issuer); err != nil || u.RawQuery != "" || u.ForceQuery {
		return fmt.Errorf("expected a URL without query, got %q", issuer)
	}
	return nil
}

func (c *Client) check(index int) (problems []error) {
	problem := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	for _, f := range []struct{ name, value, what string }{
		{"ID", c.ID, "a client id"},
		{"SECRET", c.Secret, "a secret (or a file with it in " + setting(index, "SECRET_FILE") + ")"},
		{"SUBJECT_AUDIENCE", c.SubjectAudience, "the aud of the tokens that this client may exchange"},
	} {
		if f.value == "" {
			problem("%s: expected %s, got nothing", setting(index, f.name), f.what)
		}
	}
	for _, f := range []struct{ name, value string }{{"ID", c.ID}, {"SUBJECT_AUDIENCE", c.SubjectAudience}} {
		if !isName(f.value) {
			problem("%s: expected a name without blanks and without *, got %q", setting(index, f.name), f.value)
		}
	}
	if c.Secret != "" {
		if err := checkSecret(c.Secret); err != nil {
			problem("%s: %w (or in the file of %s)", setting(index, "SECRET"), err, setting(index, "SECRET_FILE"))
		}
	}
	names := make(map[string]int)
	for i, audience := range c.Audiences {
		at := func(name string) string { return targetSetting(index, i, name) }
		if audience.Name == "" {
			problem("%s: expected the aud of a target, got nothing", at("NAME"))
		} else if !isName(audience.Name) {
			problem("%s: expected a name without blanks and without *, got %q", at("NAME"), audience.Name)
		} else if first, twice := names[audience.Name]; twice {
			problem("%s: expected a name of its own, got that of %s", at("NAME"), targetSetting(index, first, "NAME"))
		}
		names[audience.Name] = i
		for _, scope := range audience.Scopes {
			if parsed, err := oauth.ParseScopes(scope); err != nil || len(parsed) != 1 {
				problem("%s: expected scope tokens separated by commas, got %q", at("SCOPES"), scope)
			}
		}
		for _, claim := range audience.Claims {
			if claim == "" || reserved(claim) || !isName(claim) {
				problem("%s: expected names of claims about the user, got %q, which is not copied", at("CLAIMS"), claim)
			}
		}
	}
	return problems
}

// client is a Client made ready for requests.
type client struct {
	Client
	index    int
	secret   [sha256.Size]byte
	verifier *keyring.Verifier
	targets  map[string]int // name → index in Audiences
}

func (c *Config) clients() (map[string]*client, error) {
	out := make(map[string]*client, len(c.Clients))
	for i, cfg := range c.Clients {
		verifier, err := keyring.NewVerifier(keyring.VerifierConfig{
			Issuer:    c.SubjectIssuer,
			Audiences: []string{cfg.SubjectAudience},
			Keys:      c.SubjectKeys,
			Leeway:    clockLeeway,
			Now:       c.Now,
		})
		if err != nil {
			return nil, fmt.Errorf("client %q: %w", cfg.ID, err)
		}
		cl := &client{Client: cfg, index: i, secret: sha256.Sum256([]byte(cfg.Secret)), verifier: verifier, targets: make(map[string]int)}
		cl.Secret = "" // only its digest is needed from here on
		for j, audience := range cfg.Audiences {
			cl.targets[audience.Name] = j
		}
		out[cfg.ID] = cl
	}
	return out, nil
}

// nobody is what an unknown client id is compared with, so that it takes the same path as
// a wrong secret.
func nobody() *client {
	c := new(client)
	_, _ = rand.Read(c.secret[:]) // documented never to fail
	return c
}
