package kongtest

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strconv"
	"sync"
	"time"
)

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
