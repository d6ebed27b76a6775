package pluginserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/Kong/go-pdk/server/kong_plugin_protocol"
)

// Instance is one configuration of the plugin at work.
type Instance interface {
	// Access handles the access phase of one request. It ends with a call of e.Continue or
	// e.Exit; without one the client gets a 500. It is called from many goroutines at once,
	// and must not use e after it has returned.
	Access(ctx context.Context, e *Event)
	// Close is called once, after the last Access has returned.
	Close()
}

// Event is one request in the access phase. Its methods belong to the goroutine of the
// handler. After an error from any of them only Exit is left to try; a handler that returns
// instead leaves that to the server.
type Event struct {
	conn     *conn
	sequence int64
	ended    bool // an answer to this event has gone out
	damaged  bool // replies may be outstanding that nobody will read
	gone     bool // Kong has closed the connection, or will
}

// ErrGone says that Kong closed the connection in the middle of an event: it refused a
// call, and has answered the client itself.
var ErrGone = errors.New("kong closed the connection during the event")

// errOver guards against a second decision, and against replies that answer an earlier
// question.
var errOver = errors.New("event is over")

// Ask puts the questions to Kong in one write and returns one reply each.
func (e *Event) Ask(questions ...Call) ([]Reply, error) {
	if e.ended || e.damaged {
		return nil, errOver
	}
	if err := e.conn.send(questions, nil); err != nil {
		return nil, e.failed(err)
	}
	return e.replies(len(questions))
}

// Continue makes the changes and lets the request go on, all in one write.
func (e *Event) Continue(changes ...Call) error {
	if e.ended || e.damaged {
		return errOver
	}
	end := &kong_plugin_protocol.RpcReturn{Sequence: e.sequence}
	if err := e.conn.send(changes, end); err != nil {
		return e.failed(err)
	}
	// What Kong makes of the changes can no longer be undone: when it refuses one, it
	// answers the client with a 500 and closes.
	e.ended = true
	_, err := e.replies(len(changes))
	return err
}

// Exit answers the client and waits until Kong has closed the connection, which it does
// when the answer is on its way. It waits no longer than exitTimeout.
func (e *Event) Exit(status int, headers []Header, body []byte) error {
	if e.ended || e.gone {
		return errOver
	}
	if err := e.conn.send([]Call{exit(status, headers, body)}, nil); err != nil {
		return e.failed(err)
	}
	e.ended, e.gone = true, true
	e.conn.drain()
	return nil
}

// exitTimeout bounds the wait for Kong's close. Closing first does no harm: Kong reads
// nothing more of such a connection.
const exitTimeout = 10 * time.Second

func (e *Event) replies(n int) ([]Reply, error) {
	if n == 0 {
		return nil, nil
	}
	replies := make([]Reply, n)
	buf := e.conn.replies[:0]
	for i := range replies {
		start := len(buf)
		var err error
		if buf, err = readFrame(e.conn.r, buf); err != nil {
			return nil, e.failed(err)
		}
		replies[i] = buf[start:len(buf):len(buf)]
	}
	e.conn.replies = buf
	return replies, nil
}

func (e *Event) failed(err error) error {
	e.damaged = true
	if isGone(err) {
		e.gone = true
		return fmt.Errorf("%w: %w", ErrGone, err)
	}
	return fmt.Errorf("talking to kong: %w", err)
}

// finish makes sure that the event has an answer. It reports whether the connection is fit
// for another exchange.
func (e *Event) finish() bool {
	if !e.ended && !e.gone {
		// The handler may have used up its time; the last word gets its own.
		e.conn.setDeadline(lastWordTimeout)
		_ = e.Exit(http.StatusInternalServerError, []Header{
			{"Content-Type", "application/json"},
			{"Cache-Control", "no-store"},
		}, []byte(`{"error":"server_error"}`)) // fails only if Kong is gone
	}
	return !e.gone && !e.damaged
}

const lastWordTimeout = 5 * time.Second

// isGone reports whether err says that the peer has left.
func isGone(err error) bool {
	return errors.Is(err, ErrGone) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || isClosed(err)
}
