package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"phantomtoken/internal/keyring"
	"phantomtoken/internal/oauth"
	"phantomtoken/sidecar/sts"
)

// sidecar is the running parts.
type sidecar struct {
	service *sts.Service
	close   func()
	address net.Addr // where to listen
	// keyMissing says that there is no signing key yet: the sidecar must not run with the one
	// that stands in for it.
	keyMissing bool
}

// build makes the parts that cfg describes. makeKey has a signing key made where there is
// none; without it another one stands in, so that all the rest can be checked before
// anything is written. The error has all problems in it, each with its variable.
func build(cfg *config, makeKey bool, logger *slog.Logger) (*sidecar, error) {
	var problems []error
	own, keyMissing, err := signingKeys(cfg, makeKey, logger)
	problems = append(problems, err)
	subject, err := subjectKeys(cfg, logger)
	problems = append(problems, err, checkKeysDiffer(own, subject.public))
	address, err := net.ResolveTCPAddr("tcp", cfg.Listen)
	if err != nil {
		problems = append(problems, fmt.Errorf("%sLISTEN: expected host:port: %w", envPrefix, err))
	}

	stsConfig := sts.Config{
		Issuer:        cfg.Issuer,
		Ring:          own,
		Lifetime:      cfg.TokenLifetime,
		SubjectIssuer: cfg.SubjectIssuer,
		Clients:       cfg.clients(),
		InsecureHosts: cfg.InsecureHTTPHosts,
		Logger:        logger,
	}
	problems = append(problems, stsConfig.Check())
	if err := errors.Join(problems...); err != nil {
		subject.close()
		return nil, err
	}
	stsConfig.SubjectKeys, stsConfig.SubjectDocuments = subject.source, subject.documents
	service, err := sts.New(stsConfig)
	if err == nil {
		err = checkPaths(service)
	}
	if err != nil {
		subject.close()
		return nil, err
	}
	return &sidecar{service: service, close: subject.close, address: address, keyMissing: keyMissing}, nil
}

// signingKeys loads the keys of this issuer; missing says that the first of them is not the
// one of the file, because there is none.
func signingKeys(cfg *config, makeKey bool, logger *slog.Logger) (ring *keyring.Ring, missing bool, err error) {
	const variable = envPrefix + "SIGNING_KEY_FILE"
	if cfg.SigningKeyFile == "" {
		return nil, false, errors.New(variable + ": expected the path of a key file, got nothing")
	}
	key, err := keyring.Load(cfg.SigningKeyFile, cfg.SigningAlgorithm)
	switch {
	case !errors.Is(err, fs.ErrNotExist):
	case makeKey:
		if key, err = keyring.LoadOrCreate(cfg.SigningKeyFile, cfg.SigningAlgorithm); err == nil {
			logger.Info("signing key created", "file", cfg.SigningKeyFile, "kid", key.ID())
		}
	default:
		missing = true
		if err = checkCreatable(cfg.SigningKeyFile); err == nil {
			key, err = keyring.Generate(cfg.SigningAlgorithm)
		}
	}
	var problems []error
	switch {
	case err != nil && cfg.SigningAlgorithm != "":
		problems = append(problems, fmt.Errorf("%s, %sSIGNING_ALGORITHM: %w", variable, envPrefix, err))
	case err != nil:
		problems = append(problems, fmt.Errorf("%s: %w", variable, err))
	}
	keys := []*keyring.Key{key}
	for _, path := range cfg.PublishedKeyFiles {
		key, err := keyring.Load(path, "")
		if err != nil {
			problems = append(problems, fmt.Errorf("%sPUBLISHED_KEY_FILES: %w", envPrefix, err))
			continue
		}
		keys = append(keys, key)
	}
	if err := errors.Join(problems...); err != nil {
		return nil, missing, err
	}
	if ring, err = keyring.NewRing(keys...); err != nil {
		return nil, missing, fmt.Errorf("%sPUBLISHED_KEY_FILES: %w", envPrefix, err)
	}
	return ring, missing, nil
}

// checkCreatable reports why the file at path cannot be made. It tries in the nearest folder
// that exists and leaves nothing there: neither mode bits nor a look at the mounts would tell
// as surely.
func checkCreatable(path string) error {
	folder := filepath.Dir(path)
	for {
		info, err := os.Stat(folder)
		if err == nil && !info.IsDir() {
			return fmt.Errorf("expected %s to be a folder, in which the key file can be made", folder)
		}
		if err == nil {
			break
		}
		parent := filepath.Dir(folder)
		if !errors.Is(err, fs.ErrNotExist) || parent == folder {
			return fmt.Errorf("expected a folder in which the key file can be made: %w", err)
		}
		folder = parent
	}
	f, err := os.CreateTemp(folder, ".token-exchange-*")
	if err != nil {
		return fmt.Errorf("expected a folder in which the key file can be made: %w", err)
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// checkKeysDiffer refuses a key that both issuers have: who verifies a token could not tell
// them apart by it, and whoever runs one of them could speak for the other.
func checkKeysDiffer(own *keyring.Ring, subject keyring.PublicKeys) error {
	if own == nil || len(subject) == 0 {
		return nil
	}
	ours, err := keyring.ParsePublic(own.JWKS())
	if err != nil {
		return err
	}
	for _, a := range ours {
		for _, b := range subject {
			if a.Same(b) {
				return fmt.Errorf("%sSUBJECT_KEY_FILES: expected other keys than those of %sSIGNING_KEY_FILE and %sPUBLISHED_KEY_FILES, got key %s in both", envPrefix, envPrefix, envPrefix, a.ID)
			}
		}
	}
	return nil
}

// subjectIssuer is what is known of the gateway.
type subjectIssuer struct {
	source    keyring.KeySource
	public    keyring.PublicKeys // those of files
	documents *keyring.Issuer    // nil when only the gateway serves them
	remote    *keyring.RemoteKeys
}

func (s *subjectIssuer) close() {
	if s.remote != nil {
		s.remote.Close()
	}
}

// subjectKeys finds the gateway's keys. It never returns nil.
func subjectKeys(cfg *config, logger *slog.Logger) (*subjectIssuer, error) {
	const files, uri = envPrefix + "SUBJECT_KEY_FILES", envPrefix + "SUBJECT_JWKS_URI"
	out := new(subjectIssuer)
	switch {
	case len(cfg.SubjectKeyFiles) == 0 && cfg.SubjectJWKSURI == "":
		return out, fmt.Errorf("%s or %s: expected one of the two, got neither", files, uri)
	case len(cfg.SubjectKeyFiles) > 0 && cfg.SubjectJWKSURI != "":
		return out, fmt.Errorf("%s and %s: expected one of the two, got both", files, uri)
	case cfg.SubjectJWKSURI != "":
		remote, err := keyring.NewRemoteKeys(keyring.RemoteConfig{URL: cfg.SubjectJWKSURI, InsecureHosts: cfg.InsecureHTTPHosts, Logger: logger})
		if err != nil {
			if _, malformed := oauth.ParseResource(cfg.SubjectJWKSURI); malformed == nil { // then it is http that is wrong
				err = fmt.Errorf("%w (the variable is %sINSECURE_HTTP_HOSTS)", err, envPrefix)
			}
			return out, fmt.Errorf("%s: %w", uri, err)
		}
		out.source, out.remote = remote, remote
		return out, nil
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
		return out, err
	}
	out.source = out.public
	if cfg.SubjectIssuer == "" {
		return out, nil // missing, and reported as that
	}
	var err error
	if out.documents, err = keyring.NewPublicIssuer(oauth.IssuerMetadata{Issuer: cfg.SubjectIssuer}, out.public); err != nil {
		return out, fmt.Errorf("%sSUBJECT_ISSUER: %w", envPrefix, err)
	}
	return out, nil
}

// Paths of the sidecar's own, below no issuer.
const (
	pathHealth = "/healthz"
	pathReady  = "/readyz"
)

// checkPaths refuses an issuer whose endpoints would hide, or be hidden by, those of the
// sidecar.
func checkPaths(service *sts.Service) error {
	for _, path := range []string{pathHealth, pathReady} {
		if service.Handles(path) {
			return fmt.Errorf("%sISSUER: expected a URL whose endpoints leave %s free", envPrefix, path)
		}
	}
	return nil
}

// readyTimeout bounds a readiness check: probes give up after a second or two.
const readyTimeout = time.Second

// ServeHTTP answers health checks and leaves everything else to the token service.
func (s *sidecar) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case pathHealth:
		writeStatus(w, http.StatusOK, "ok")
	case pathReady:
		ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
		defer cancel()
		if err := s.service.Ready(ctx); err != nil {
			// The cause is in the log of the key source; who probes learns that it is not us.
			writeStatus(w, http.StatusServiceUnavailable, "keys of the subject issuer are unavailable")
			return
		}
		writeStatus(w, http.StatusOK, "ready")
	default:
		s.service.ServeHTTP(w, r)
	}
}

func writeStatus(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = fmt.Fprintln(w, text)
}
