package introspection

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Media types that are asked for and understood.
const (
	mediaJSON = "application/json"
	mediaJWT  = "application/jwt"
)

// maxHeaderBytes bounds the header of an answer; real ones stay below 2 KiB.
const maxHeaderBytes = 32 << 10

// idleTimeout is shorter than the keep-alive of common servers and load balancers (60 s
// and more), so that a connection is rarely used at the moment they close it.
const idleTimeout = 30 * time.Second

// newTransport is used without an http.Client around it: a bare transport follows no
// redirects, keeps no cookies and reads no user information from URLs.
func newTransport(cfg Config) *http.Transport {
	var http1 http.Protocols
	http1.SetHTTP1(true)
	return &http.Transport{
		// Tokens and secrets take no way that the environment of Kong happens to name.
		Proxy:       nil,
		DialContext: (&net.Dialer{Timeout: cfg.timeout()}).DialContext,
		TLSClientConfig: &tls.Config{
			MinVersion:         tls.VersionTLS12,
			RootCAs:            cfg.CAs,
			InsecureSkipVerify: cfg.InsecureSkipVerify,
		},
		TLSHandshakeTimeout: cfg.timeout(),
		// One connection for each call that may run: a burst then opens no more than it
		// keeps, and the next one finds them open.
		MaxIdleConns:        cfg.maxConcurrent(),
		MaxIdleConnsPerHost: cfg.maxConcurrent(),
		MaxConnsPerHost:     cfg.maxConcurrent(),
		IdleConnTimeout:     idleTimeout,
		// A small compressed body can hold gigabytes. None is asked for, none inflated.
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHeaderBytes,
		Protocols:              &http1,
	}
}

// newRequest is the request of RFC 7662 §2.1. The token stands in the form only.
func (c *Client) newRequest(ctx context.Context, token string) (*http.Request, error) {
	form := url.Values{"token": {token}}
	if c.cfg.TokenTypeHint {
		form.Set("token_type_hint", "access_token")
	}
	if c.cfg.authMethod() == AuthPost {
		form.Set("client_id", c.cfg.ClientID)
		form.Set("client_secret", c.cfg.ClientSecret)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	if c.cfg.authMethod() == AuthBasic {
		req.Header.Set("Authorization", basic(c.cfg.ClientID, c.cfg.ClientSecret))
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", mediaJSON)
	if c.cfg.Accept == AcceptJWT {
		// Exactly this and nothing beside it: Keycloak compares the whole value.
		req.Header.Set("Accept", mediaJWT)
	}
	req.Header.Set("Accept-Encoding", "identity")
	req.Header.Set("User-Agent", "phantom-token")
	return req, nil
}

// basic is HTTP Basic as RFC 6749 §2.3.1 wants it: id and secret are form-encoded first,
// so that a colon in the id or a percent sign in the secret arrive as what they are.
func basic(id, secret string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(id)+":"+url.QueryEscape(secret)))
}
