package egress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"phantomtoken/internal/oauth"
)

// Proxy is the http.Handler for applications. Create it with [New]; it is safe for concurrent
// use.
type Proxy struct {
	routes  table
	tokens  TokenSource
	now     func() time.Time
	log     *slog.Logger
	observe func(Outcome)
	buffers bufferPool
	quiet   *log.Logger
}

// New checks cfg and makes a proxy. It reads the CA files and opens no connection. The error
// names every setting that has to change.
func New(cfg Config) (*Proxy, error) { return newProxy(cfg, nil) }

func newProxy(cfg Config, resolver *net.Resolver) (*Proxy, error) {
	routes, err := cfg.routes()
	if cfg.Tokens == nil {
		err = errors.Join(err, errors.New("expected a source of tokens in Tokens, got nil"))
	}
	if err != nil {
		return nil, fmt.Errorf("configuring egress: %w", err)
	}
	for _, r := range routes {
		r.transport = r.newTransport(resolver)
	}
	return &Proxy{
		routes:  newTable(routes),
		tokens:  cfg.Tokens,
		now:     cfg.now(),
		log:     cfg.logger(),
		observe: cfg.observe(),
		quiet:   log.New(io.Discard, "", 0),
	}, nil
}

// Close closes the connections that no request uses; the others close when their requests
// end. It ends no request, so that the policy can be reloaded at any time.
func (p *Proxy) Close() {
	for _, r := range p.routes {
		r.transport.CloseIdleConnections()
	}
}

// ServeHTTP sends the request to the API of its route with an exchanged token, or refuses it.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	started := p.now()
	// Answers and refusals go out while the body still comes in. An error means that they can
	// anyway, or that this is no HTTP server.
	_ = http.NewResponseController(w).EnableFullDuplex()
	f, refused := p.prepare(r)
	if refused == nil {
		refused = f.exchange(r.Context())
	}
	if refused != nil {
		// net/http would read the rest of the body after this has returned, and with full duplex
		// begin to read the next request at the same time, which is a panic. So it is read here,
		// once the answer is out.
		defer func() { _ = r.Body.Close() }()
		if r.ContentLength < 0 || r.ContentLength > maxDrain {
			w.Header().Set("Connection", "close")
		}
	}
	// Deferred: net/http ends a broken answer by a panic that must go on.
	defer func() { p.record(r.Context(), f, refused, started) }()
	if refused != nil {
		refused.write(w)
		return
	}
	f.serve(w, r)
}

// maxDrain is the most of the body of a refused request that net/http reads, so that the
// connection can be used again.
const maxDrain = 256 << 10

// prepare reads the request: its route, and what has to be exchanged for it. The forward it
// returns is never nil, for the record.
func (p *Proxy) prepare(r *http.Request) (*forward, *refusal) {
	f := &forward{proxy: p}
	switch {
	case r.Method == http.MethodConnect:
		return f, malformed("CONNECT", "this is no forward proxy: send requests for the routes of the policy file, not CONNECT")
	case r.Method == http.MethodTrace || r.Method == "TRACK":
		// The answer would be the request, exchanged token and all.
		return f, malformed("TRACE", "TRACE is not passed on")
	case r.URL.Scheme != "" || r.URL.Host != "" || r.URL.Opaque != "":
		return f, malformed("absolute request target", "this is no forward proxy: send a path, not an absolute URL")
	}
	host, ok := hostname(r.Host)
	if !ok {
		return f, malformed("malformed Host", "the Host header field is malformed")
	}
	escaped := r.URL.EscapedPath()
	canonical, err := canonicalPath(escaped)
	if err != nil {
		return f, malformed("ambiguous path", err.Error())
	}
	if f.route = p.routes.find(host, canonical); f.route != p.routes.find(host, withoutParameters(canonical)) {
		f.route = nil
		return f, malformed("ambiguous path", "the path has parameters (;) that change its route")
	}
	if f.route == nil {
		return f, refuse(http.StatusNotFound, oauth.ErrorNotFound, ResultNoRoute, "no route for host and path",
			"no route of the policy file has this host and path; see egress.routes")
	}
	token, refused := bearer(r)
	if refused != nil {
		return f, refused
	}
	if leaks(r, token) {
		return f, malformed("phantom token outside Authorization", "the phantom token must stand in the Authorization header field alone")
	}
	name, byMCP, refused := tool(r.Header)
	if refused != nil {
		return f, refused
	}
	f.target = f.route.target(escaped, r.URL.RawQuery)
	f.toolByMCP = byMCP
	f.call = Call{SubjectToken: token, Audience: f.route.audience, Scope: f.route.scopes, Tool: name}
	return f, nil
}

// record is the end of every request: one log line unless it passed, one outcome.
func (p *Proxy) record(ctx context.Context, f *forward, refused *refusal, started time.Time) {
	o := Outcome{Route: -1, Status: f.status, Retried: f.retried, Result: ResultPassed}
	if refused == nil {
		refused = f.ended(ctx)
	}
	if f.route != nil {
		o.Route = f.route.index
	}
	if refused != nil {
		o.Result = refused.result
		if o.Status == 0 && o.Result != ResultCanceled {
			o.Status = refused.answer.Status
		}
	}
	o.Duration = p.now().Sub(started)
	defer p.observe(o) // whoever waits for it finds the line in the log

	level := o.Result.level()
	if refused == nil || !p.log.Enabled(ctx, level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("result", string(o.Result)),
		slog.String("cause", refused.cause),
		slog.Int("status", o.Status),
	}
	if f.route != nil {
		attrs = append(attrs, slog.Int("route", f.route.index), slog.String("audience", f.route.audience))
		if f.route.line > 0 {
			attrs = append(attrs, slog.Int("policy_line", f.route.line))
		}
	}
	if refused.inner != nil {
		attrs = append(attrs, slog.Any("err", refused.inner))
	}
	p.log.LogAttrs(ctx, level, "egress request failed", attrs...)
}

// copyBuffer is the size of the buffers that answers are copied with.
const copyBuffer = 32 << 10

// bufferPool is a httputil.BufferPool.
type bufferPool struct{ pool sync.Pool }

func (b *bufferPool) Get() []byte {
	if array, ok := b.pool.Get().(*[copyBuffer]byte); ok {
		return array[:]
	}
	return make([]byte, copyBuffer)
}

func (b *bufferPool) Put(buffer []byte) { b.pool.Put((*[copyBuffer]byte)(buffer)) }
