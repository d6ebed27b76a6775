package kongtest

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// clientTimeout is nginx's client_header_timeout, client_body_timeout and
	// send_timeout.
	clientTimeout = 60 * time.Second
	// keepAliveTimeout is how long a client's connection may be idle.
	keepAliveTimeout = 75 * time.Second
	// lingerTimeout bounds how long the rest of an unread body is thrown away.
	lingerTimeout = 5 * time.Second
)

// clientConn is a connection of a client. It serves one request after the other.
type clientConn struct {
	g      *Gateway
	worker *worker
	id     uint64
	net.Conn
	r    *bufio.Reader
	w    *bufio.Writer
	peer endpoint
	port int                  // of the listener
	tls  *tls.ConnectionState // nil on the HTTP listener
}

// endpoint is one end of a connection.
type endpoint struct {
	ip   string
	port int
}

func parseEndpoint(addr net.Addr) endpoint {
	host, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		return endpoint{}
	}
	n, _ := strconv.Atoi(port)
	return endpoint{ip: host, port: n}
}

func (c *clientConn) scheme() string {
	if c.tls != nil {
		return "https"
	}
	return "http"
}

// clientCertificate is $ssl_client_escaped_cert: the URL-encoded PEM.
func (c *clientConn) clientCertificate() string {
	if c.tls == nil || len(c.tls.PeerCertificates) == 0 {
		return ""
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.tls.PeerCertificates[0].Raw})
	return strings.ReplaceAll(url.QueryEscape(string(text)), "+", "%20")
}

// clientVerify is $ssl_client_verify. No certificate is verified against anything.
func (c *clientConn) clientVerify() string {
	switch {
	case c.tls == nil:
		return ""
	case len(c.tls.PeerCertificates) == 0:
		return "NONE"
	case c.tls.PeerCertificates[0].Issuer.String() == c.tls.PeerCertificates[0].Subject.String():
		return "FAILED:self-signed certificate"
	default:
		return "FAILED:unable to verify the first certificate"
	}
}

// serve answers requests until either side has had enough.
func (c *clientConn) serve(ctx context.Context) {
	defer c.Close()
	if t, ok := c.Conn.(*tls.Conn); ok {
		_ = c.SetDeadline(time.Now().Add(clientTimeout))
		if err := t.HandshakeContext(ctx); err != nil {
			return
		}
		state := t.ConnectionState()
		c.tls = &state
	}
	for ctx.Err() == nil {
		_ = c.SetDeadline(time.Now().Add(keepAliveTimeout))
		if _, err := c.r.Peek(1); err != nil {
			return
		}
		if !c.serveRequest(ctx) || c.w.Flush() != nil {
			return
		}
	}
}

// serveRequest reads and answers one request and reports whether the connection is good
// for another.
func (c *clientConn) serveRequest(ctx context.Context) bool {
	_ = c.SetDeadline(time.Now().Add(clientTimeout))
	head, err := readHead(c.r, c.g.cfg.HeaderBuffers)
	x := newExchange(c, head)
	defer x.finish()
	var refused *headError
	if errors.As(err, &refused) {
		x.log(levelInfo, refused.reason)
		x.refuse(refused.status)
		_ = c.w.Flush()
		return false
	}
	if err != nil {
		return false
	}
	x.prepare()
	x.run(ctx)
	if err := c.w.Flush(); err != nil || !x.keepAlive {
		return false
	}
	return x.discardBody()
}

// watch calls gone when the client's connection ends while a response is under way. It
// starts where the request has been read to its end; stop ends it and waits for it.
func (c *clientConn) watch(gone func()) (stop func()) {
	var wg sync.WaitGroup
	// What the client sends meanwhile stays in the buffer: it is its next request.
	_ = c.SetReadDeadline(time.Time{})
	stopping := make(chan struct{})
	wg.Go(func() {
		if _, err := c.r.Peek(1); err != nil {
			select {
			case <-stopping:
			default:
				gone()
			}
		}
	})
	return func() {
		close(stopping)
		_ = c.SetReadDeadline(time.Unix(1, 0))
		wg.Wait()
		_ = c.SetReadDeadline(time.Time{})
	}
}

// Write gives each write to the client its own time.
func (c *clientConn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(clientTimeout)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// deadlineReader gives every read of a request body its own time.
type deadlineReader struct {
	io.Reader
	conn net.Conn
}

func (d deadlineReader) Read(p []byte) (int, error) {
	if err := d.conn.SetReadDeadline(time.Now().Add(clientTimeout)); err != nil {
		return 0, err
	}
	return d.Reader.Read(p)
}
