package introspection

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptrace"
	"time"

	"phantomtoken/internal/breaker"
	"phantomtoken/internal/neterror"
)

// Client introspects tokens at one endpoint. It is safe for concurrent use.
type Client struct {
	cfg       Config
	endpoint  string
	host      string // for messages: the URL without path and query
	timeout   time.Duration
	transport *http.Transport
	slots     chan struct{}
	breaker   *breaker.Breaker
}

// New returns a Client. It connects to nothing yet. The error joins all problems of cfg,
// each under the name of its setting.
func New(cfg Config) (*Client, error) {
	u, err := cfg.check()
	if err != nil {
		return nil, err
	}
	if cfg.InsecureSkipVerify {
		cfg.logger().Warn("certificate of the introspection endpoint is not verified; set verify_ssl", "host", u.Host)
	}
	return &Client{
		cfg:       cfg,
		endpoint:  u.String(),
		host:      u.Scheme + "://" + u.Host,
		timeout:   cfg.timeout(),
		transport: newTransport(cfg),
		slots:     make(chan struct{}, cfg.maxConcurrent()),
		breaker: breaker.New(breaker.Config{
			Opened: "introspection endpoint does not answer, calls are paused",
			Closed: "introspection endpoint answers again",
			Now:    cfg.now(),
			Logger: cfg.logger(),
		}),
	}, nil
}

// Close closes the idle connections; those in use are closed when their call ends.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// Introspect asks the provider about token. The result says active or inactive; every
// error is an [*Error] and means that nothing is known. It takes at most Config.Timeout,
// less when ctx ends earlier.
func (c *Client) Introspect(ctx context.Context, token string) (*Result, error) {
	callCtx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()

	if err := c.takeSlot(ctx, callCtx); err != nil {
		return nil, err
	}
	defer func() { <-c.slots }()

	call, open := c.breaker.Start()
	if open != nil {
		return nil, &Error{Kind: KindCircuit, text: open.Error()}
	}
	// A call that never reports would stop the circuit from ever closing.
	verdict := breaker.Neutral
	defer func() { c.breaker.End(call, verdict) }()

	result, err := c.call(ctx, callCtx, token)
	if err != nil {
		verdict = verdictOf(err)
		return nil, err
	}
	verdict = breaker.Healthy
	return result, nil
}

func (c *Client) takeSlot(callerCtx, callCtx context.Context) *Error {
	if callCtx.Err() == nil {
		select {
		case c.slots <- struct{}{}:
			return nil
		case <-callCtx.Done():
		}
	}
	if errors.Is(callerCtx.Err(), context.Canceled) {
		return &Error{Kind: KindCanceled, text: "the caller went away", err: context.Canceled}
	}
	return failure(KindOverloaded, "all %d calls to %s are taken and none ended in time; the endpoint is slow, or there are more users than it can answer for", cap(c.slots), c.host)
}

// call sends the request and reads the answer, with a second attempt when a kept
// connection turns out to be dead: the provider closed it just as we used it, which says
// nothing about its health. Asking twice is harmless, because asking changes nothing.
func (c *Client) call(callerCtx, callCtx context.Context, token string) (*Result, *Error) {
	resp, reused, err := c.send(callCtx, token)
	if err != nil && reused && callCtx.Err() == nil {
		if _, broken := neterror.Connection(err); broken {
			// Connections that were idle for as long are likely dead too.
			c.transport.CloseIdleConnections()
			resp, _, err = c.send(callCtx, token)
		}
	}
	if err != nil {
		return nil, c.callError(callerCtx, callCtx, err)
	}
	defer resp.Body.Close()
	body, failed := c.readAnswer(callerCtx, callCtx, resp)
	if failed != nil {
		return nil, failed
	}
	return c.judge(callCtx, body)
}

// send makes one attempt and reports whether it used a connection that was open before.
func (c *Client) send(ctx context.Context, token string) (resp *http.Response, reused bool, err error) {
	trace := &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) { reused = info.Reused }}
	req, err := c.newRequest(httptrace.WithClientTrace(ctx, trace), token)
	if err != nil {
		return nil, false, err
	}
	resp, err = c.transport.RoundTrip(req)
	return resp, reused, err
}
