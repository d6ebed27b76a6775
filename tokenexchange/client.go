package tokenexchange

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// AuthMethod is how a client proves who it is at the token endpoint, with the names of
// the OAuth registry (RFC 7591 §2).
type AuthMethod string

const (
	// AuthBasic sends id and secret in the Authorization field, each form-encoded first
	// (RFC 6749 §2.3.1). The default.
	AuthBasic AuthMethod = "client_secret_basic"
	// AuthPost sends them as client_id and client_secret in the body.
	AuthPost AuthMethod = "client_secret_post"
)

// Config is what a [Client] needs to know. Endpoint, ClientID and ClientSecret are
// required; every other field has a default that fits most programs.
type Config struct {
	// Endpoint is the URL of the token endpoint: https, or http on this machine.
	Endpoint string
	// ClientID and ClientSecret are the credentials of this program at the endpoint.
	ClientID     string
	ClientSecret string
	// AuthMethod is [AuthBasic] when empty.
	AuthMethod AuthMethod
	// Timeout bounds a whole exchange, reading the answer included. 5 seconds when 0.
	Timeout time.Duration
	// Transport makes the calls. nil means one of the client's own: system roots, TLS 1.2
	// or newer, no proxy from the environment. Set it for an extra CA, a client certificate
	// or tracing. Redirects are never followed, whatever it is.
	Transport http.RoundTripper
	// InsecureAllowHTTP accepts an http Endpoint on another machine: tokens and secret
	// then cross the network in the clear.
	InsecureAllowHTTP bool
	// Now is the clock that exp is compared with. time.Now when nil.
	Now func() time.Time
}

// String describes the configuration without the secret.
func (c Config) String() string {
	return fmt.Sprintf("token exchange as client %q at %s", c.ClientID, where(c.Endpoint))
}

// GoString is String, so that no verb of fmt prints the secret.
func (c Config) GoString() string { return c.String() }

// LogValue describes the configuration without the secret.
func (c Config) LogValue() slog.Value {
	return slog.GroupValue(slog.String("endpoint", where(c.Endpoint)), slog.String("client_id", c.ClientID))
}

// where is an endpoint as texts show it: without user information and query.
func where(endpoint string) string {
	u, err := url.Parse(endpoint)
	if err != nil {
		return "an endpoint that is no URL"
	}
	return u.Scheme + "://" + u.Host + u.EscapedPath()
}

func (c *Config) timeout() time.Duration { return cmp.Or(c.Timeout, 5*time.Second) }

func (c *Config) authMethod() AuthMethod { return cmp.Or(c.AuthMethod, AuthBasic) }

func (c *Config) now() time.Time {
	if c.Now == nil {
		return time.Now()
	}
	return c.Now()
}

// check reports everything that is wrong with the configuration. The messages name the
// field; they do not quote the secret.
func (c *Config) check() error {
	var problems []error
	problem := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }

	u, err := url.Parse(c.Endpoint)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http":
		problem("Endpoint: expected the https URL of a token endpoint, got something else")
	case u.User != nil:
		problem("Endpoint: expected a URL without user information; use ClientID and ClientSecret")
	case strings.Contains(c.Endpoint, "#"):
		problem("Endpoint: expected a URL without fragment")
	case u.Scheme == "http" && !isLoopback(u.Hostname()) && !c.InsecureAllowHTTP:
		problem("Endpoint: expected https, got http to %q, which is not this machine; use https, or set InsecureAllowHTTP if that network is trusted", u.Host)
	}
	if c.ClientID == "" {
		problem("ClientID: expected the id of this client at the token endpoint, got nothing")
	}
	if c.ClientSecret == "" {
		problem("ClientSecret: expected a secret, got nothing")
	}
	if m := c.authMethod(); m != AuthBasic && m != AuthPost {
		problem("AuthMethod: expected %q or %q, got %q", AuthBasic, AuthPost, m)
	}
	if c.Timeout < 0 {
		problem("Timeout: expected a positive duration, got %s", c.Timeout)
	}
	return errors.Join(problems...)
}

func isLoopback(host string) bool {
	if host = strings.TrimSuffix(strings.ToLower(host), "."); host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

// Client exchanges tokens at one token endpoint. Create it with [New]; it is safe for
// concurrent use and meant to live as long as the program.
type Client struct {
	cfg   Config
	where string // the endpoint as errors show it, without query
	http  *http.Client
}

// String describes the client without its secret.
func (c Client) String() string { return c.cfg.String() }

// GoString is String, so that no verb of fmt prints the secret.
func (c Client) GoString() string { return c.cfg.String() }

// LogValue describes the client without its secret.
func (c Client) LogValue() slog.Value { return c.cfg.LogValue() }

// New checks cfg and returns a client. It makes no call. The error names every field that
// has to change.
func New(cfg Config) (*Client, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("configuring token exchange client: %w", err)
	}
	transport := cfg.Transport
	if transport == nil {
		transport = newTransport()
	}
	return &Client{
		cfg:   cfg,
		where: where(cfg.Endpoint),
		http: &http.Client{
			Transport: transport,
			// A redirect would carry the subject token and the secret to a place that nobody
			// configured (RFC 9700 §4.12).
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

func newTransport() *http.Transport {
	return &http.Transport{
		Proxy:                  nil, // HTTP_PROXY must not decide where tokens go
		DialContext:            (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    5 * time.Second,
		ForceAttemptHTTP2:      true,
		MaxIdleConnsPerHost:    32, // all calls go to one host
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
	}
}

// CloseIdleConnections closes the connections that no exchange uses. The client stays
// usable.
func (c *Client) CloseIdleConnections() { c.http.CloseIdleConnections() }

// maxResponse bounds the body of an answer; the largest tokens in use are far smaller.
const maxResponse = 1 << 20

// Exchange asks the endpoint for the token that req describes and checks the answer as the
// package documentation says. ctx bounds the call together with the configured timeout.
//
// Errors: [*Error] when the endpoint refused or req is malformed (Status 0, nothing was
// sent), [ErrUnavailable], [ErrUnacceptable], or the error of ctx.
func (c *Client) Exchange(ctx context.Context, req Request) (*Response, error) {
	form, err := req.Form()
	if err != nil {
		return nil, err
	}
	callCtx, cancel := context.WithTimeout(ctx, c.cfg.timeout())
	defer cancel()
	httpReq, err := c.newRequest(callCtx, form)
	if err != nil {
		return nil, fmt.Errorf("building token exchange request: %w", err)
	}
	res, err := c.http.Do(httpReq)
	if err != nil {
		return nil, c.unavailable(ctx, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxResponse+1))
	if err != nil {
		return nil, c.unavailable(ctx, err)
	}
	if len(body) > maxResponse {
		return nil, fmt.Errorf("%w: %s sent more than %d bytes", ErrUnacceptable, c.where, maxResponse)
	}
	if res.StatusCode != http.StatusOK {
		return nil, c.refusal(&req, res, body)
	}
	out, err := c.accept(&req, res, body)
	if err != nil {
		return nil, fmt.Errorf("%w of %s: %w", ErrUnacceptable, c.where, err)
	}
	return out, nil
}

func (c *Client) newRequest(ctx context.Context, form url.Values) (*http.Request, error) {
	if c.cfg.authMethod() == AuthPost {
		form.Set("client_id", c.cfg.ClientID)
		form.Set("client_secret", c.cfg.ClientSecret)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.cfg.Endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Accept", "application/json")
	if c.cfg.authMethod() == AuthBasic {
		r.SetBasicAuth(url.QueryEscape(c.cfg.ClientID), url.QueryEscape(c.cfg.ClientSecret))
	}
	return r, nil
}

// unavailable describes a call that got no answer. ctx is the caller's: when it ended, its
// error comes first, because the endpoint is not to blame.
func (c *Client) unavailable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("calling token endpoint %s: %w", c.where, ctx.Err())
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %s: no answer within %s (Timeout): %w", ErrUnavailable, c.where, c.cfg.timeout(), context.DeadlineExceeded)
	}
	// Only errors whose text is known not to quote the other side are shown: net/http puts
	// the first line of an unreadable answer into its own.
	var (
		dial *net.OpError
		cert *tls.CertificateVerificationError
	)
	switch {
	case errors.As(err, &cert):
		return fmt.Errorf("%w: %s: %w; is the CA of the endpoint missing from Transport?", ErrUnavailable, c.where, cert)
	case errors.As(err, &dial):
		return fmt.Errorf("%w: %s: %w", ErrUnavailable, c.where, dial)
	}
	return fmt.Errorf("%w: %s: the connection ended without an HTTP answer", ErrUnavailable, c.where)
}

// refusal turns an answer other than 200 into an error.
func (c *Client) refusal(req *Request, res *http.Response, body []byte) error {
	if res.StatusCode < 400 {
		return fmt.Errorf("%w: expected status 200 of %s, got %d; redirects are not followed, check Endpoint", ErrUnacceptable, c.where, res.StatusCode)
	}
	e := new(Error)
	if isJSON(res) && json.Unmarshal(body, e) != nil {
		*e = Error{} // no OAuth error, of a proxy perhaps: the status has to do
	}
	e.Status = res.StatusCode
	e.RetryAfter = retryAfter(res.Header.Get("Retry-After"), c.cfg.now())
	secrets := c.cfg.secrets(req)
	if !known(e.Code) && quotesAny(e.Code, secrets) {
		e.Code = ""
	}
	if quotesAny(e.Description, secrets) {
		e.Description = "(withheld: it quotes a token or the secret)"
	}
	if quotesAny(e.URI, secrets) {
		e.URI = ""
	}
	return e
}

func isJSON(res *http.Response) bool {
	mediaType, _, err := mime.ParseMediaType(res.Header.Get("Content-Type"))
	return err == nil && mediaType == "application/json"
}

// retryAfter reads a Retry-After field (RFC 9110 §10.2.3), seconds or a date, up to a day.
func retryAfter(field string, now time.Time) time.Duration {
	var d time.Duration
	if seconds, err := strconv.ParseUint(field, 10, 32); err == nil {
		d = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(field); err == nil {
		d = at.Sub(now)
	}
	return min(max(d, 0), 24*time.Hour)
}

// secrets lists what of a request no text may quote, in the forms in which it was sent or
// may be quoted.
func (c *Config) secrets(req *Request) []string {
	base64Of := base64.RawStdEncoding.EncodeToString // that with padding begins like it
	id, secret := url.QueryEscape(c.ClientID), url.QueryEscape(c.ClientSecret)
	out := []string{
		req.SubjectToken, url.QueryEscape(req.SubjectToken),
		req.ActorToken, url.QueryEscape(req.ActorToken),
		c.ClientSecret, secret, url.PathEscape(c.ClientSecret),
	}
	for _, text := range []string{c.ClientSecret, secret, c.ClientID + ":" + c.ClientSecret, id + ":" + secret} {
		encoded := base64Of([]byte(text))
		out = append(out, encoded, strings.NewReplacer("+", "-", "/", "_").Replace(encoded))
	}
	return out
}

// quotesAny reports whether text contains one of the secrets, or so long a piece of one that
// chance cannot explain it.
func quotesAny(text string, secrets []string) bool {
	const piece = 12
	for _, secret := range secrets {
		if secret == "" {
			continue
		}
		if len(secret) <= piece {
			if strings.Contains(text, secret) {
				return true
			}
			continue
		}
		for i := 0; i+piece <= len(text); i++ {
			if strings.Contains(secret, text[i:i+piece]) {
				return true
			}
		}
	}
	return false
}
