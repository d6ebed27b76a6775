package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"

	"phantomtoken/internal/keyring"
	"phantomtoken/internal/oauth"
)

// issuerKeys are the public keys of an issuer: the gateway, the provider, the cluster.
type issuerKeys struct {
	source    keyring.KeySource
	public    keyring.PublicKeys // those of files
	documents *keyring.Issuer    // nil when only the issuer serves them
	remote    *keyring.RemoteKeys
}

// close is for nil too.
func (k *issuerKeys) close() {
	if k != nil && k.remote != nil {
		k.remote.Close()
	}
}

// remoteKeys are those that an issuer publishes at uri, the value of variable. Without
// authorities, those of the system count.
func remoteKeys(cfg *config, variable, uri string, authorities *x509.CertPool, logger *slog.Logger) (*issuerKeys, error) {
	remote, err := keyring.NewRemoteKeys(keyring.RemoteConfig{URL: uri, CAs: authorities, InsecureHosts: cfg.InsecureHTTPHosts, Logger: logger})
	if err != nil {
		return nil, fmt.Errorf("%s%s: %w", envPrefix, variable, withInsecureHosts(uri, err))
	}
	return &issuerKeys{source: remote, remote: remote}, nil
}

// withInsecureHosts names the setting that would accept http, where that is what is wrong.
func withInsecureHosts(url string, err error) error {
	if _, malformed := oauth.ParseResource(url); malformed == nil {
		return fmt.Errorf("%w (the variable is %sINSECURE_HTTP_HOSTS)", err, envPrefix)
	}
	return err
}

// openSubject finds the keys of the subject issuer. It returns keys beside an error too, for
// further checks.
func openSubject(cfg *config, logger *slog.Logger) (*issuerKeys, error) {
	var problems []error
	switch {
	case cfg.SubjectIssuer == "":
		problems = append(problems, errors.New(envPrefix+"SUBJECT_ISSUER: expected the issuer of the phantom tokens, got nothing"))
	case cfg.SubjectIssuer == cfg.Issuer:
		problems = append(problems, errors.New(envPrefix+"SUBJECT_ISSUER: expected another issuer than "+envPrefix+"ISSUER, got the same; exchanged tokens could be exchanged again"))
	}
	switch cfg.SubjectMode {
	case modeMint, modeIntrospection, modeExchange:
	default:
		problems = append(problems, fmt.Errorf("%sSUBJECT_MODE: expected mint, introspection or exchange, as phantom_token.mode at the gateway, got %q", envPrefix, cfg.SubjectMode))
	}
	keys, err := subjectKeys(cfg, logger)
	problems = append(problems, err)
	// In the other modes the issuer is the provider, which has documents of its own.
	if len(keys.public) > 0 && cfg.SubjectIssuer != "" && cfg.SubjectMode == modeMint {
		if keys.documents, err = keyring.NewPublicIssuer(oauth.IssuerMetadata{Issuer: cfg.SubjectIssuer}, keys.public); err != nil {
			problems = append(problems, fmt.Errorf("%sSUBJECT_ISSUER: %w", envPrefix, err))
		}
	}
	return keys, errors.Join(problems...)
}

// subjectKeys are never nil, but empty beside an error.
func subjectKeys(cfg *config, logger *slog.Logger) (*issuerKeys, error) {
	const files, uri = envPrefix + "SUBJECT_KEY_FILES", envPrefix + "SUBJECT_JWKS_URI"
	out := new(issuerKeys)
	switch {
	case len(cfg.SubjectKeyFiles) == 0 && cfg.SubjectJWKSURI == "":
		return out, fmt.Errorf("%s or %s: expected one of the two, got neither", files, uri)
	case len(cfg.SubjectKeyFiles) > 0 && cfg.SubjectJWKSURI != "":
		return out, fmt.Errorf("%s and %s: expected one of the two, got both", files, uri)
	case cfg.SubjectJWKSURI != "":
		keys, err := remoteKeys(cfg, "SUBJECT_JWKS_URI", cfg.SubjectJWKSURI, nil, logger)
		if err != nil {
			return out, err
		}
		return keys, nil
	}
	var problems []error
	for _, path := range cfg.SubjectKeyFiles {
		keys, err := keyring.LoadPublic(path)
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", files, err))
			continue
		}
		out.public = append(out.public, keys...)
	}
	if err := errors.Join(problems...); err != nil {
		return new(issuerKeys), err
	}
	out.source = out.public
	return out, nil
}

// The ways in which a gateway makes phantom tokens, as its setting phantom_token.mode names
// them.
const (
	modeMint          = "mint"
	modeIntrospection = "introspection"
	modeExchange      = "exchange"
)

// checkKeysDiffer refuses a key that both issuers have: who verifies a token could not tell
// them apart by it, and whoever runs one of them could speak for the other.
func checkKeysDiffer(own *signingKeys, subject *issuerKeys) error {
	if own.source == nil || len(subject.public) == 0 {
		return nil
	}
	ours, err := keyring.ParsePublic(own.Ring().JWKS())
	if err != nil {
		return err
	}
	for _, a := range ours {
		for _, b := range subject.public {
			if a.Same(b) {
				return fmt.Errorf("%sSUBJECT_KEY_FILES: expected other keys than those of %sSIGNING_KEY_FILE and %sPUBLISHED_KEY_FILES, got key %s in both", envPrefix, envPrefix, envPrefix, a.ID)
			}
		}
	}
	return nil
}

// openCluster finds the keys of the Kubernetes cluster, nil without one.
func openCluster(cfg *config, logger *slog.Logger) (*issuerKeys, error) {
	k := &cfg.Kubernetes
	switch {
	case *k == kubernetesConfig{}:
		return nil, nil
	case k.Issuer == "" || k.JWKSURI == "":
		return nil, fmt.Errorf("%sKUBERNETES_ISSUER and %sKUBERNETES_JWKS_URI: expected both, got one of them or neither", envPrefix, envPrefix)
	}
	authorities, err := certificates(k.CAFile)
	if err != nil {
		return nil, fmt.Errorf("%sKUBERNETES_CA_FILE: %w", envPrefix, err)
	}
	return remoteKeys(cfg, "KUBERNETES_JWKS_URI", k.JWKSURI, authorities, logger)
}
