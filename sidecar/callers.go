package main

import (
	"errors"
	"fmt"

	"phantomtoken/internal/policy"
	"phantomtoken/sidecar/caller"
	"phantomtoken/sidecar/sts"
)

// newCallers reads the secrets and keys of p's callers.
func (s *sidecar) newCallers(p *policy.Policy) (*caller.Authenticator, error) {
	cfg := caller.Config{
		Issuer: s.cfg.Issuer, TokenEndpoint: sts.TokenEndpoint(s.cfg.Issuer), Lookup: s.cfg.lookup,
		KeySets: &s.keySets, InsecureHosts: s.cfg.InsecureHTTPHosts, Logger: s.logger,
	}
	if s.cluster != nil {
		cfg.Kubernetes = &caller.Kubernetes{Issuer: s.cfg.Kubernetes.Issuer, Keys: s.cluster.source, Audience: s.cfg.Kubernetes.Audience}
	}
	var (
		registered []caller.Caller
		problems   []error
	)
	for _, c := range p.Callers() {
		if c.Authentication.MTLS != nil && s.cfg.TLS.ClientCAFile == "" {
			problems = append(problems, fmt.Errorf("%d: callers.%s.authentication.mtls: expected authorities of client certificates in %sTLS_CLIENT_CA_FILE, got none", c.Line, c.ID, envPrefix))
		}
		registered = append(registered, registeredCaller(c))
	}
	callers, err := caller.New(cfg, registered, s.replay)
	if err := errors.Join(append(problems, err)...); err != nil {
		closePolicy(callers, nil)
		return nil, err
	}
	return callers, nil
}

func registeredCaller(c policy.Caller) caller.Caller {
	a := &c.Authentication
	out := caller.Caller{
		ID: c.ID, SecretFiles: a.SecretFiles, SecretVariables: a.SecretVariables,
		Where: fmt.Sprintf("%d: callers.%s.authentication", c.Line, c.ID),
	}
	if a.PrivateKeyJWT != nil {
		out.JWKSFile, out.JWKSURI = a.PrivateKeyJWT.JWKSFile, a.PrivateKeyJWT.JWKSURI
	}
	if a.MTLS != nil {
		out.SPIFFEID, out.DNSName = a.MTLS.SPIFFEID, a.MTLS.DNSName
	}
	if a.Kubernetes != nil {
		out.ServiceAccount = &caller.ServiceAccount{Namespace: a.Kubernetes.Namespace, Name: a.Kubernetes.Name}
	}
	return out
}
