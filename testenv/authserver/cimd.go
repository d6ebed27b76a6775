package authserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"phantomtoken/internal/oauth"
)

// Bounds of fetching a client metadata document.
const (
	maxDocumentBytes = 16 << 10 // the draft recommends to stop at 5 KiB; some are larger
	maxDocuments     = 1_000    // in the cache
	maxFetches       = 4        // at once
	fetchTimeout     = 5 * time.Second
	documentLifetime = 5 * time.Minute
)

// documents finds clients whose client_id is the URL of their own metadata
// (draft-ietf-oauth-client-id-metadata-document). Fetching a URL that a stranger names is
// dangerous, so everything about it is bounded and private addresses are refused.
type documents struct {
	cfg        Config
	hosts      []string
	httpClient *http.Client
	slots      chan struct{}

	mu    sync.Mutex
	cache *expiring[*client]
}

func newDocuments(cfg Config) *documents {
	d := &documents{
		cfg:   cfg,
		hosts: cfg.ClientMetadataHosts,
		slots: make(chan struct{}, maxFetches),
		cache: newExpiring[*client](maxDocuments),
	}
	d.httpClient = &http.Client{
		Timeout: fetchTimeout,
		Transport: &http.Transport{
			DialContext:            d.dial,
			TLSClientConfig:        &tls.Config{RootCAs: cfg.ClientMetadataCAs, MinVersion: tls.VersionTLS12},
			DisableKeepAlives:      true,
			MaxResponseHeaderBytes: 16 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return d
}

// isDocumentID reports whether a client_id means a metadata document.
func isDocumentID(id string) bool {
	return strings.HasPrefix(id, "https://") || strings.HasPrefix(id, "http://")
}

// checkDocumentID reports why id is no client identifier URL (§3 of the draft).
func (d *documents) checkDocumentID(id string) (*url.URL, error) {
	for i := range len(id) {
		if id[i] <= 0x20 || id[i] >= 0x7f || id[i] == '\\' {
			return nil, errors.New("client_id: expected a URL of printable ASCII")
		}
	}
	u, err := url.Parse(id)
	switch {
	case err != nil || u.Hostname() == "" || len(id) > maxRedirectURI:
		return nil, errors.New("client_id: expected a URL with a host")
	case u.Scheme != "https" && !d.trusts(u.Host):
		return nil, errors.New("client_id: expected https")
	case u.User != nil || strings.Contains(id, "#"):
		return nil, errors.New("client_id: expected a URL without user information and fragment")
	case u.Path == "" || u.Path == "/":
		return nil, errors.New("client_id: expected a URL with a path")
	}
	for seg := range strings.SplitSeq(u.Path, "/") { // u.Path is decoded: %2e%2e is found too
		if seg == "." || seg == ".." {
			return nil, errors.New("client_id: expected a URL without dot segments")
		}
	}
	return u, nil
}

// trusts reports whether the configuration names host, with or without its port.
func (d *documents) trusts(hostport string) bool {
	name := (&url.URL{Host: hostport}).Hostname()
	return slices.ContainsFunc(d.hosts, func(h string) bool {
		return strings.EqualFold(h, hostport) || strings.EqualFold(strings.Trim(h, "[]"), name)
	})
}

// client returns the client whose metadata is at id. The error may be shown to people.
func (d *documents) client(ctx context.Context, id string, now time.Time) (*client, error) {
	u, err := d.checkDocumentID(id)
	if err != nil {
		return nil, err
	}
	if cl, ok := d.cached(id, now); ok {
		return cl, nil
	}
	select {
	case d.slots <- struct{}{}:
		defer func() { <-d.slots }()
	case <-ctx.Done():
		return nil, errors.New("client metadata document: there was no time to fetch it")
	}
	body, err := d.fetch(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("client metadata document: %w", err)
	}
	cl, err := parseDocument(body, id, u.Host, d.cfg)
	if err != nil {
		return nil, fmt.Errorf("client metadata document: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cache.put(digestOf(id), cl, now.Add(documentLifetime))
	return cl, nil
}

func (d *documents) cached(id string, now time.Time) (*client, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cache.get(digestOf(id), now)
}

// fetch gets a document. Its errors do not say why a connection failed: the answer would
// tell a stranger what listens in our network.
func (d *documents) fetch(ctx context.Context, id string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, id, nil)
	if err != nil {
		return nil, errors.New("expected a URL that can be fetched")
	}
	req.Header.Set("Accept", "application/json")
	resp, err := d.httpClient.Do(req)
	switch {
	case errors.Is(err, errPrivateAddress):
		return nil, errPrivateAddress
	case err != nil:
		return nil, errors.New("it cannot be fetched")
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("expected status 200 without redirect, got %d", resp.StatusCode)
	}
	kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" && !(strings.HasPrefix(kind, "application/") && strings.HasSuffix(kind, "+json")) {
		return nil, errors.New("expected content type application/json")
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxDocumentBytes+1))
	switch {
	case err != nil:
		return nil, errors.New("it cannot be read")
	case len(body) > maxDocumentBytes:
		return nil, fmt.Errorf("expected at most %d bytes", maxDocumentBytes)
	}
	return body, nil
}

// parseDocument reads a document by the rules of registration and those of §4 of the
// draft: it names its own URL, byte by byte, and knows no shared secret.
func parseDocument(body []byte, id, host string, cfg Config) (*client, error) {
	claims, err := oauth.ParseClaims(body)
	if err != nil {
		return nil, errors.New("expected a JSON object whose members occur once")
	}
	if got, _ := claims["client_id"].(string); got != id {
		return nil, errors.New("expected the document to name its own URL as client_id")
	}
	for _, name := range []string{"client_secret", "client_secret_expires_at"} {
		if _, ok := claims[name]; ok {
			return nil, fmt.Errorf("expected no %s", name)
		}
	}
	if claims["token_endpoint_auth_method"] == nil {
		// The default of registration is a shared secret, which a document cannot have.
		claims["token_endpoint_auth_method"] = authNone
	}
	reg, e := parseRegistration(claims, cfg)
	if e != nil {
		return nil, errors.New(e.Description)
	}
	if reg.TokenEndpointAuthMethod != authNone {
		return nil, errors.New("token_endpoint_auth_method: expected none")
	}
	cl := reg.client(id, cfg.scopeNames())
	cl.host = host
	return cl, nil
}

var errPrivateAddress = errors.New("expected a host with a public address")

// dial looks at the address that is really connected to: a name may resolve to anything,
// and to something else the second time.
func (d *documents) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	trusted := d.trusts(addr)
	if ap, err := netip.ParseAddrPort(addr); err == nil && !mayFetchFrom(ap.Addr(), trusted) {
		return nil, errPrivateAddress // said the same where the machine has no such network
	}
	dialer := net.Dialer{
		Timeout: fetchTimeout,
		Control: func(_, address string, _ syscall.RawConn) error {
			ap, err := netip.ParseAddrPort(address)
			if err != nil || !mayFetchFrom(ap.Addr(), trusted) {
				return errPrivateAddress
			}
			return nil
		},
	}
	return dialer.DialContext(ctx, network, addr)
}

// mayFetchFrom reports whether a document may come from addr. Link-local addresses, where
// clouds keep their instance credentials, are out of bounds even for a trusted host.
func mayFetchFrom(addr netip.Addr, trusted bool) bool {
	addr = addr.Unmap().WithZone("")
	if addr.IsLinkLocalUnicast() || addr.IsMulticast() || addr.IsUnspecified() {
		return false
	}
	if trusted {
		return true
	}
	if !addr.IsGlobalUnicast() || addr.IsPrivate() || addr.IsLoopback() {
		return false
	}
	for _, p := range specialPrefixes() {
		if p.Contains(addr) {
			return false
		}
	}
	return true
}

// specialPrefixes are blocks of the special-purpose registries (RFC 6890) that package
// netip has no name for, and those that carry an IPv4 address inside.
func specialPrefixes() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix("0.0.0.0/8"),
		netip.MustParsePrefix("100.64.0.0/10"), // carrier-grade NAT
		netip.MustParsePrefix("192.0.0.0/24"),
		netip.MustParsePrefix("192.0.2.0/24"),  // documentation
		netip.MustParsePrefix("198.18.0.0/15"), // benchmarking
		netip.MustParsePrefix("198.51.100.0/24"),
		netip.MustParsePrefix("203.0.113.0/24"),
		netip.MustParsePrefix("240.0.0.0/4"),
		netip.MustParsePrefix("::/96"),        // IPv4-compatible
		netip.MustParsePrefix("64:ff9b::/96"), // NAT64
		netip.MustParsePrefix("64:ff9b:1::/48"),
		netip.MustParsePrefix("100::/64"),      // discard
		netip.MustParsePrefix("2001::/23"),     // Teredo and others
		netip.MustParsePrefix("2001:db8::/32"), // documentation
		netip.MustParsePrefix("2002::/16"),     // 6to4
		netip.MustParsePrefix("fec0::/10"),     // site-local
	}
}
