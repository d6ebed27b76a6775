package authserver

import (
	"context"
	"net/http"
	"strconv"
	"time"
)

// Trouble says how the introspection endpoint misbehaves. The zero value is a healthy
// endpoint. The parts combine: a delay, then a status of your choice, with a body of your
// choice, byte by byte.
type Trouble struct {
	// Down closes the connection without an answer.
	Down bool
	// Delay is waited before anything else happens.
	Delay time.Duration
	// Redirect answers with Status, 307 if zero, and this Location.
	Redirect string
	// Status replaces the status code; the body stays what it is, also if it says active.
	Status int
	// Body replaces the body when not nil; empty is an empty body.
	Body []byte
	// ContentType replaces the media type.
	ContentType string
	// PadTo fills the body with spaces up to so many bytes; JSON stays JSON.
	PadTo int
	// Drip sends the body byte by byte with this pause before each.
	Drip time.Duration
	// Rewrite may change the members of an answer before it is encoded (and, in the JWT
	// forms, signed): the lying endpoint. It must not keep the map and may be called
	// concurrently.
	Rewrite func(claims map[string]any)
}

// Trouble makes the introspection endpoint misbehave from the next request on;
// Trouble(Trouble{}) heals it.
func (s *Server) Trouble(t Trouble) { s.trouble.Store(&t) }

// harmless reports whether an answer is written as it is.
func (t *Trouble) harmless() bool {
	return t.Status == 0 && t.Body == nil && t.ContentType == "" && t.PadTo == 0 && t.Drip == 0
}

// before does what happens before an answer is made, and reports whether that was all.
func (t *Trouble) before(w http.ResponseWriter, r *http.Request) (done bool) {
	if t.Delay > 0 && !pause(r.Context(), t.Delay) {
		return true
	}
	if t.Down {
		if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
			conn.Close()
		}
		return true
	}
	if t.Redirect != "" {
		w.Header().Set("Location", t.Redirect)
		status := t.Status
		if status == 0 {
			status = http.StatusTemporaryRedirect
		}
		w.WriteHeader(status)
		return true
	}
	return false
}

// write sends the answer, or what is left of it.
func (t *Trouble) write(w http.ResponseWriter, r *http.Request, a wireAnswer) {
	if t.Status != 0 {
		a.status = t.Status
	}
	if t.Body != nil {
		a.body = t.Body
	}
	if t.ContentType != "" {
		a.contentType = t.ContentType
	}
	size := max(len(a.body), t.PadTo)
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	if a.contentType != "" {
		h.Set("Content-Type", a.contentType)
	}
	if a.status == http.StatusNoContent {
		w.WriteHeader(a.status)
		return
	}
	h.Set("Content-Length", strconv.Itoa(size))
	w.WriteHeader(a.status)
	if t.Drip > 0 {
		t.drip(r.Context(), w, a.body, size)
		return
	}
	if _, err := w.Write(a.body); err != nil {
		return
	}
	spaces := make([]byte, 32<<10)
	for i := range spaces {
		spaces[i] = ' '
	}
	for left := size - len(a.body); left > 0; left -= len(spaces) {
		if _, err := w.Write(spaces[:min(left, len(spaces))]); err != nil {
			return
		}
	}
}

func (t *Trouble) drip(ctx context.Context, w http.ResponseWriter, body []byte, size int) {
	flush := http.NewResponseController(w).Flush
	for i := range size {
		if !pause(ctx, t.Drip) {
			return
		}
		b := byte(' ')
		if i < len(body) {
			b = body[i]
		}
		if _, err := w.Write([]byte{b}); err != nil || flush() != nil {
			return
		}
	}
}

// pause waits for d and reports whether ctx lasted as long.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
