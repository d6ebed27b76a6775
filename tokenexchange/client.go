package tokenexchange

import (
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
	"net/url"
	"strconv"
	"strings"
	"time"

	"phantomtoken/internal/flight"
)

// Client exchanges tokens at one token endpoint. Create it with [New]; it is safe for
// concurrent use and meant to live as long as the program.
type Client struct {
	cfg      Config
	where    string // the endpoint as errors show it, without query
	http     *http.Client
	prove    prover
	identity []byte // of this client, as part of the keys of the cache
	cache    *flight.Cache[*issued]
}

// String describes the client without its secret.
func (c Client) String() string { return c.cfg.String() }

// GoString is String, so that no verb of fmt prints the secret.
func (c Client) GoString() string { return c.cfg.String() }

// LogValue describes the client without its secret.
func (c Client) LogValue() slog.Value { return c.cfg.LogValue() }

// New checks cfg and returns a client. It makes no call, but reads AssertionFile. The error
// names every field that has to change.
func New(cfg Config) (*Client, error) {
	prove, err := cfg.check()
	if err != nil {
		return nil, fmt.Errorf("configuring token exchange client: %w", err)
	}
	cache, err := cfg.Cache.open(cfg.now)
	if err != nil {
		return nil, fmt.Errorf("configuring token exchange client: %w", err)
	}
	transport := cfg.Transport
	if transport == nil {
		transport = newTransport()
	}
	return &Client{
		cfg:   cfg,
		where: where(cfg.Endpoint),
		prove: prove,
		// What is sent to whom, and as whom, decides the answer like the request itself.
		identity: appendFields(nil, cfg.Endpoint, cfg.ClientID, string(cfg.authMethod())),
		cache:    cache,
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
// With a [CacheConfig], the token of an earlier call for the same request is returned while
// it lives; ExpiresIn is what is left of its life.
//
// Errors: [*Error] when the endpoint refused or req is malformed (Status 0, nothing was
// sent), [ErrUnavailable], [ErrUnacceptable], the error of ctx, or one that says why this
// client cannot prove who it is (ClientKey, AssertionFile).
func (c *Client) Exchange(ctx context.Context, req Request) (*Response, error) {
	if c.cache == nil {
		return c.exchange(ctx, &req)
	}
	return c.cached(ctx, &req)
}

// exchange makes the call.
func (c *Client) exchange(ctx context.Context, req *Request) (*Response, error) {
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
		return nil, c.refusal(form, res, body)
	}
	out, err := c.accept(req, res, body)
	if err != nil {
		return nil, fmt.Errorf("%w of %s: %w", ErrUnacceptable, c.where, err)
	}
	return out, nil
}

// newRequest adds what proves who this client is to form.
func (c *Client) newRequest(ctx context.Context, form url.Values) (*http.Request, error) {
	if err := c.prove(form); err != nil {
		return nil, fmt.Errorf("authenticating client: %w", err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.cfg.Endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Accept", "application/json")
	// A connection that was kept may have died. With this key, which is not sent, net/http
	// then sends the request once more on another one: an exchange uses nothing up.
	r.Header["Idempotency-Key"] = nil
	if c.cfg.authMethod() == AuthPrivateKeyJWT {
		r.GetBody = func() (io.ReadCloser, error) { // but an assertion serves once
			if err := c.prove(form); err != nil {
				return nil, fmt.Errorf("authenticating client: %w", err)
			}
			return io.NopCloser(strings.NewReader(form.Encode())), nil
		}
	}
	if c.cfg.authMethod() == AuthBasic {
		r.SetBasicAuth(url.QueryEscape(c.cfg.ClientID), url.QueryEscape(c.cfg.ClientSecret))
	}
	if in := incomingOf(ctx); in != nil {
		in.trace.pass(r.Header)
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
func (c *Client) refusal(form url.Values, res *http.Response, body []byte) error {
	if res.StatusCode < 400 {
		return fmt.Errorf("%w: expected status 200 of %s, got %d; redirects are not followed, check Endpoint", ErrUnacceptable, c.where, res.StatusCode)
	}
	e := new(Error)
	if isJSON(res) && json.Unmarshal(body, e) != nil {
		*e = Error{} // no OAuth error, of a proxy perhaps: the status has to do
	}
	e.Status = res.StatusCode
	e.RetryAfter = retryAfter(res.Header.Get("Retry-After"), c.cfg.now())
	secrets := c.cfg.secrets(form)
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
func (c *Config) secrets(form url.Values) []string {
	var out []string
	for _, name := range []string{"subject_token", "actor_token", "client_assertion"} {
		out = append(out, form.Get(name), url.QueryEscape(form.Get(name)))
	}
	if c.ClientSecret == "" {
		return out
	}
	base64Of := base64.RawStdEncoding.EncodeToString // that with padding begins like it
	id, secret := url.QueryEscape(c.ClientID), url.QueryEscape(c.ClientSecret)
	out = append(out, c.ClientSecret, secret, url.PathEscape(c.ClientSecret))
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
