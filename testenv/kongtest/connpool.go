package kongtest

import (
	"context"
	"errors"
	"net"
	"sync"
	"syscall"
)

var errPoolClosed = errors.New("connection pool closed")

// connPool keeps idle connections to one address and hands out the one returned last, as
// nginx's Lua sockets do. It is safe for concurrent use.
type connPool struct {
	dial func(ctx context.Context) (net.Conn, error)
	size int // idle connections kept at most

	mu     sync.Mutex
	idle   []net.Conn
	closed bool
}

func newConnPool(size int, dial func(ctx context.Context) (net.Conn, error)) *connPool {
	return &connPool{dial: dial, size: size}
}

// get returns an idle connection that its peer has left alone, or a new one.
func (p *connPool) get(ctx context.Context) (net.Conn, error) {
	for {
		p.mu.Lock()
		if p.closed {
			p.mu.Unlock()
			return nil, errPoolClosed
		}
		n := len(p.idle)
		if n == 0 {
			p.mu.Unlock()
			return p.dial(ctx)
		}
		conn := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		if quiet(conn) {
			return conn, nil
		}
		conn.Close()
	}
}

// put returns a connection that has nothing under way.
func (p *connPool) put(conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.idle) >= p.size {
		conn.Close()
		return
	}
	p.idle = append(p.idle, conn)
}

// close closes the idle connections; connections returned later are closed at once.
func (p *connPool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, conn := range p.idle {
		conn.Close()
	}
	p.idle = nil
}

// quiet reports whether nothing has happened on an idle connection: neither its end nor
// bytes that nobody asked for. Kong drops a kept connection on either.
func quiet(conn net.Conn) bool {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	alive := false
	err = raw.Read(func(fd uintptr) bool {
		var buf [1]byte
		_, _, err := syscall.Recvfrom(int(fd), buf[:], syscall.MSG_PEEK)
		alive = err == syscall.EAGAIN || err == syscall.EWOULDBLOCK
		return true
	})
	return err == nil && alive
}
