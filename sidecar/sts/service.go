package sts

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"phantomtoken/internal/keyring"
	"phantomtoken/internal/oauth"
	"phantomtoken/sidecar/caller"
	"phantomtoken/sidecar/exchange"
	"phantomtoken/tokenexchange"
)

// Config is what a Service is made of. It is immutable once given to New.
type Config struct {
	// Issuer is the URL of this service, iss of what it mints: https, or http to a loopback
	// host or to one of InsecureHosts.
	Issuer string
	// Keys are published: those that sign what is minted.
	Keys keyring.Keys
	// Exchange decides.
	Exchange *exchange.Exchanger
	// Callers knows who calls.
	Callers *caller.Authenticator
	// SubjectDocuments are metadata and keys of the issuer of phantom tokens, served here too;
	// nil when only the gateway serves them.
	SubjectDocuments *keyring.Issuer

	// InsecureHosts are hosts to which plain http is accepted beside loopback.
	InsecureHosts []string
	// Now is the clock; time.Now when nil.
	Now func() time.Time
}

// Service answers token requests and serves the documents of its issuer and of the
// gateway's. It is safe for concurrent use.
type Service struct {
	cfg       Config
	tokenURL  string
	tokenPath string
	state     atomic.Pointer[state]
}

// state is what comes with those who may call. The documents name their methods.
type state struct {
	callers   *caller.Authenticator
	documents *keyring.Issuer
}

// CheckIssuer reports why issuer cannot be the URL of the service. The message is for the
// variable that holds it.
func CheckIssuer(issuer string, insecureHosts []string) error {
	if issuer == "" {
		return errors.New("expected the URL of this service, got nothing")
	}
	if err := oauth.CheckTransport(issuer, insecureHosts); err != nil {
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

// TokenEndpoint is the URL of the token endpoint of issuer.
func TokenEndpoint(issuer string) string { return strings.TrimSuffix(issuer, "/") + "/token" }

// New makes a service of cfg. The error names the environment variable to change.
func New(cfg Config) (*Service, error) {
	if err := CheckIssuer(cfg.Issuer, cfg.InsecureHosts); err != nil {
		return nil, fmt.Errorf("TOKEN_EXCHANGE_ISSUER: %w", err)
	}
	if cfg.Keys == nil || cfg.Exchange == nil || cfg.Callers == nil {
		return nil, errors.New("making token service: expected keys, an exchanger and callers, got none")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	tokenURL, err := url.Parse(TokenEndpoint(cfg.Issuer))
	if err != nil {
		return nil, fmt.Errorf("TOKEN_EXCHANGE_ISSUER: %w", err)
	}
	s := &Service{cfg: cfg, tokenURL: tokenURL.String(), tokenPath: tokenURL.EscapedPath()}
	if err := s.UseCallers(cfg.Callers); err != nil {
		return nil, err
	}
	if gateway := cfg.SubjectDocuments; gateway != nil {
		for _, path := range documentPaths(gateway) {
			if _, both := s.state.Load().documents.Document(path); both || path == s.tokenPath {
				return nil, fmt.Errorf("TOKEN_EXCHANGE_ISSUER: expected a URL whose path differs from that of TOKEN_EXCHANGE_SUBJECT_ISSUER, got %q and %q, whose documents would both be at %s", cfg.Issuer, gateway.URL(), path)
			}
		}
	}
	return s, nil
}

// UseCallers replaces those who may call. Requests that are being answered end with the old
// ones, and on error all do.
func (s *Service) UseCallers(callers *caller.Authenticator) error {
	documents, err := keyring.NewIssuer(oauth.IssuerMetadata{
		Issuer:                  s.cfg.Issuer,
		TokenEndpoint:           s.tokenURL,
		TokenEndpointAuth:       callers.Methods(),
		TokenEndpointAlgorithms: callers.Algorithms(),
		GrantTypesSupported:     []string{tokenexchange.GrantType},
	}, s.cfg.Keys)
	if err != nil {
		return fmt.Errorf("TOKEN_EXCHANGE_ISSUER: %w", err)
	}
	s.state.Store(&state{callers: callers, documents: documents})
	return nil
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
	_, found := s.document(path)
	return found
}

func (s *Service) document(path string) ([]byte, bool) {
	if document, ok := s.state.Load().documents.Document(path); ok {
		return document, true
	}
	if s.cfg.SubjectDocuments == nil {
		return nil, false
	}
	return s.cfg.SubjectDocuments.Document(path)
}

// ServeHTTP implements http.Handler. Paths are compared with what was configured, byte by
// byte: a router with patterns would give meaning to characters of an issuer's path.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.EscapedPath()
	if path == s.tokenPath {
		s.serveToken(w, r)
		return
	}
	if document, ok := s.document(path); ok {
		serveDocument(w, r, document)
		return
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
	w.Header().Set("Cache-Control", fmt.Sprintf("public, max-age=%d", int(keyring.DocumentMaxAge.Seconds())))
	writeJSON(w, http.StatusOK, document)
}
