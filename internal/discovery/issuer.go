package discovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"phantomtoken/internal/oauth"
)

// ErrUnavailable is wrapped by every error of an Issuer's methods: where the endpoint is
// cannot be known now, or the metadata does not say. The text names the setting to change.
var ErrUnavailable = errors.New("metadata of the issuer is of no use")

const (
	// refreshPause is the least time after a fetch while there is metadata in hand.
	refreshPause = 30 * time.Second
	// retryPause is the least time after a fetch that failed while there is none: services that
	// start together should not have to wait long for each other. It doubles with every
	// failure, up to refreshPause.
	retryPause = time.Second
)

// Endpoint is an endpoint at which our client authenticates.
type Endpoint struct {
	URL        string
	AuthMethod string // oauth.AuthBasic or oauth.AuthPost
}

// Issuer knows the endpoints of one authorization server. It is safe for concurrent use;
// at most one fetch is under way, shared by all callers and cancelled by none of them.
type Issuer struct {
	cfg     Config
	places  []string
	origin  string   // of the issuer
	reached *url.URL // scheme and host of what stands in its place
	client  *http.Client
	ctx     context.Context // of the fetches: ends with Close, not with a caller
	stop    context.CancelFunc

	mu       sync.Mutex
	metadata *metadata
	fetched  time.Time       // when metadata was asked for
	ended    time.Time       // when the last fetch ended; zero: none has
	failure  error           // of the last fetch that ended
	failures int             // in a row
	flight   <-chan struct{} // closed when the fetch under way ends; nil without one
	closed   bool
	fetches  sync.WaitGroup
}

// New checks cfg; it makes no request. Call Close when done.
func New(cfg Config) (*Issuer, error) {
	issuer, reached, err := cfg.check()
	if err != nil {
		return nil, err
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	i := &Issuer{cfg: cfg, origin: originOf(issuer), reached: reached, client: newClient(&cfg)}
	for _, place := range places(issuer) {
		i.places = append(i.places, i.rebase(place))
	}
	i.ctx, i.stop = context.WithCancel(context.Background())
	return i, nil
}

// Close ends a fetch that is under way and waits for it. Later calls find only what was
// fetched before.
func (i *Issuer) Close() {
	i.mu.Lock()
	i.closed = true
	i.mu.Unlock()
	i.stop()
	i.fetches.Wait()
	i.client.CloseIdleConnections()
}

// IntrospectionEndpoint returns the introspection endpoint (RFC 7662). Where the metadata
// does not say how clients authenticate there, what it says of the token endpoint counts.
func (i *Issuer) IntrospectionEndpoint(ctx context.Context) (Endpoint, error) {
	m, err := i.current(ctx)
	if err != nil {
		return Endpoint{}, err
	}
	supported := m.introspectionAuth
	if len(supported) == 0 {
		supported = m.tokenAuth
	}
	return i.endpoint("introspection_endpoint", "introspection_endpoint", m.introspectionEndpoint, supported)
}

// TokenEndpoint returns the token endpoint (RFC 6749 §3.2).
func (i *Issuer) TokenEndpoint(ctx context.Context) (Endpoint, error) {
	m, err := i.current(ctx)
	if err != nil {
		return Endpoint{}, err
	}
	return i.endpoint("token_endpoint", "phantom_token.token_endpoint", m.tokenEndpoint, m.tokenAuth)
}

// JWKSURI returns the URL of the issuer's keys.
func (i *Issuer) JWKSURI(ctx context.Context) (string, error) {
	m, err := i.current(ctx)
	if err != nil {
		return "", err
	}
	return i.location("jwks_uri", "token.jwks_uri", m.jwksURI)
}

func (i *Issuer) endpoint(member, setting, found string, supported []string) (Endpoint, error) {
	location, err := i.location(member, setting, found)
	if err != nil {
		return Endpoint{}, err
	}
	method := i.cfg.AuthMethod
	if method == "" {
		method = authMethod(supported)
	}
	if method == "" {
		return Endpoint{}, fmt.Errorf("%w: the metadata of %q supports neither %s nor %s at its %s; set introspection.auth_method if it does", ErrUnavailable, i.cfg.Issuer, oauth.AuthBasic, oauth.AuthPost, member)
	}
	return Endpoint{URL: location, AuthMethod: method}, nil
}

// location checks a URL of the metadata. It is shown to nobody: it is the other side's word.
func (i *Issuer) location(member, setting, found string) (string, error) {
	if found == "" {
		return "", fmt.Errorf("%w: the metadata of %q has no %s; set %s", ErrUnavailable, i.cfg.Issuer, member, setting)
	}
	// What is no plain URL is refused as it stands, before anything of it is replaced.
	if _, err := oauth.ParseResource(found); err != nil {
		return "", i.refuse(member, setting, "https, or http to this machine or to a host in insecure_http_hosts")
	}
	found = i.rebase(found)
	if oauth.CheckTransport(found, i.cfg.InsecureHosts) != nil {
		return "", i.refuse(member, setting, "https, or http to this machine or to a host in insecure_http_hosts")
	}
	if i.reached.Scheme == "https" && !i.securely(found) {
		return "", i.refuse(member, setting, "https, as the metadata came, or a host in insecure_http_hosts")
	}
	return found, nil
}

func (i *Issuer) refuse(member, setting, expected string) error {
	return fmt.Errorf("%w: the %s in the metadata of %q is not acceptable: expected %s; set %s", ErrUnavailable, member, i.cfg.Issuer, expected, setting)
}

// securely reports whether location is https, or on a host to which the operator allows
// http by name. That a host is this machine is no reason: an issuer that is reached over
// the network has no business there.
func (i *Issuer) securely(location string) bool {
	u, err := url.Parse(location)
	if err != nil || u.Scheme == "https" {
		return err == nil
	}
	return oauth.IsNamedHost(u, i.cfg.InsecureHosts)
}

// rebase puts the internal origin in the place of the issuer's. Other hosts, as a server
// names them that answers with the host it was asked by, stay. The URL is put together
// from its parsed parts: one origin can be written in several ways.
func (i *Issuer) rebase(location string) string {
	u, err := url.Parse(location)
	if err != nil || originOf(i.reached) == i.origin || u.User != nil || !strings.EqualFold(originOf(u), i.origin) {
		return location
	}
	u.Scheme, u.Host = i.reached.Scheme, i.reached.Host
	return u.String()
}

// current returns the metadata: what is in hand, while it is not too old, and else what
// the issuer says now. ctx bounds the wait of this caller.
func (i *Issuer) current(ctx context.Context) (*metadata, error) {
	i.mu.Lock()
	now := i.cfg.Now()
	m, usable := i.metadata, i.usable(now)
	if usable && now.Sub(i.fetched) < i.cfg.refresh() {
		i.mu.Unlock()
		return m, nil
	}
	flight := i.flight
	if flight == nil && i.mayFetch(now, usable) {
		flight = i.start(now)
	}
	i.mu.Unlock()
	if usable {
		return m, nil // the fetch goes on behind it
	}

	if flight != nil {
		select {
		case <-flight:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, i.gaveUp(ctx.Err()))
		}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case i.usable(i.cfg.Now()):
		return i.metadata, nil
	case i.failure != nil:
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, i.failure)
	default:
		return nil, fmt.Errorf("%w: the configuration is no longer in use", ErrUnavailable)
	}
}

// gaveUp says why a caller did not wait to the end of a fetch.
func (i *Issuer) gaveUp(cause error) error {
	hint := ""
	if errors.Is(cause, context.DeadlineExceeded) {
		hint = "; check token.issuer and token.internal_url, or allow for more time by introspection.timeout_seconds"
	}
	return fmt.Errorf("waiting for the metadata of token.issuer %q: %w%s", i.cfg.Issuer, cause, hint)
}

// usable, mayFetch and start want i.mu held.
func (i *Issuer) usable(now time.Time) bool {
	return i.metadata != nil && now.Sub(i.fetched) < i.cfg.maxStale()
}

// mayFetch counts from the end of the last fetch: one that hangs takes longer than the
// pause, and callers would follow each other into the next one.
func (i *Issuer) mayFetch(now time.Time, usable bool) bool {
	pause := refreshPause
	if !usable {
		pause = retryPause
		for n := 1; n < i.failures && pause < refreshPause; n++ {
			pause *= 2
		}
		pause = min(pause, refreshPause)
	}
	return !i.closed && (i.ended.IsZero() || now.Sub(i.ended) >= pause)
}

func (i *Issuer) start(now time.Time) <-chan struct{} {
	flight := make(chan struct{})
	i.flight = flight
	i.fetches.Go(func() {
		m, err := i.discover()
		i.mu.Lock()
		defer i.mu.Unlock()
		i.ended = i.cfg.Now()
		if err == nil {
			// The time of asking: the answer cannot be younger.
			i.metadata, i.fetched, i.failures = m, now, 0
		} else {
			i.failures++
			if i.usable(now) {
				i.cfg.Logger.Warn("refreshing issuer metadata failed, the old goes on serving", "issuer", i.cfg.Issuer, "err", err)
			}
		}
		i.failure, i.flight = err, nil
		close(flight)
	})
	return flight
}
