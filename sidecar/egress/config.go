package egress

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"phantomtoken/internal/oauth"
	"phantomtoken/internal/regularfile"
)

// Config is what a [Proxy] needs. Routes and Tokens are required.
type Config struct {
	// Routes are all that can be reached; at least one. Their order does not matter.
	Routes []Route
	// Tokens makes the exchanged tokens.
	Tokens TokenSource
	// InsecureHosts are hosts, "host" or "host:port", to which plain http is accepted beside
	// loopback: tokens cross that network in the clear.
	InsecureHosts []string
	// Now is the clock of Outcome.Duration; time.Now when nil. Timeouts use the real clock.
	Now func() time.Time
	// Logger gets one line per request that did not succeed; nil discards them. No line has a
	// token, a path, a query or what an API wrote.
	Logger *slog.Logger
	// Observe is called once at the end of every request, for metrics; nil is no observer. It
	// must be safe for concurrent use and must not wait.
	Observe func(Outcome)
}

// Route leads requests to one API. At least one of Host and Path is set.
type Route struct {
	// Host is the Host of the request without port, in any case. Empty is any host.
	Host string
	// Path is a prefix of the request's path that ends where a segment ends: /stocks holds
	// /stocks and /stocks/x, not /stocksx. Empty, or /, is any path.
	Path string
	// StripPath removes Path before the rest is put behind the path of Upstream.
	StripPath bool
	// Upstream is the API: an absolute URL without user, query and fragment. Its path is put
	// before every path that is asked for; its host is Host and TLS server name.
	Upstream *url.URL
	// Audience is whom tokens of this route are for.
	Audience string
	// Scopes are asked for; none asks for whatever the caller may have.
	Scopes oauth.Scopes
	// CAFile is a PEM file with the only authorities that the certificate of Upstream may
	// come from; empty means those of the system. It is read by [New] alone.
	CAFile string
	// Addresses are the only ranges that a connection to Upstream may go to. None means the
	// address itself where the host of Upstream is one, loopback where it is localhost, and
	// otherwise all but loopback, unspecified, link-local, multicast and broadcast addresses,
	// the metadata services of clouds, and IPv6 addresses with one of these inside.
	Addresses []netip.Prefix
	// Timeout is how long the API may take until the first byte of its answer, counted from
	// the end of the request; also the longest that it may read nothing of a body, and the most
	// for connecting. [DefaultTimeout] when 0.
	Timeout time.Duration
	// Line is where the route stands in the policy file, for the log; 0 when unknown.
	Line int
}

// DefaultTimeout is the Timeout of a route that has none.
const DefaultTimeout = 30 * time.Second

// Call is the exchange that a request needs.
type Call struct {
	// SubjectToken is the phantom token as the application sent it, not verified.
	SubjectToken string
	// Audience and Scope are those of the route.
	Audience string
	Scope    []string
	// Tool is the MCP tool that the application makes the request for, by its own word; empty
	// when it named none.
	Tool string
}

// TokenSource exchanges tokens, and keeps them. It must be safe for concurrent use.
type TokenSource interface {
	// Token returns a token for call, without "Bearer ". A refusal is an error that carries a
	// [tokenexchange.Error]; without one the fault is taken for one of the configuration,
	// unless the error matches tokenexchange.ErrUnavailable, tokenexchange.ErrUnacceptable or
	// context.DeadlineExceeded. The text of the error goes to the log.
	Token(ctx context.Context, call Call) (token string, err error)
	// Evict forgets token, if it is what Token would return for call: the API answered 401 to
	// it.
	Evict(call Call, token string)
}

func (c *Config) now() func() time.Time {
	if c.Now == nil {
		return time.Now
	}
	return c.Now
}

func (c *Config) logger() *slog.Logger {
	if c.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return c.Logger
}

func (c *Config) observe() func(Outcome) {
	if c.Observe == nil {
		return func(Outcome) {}
	}
	return c.Observe
}

// routes checks all routes and makes them ready. The error names every setting that has to
// change.
func (c *Config) routes() ([]*route, error) {
	var (
		out      []*route
		problems []error
	)
	if len(c.Routes) == 0 {
		problems = append(problems, errors.New("egress.routes: expected at least one route, got none"))
	}
	names := make(map[[2]string]int)
	for i := range c.Routes {
		r, errs := c.Routes[i].ready(c.InsecureHosts)
		r.index = i
		if first, twice := names[[2]string{r.host, r.prefix}]; twice {
			errs = append(errs, fmt.Errorf("path: expected a host and path of its own, got those of egress.routes[%d]", first))
		} else {
			names[[2]string{r.host, r.prefix}] = i
		}
		for _, err := range errs {
			problems = append(problems, fmt.Errorf("egress.routes[%d].%w", i, err))
		}
		out = append(out, r)
	}
	return out, errors.Join(problems...)
}

// ready checks one route. Errors begin with the name of the field.
func (cfg *Route) ready(insecureHosts []string) (r *route, problems []error) {
	problem := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	r = &route{
		audience: cfg.Audience,
		scopes:   cfg.Scopes,
		strip:    cfg.StripPath,
		line:     cfg.Line,
		timeout:  cmp.Or(cfg.Timeout, DefaultTimeout),
	}
	if cfg.Host == "" && cfg.Path == "" {
		problem("host: expected a host, or a path in path, got neither")
	}
	if host, ok := hostname(cfg.Host); !ok || host != strings.ToLower(cfg.Host) || strings.Contains(host, "*") {
		problem("host: expected a host name without port, got %q", cfg.Host)
	} else {
		r.host = host
	}
	if prefix, err := basePath(cfg.Path); err != nil {
		problem("path: expected a path like /stocks, got %q: %w", cfg.Path, err)
	} else if hasParameters(prefix) {
		problem("path: expected a path without parameters, got a semicolon in %q", cfg.Path)
	} else {
		r.prefix = prefix
		r.segments = strings.Count(prefix, "/")
	}
	if cfg.Audience == "" {
		problem("audience: expected whom the tokens are for, got nothing")
	}
	if cfg.Timeout < 0 {
		problem("timeout: expected a positive duration, got %s", cfg.Timeout)
	}
	if err := r.setUpstream(cfg.Upstream, insecureHosts); err != nil {
		problem("upstream: %w", err)
		return r, problems
	}
	roots, err := authorities(cfg.CAFile)
	switch {
	case err != nil:
		problem("ca_file: %w", err)
	case roots != nil && cfg.Upstream.Scheme != "https":
		problem("ca_file: expected none for an http upstream, got %q", cfg.CAFile)
	}
	r.addresses = addressRule(cfg.Upstream.Hostname(), cfg.Addresses)
	r.roots = roots
	return r, problems
}

func (r *route) setUpstream(u *url.URL, insecureHosts []string) error {
	if u == nil {
		return errors.New("expected the URL of an API, got nothing")
	}
	if u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.Opaque != "" {
		return errors.New("expected a URL without user, query and fragment") // it may hold a secret: not quoted
	}
	if err := oauth.CheckTransport(u.String(), insecureHosts); err != nil {
		if u.Scheme == "http" {
			err = fmt.Errorf("%w (the variable is TOKEN_EXCHANGE_INSECURE_HTTP_HOSTS)", err)
		}
		return err
	}
	base, err := basePath(u.EscapedPath())
	if err != nil {
		return fmt.Errorf("expected a path without ambiguity, got %q: %w", u.EscapedPath(), err)
	}
	r.upstream = &url.URL{Scheme: u.Scheme, Host: u.Host}
	r.base = base
	return nil
}

// maxCAFile bounds what is read of a file that was named by mistake.
const maxCAFile = 4 << 20

// authorities reads ca_file; nil without one.
func authorities(name string) (*x509.CertPool, error) {
	if name == "" {
		return nil, nil
	}
	f, info, err := regularfile.Open(name)
	switch {
	case errors.Is(err, regularfile.ErrIrregular):
		return nil, fmt.Errorf("reading certificates: %w, got %q", err, name)
	case err != nil: // has the path in it
		return nil, fmt.Errorf("reading certificates: %w", err)
	}
	defer f.Close()
	if info.Size() > maxCAFile {
		return nil, fmt.Errorf("expected a PEM file of at most %d bytes, got %q", maxCAFile, name)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxCAFile))
	if err != nil {
		return nil, fmt.Errorf("reading certificates: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("expected certificates in PEM, got none in %q", name)
	}
	return pool, nil
}
