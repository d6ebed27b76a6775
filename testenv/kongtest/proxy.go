package kongtest

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// upstreamRequest is what goes to the upstream, beside the client's header fields: Kong's
// variables upstream_*.
type upstreamRequest struct {
	scheme string
	host   string // where to connect to
	port   int
	uri    string
	// hostHeader is the Host field when something fixes it: preserve_host or a plugin.
	hostHeader string

	connection, te, via                                                               string
	forwardedFor, forwardedProto, forwardedHost, forwardedPort, forwardedPath, prefix string
}

// prepareUpstream fills in what is known before the plugins run; they may change it.
func (x *exchange) prepareUpstream() {
	u := &x.upstream
	if s := x.service; s != nil {
		u.scheme, u.host, u.port = s.Protocol, s.Host, s.Port
	}
	u.uri = escapeURI(x.match.upstreamURI)
	if x.route.PreserveHost {
		u.hostHeader, _ = x.original.value("host")
	}
	u.connection = "keep-alive"

	u.forwardedProto, u.forwardedHost, u.forwardedPort = x.conn.scheme(), x.head.host, strconv.Itoa(x.conn.port)
	u.forwardedPath, _, _ = strings.Cut(x.head.uri, "?")
	if x.match.prefix != "/" {
		u.prefix = x.match.prefix
	}
	if x.trusted() {
		for name, target := range map[string]*string{
			"x_forwarded_proto": &u.forwardedProto, "x_forwarded_host": &u.forwardedHost,
			"x_forwarded_port": &u.forwardedPort, "x_forwarded_path": &u.forwardedPath, "x_forwarded_prefix": &u.prefix,
		} {
			if v, ok := x.original.value(name); ok {
				*target = v
			}
		}
	}
	u.forwardedFor = x.remote.ip
	if v, ok := x.original.value("x_forwarded_for"); ok {
		u.forwardedFor = v + ", " + x.peer.ip
	}
	u.via = luaNumber(x.httpVersion()) + " " + serverToken
	if v, ok := x.original.value("via"); ok {
		u.via = v + ", " + u.via
	}
}

// finishUpstream is what Kong does after the plugins: the query, the Host field, and
// hop-by-hop fields.
func (x *exchange) finishUpstream() {
	u := &x.upstream
	if x.hasArgs || strings.HasSuffix(x.head.uri, "?") {
		u.uri += "?" + x.args
	}
	if u.hostHeader == "" {
		u.hostHeader = u.host
		if (u.port != 80 && u.port != 443) || (u.port == 80 && u.scheme != "http") || (u.port == 443 && u.scheme != "https") {
			u.hostHeader += ":" + strconv.Itoa(u.port)
		}
	}
	connection, _ := x.original.value("connection")
	if connection != "keep-alive" && connection != "close" && connection != "upgrade" {
		for _, name := range csv(connection) {
			x.head.headers.clear(name)
		}
	}
	if te, ok := x.original.value("te"); ok && slices.Contains(csv(te), "trailers") {
		u.te = "trailers"
	}
	x.head.headers.clear("Proxy")
	x.head.headers.clear("Proxy-Connection")
}

// csv splits a comma-separated list of lower-case words.
func csv(s string) []string {
	var words []string
	for word := range strings.SplitSeq(s, ",") {
		if word = lower(strings.TrimSpace(word)); word != "" {
			words = append(words, word)
		}
	}
	return words
}

// replacedByProxy are the client's fields that never reach the upstream as they are. The
// comparison is exact but for case: x_real_ip is another field.
func replacedByProxy() []string {
	return []string{
		"te", "via", "host", "upgrade", "connection", "x-forwarded-for", "x-forwarded-proto",
		"x-forwarded-host", "x-forwarded-port", "x-forwarded-path", "x-forwarded-prefix", "x-real-ip",
		"x-kong-request-id", "content-length", "transfer-encoding", "keep-alive", "expect",
	}
}

// writeRequest writes the request head for the upstream.
func (x *exchange) writeRequest(w io.Writer, body upstreamBody) {
	u := &x.upstream
	fmt.Fprintf(w, "%s %s HTTP/1.1\r\n", x.method, u.uri)
	for _, f := range []field{
		{"TE", u.te}, {"Via", u.via}, {"Host", u.hostHeader}, {"Connection", u.connection},
		{"X-Forwarded-For", u.forwardedFor}, {"X-Forwarded-Proto", u.forwardedProto},
		{"X-Forwarded-Host", u.forwardedHost}, {"X-Forwarded-Port", u.forwardedPort},
		{"X-Forwarded-Path", u.forwardedPath}, {"X-Forwarded-Prefix", u.prefix},
		{"X-Real-IP", x.remote.ip}, {"X-Kong-Request-Id", x.id},
	} {
		if f.value != "" {
			writeField(w, f)
		}
	}
	switch {
	case body.chunked:
		writeField(w, field{"Transfer-Encoding", "chunked"})
	case body.length >= 0:
		writeField(w, field{"Content-Length", strconv.FormatInt(body.length, 10)})
	}
	replaced := replacedByProxy()
	for _, f := range x.head.headers {
		if !slices.Contains(replaced, lower(f.name)) {
			writeField(w, f)
		}
	}
	_, _ = io.WriteString(w, "\r\n")
}

// upstreamBody is the request body on its way to the upstream.
type upstreamBody struct {
	io.ReadCloser
	length  int64 // -1: none, or unknown
	chunked bool
}

// requestBody returns the body to send: read to its end first (request_buffering, the
// default), or as it comes.
func (x *exchange) requestBody() (upstreamBody, error) {
	none := io.NopCloser(strings.NewReader(""))
	switch {
	case !x.body.present():
		return upstreamBody{none, x.head.contentLength, false}, nil
	case !x.body.read && !x.route.RequestBuffering:
		if err := x.sendContinue(); err != nil {
			return upstreamBody{}, err
		}
		return upstreamBody{io.NopCloser(x.body.reader), x.head.contentLength, x.head.chunked}, nil
	}
	if err := x.body.buffer(); err != nil {
		return upstreamBody{}, err
	}
	r, err := x.body.open()
	return upstreamBody{r, x.body.size, false}, err
}

// upstreamError is a failure that the client hears of as a status.
type upstreamError struct {
	status int
	err    error
}

func (e *upstreamError) Error() string { return e.err.Error() }
func (e *upstreamError) Unwrap() error { return e.err }

// upstreamStatus is the status for a failed connection to the upstream.
func upstreamStatus(err error) int {
	var timeout net.Error
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout() {
		return 504
	}
	return 502
}

// proxy sends the request to the upstream and its response to the client.
func (x *exchange) proxy(ctx context.Context) {
	x.finishUpstream()
	x.accessEnd = x.g.cfg.Now()
	x.proxied = true
	body, err := x.requestBody()
	if err != nil {
		// The client's fault: it went away, or sent a body that is none.
		x.keepAlive = false
		if errors.Is(err, errChunked) {
			x.delayed = x.nginxError(400)
			x.sendDelayed()
		}
		return
	}
	defer body.Close()

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := func() {}
	if !x.body.present() || x.body.read {
		stop = x.conn.watch(cancel)
	}
	up, err := x.connect(ctx)
	if err == nil {
		err = x.converse(ctx, up, body)
	}
	stop()
	var failed *upstreamError
	switch {
	case errors.As(err, &failed):
		if ctx.Err() != nil {
			x.keepAlive = false // nobody is there to hear it
			return
		}
		x.log(levelError, fmt.Sprintf("%v while reading response header from upstream, upstream: \"%s://%s:%d%s\"",
			failed.err, x.upstream.scheme, x.upstream.host, x.upstream.port, x.upstream.uri))
		x.delayed = x.nginxError(failed.status)
		if failed.status == 503 {
			x.proxied = false
			x.delayed = x.errorResponse(503, "name resolution failed")
		}
		x.sendDelayed()
	case err != nil:
		x.keepAlive = false // in the middle of the response
	}
}

// upstreamConn is a connection to an upstream.
type upstreamConn struct {
	net.Conn
	r    *bufio.Reader
	pool *upstreamPool
	key  string
}

// connect takes an idle connection to the upstream or opens one, trying again as often as
// the service says.
func (x *exchange) connect(ctx context.Context) (*upstreamConn, error) {
	u, s := &x.upstream, x.service
	address := net.JoinHostPort(u.host, strconv.Itoa(u.port))
	key := u.scheme + "|" + address
	if u.scheme == "https" {
		key += "|" + u.hostHeader
	}
	if conn := x.g.upstreams.get(key); conn != nil {
		return conn, nil
	}
	dialer := net.Dialer{Timeout: time.Duration(s.ConnectTimeout) * time.Millisecond}
	var conn net.Conn
	var err error
	for range s.Retries + 1 {
		if conn, err = dialer.DialContext(ctx, "tcp", address); err == nil || ctx.Err() != nil {
			break
		}
	}
	if err != nil {
		status := upstreamStatus(err)
		var dns *net.DNSError
		if errors.As(err, &dns) {
			status = 503
		}
		return nil, &upstreamError{status, err}
	}
	if u.scheme == "https" {
		conn = tls.Client(conn, x.tlsConfig())
	}
	return &upstreamConn{Conn: conn, r: bufio.NewReader(conn), pool: &x.g.upstreams, key: key}, nil
}

// tlsConfig is that of nginx's proxy_ssl_*: certificates are verified only where the
// service asks for it.
func (x *exchange) tlsConfig() *tls.Config {
	name, _, err := net.SplitHostPort(x.upstream.hostHeader)
	if err != nil {
		name = x.upstream.hostHeader
	}
	return &tls.Config{
		ServerName:         name,
		InsecureSkipVerify: x.service.TLSVerify == nil || !*x.service.TLSVerify,
		NextProtos:         []string{"http/1.1"},
	}
}

// converse sends the request on an open connection and passes the response on. It closes
// the connection or keeps it for another request.
func (x *exchange) converse(ctx context.Context, up *upstreamConn, body upstreamBody) error {
	stop := context.AfterFunc(ctx, func() { up.Close() })
	keep := false
	defer func() {
		if stop() && keep {
			up.pool.put(up)
		} else {
			up.Close()
		}
	}()

	// The upstream may answer before it has read the whole body. A body that is still
	// coming from the client may outlive this call, but not the client's connection.
	sent := make(chan error, 1)
	done := make(chan struct{})
	x.g.tasks.Go(func() {
		defer close(done)
		sent <- x.sendRequest(up, body)
	})
	if x.body.read || !x.body.present() {
		defer func() { <-done }()
	}

	reader := deadlineConn{up.Conn, time.Duration(x.service.ReadTimeout) * time.Millisecond}
	up.r.Reset(reader)
	res, err := readResponseHead(up.r, x.method)
	if err != nil {
		up.Close()
		x.keepAlive = x.keepAlive && (x.body.read || !x.body.present())
		select {
		case sendErr := <-sent:
			if sendErr != nil && !errors.Is(sendErr, net.ErrClosed) {
				err = sendErr
			}
		default:
		}
		return &upstreamError{upstreamStatus(err), err}
	}
	if res.status == 101 {
		return &upstreamError{502, errors.New("upstream switched protocols, which kongtest does not model,")}
	}
	if err := x.sendResponse(res); err != nil {
		up.Close()
		return err
	}
	// The request may not be sent yet: nginx gives the connection up then. What is only
	// waiting to be told is: a write that is done does not feel the deadline.
	_ = up.SetWriteDeadline(time.Unix(1, 0))
	if !x.body.read && x.body.present() {
		select {
		case err := <-sent:
			keep = err == nil && res.keepAlive
		default:
			up.Close()
			x.keepAlive = false
		}
		return nil
	}
	keep = <-sent == nil && res.keepAlive
	return up.SetWriteDeadline(time.Time{})
}

func (x *exchange) sendRequest(up *upstreamConn, body upstreamBody) error {
	timeout := time.Duration(x.service.WriteTimeout) * time.Millisecond
	w := bufio.NewWriter(deadlineConn{up.Conn, timeout})
	x.writeRequest(w, body)
	if err := w.Flush(); err != nil {
		return err
	}
	if body.chunked {
		return copyChunked(w, body)
	}
	if _, err := io.Copy(w, body); err != nil {
		return err
	}
	return w.Flush()
}

func copyChunked(w *bufio.Writer, r io.Reader) error {
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			fmt.Fprintf(w, "%x\r\n%s\r\n", n, buf[:n])
			if err := w.Flush(); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			_, _ = io.WriteString(w, "0\r\n\r\n")
			return w.Flush()
		}
		if err != nil {
			return err
		}
	}
}

// deadlineConn gives every read and write its own time.
type deadlineConn struct {
	net.Conn
	timeout time.Duration
}

func (d deadlineConn) Read(p []byte) (int, error) {
	if err := d.SetReadDeadline(time.Now().Add(d.timeout)); err != nil {
		return 0, err
	}
	return d.Conn.Read(p)
}

func (d deadlineConn) Write(p []byte) (int, error) {
	if err := d.SetWriteDeadline(time.Now().Add(d.timeout)); err != nil {
		return 0, err
	}
	return d.Conn.Write(p)
}

// upstreamPool keeps idle connections to upstreams. The zero value is ready for use; it is
// safe for concurrent use.
type upstreamPool struct {
	mu     sync.Mutex
	idle   map[string][]*upstreamConn
	closed bool
}

// upstreamIdle is how many idle connections are kept for one upstream.
const upstreamIdle = 512

func (p *upstreamPool) get(key string) *upstreamConn {
	for {
		p.mu.Lock()
		conns := p.idle[key]
		if len(conns) == 0 {
			p.mu.Unlock()
			return nil
		}
		conn := conns[len(conns)-1]
		p.idle[key] = conns[:len(conns)-1]
		p.mu.Unlock()
		if quiet(conn.Conn) {
			return conn
		}
		conn.Close()
	}
}

func (p *upstreamPool) put(conn *upstreamConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.idle[conn.key]) >= upstreamIdle || conn.r.Buffered() > 0 {
		conn.Close()
		return
	}
	if p.idle == nil {
		p.idle = map[string][]*upstreamConn{}
	}
	p.idle[conn.key] = append(p.idle[conn.key], conn)
}

func (p *upstreamPool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, conns := range p.idle {
		for _, conn := range conns {
			conn.Close()
		}
	}
	p.idle = nil
}
