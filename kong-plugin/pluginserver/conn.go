package pluginserver

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/Kong/go-pdk/server/kong_plugin_protocol"
)

// conn is one connection of Kong's pool. All but the fields below mu belong to the
// goroutine that serves it.
type conn struct {
	net     net.Conn
	r       *bufio.Reader
	call    []byte // the RpcCall being worked on
	replies []byte // backs the replies of the last Ask
	out     []byte

	mu      sync.Mutex
	waiting bool // for Kong, with nothing of ours to finish
	closing bool
}

func newConn(nc net.Conn) *conn {
	return &conn{net: nc, r: bufio.NewReader(nc), waiting: true}
}

// next waits for Kong's next call. Connections wait in Kong's pool for as long as Kong
// likes.
func (c *conn) next() ([]byte, error) {
	var err error
	c.call, err = readFrame(c.r, c.call[:0])
	return c.call, err
}

// send writes the calls, and the end of the event if there is one, in one write. When an
// argument cannot be encoded, nothing is written.
func (c *conn) send(calls []Call, end *kong_plugin_protocol.RpcReturn) error {
	buf, err := c.out[:0], error(nil)
	for _, call := range calls {
		buf = appendFrame(buf, call.Method)
		if buf, err = appendMessage(buf, call.Args); err != nil {
			return err
		}
	}
	if end != nil {
		buf = appendFrame(buf, "")
		if buf, err = appendMessage(buf, end); err != nil {
			return err
		}
	}
	return c.write(buf)
}

// sendReturn writes the answer to a call that is no event.
func (c *conn) sendReturn(ret *kong_plugin_protocol.RpcReturn) error {
	buf, err := appendMessage(c.out[:0], ret)
	if err != nil {
		return err
	}
	return c.write(buf)
}

// write ends the conversation when it fails: Kong may have got half a frame.
func (c *conn) write(buf []byte) error {
	c.out = buf
	if _, err := c.net.Write(buf); err != nil {
		return fmt.Errorf("%w: writing: %w", ErrGone, err)
	}
	return nil
}

// drain reads until Kong closes, or exitTimeout has passed. Our part is done: a server
// that stops need not wait for it.
func (c *conn) drain() {
	c.setDeadline(exitTimeout)
	if c.pause() {
		_, _ = io.Copy(io.Discard, c.r) // the end is all that is waited for
	}
}

// setDeadline bounds everything that happens on the connection from now on; 0 bounds
// nothing.
func (c *conn) setDeadline(d time.Duration) {
	var at time.Time
	if d > 0 {
		at = time.Now().Add(d)
	}
	_ = c.net.SetDeadline(at) // fails only on a closed connection, and so will the next read
}

// resume marks the begin of work that stop must not interrupt. It reports whether there
// is to be any.
func (c *conn) resume() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = false
	return !c.closing
}

// pause marks its end. It reports whether the connection lives on.
func (c *conn) pause() bool {
	if cap(c.call) > keptBuffer {
		c.call = nil
	}
	if cap(c.replies) > keptBuffer {
		c.replies = nil
	}
	if cap(c.out) > keptBuffer {
		c.out = nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = true
	return !c.closing
}

// stop closes the connection, at once if it waits for Kong and otherwise when its work is
// done.
func (c *conn) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closing = true
	if c.waiting {
		_ = c.net.Close() // nothing was under way
	}
}

func isClosed(err error) bool {
	return errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}
