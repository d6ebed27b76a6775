package kongtest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

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
