package tokenexchange

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
)

// ErrNoToken is matched by errors of [Transport] for a request whose context has no
// incoming token: nothing was sent. See [Middleware], [WithHeader] and [WithToken].
var ErrNoToken = errors.New("no incoming token in the context of the request")

// ErrNoTarget is matched by errors of [Transport] for a request to a place that is not
// among the Targets: nothing was sent.
var ErrNoTarget = errors.New("the request is for none of the targets")

// TransportConfig is what a [Transport] needs to know. Client and Targets are required.
type TransportConfig struct {
	// Client makes the exchanges. Give it a Cache, or each request costs one.
	Client *Client
	// Targets are the APIs that get a token. No other place does.
	Targets []Target
	// Base sends the requests. nil means one of the transport's own: system roots, TLS 1.2
	// or newer, no proxy from the environment.
	Base http.RoundTripper
	// PassOthers sends requests for other places than the targets, without Authorization
	// field, whatever it was. They are refused with [ErrNoTarget] otherwise.
	PassOthers bool
	// InsecureAllowHTTP accepts http URLs of targets on other machines: tokens then cross the
	// network in the clear.
	InsecureAllowHTTP bool
}

// Transport is an [http.RoundTripper] that gives each outgoing request a token for exactly
// the API it goes to, exchanged for the token of the incoming request, which it takes from
// the context ([Middleware], [WithHeader], [WithToken]). Create it with [NewTransport]; it
// is safe for concurrent use.
//
// The incoming token goes to the token endpoint and nowhere else. Without it, or when the
// exchange fails, the request fails and nothing is sent. The errors are those of
// [Client.Exchange], [ErrNoToken] and [ErrNoTarget]; an [http.Client] wraps them in an error
// that [errors.Is] and [errors.As] look through.
//
// An answer 401 makes it forget the token and try once more with a new one, if there is a
// new one and the body can be sent again (none, or GetBody is set, as [http.NewRequest] does
// for the bodies it knows). The answer of the API is returned as it is otherwise; what it
// asks for in WWW-Authenticate is meant for this program and not for its callers.
//
// A redirect that leaves the target gets no token, even if it leads to another target: the
// first API would choose what is done at the second in the user's name.
//
// The trace context of the incoming request (traceparent, tracestate) is passed on to the
// targets and to the token endpoint, unless the request has one.
type Transport struct {
	client  *Client
	targets targets
	base    http.RoundTripper
	pass    bool
}

// NewTransport checks cfg and returns a transport. It makes no call. The error names every
// field that has to change.
func NewTransport(cfg TransportConfig) (*Transport, error) {
	var problems []error
	if cfg.Client == nil {
		problems = append(problems, errors.New("Client: expected one, got nil"))
	}
	list, err := newTargets(cfg.Targets, cfg.InsecureAllowHTTP)
	if err := errors.Join(append(problems, err)...); err != nil {
		return nil, fmt.Errorf("configuring token exchange transport: %w", err)
	}
	t := &Transport{client: cfg.Client, targets: list, base: cfg.Base, pass: cfg.PassOthers}
	if t.base == nil {
		t.base = newTransport()
	}
	return t, nil
}

// CloseIdleConnections closes the connections that no request uses. The transport stays
// usable.
func (t *Transport) CloseIdleConnections() {
	if base, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		base.CloseIdleConnections()
	}
}

// RoundTrip sends r as [Transport] says.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := t.roundTrip(r)
	if err != nil {
		return nil, err
	}
	res.Request = r // and not ours, which has the token
	return res, nil
}

func (t *Transport) roundTrip(r *http.Request) (*http.Response, error) {
	in := incomingOf(r.Context())
	if in != nil && in.token != "" {
		if err := in.refuseCopies(r); err != nil {
			return nil, fail(r, err)
		}
	}
	to := t.targets.find(r)
	if to != nil && t.left(r, to) {
		to = nil
	}
	if to == nil {
		if !t.pass {
			return nil, fail(r, fmt.Errorf("%w: add %s://%s to Targets, unless a redirect led there", ErrNoTarget, r.URL.Scheme, r.URL.Host))
		}
		return t.base.RoundTrip(outgoing(r, ""))
	}
	if in == nil || in.token == "" {
		return nil, fail(r, fmt.Errorf("%w: use Middleware, WithHeader or WithToken", ErrNoToken))
	}

	req := to.request
	req.SubjectToken = in.token
	token, err := t.exchange(r.Context(), req)
	if err != nil {
		return nil, fail(r, err)
	}
	again := repeatable(r)
	out := outgoing(r, token)
	in.trace.pass(out.Header)
	res, err := t.base.RoundTrip(out)
	if err != nil || res.StatusCode != http.StatusUnauthorized || !again {
		return res, err
	}

	t.client.Evict(req, token)
	fresh, err := t.exchange(r.Context(), req)
	if err != nil || fresh == token {
		return res, nil // what the API said stands
	}
	out = outgoing(r, fresh)
	in.trace.pass(out.Header)
	if r.GetBody != nil {
		if out.Body, err = r.GetBody(); err != nil {
			return res, nil
		}
	}
	// A connection is used again only when the answer on it was read.
	io.CopyN(io.Discard, res.Body, 16<<10) //nolint:errcheck // if it fails, the connection is not used again
	res.Body.Close()
	return t.base.RoundTrip(out)
}

// exchange returns the token for the API, never the incoming one.
func (t *Transport) exchange(ctx context.Context, req Request) (string, error) {
	res, err := t.client.Exchange(ctx, req)
	if err != nil {
		return "", err
	}
	if res.AccessToken == req.SubjectToken {
		return "", fmt.Errorf("%w of %s: expected another token, got the subject token itself", ErrUnacceptable, t.client.where)
	}
	return res.AccessToken, nil
}

// left reports whether r is a redirect that began at another target than to.
func (t *Transport) left(r *http.Request, to *target) bool {
	for r.Response != nil {
		if r = r.Response.Request; r == nil || t.targets.find(r) != to {
			return true
		}
	}
	return false
}

// fail closes the body, as a RoundTripper must.
func fail(r *http.Request, err error) error {
	if r.Body != nil {
		r.Body.Close()
	}
	return fmt.Errorf("token exchange transport: %w", err)
}

// repeatable reports whether the request can be sent twice.
func repeatable(r *http.Request) bool {
	return r.Body == nil || r.Body == http.NoBody || r.GetBody != nil
}

// outgoing is r with token as its only credential, or with none. r itself is its caller's.
func outgoing(r *http.Request, token string) *http.Request {
	out := new(http.Request)
	*out = *r
	out.Header = r.Header.Clone()
	if out.Header == nil {
		out.Header = http.Header{}
	}
	for name := range out.Header { // also where somebody wrote it into the map as it is
		if len(name) == len("Authorization") && strings.EqualFold(name, "Authorization") {
			delete(out.Header, name)
		}
	}
	if token != "" {
		out.Header["Authorization"] = []string{Bearer + " " + token}
	}
	return out
}

// shortest is the length below which a token is not searched for: a text so short occurs
// by chance.
const shortest = 16

// refuseCopies finds the incoming token where a program that copies headers puts it, as it
// is or percent-encoded. Only the Authorization field is taken care of anyway. A trailer is
// looked at as it is before the body was read.
func (in *incoming) refuseCopies(r *http.Request) error {
	if len(in.token) < shortest {
		return nil
	}
	for name, values := range r.Header {
		if !strings.EqualFold(name, "Authorization") && slices.ContainsFunc(values, in.isIn) {
			return fmt.Errorf("the outgoing field %s has the incoming token: do not copy the headers of incoming requests", http.CanonicalHeaderKey(name))
		}
	}
	for name, values := range r.Trailer {
		if slices.ContainsFunc(values, in.isIn) {
			return fmt.Errorf("the outgoing trailer %s has the incoming token: do not copy the headers of incoming requests", http.CanonicalHeaderKey(name))
		}
	}
	if in.isIn(r.URL.RawQuery) || in.isIn(r.URL.Path) {
		return errors.New("the outgoing URL has the incoming token: leave it out")
	}
	return nil
}

func (in *incoming) isIn(text string) bool {
	return len(text) >= len(in.token) && (strings.Contains(text, in.token) || strings.Contains(unescape(text), in.token))
}
