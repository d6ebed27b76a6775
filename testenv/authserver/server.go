package authserver

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"phantomtoken/internal/oauth"
)

// Paths of the endpoints, behind the issuer's path.
const (
	pathAuthorize  = "/authorize"
	pathLogin      = "/login"
	pathConsent    = "/consent"
	pathToken      = "/token"
	pathRegister   = "/register"
	pathIntrospect = "/introspect"
	pathRevoke     = "/revoke"
	pathJWKS       = "/jwks.json"
	pathHealth     = "/healthz"
)

// Server is a running authorization server, made by [Start]. All methods are safe for
// concurrent use.
type Server struct {
	cfg       Config
	issuer    string
	prefix    string // path of the issuer, without trailing slash
	now       func() time.Time
	log       *slog.Logger
	resources []oauth.Resource
	users     map[string]User
	signer    *signer
	store     *store
	documents *documents
	attempts  *attempts
	templates *template.Template
	endpoints map[string]endpoint

	introspections  atomic.Int64
	trouble         atomic.Pointer[Trouble]
	exchanges       atomic.Int64
	exchangeTrouble atomic.Pointer[Trouble]

	listeners []*http.Server
	cancel    context.CancelFunc // ends the context of every request
	stop      func() bool        // detaches the context given to Start
	closed    func() error       // sync.OnceValue of shutdown
	control   string
}

// Start checks cfg, listens and serves until Close is called or ctx ends.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("checking configuration: %w", err)
	}
	listener, err := net.Listen("tcp", cfg.listen())
	if err != nil {
		return nil, fmt.Errorf("listening: %w", err)
	}
	s, err := newServer(cfg, listener.Addr())
	if err != nil {
		listener.Close()
		return nil, err
	}
	var control net.Listener
	if cfg.ControlListen != "" {
		if control, err = listenLoopback(cfg.ControlListen); err != nil {
			listener.Close()
			return nil, fmt.Errorf("listening for control: %w", err)
		}
		s.control = "http://" + control.Addr().String()
	}

	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.cancel = cancel
	s.serve(base, listener, http.HandlerFunc(s.dispatch))
	if control != nil {
		s.serve(base, control, s.controlHandler())
	}
	s.closed = sync.OnceValue(s.shutdown)
	s.stop = context.AfterFunc(ctx, func() { _ = s.closed() })
	s.log.Info("authorization server started", "issuer", s.issuer, "control", s.control)
	return s, nil
}

// newServer builds everything but the listeners.
func newServer(cfg Config, addr net.Addr) (*Server, error) {
	issuer, prefix, err := cfg.issuerFor(addr)
	if err != nil {
		return nil, err
	}
	s := &Server{
		cfg:       cfg,
		issuer:    issuer,
		prefix:    prefix,
		now:       cfg.now(),
		log:       cfg.logger(),
		users:     map[string]User{},
		documents: newDocuments(cfg),
		attempts:  newAttempts(cfg.now()),
	}
	for _, r := range cfg.Resources {
		res, err := oauth.ParseResource(r)
		if err != nil {
			return nil, fmt.Errorf("checking configuration: %w", err)
		}
		s.resources = append(s.resources, res)
	}
	for _, u := range cfg.Users {
		s.users[u.Name] = u
	}
	if s.signer, err = newSigner(); err != nil {
		return nil, fmt.Errorf("making a signing key: %w", err)
	}
	if s.templates, err = parsePages(); err != nil {
		return nil, fmt.Errorf("reading page templates: %w", err)
	}
	s.store = newStore(s.now, cfg.maxRegistrations())
	for _, cl := range cfg.Clients {
		s.store.addStatic(staticClient(cl, cfg.scopeNames()))
	}
	s.trouble.Store(&Trouble{})
	s.exchangeTrouble.Store(&Trouble{})
	s.endpoints, err = s.routes()
	return s, err
}

// serve answers on l until shutdown. There is no write timeout: Trouble may be asked to
// answer slower than any.
func (s *Server) serve(base context.Context, l net.Listener, h http.Handler) {
	hs := &http.Server{
		Handler:           h,
		BaseContext:       func(net.Listener) context.Context { return base },
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	s.listeners = append(s.listeners, hs)
	go func() {
		if err := hs.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("serving ended", "err", err)
		}
	}()
}

// Issuer is the issuer identifier, byte for byte as in the metadata and in iss.
func (s *Server) Issuer() string { return s.issuer }

// ControlURL is the base URL of the control port, or "" without one.
func (s *Server) ControlURL() string { return s.control }

// IntrospectionEndpoint is the URL that takes introspection requests.
func (s *Server) IntrospectionEndpoint() string { return s.url(pathIntrospect) }

// Close stops the server: it takes no new connection, lets running requests end for two
// seconds and then cuts them off. Further calls return the result of the first.
func (s *Server) Close() error {
	s.stop()
	return s.closed()
}

func (s *Server) shutdown() error {
	s.cancel()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	var errs []error
	for _, hs := range s.listeners {
		if err := hs.Shutdown(ctx); err != nil {
			errs = append(errs, hs.Close())
		}
	}
	return errors.Join(errs...)
}

// url is the absolute URL of an endpoint. An issuer that ends in a slash does not get a
// second one.
func (s *Server) url(path string) string { return strings.TrimSuffix(s.issuer, "/") + path }

// endpoint is what one path answers.
type endpoint struct {
	methods map[string]http.HandlerFunc
	public  bool // any web origin may read the answer
}

func (s *Server) routes() (map[string]endpoint, error) {
	get := func(h http.HandlerFunc) endpoint {
		return endpoint{methods: map[string]http.HandlerFunc{http.MethodGet: h}}
	}
	post := func(h http.HandlerFunc) endpoint {
		return endpoint{methods: map[string]http.HandlerFunc{http.MethodPost: h}}
	}
	public := func(e endpoint) endpoint { e.public = true; return e }

	document, err := s.metadata()
	if err != nil {
		return nil, fmt.Errorf("encoding metadata: %w", err)
	}
	metadata := public(get(serveDocument(document)))
	routes := map[string]endpoint{
		s.prefix + pathAuthorize:  get(s.authorize),
		s.prefix + pathLogin:      post(s.login),
		s.prefix + pathConsent:    {methods: map[string]http.HandlerFunc{http.MethodGet: s.showConsent, http.MethodPost: s.consent}},
		s.prefix + pathToken:      public(post(s.token)),
		s.prefix + pathRegister:   public(post(s.register)),
		s.prefix + pathIntrospect: post(s.introspect),
		s.prefix + pathRevoke:     public(post(s.revoke)),
		s.prefix + pathJWKS:       public(get(serveDocument(s.signer.jwks))),
		s.prefix + pathHealth:     get(serveDocument([]byte(`{"status":"ok"}`))),
	}
	for _, path := range s.metadataPaths() {
		routes[path] = metadata
	}
	return routes, nil
}

// dispatch finds the endpoint by the exact path. A mux would answer some paths with a
// redirect of its own; an authorization server must not.
func (s *Server) dispatch(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	e, ok := s.endpoints[r.URL.Path]
	if !ok {
		writeError(w, r, &oauth.Error{Code: oauth.ErrorNotFound, Status: http.StatusNotFound})
		return
	}
	if e.public {
		allowOrigins(w.Header())
	}
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	if h, ok := e.methods[method]; ok {
		h(w, r)
		return
	}
	var allow []string
	for m := range e.methods {
		allow = append(allow, m)
	}
	if e.public {
		allow = append(allow, http.MethodOptions)
	}
	slices.Sort(allow)
	if e.public && method == http.MethodOptions {
		allowPreflight(w.Header(), allow)
		w.WriteHeader(http.StatusNoContent)
		return
	}
	w.Header().Set("Allow", strings.Join(allow, ", "))
	writeError(w, r, &oauth.Error{Code: oauth.ErrorMethodNotAllowed, Status: http.StatusMethodNotAllowed})
}

// allowOrigins opens an answer to every web origin. The endpoints that use it know no
// cookie, so there is nothing for a foreign page to borrow.
func allowOrigins(h http.Header) {
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Expose-Headers", "WWW-Authenticate")
}

func allowPreflight(h http.Header, methods []string) {
	h.Set("Access-Control-Allow-Methods", strings.Join(methods, ", "))
	h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, Accept, MCP-Protocol-Version, DPoP, traceparent")
	h.Set("Access-Control-Max-Age", "3600")
}

func serveDocument(body []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(body)
	}
}
