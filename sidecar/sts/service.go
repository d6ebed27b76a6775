package sts

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"phantomtoken/internal/keyring"
	"phantomtoken/internal/oauth"
	"phantomtoken/tokenexchange"
)

const (
	// clockLeeway is the accepted difference between our clock and the gateway's for iat
	// and nbf. An expired subject token is refused without leeway: what is issued must not
	// outlive it.
	clockLeeway = 30 * time.Second
	// requestTimeout bounds one decision, fetching the gateway's keys included.
	requestTimeout = 10 * time.Second
	// documentMaxAge is how long metadata and keys may be cached. A key has to be published
	// that long before it signs.
	documentMaxAge = 5 * time.Minute
)

// Service answers token requests and serves the documents of its issuer and of the
// gateway's. It is immutable and safe for concurrent use.
type Service struct {
	cfg       Config
	clients   map[string]*client
	nobody    *client
	tokenPath string
	issuers   []*keyring.Issuer

	subjectKeysSeen atomic.Bool // see Ready
}

// New checks cfg and makes a service of it. The error has every problem in it, each with the
// name of the environment variable to change.
func New(cfg Config) (*Service, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	if cfg.Ring == nil || cfg.SubjectKeys == nil {
		return nil, errors.New("making token service: expected keys to sign and keys of the subject issuer, got none")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	base := strings.TrimSuffix(cfg.Issuer, "/")
	tokenURL, err := url.Parse(base + "/token")
	if err != nil {
		return nil, fmt.Errorf("TOKEN_EXCHANGE_ISSUER: %w", err)
	}
	own, err := keyring.NewIssuer(oauth.IssuerMetadata{
		Issuer:              cfg.Issuer,
		TokenEndpoint:       tokenURL.String(),
		TokenEndpointAuth:   []string{string(tokenexchange.AuthBasic), string(tokenexchange.AuthPost)},
		GrantTypesSupported: []string{tokenexchange.GrantType},
	}, cfg.Ring)
	if err != nil {
		return nil, fmt.Errorf("TOKEN_EXCHANGE_ISSUER: %w", err)
	}
	s := &Service{cfg: cfg, nobody: nobody(), tokenPath: tokenURL.EscapedPath(), issuers: []*keyring.Issuer{own}}
	if cfg.SubjectDocuments != nil {
		for _, path := range documentPaths(cfg.SubjectDocuments) {
			if s.Handles(path) {
				return nil, fmt.Errorf("TOKEN_EXCHANGE_ISSUER: expected a URL whose path differs from that of TOKEN_EXCHANGE_SUBJECT_ISSUER, got %q and %q, whose documents would both be at %s", cfg.Issuer, cfg.SubjectIssuer, path)
			}
		}
		s.issuers = append(s.issuers, cfg.SubjectDocuments)
	}
	if s.clients, err = cfg.clients(); err != nil {
		return nil, err
	}
	return s, nil
}

// documentPaths lists the paths at which issuer has a document.
func documentPaths(issuer *keyring.Issuer) []string {
	u, err := url.Parse(issuer.URL())
	if err != nil {
		return nil
	}
	path := strings.TrimSuffix(u.EscapedPath(), "/")
	paths := []string{
		oauth.WellKnownAuthorizationServer + path, path + oauth.WellKnownAuthorizationServer,
		oauth.WellKnownOpenIDConfiguration + path, path + oauth.WellKnownOpenIDConfiguration,
		path + keyring.JWKSPath,
	}
	return slices.DeleteFunc(paths, func(p string) bool {
		_, ok := issuer.Document(p)
		return !ok
	})
}

// Handles reports whether the service answers requests for path.
func (s *Service) Handles(path string) bool {
	if path == s.tokenPath {
		return true
	}
	return slices.ContainsFunc(s.issuers, func(i *keyring.Issuer) bool {
		_, ok := i.Document(path)
		return ok
	})
}

// Ready reports why the service cannot exchange tokens: the keys of the gateway were never
// to be had so far. Once they were, it stays ready: when the gateway is down, taking the
// sidecars out of service too would help nobody, and requests that really lack a key are
// answered with 503 one by one.
func (s *Service) Ready(ctx context.Context) error {
	if s.subjectKeysSeen.Load() {
		return nil
	}
	if _, err := s.cfg.SubjectKeys.Keys(ctx, ""); err != nil {
		return fmt.Errorf("getting the keys of the subject issuer: %w", err)
	}
	s.subjectKeysSeen.Store(true)
	return nil
}

// ServeHTTP implements http.Handler. Paths are compared with what was configured, byte by
// byte: a router with patterns would give meaning to characters of an issuer's path.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.EscapedPath()
	if path == s.tokenPath {
		s.serveToken(w, r)
		return
	}
	for _, issuer := range s.issuers {
		if document, ok := issuer.Document(path); ok {
			serveDocument(w, r, document)
			return
		}
	}
	writeJSON(w, http.StatusNotFound, (&oauth.Error{Code: oauth.ErrorNotFound}).Body())
}

// serveDocument serves what is public: any page may read it, any cache may keep it.
func serveDocument(w http.ResponseWriter, r *http.Request, document []byte) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		writeJSON(w, http.StatusMethodNotAllowed, (&oauth.Error{Code: oauth.ErrorMethodNotAllowed}).Body())
		return
	}
	w.Header().Set("Access-Control-Allow-Origin", "*")
	w.Header().Set("Cache-Control", fmt.Sprintf("public, max-age=%d", int(documentMaxAge.Seconds())))
	writeJSON(w, http.StatusOK, document)
}
