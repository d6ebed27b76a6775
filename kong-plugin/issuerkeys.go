package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"phantomtoken/internal/keyring"
)

const (
	discoveryTimeout  = 5 * time.Second
	discoveryPause    = time.Second // between two tries
	discoveryMaxBytes = 1 << 20
)

// issuerKeys finds the keys of an issuer by OpenID Connect discovery when they are first
// needed: a provider that is down when the gateway starts is no reason not to start. It is
// a keyring.KeySource; a failing discovery is keyring.ErrKeysUnavailable.
type issuerKeys struct {
	issuer string
	remote keyring.RemoteConfig // all but the URL
	client *http.Client

	trying chan struct{} // holds one element while nobody discovers

	mu      sync.Mutex
	keys    *keyring.RemoteKeys // nil until found
	tried   time.Time
	failure error // of the last try
	closed  bool
}

func newIssuerKeys(issuer string, remote keyring.RemoteConfig) *issuerKeys {
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{
			MinVersion:         tls.VersionTLS12,
			RootCAs:            remote.CAs,
			InsecureSkipVerify: remote.InsecureSkipVerify,
		},
		DisableKeepAlives:      true, // once in the life of the process
		MaxResponseHeaderBytes: 64 << 10,
	}
	k := &issuerKeys{
		issuer: issuer,
		remote: remote,
		client: &http.Client{
			Transport:     boundedTransport{transport},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Timeout:       discoveryTimeout,
		},
		trying: make(chan struct{}, 1),
	}
	k.trying <- struct{}{}
	return k
}

// Keys implements keyring.KeySource.
func (k *issuerKeys) Keys(ctx context.Context, kid string) ([]keyring.PublicKey, error) {
	keys, err := k.found(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", keyring.ErrKeysUnavailable, err)
	}
	return keys.Keys(ctx, kid)
}

func (k *issuerKeys) found(ctx context.Context) (*keyring.RemoteKeys, error) {
	if keys, err, known := k.last(); known {
		return keys, err
	}
	select {
	case <-k.trying:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { k.trying <- struct{}{} }()
	if keys, err, known := k.last(); known { // somebody else was first
		return keys, err
	}
	keys, err := k.discover(ctx)

	k.mu.Lock()
	defer k.mu.Unlock()
	k.tried, k.failure = k.remote.Now(), err
	if err == nil && k.closed {
		keys.Close()
		return nil, errClosed
	}
	k.keys = keys
	return keys, err
}

var errClosed = errors.New("the configuration is no longer in use")

// last is what is known without asking.
func (k *issuerKeys) last() (keys *keyring.RemoteKeys, err error, known bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.keys != nil:
		return k.keys, nil, true
	case k.closed:
		return nil, errClosed, true
	case k.failure != nil && k.remote.Now().Sub(k.tried) < discoveryPause:
		return nil, k.failure, true
	default:
		return nil, nil, false
	}
}

// discover asks the issuer. It does not end with the request that happened to be first.
func (k *issuerKeys) discover(ctx context.Context) (*keyring.RemoteKeys, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), discoveryTimeout)
	defer cancel()
	provider, err := oidc.NewProvider(oidc.ClientContext(ctx, k.client), k.issuer)
	if err != nil {
		return nil, k.explain(err)
	}
	var metadata struct {
		JWKSURI string `json:"jwks_uri"`
	}
	if err := provider.Claims(&metadata); err != nil || metadata.JWKSURI == "" {
		return nil, fmt.Errorf("discovering the keys of token.issuer %q: expected jwks_uri in its metadata, got none; set token.jwks_uri", k.issuer)
	}
	remote := k.remote
	remote.URL = metadata.JWKSURI
	keys, err := keyring.NewRemoteKeys(remote)
	if err != nil {
		return nil, fmt.Errorf("discovering the keys of token.issuer %q: the jwks_uri in its metadata is not acceptable; set token.jwks_uri", k.issuer)
	}
	return keys, nil
}

// explain says what went wrong without the words of the remote side, which the errors of
// the library quote.
func (k *issuerKeys) explain(err error) error {
	var connection *url.Error
	if errors.As(err, &connection) {
		// Of the library's words only the address: the rest may quote the remote side.
		return fmt.Errorf("discovering the keys of token.issuer: expected an answer from %s, got none that is HTTP; check that it can be reached and its certificate, or set token.jwks_uri", connection.URL)
	}
	return fmt.Errorf("discovering the keys of token.issuer %q: expected OpenID Connect metadata of exactly this issuer, got something else; check token.issuer byte for byte, or set token.jwks_uri", k.issuer)
}

// close ends what is under way.
func (k *issuerKeys) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
	if k.keys != nil {
		k.keys.Close()
	}
}

// boundedTransport bounds the bodies that the discovery library reads to their end.
type boundedTransport struct{ next http.RoundTripper }

func (t boundedTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(resp.Body, discoveryMaxBytes), resp.Body}
	return resp, nil
}
