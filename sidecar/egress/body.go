package egress

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

// maxReplay is the most of a request body that is kept for a second attempt.
const maxReplay = 64 << 10

// errTokenInTrailer ends a request whose trailer has the phantom token.
var errTokenInTrailer = errors.New("phantom token in a trailer")

// errNotTaken ends a request whose body the API has stopped reading.
var errNotTaken = errors.New("body not taken by the API")

// requestBody is the body of a request on its way to the API. It records what passes, so
// that a small body can be sent once more, and hands its trailer on.
type requestBody struct {
	io.ReadCloser
	token string
	// in is the request whose Trailer is filled when its body ends; out is the trailer of the
	// outgoing one, nil when none was announced.
	in  *http.Request
	out http.Header
	// Nobody sees that the application has gone while its body is not read, and it is not read
	// while the API takes none of it: the request is aborted when that lasts for patience.
	patience time.Duration
	abort    func()

	mu       sync.Mutex
	watch    *time.Timer // runs while the API has to take what was read
	recorded []byte
	tooLarge bool
	complete bool
	closed   bool
	err      error // other than io.EOF, before it was closed
}

// newRequestBody wraps the body of out, if it has one. abort ends the request.
func newRequestBody(in, out *http.Request, token string, patience time.Duration, abort func()) *requestBody {
	out.Trailer = nil
	if out.Body == nil || out.Body == http.NoBody {
		return nil
	}
	b := &requestBody{
		ReadCloser: out.Body, token: token, in: in, tooLarge: in.ContentLength > maxReplay,
		patience: patience, abort: abort,
	}
	for name := range in.Trailer {
		if !isDropped(name) {
			if b.out == nil {
				b.out = make(http.Header)
			}
			b.out[name] = nil // announced; the value comes with the end of the body
		}
	}
	out.Body, out.Trailer = b, b.out
	// For connections that turn out to be closed, and HTTP/2 servers that go away.
	out.GetBody = func() (io.ReadCloser, error) {
		if body, ok := b.again(); ok {
			return body, nil
		}
		return nil, errors.New("sending the request body once more: it was not recorded")
	}
	return b
}

func (b *requestBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	b.stopWatch()
	b.mu.Unlock()
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		if trailerErr := b.passTrailer(); trailerErr != nil {
			err = trailerErr
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.tooLarge:
	case len(b.recorded)+n > maxReplay:
		b.tooLarge, b.recorded = true, nil
	default:
		b.recorded = append(b.recorded, p[:n]...)
	}
	switch {
	case err == io.EOF:
		b.complete = true
	case b.closed:
	case err != nil:
		b.err = err
	case b.watch == nil:
		b.watch = time.AfterFunc(b.patience, b.notTaken)
	default:
		b.watch.Reset(b.patience)
	}
	return n, err
}

func (b *requestBody) stopWatch() {
	if b.watch != nil {
		b.watch.Stop()
	}
}

func (b *requestBody) notTaken() {
	b.mu.Lock()
	if b.err == nil && !b.closed {
		b.err = errNotTaken
	}
	b.mu.Unlock()
	b.abort()
}

// finished reports whether all of the body was read. A nil receiver is a request without body.
func (b *requestBody) finished() bool {
	if b == nil {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.complete
}

// Close is called when the API wants no more of the body. What reading gives from then on is
// no fault of the application.
func (b *requestBody) Close() error {
	b.mu.Lock()
	b.closed = true
	b.stopWatch()
	b.mu.Unlock()
	return b.ReadCloser.Close()
}

// passTrailer hands on what was announced and may pass. What was not announced would come as
// a surprise to whoever looks at names before values, and does not pass.
func (b *requestBody) passTrailer() error {
	for name, values := range b.in.Trailer {
		for _, value := range values {
			if quotes(value, b.token) {
				return errTokenInTrailer
			}
		}
		if _, announced := b.out[name]; announced {
			b.out[name] = values
		}
	}
	return nil
}

// again returns the body from its beginning, if all of it was read and recorded. A nil
// receiver is a request without body.
func (b *requestBody) again() (io.ReadCloser, bool) {
	if b == nil {
		return http.NoBody, true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.complete || b.tooLarge {
		return nil, false
	}
	return io.NopCloser(bytes.NewReader(b.recorded)), true
}

// failure is the error that reading from the application ended with, if any.
func (b *requestBody) failure() error {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

// answerBody is the body of an answer. It remembers how it ended, and cleans the trailer.
type answerBody struct {
	io.ReadCloser
	answer *http.Response // whose Trailer is filled when the body ends
	err    error          // other than io.EOF
}

func (b *answerBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	switch {
	case err == io.EOF:
		cleanFields(b.answer.Trailer)
	case err != nil:
		b.err = err
	}
	return n, err
}
