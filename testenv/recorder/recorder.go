// Package recorder writes down HTTP exchanges as they pass, at either end of a connection,
// and alters none: a RoundTripper for who calls, a handler for who is called. The
// demonstration prints a conversation from it, and tests search what went where.
//
// What is recorded includes tokens, whole. It stays in memory; showing it is the business
// of the reader, who must not show tokens.
package recorder

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
)

// Exchange is one request and its response. It must not be changed.
type Exchange struct {
	From, To string // who called whom
	Method   string
	URL      string // absolute

	RequestHeader http.Header
	RequestBody   []byte // the first 64 KiB
	Status        int    // 0: no response came
	Header        http.Header
	Body          []byte // the first 64 KiB

	// Began and Ended put the beginnings and ends of all exchanges of a recorder in one
	// order: an exchange that began and ended in between was made on the way.
	Began, Ended int
}

const maxBody = 64 << 10

// maxExchanges bounds the memory of a recorder that nobody reads; later exchanges are
// dropped.
const maxExchanges = 20_000

// Recorder collects exchanges. Create it with New; it is safe for concurrent use.
type Recorder struct {
	mu      sync.Mutex
	names   map[string]string // host of a URL → who answers there
	events  int               // beginnings and ends so far
	open    int
	idle    chan struct{} // closed while open is 0
	all     []*Exchange   // ended ones, in the order of their end
	taken   int           // how many of all Take has returned
	observe func(*Exchange)
}

// New returns a recorder. observe, if not nil, is called with every exchange when it has
// ended, from the goroutine that ended it.
func New(observe func(*Exchange)) *Recorder {
	idle := make(chan struct{})
	close(idle)
	return &Recorder{names: map[string]string{}, idle: idle, observe: observe}
}

// Name says who answers at host, the "host:port" of a URL.
func (r *Recorder) Name(host, who string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.names[host] = who
}

// Transport records what from sends through next.
func (r *Recorder) Transport(from string, next http.RoundTripper) http.RoundTripper {
	return &transport{recorder: r, from: from, next: next}
}

// Handler records what from sends to, which next answers.
func (r *Recorder) Handler(from, to string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		e := r.begin(from, to, req)
		e.URL = "http://" + req.Host + req.URL.RequestURI()
		body := &tee{ReadCloser: req.Body, into: &e.RequestBody}
		req.Body = body
		defer func() {
			body.end()
			if e.Status == 0 { // the handler wrote nothing
				e.Status, e.Header = http.StatusOK, w.Header().Clone()
			}
			r.end(e)
		}()
		next.ServeHTTP(&responseTap{ResponseWriter: w, exchange: e}, req)
	})
}

// Take returns the exchanges since the last call, in the order in which they began. It
// waits for those under way to end: an inner call is often still being written when the
// outer one is done.
func (r *Recorder) Take(ctx context.Context) ([]*Exchange, error) {
	for {
		r.mu.Lock()
		idle := r.idle
		if r.open == 0 {
			out := slices.Clone(r.all[r.taken:])
			r.taken = len(r.all)
			r.mu.Unlock()
			slices.SortFunc(out, func(a, b *Exchange) int { return cmp.Compare(a.Began, b.Began) })
			return out, nil
		}
		r.mu.Unlock()
		select {
		case <-idle:
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for exchanges to end: %w", context.Cause(ctx))
		}
	}
}

// All returns every exchange that has ended so far, taken or not.
func (r *Recorder) All() []*Exchange {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.all)
}

func (r *Recorder) begin(from, to string, req *http.Request) *Exchange {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open == 0 {
		r.idle = make(chan struct{})
	}
	r.open++
	r.events++
	if to == "" {
		to = cmp.Or(r.names[req.URL.Host], req.URL.Host)
	}
	return &Exchange{
		From: from, To: to,
		Method: req.Method, URL: req.URL.String(),
		RequestHeader: req.Header.Clone(),
		Began:         r.events,
	}
}

func (r *Recorder) end(e *Exchange) {
	r.mu.Lock()
	r.events++
	e.Ended = r.events
	if len(r.all) < maxExchanges {
		r.all = append(r.all, e)
	}
	r.mu.Unlock()
	if r.observe != nil {
		r.observe(e)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open--
	if r.open == 0 {
		close(r.idle)
	}
}

type transport struct {
	recorder *Recorder
	from     string
	next     http.RoundTripper
}

func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	e := t.recorder.begin(t.from, "", req)
	// The body may still be read when the response is here, so it is taken from a copy that
	// the request offers, if it does.
	if req.GetBody != nil {
		if body, err := req.GetBody(); err == nil {
			e.RequestBody, _ = io.ReadAll(io.LimitReader(body, maxBody))
			_ = body.Close()
		}
	}
	res, err := t.next.RoundTrip(req)
	if err != nil {
		t.recorder.end(e)
		return nil, err
	}
	e.Status, e.Header = res.StatusCode, res.Header.Clone()
	if res.ContentLength >= 0 && res.ContentLength <= maxBody {
		// No stream: the answer is here now, whenever its reader may come to read it.
		body, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		e.Body = body
		t.recorder.end(e)
		res.Body = &buffered{Reader: bytes.NewReader(body), err: err}
		return res, nil
	}
	res.Body = &tee{ReadCloser: res.Body, into: &e.Body, done: func() { t.recorder.end(e) }}
	return res, nil
}

// buffered is a body that was read, and the error that ended the reading.
type buffered struct {
	*bytes.Reader
	err error
}

func (b *buffered) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err == io.EOF && b.err != nil {
		err = b.err
	}
	return n, err
}

func (b *buffered) Close() error { return nil }

// CloseIdleConnections lets http.Client.CloseIdleConnections reach the real transport.
func (t *transport) CloseIdleConnections() {
	if c, ok := t.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// tee copies what is read until the end of the body or until it is closed, whichever comes
// first, and calls done, if set, then.
type tee struct {
	io.ReadCloser
	done func()

	mu    sync.Mutex // a body may be closed while it is read
	ended bool
	into  *[]byte
}

func (t *tee) Read(p []byte) (int, error) {
	n, err := t.ReadCloser.Read(p)
	t.mu.Lock()
	if !t.ended {
		*t.into = append(*t.into, p[:min(n, maxBody-len(*t.into))]...)
	}
	t.mu.Unlock()
	if err != nil {
		t.end()
	}
	return n, err
}

func (t *tee) Close() error {
	err := t.ReadCloser.Close()
	t.end()
	return err
}

func (t *tee) end() {
	t.mu.Lock()
	ended := t.ended
	t.ended = true
	t.mu.Unlock()
	if !ended && t.done != nil {
		t.done()
	}
}

type responseTap struct {
	http.ResponseWriter
	exchange *Exchange
}

func (t *responseTap) WriteHeader(status int) {
	if t.exchange.Status == 0 {
		t.exchange.Status = status
		t.exchange.Header = t.Header().Clone()
	}
	t.ResponseWriter.WriteHeader(status)
}

func (t *responseTap) Write(p []byte) (int, error) {
	if t.exchange.Status == 0 {
		t.exchange.Status = http.StatusOK
		t.exchange.Header = t.Header().Clone()
	}
	t.exchange.Body = append(t.exchange.Body, p[:min(len(p), maxBody-len(t.exchange.Body))]...)
	return t.ResponseWriter.Write(p)
}

// Flush passes on what streams need.
func (t *responseTap) Flush() { _ = http.NewResponseController(t.ResponseWriter).Flush() }

// Unwrap lets http.ResponseController reach the real writer.
func (t *responseTap) Unwrap() http.ResponseWriter { return t.ResponseWriter }
