package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"phantomtoken/internal/delegation"
	"phantomtoken/internal/keyring"
	"phantomtoken/internal/oauth"
	"phantomtoken/sidecar/caller"
	"phantomtoken/sidecar/telemetry"
	"phantomtoken/tokenexchange"
)

// provider is the identity provider that issues tokens for audiences with issue: idp.
type provider struct {
	endpoint  *delegation.Endpoint
	clientID  string // ours there
	issuer    string
	source    keyring.KeySource
	keys      *issuerKeys // nil where they are those of the subject issuer
	transport *http.Transport
}

// newProvider makes the client of the identity provider, nil when none is configured. It makes
// no call.
func newProvider(cfg *config, subject *issuerKeys, tracing *telemetry.Tracing, logger *slog.Logger) (_ *provider, err error) {
	c := &cfg.Provider
	if c.TokenEndpoint == "" {
		if c.configured() {
			return nil, errors.New(envPrefix + "IDP_TOKEN_ENDPOINT: expected the token endpoint of the identity provider beside its other settings, got nothing")
		}
		return nil, nil
	}
	var problems []error
	problem := func(variable string, err error) {
		if err != nil {
			problems = append(problems, fmt.Errorf("%sIDP_%s: %w", envPrefix, variable, err))
		}
	}
	p := &provider{clientID: c.ClientID, issuer: c.Issuer, source: subject.source}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	authorities, err := certificates(c.CAFile)
	problem("CA_FILE", err)
	switch {
	case c.JWKSURI != "":
		if p.keys, err = remoteKeys(cfg, "IDP_JWKS_URI", c.JWKSURI, authorities, logger); err != nil {
			problems = append(problems, err)
		} else {
			p.source = p.keys.source
		}
	case c.Issuer != "" && c.Issuer != cfg.SubjectIssuer:
		problem("JWKS_URI", errors.New("expected the key set of "+envPrefix+"IDP_ISSUER, which is another issuer than "+envPrefix+"SUBJECT_ISSUER, got nothing"))
	}
	if p.issuer == "" {
		p.issuer = cfg.SubjectIssuer
	}
	if err := oauth.CheckTransport(c.TokenEndpoint, cfg.InsecureHTTPHosts); err != nil {
		problem("TOKEN_ENDPOINT", withInsecureHosts(c.TokenEndpoint, err))
	}
	if c.ClientID == "" {
		problem("CLIENT_ID", errors.New("expected the id of this sidecar at the identity provider, got nothing"))
	}
	secret, err := providerSecret(c)
	problem("CLIENT_SECRET", err)
	if c.AuthMethod != oauth.AuthBasic && c.AuthMethod != oauth.AuthPost {
		problem("AUTH_METHOD", fmt.Errorf("expected %s or %s, got %q", oauth.AuthBasic, oauth.AuthPost, c.AuthMethod))
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	p.transport = providerTransport(authorities)
	client, err := tokenexchange.New(tokenexchange.Config{
		Endpoint: c.TokenEndpoint, ClientID: c.ClientID, ClientSecret: secret, AuthMethod: tokenexchange.AuthMethod(c.AuthMethod),
		Transport:         tracing.Client("token exchange at the identity provider", p.transport),
		InsecureAllowHTTP: true, // CheckTransport has said which hosts may
	})
	if err != nil {
		return nil, fmt.Errorf("%sIDP_TOKEN_ENDPOINT: %w", envPrefix, err)
	}
	p.endpoint, err = delegation.NewEndpoint(delegation.EndpointConfig{Exchanger: client, Logger: logger})
	return p, err
}

// target is the way to tokens for audience.
func (p *provider) target(audience string) (*delegation.Target, error) {
	verifier, err := keyring.NewVerifier(keyring.VerifierConfig{
		Issuer: p.issuer, Audiences: []string{audience}, Keys: p.source, Types: []string{keyring.TypeAccessToken, "JWT"}, Leeway: providerLeeway,
	})
	if err != nil {
		return nil, err
	}
	return delegation.NewTarget(delegation.TargetConfig{
		Endpoint: p.endpoint, Verifier: verifier, Audience: audience, ExactAudience: true, ClientID: p.clientID,
		Settings: delegation.Settings{
			Subject:     "phantom token",
			ClientID:    envPrefix + "IDP_CLIENT_ID",
			Credentials: envPrefix + "IDP_CLIENT_ID, " + envPrefix + "IDP_CLIENT_SECRET and " + envPrefix + "IDP_AUTH_METHOD",
			Endpoint:    envPrefix + "IDP_TOKEN_ENDPOINT",
			Issuer:      envPrefix + "IDP_ISSUER",
			Keys:        envPrefix + "IDP_JWKS_URI",
			Issue:       "audiences." + audience + ".issue",
			Audience:    "audiences." + audience,
			Scope:       "audiences." + audience + ".scopes",
		},
	})
}

// providerLeeway is the accepted difference between our clock and the provider's.
const providerLeeway = 30 * time.Second

// answers reports whether calls are being made: false for a pause after several in a row had
// no answer.
func (p *provider) answers() bool { return p.endpoint.Answers() }

func (p *provider) close() {
	p.keys.close()
	if p.transport != nil {
		p.transport.CloseIdleConnections()
	}
}

func providerSecret(c *providerConfig) (string, error) {
	switch {
	case c.SecretFile == "" && c.Secret == "":
		return "", errors.New("expected a secret (or a file with it in " + envPrefix + "IDP_CLIENT_SECRET_FILE), got nothing")
	case c.SecretFile != "" && c.Secret != "":
		return "", errors.New("expected the secret once, got it in " + envPrefix + "IDP_CLIENT_SECRET_FILE too")
	case c.SecretFile != "":
		return caller.ReadSecret(c.SecretFile)
	}
	return c.Secret, nil
}

// maxCAFile bounds what is read of a file that was named by mistake.
const maxCAFile = 4 << 20

// certificates reads the authorities of a PEM file; nil without one.
func certificates(path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil
	}
	data, _, err := readRegular(path, maxCAFile)
	if err != nil {
		return nil, fmt.Errorf("expected a readable file with certificates: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, errors.New("expected certificates in PEM, got none")
	}
	return pool, nil
}

func providerTransport(authorities *x509.CertPool) *http.Transport {
	return &http.Transport{
		Proxy:                  nil, // HTTP_PROXY must not decide where tokens go
		DialContext:            (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: authorities},
		TLSHandshakeTimeout:    5 * time.Second,
		ForceAttemptHTTP2:      true,
		MaxIdleConnsPerHost:    32, // all calls go to one host
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
	}
}
