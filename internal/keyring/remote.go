package keyring

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"phantomtoken/internal/oauth"
)

// RemoteConfig says where the key set of an issuer is and how long it may be trusted.
type RemoteConfig struct {
	// URL is the jwks_uri: https, or http to a loopback host or to one of InsecureHosts.
	// It comes from configuration or from checked metadata, never from a token.
	URL           string
	InsecureHosts []string

	CAs                *x509.CertPool // the only ones accepted; nil means those of the system
	InsecureSkipVerify bool           // accept any certificate; for test setups only

	Timeout  time.Duration // for one fetch; 0 means 5 s
	MaxBytes int64         // of the answer; 0 means 1 MiB
	// Refresh is the age at which the set is fetched again, behind the first request that
	// comes then; 0 means 5 minutes. While there are requests and the issuer answers, a key
	// that it withdrew is accepted no longer than this and the time of a fetch.
	Refresh time.Duration
	// MaxStale is the age up to which the last good set is used while fetching fails; 0
	// means 1 hour. It is never below Refresh.
	MaxStale time.Duration

	Now    func() time.Time // nil means time.Now
	Logger *slog.Logger     // nil discards
}

const (
	// refreshPause is the least time between two fetches, from the end of one to the start of
	// the next, while there is a set in hand:
	// tokens with invented key ids cannot make us knock at the issuer more often.
	refreshPause = 30 * time.Second
	// retryPause is the least time between two fetches while there is none: services that
	// start together should not have to wait long for each other.
	retryPause = time.Second
)

func (c *RemoteConfig) timeout() time.Duration {
	if c.Timeout > 0 {
		return c.Timeout
	}
	return 5 * time.Second
}

func (c *RemoteConfig) maxBytes() int64 {
	if c.MaxBytes > 0 {
		return c.MaxBytes
	}
	return 1 << 20
}

func (c *RemoteConfig) refresh() time.Duration {
	if c.Refresh > 0 {
		return c.Refresh
	}
	return 5 * time.Minute
}

func (c *RemoteConfig) maxStale() time.Duration {
	if c.MaxStale > 0 {
		return max(c.MaxStale, c.refresh())
	}
	return max(time.Hour, c.refresh())
}

// RemoteKeys is the KeySource of an issuer that publishes its keys at a URL. The set is
// fetched when it is first needed and kept; at most one fetch is under way, shared by
// all callers and cancelled by none of them.
type RemoteKeys struct {
	cfg    RemoteConfig
	where  string // the URL as logs and errors show it, without query
	client *http.Client
	stop   context.CancelFunc
	ctx    context.Context // of the fetches: ends with Close, not with a caller

	mu      sync.Mutex
	keys    PublicKeys
	fetched time.Time       // when keys were asked for; zero: never had any
	tried   time.Time       // when the last fetch ended
	failure error           // of the last fetch that ended
	flight  <-chan struct{} // closed when the fetch under way ends; nil without one
	closed  bool
	fetches sync.WaitGroup
}

// NewRemoteKeys checks cfg; it makes no request. Call Close when done.
func NewRemoteKeys(cfg RemoteConfig) (*RemoteKeys, error) {
	if err := oauth.CheckTransport(cfg.URL, cfg.InsecureHosts); err != nil {
		return nil, fmt.Errorf("making remote key source: jwks_uri: %w", err)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	ctx, stop := context.WithCancel(context.Background())
	where, _, _ := strings.Cut(cfg.URL, "?") // some put a key of theirs there
	return &RemoteKeys{
		cfg:   cfg,
		where: where,
		ctx:   ctx,
		stop:  stop,
		client: &http.Client{
			// A transport of our own: the proxy variables of the environment must not
			// decide from where keys come. Fetches are minutes apart, so no connection is
			// kept for the next. Connecting has bounds of its own: the transport goes on
			// with it after the request has ended, so an issuer that hangs would collect
			// connections otherwise.
			Transport: &http.Transport{
				DialContext:         (&net.Dialer{Timeout: cfg.timeout()}).DialContext,
				TLSHandshakeTimeout: cfg.timeout(),
				TLSClientConfig: &tls.Config{
					MinVersion:         tls.VersionTLS12,
					RootCAs:            cfg.CAs,
					InsecureSkipVerify: cfg.InsecureSkipVerify,
				},
				DisableKeepAlives:      true,
				ForceAttemptHTTP2:      true,
				MaxResponseHeaderBytes: 64 << 10,
			},
			// Keys come from the configured place or from nowhere.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Timeout:       cfg.timeout(),
		},
	}, nil
}

// Close ends a fetch that is under way and waits for it. Later calls of Keys find only
// what was fetched before.
func (r *RemoteKeys) Close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.stop()
	r.fetches.Wait()
	r.client.CloseIdleConnections()
}

// Keys implements KeySource. A set older than Refresh is fetched again; until that has
// ended, and if it fails, keys of the old one go on serving up to MaxStale, so that nobody
// waits for an issuer that hangs. Only a caller whose kid the set lacks waits; such a kid
// causes at most one fetch in 30 s.
func (r *RemoteKeys) Keys(ctx context.Context, kid string) ([]PublicKey, error) {
	r.mu.Lock()
	now := r.cfg.Now()
	keys := r.find(kid)
	known := len(keys) > 0 && r.usable(now)
	flight := r.flight
	if flight == nil && r.mayFetch(now) && !(known && now.Sub(r.fetched) < r.cfg.refresh()) {
		flight = r.start(now)
	}
	r.mu.Unlock()
	if known {
		return keys, nil
	}

	if flight != nil {
		select {
		case <-flight:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: waiting for %s: %w", ErrKeysUnavailable, r.where, ctx.Err())
		}
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.usable(r.cfg.Now()) {
		err := r.failure
		if err == nil {
			err = errors.New("no key set in hand is fresh enough")
		}
		return nil, fmt.Errorf("%w: %w", ErrKeysUnavailable, err)
	}
	keys = r.find(kid)
	// An unknown key is the token's fault only if the set in hand is the issuer's word
	// of now. After a failed fetch the key may be one that we could not learn of.
	if len(keys) == 0 && r.failure != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeysUnavailable, r.failure)
	}
	return keys, nil
}

// find, usable, mayFetch and start want r.mu held.
func (r *RemoteKeys) find(kid string) []PublicKey {
	keys, _ := r.keys.Keys(context.Background(), kid)
	return keys
}

func (r *RemoteKeys) usable(now time.Time) bool {
	return !r.fetched.IsZero() && now.Sub(r.fetched) < r.cfg.maxStale()
}

func (r *RemoteKeys) mayFetch(now time.Time) bool {
	pause := retryPause
	if r.usable(now) {
		pause = refreshPause
	}
	return !r.closed && (r.tried.IsZero() || now.Sub(r.tried) >= pause)
}

func (r *RemoteKeys) start(now time.Time) <-chan struct{} {
	flight := make(chan struct{})
	r.flight = flight
	r.fetches.Go(func() {
		keys, err := r.get()
		if err != nil {
			r.cfg.Logger.Warn("fetching key set failed", "url", r.where, "err", err)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if err == nil {
			// The time of asking: the answer cannot be younger.
			r.keys, r.fetched = keys, now
		}
		// The end, not the start: an issuer that lets every fetch hang until its timeout gets
		// its pause too.
		r.tried = r.cfg.Now()
		r.failure, r.flight = err, nil
		close(flight)
	})
	return flight
}

func (r *RemoteKeys) get() (PublicKeys, error) {
	req, err := http.NewRequestWithContext(r.ctx, http.MethodGet, r.cfg.URL, nil)
	if err != nil {
		return nil, fmt.Errorf("fetching key set: %w", err)
	}
	req.Header.Set("Accept", "application/json, application/jwk-set+json")
	resp, err := r.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("fetching key set from %s: %w", r.where, transportCause(err))
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("fetching key set from %s: expected status 200, got %d", r.where, resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, r.cfg.maxBytes()+1))
	if err != nil {
		return nil, fmt.Errorf("fetching key set from %s: %w", r.where, transportCause(err))
	}
	if int64(len(body)) > r.cfg.maxBytes() {
		return nil, fmt.Errorf("fetching key set from %s: expected at most %d bytes", r.where, r.cfg.maxBytes())
	}
	keys, err := ParsePublic(body)
	if err != nil {
		return nil, fmt.Errorf("fetching key set from %s: %w", r.where, err)
	}
	return keys, nil
}

// transportCause keeps of an error of net/http what tells the operator where to look,
// and drops the texts that quote what the other side sent.
func transportCause(err error) error {
	var network *net.OpError
	var certificate *tls.CertificateVerificationError
	var timeout net.Error
	switch {
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case errors.As(err, &certificate):
		return certificate
	case errors.As(err, &timeout) && timeout.Timeout():
		return errors.New("expected an answer in time, got none")
	case errors.As(err, &network):
		return network
	default:
		return errors.New("expected a whole HTTP answer, got something else")
	}
}
