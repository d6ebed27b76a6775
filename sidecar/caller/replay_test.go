package caller_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"phantomtoken/internal/keyring"
	"phantomtoken/sidecar/caller"
)

// noKeys is a source that has none now.
type noKeys struct{}

func (noKeys) Keys(context.Context, string) ([]keyring.PublicKey, error) {
	return nil, errors.New("MARKED: unreachable")
}

const replayed = "expected one that was not used before; make one with a new jti for every request"

// TestRejectsReplayedJTI: an assertion serves once (RFC 7523 §3), after a reload of the
// policy as before, and until it has expired.
func TestRejectsReplayedJTI(t *testing.T) {
	w := newWorld(t, nil)
	form := asserted(w.signer.sign(t, "", w.claims("signer", nil)))
	if got := w.send(request{form: form}); got.ID != "signer" {
		t.Fatalf("got %+v", got)
	}
	wantRefusal(t, w.send(request{form: form}), 401, caller.ReasonReplayed, replayed)

	w.auth = w.new()
	wantRefusal(t, w.send(request{form: form}), 401, caller.ReasonReplayed, replayed)

	// exp was a minute ahead, and is believed for 30 s more.
	w.clock.advance(89 * time.Second)
	wantRefusal(t, w.send(request{form: form}), 401, caller.ReasonReplayed, replayed)
	w.clock.advance(time.Second)
	wantRefusal(t, w.send(request{form: form}), 401, caller.ReasonNotAuthenticated, "expected a token that has not expired")

	// Once another request has made the memory forget it, a clock that is set back must not
	// bring it back to life.
	if got := w.send(request{form: asserted(w.signer.sign(t, "", w.claims("signer", nil)))}); got.ID != "signer" {
		t.Fatalf("got %+v", got)
	}
	w.clock.advance(-time.Minute)
	wantRefusal(t, w.send(request{form: form}), 401, caller.ReasonReplayed, replayed)
}

// TestClockThatWasAheadLocksNobodyOut: after one request with a clock a day ahead fresh
// assertions are accepted again, at the latest when those have ended that were forgotten
// then, and no used one is.
func TestClockThatWasAheadLocksNobodyOut(t *testing.T) {
	w := newWorld(t, nil)
	fresh := func() url.Values { return asserted(w.signer.sign(t, "", w.claims("signer", nil))) }
	// Not over TLS: the certificate of the server does not live for a day.
	good := func(form url.Values) {
		t.Helper()
		if _, err := w.auth.Authenticate(t.Context(), httptest.NewRequest(http.MethodPost, "/token", nil), form); err != nil {
			t.Fatal(err)
		}
	}
	used := func(form url.Values) {
		t.Helper()
		_, err := w.auth.Authenticate(t.Context(), httptest.NewRequest(http.MethodPost, "/token", nil), form)
		if refusal := (*caller.Refusal)(nil); !errors.As(err, &refusal) || refusal.Reason != caller.ReasonReplayed {
			t.Fatalf("a used assertion: got %v", err)
		}
	}
	before := fresh()
	good(before)
	w.clock.advance(24 * time.Hour)
	ahead := fresh()
	good(ahead)
	w.clock.advance(-24 * time.Hour)
	for range 30 {
		used(before)
		w.clock.advance(time.Second)
		good(fresh())
	}
	w.clock.advance(24*time.Hour - 30*time.Second)
	used(ahead)
}

// TestRejectsReplayedJTIInAnotherAssertion: the jti counts, not the bytes.
func TestRejectsReplayedJTIInAnotherAssertion(t *testing.T) {
	w := newWorld(t, nil)
	jti := map[string]any{"jti": "one"}
	if got := w.send(request{form: asserted(w.signer.sign(t, "", w.claims("signer", jti)))}); got.ID != "signer" {
		t.Fatalf("got %+v", got)
	}
	wantRefusal(t, w.send(request{form: asserted(w.signer.sign(t, "JWT", w.claims("signer", jti)))}), 401, caller.ReasonReplayed, replayed)
	// The same of another caller is another.
	if got := w.send(request{form: asserted(w.remote.sign(t, "", w.claims("remote", jti)))}); got.ID != "remote" {
		t.Errorf("got %+v", got)
	}
}

// TestRefusedAssertionIsNotUsedUp: who sent a bad one can send a good one of that jti.
func TestRefusedAssertionIsNotUsedUp(t *testing.T) {
	w := newWorld(t, nil)
	forged := w.remote
	forged.kid = w.signer.kid
	wantRefusal(t, w.send(request{form: asserted(forged.sign(t, "", w.claims("signer", map[string]any{"jti": "one"})))}), 401, caller.ReasonNotAuthenticated, "expected a signature")
	wantRefusal(t, w.send(request{form: asserted(w.signer.sign(t, "", w.claims("signer", map[string]any{"jti": "one", "aud": "https://x.example"})))}), 401, caller.ReasonNotAuthenticated, "expected audience")
	if got := w.send(request{form: asserted(w.signer.sign(t, "", w.claims("signer", map[string]any{"jti": "one"})))}); got.ID != "signer" {
		t.Errorf("got %+v", got)
	}
}

// TestRejectsReplaysThatRace: of many at once one is good.
func TestRejectsReplaysThatRace(t *testing.T) {
	w := newWorld(t, nil)
	old, next := w.auth, w.new()
	for range 20 {
		form := asserted(w.signer.sign(t, "", w.claims("signer", nil)))
		var good, bad atomic.Int32
		var all sync.WaitGroup
		begin := make(chan struct{})
		for i := range 16 {
			all.Go(func() {
				<-begin
				authenticator := []*caller.Authenticator{old, next}[i%2] // as in the middle of a reload
				_, err := authenticator.Authenticate(t.Context(), httptest.NewRequest(http.MethodPost, "/token", nil), form)
				refusal := (*caller.Refusal)(nil)
				switch {
				case err == nil:
					good.Add(1)
				case errors.As(err, &refusal) && refusal.Reason == caller.ReasonReplayed:
					bad.Add(1)
				}
			})
		}
		close(begin)
		all.Wait()
		if good.Load() != 1 || bad.Load() != 15 {
			t.Fatalf("accepted %d times, refused as replayed %d times, want 1 and 15", good.Load(), bad.Load())
		}
	}
}

// TestFullMemoryRefuses: to forget an assertion would let it be used again. A caller that
// fills its part keeps nobody else out.
func TestFullMemoryRefuses(t *testing.T) {
	w := newWorld(t, func(w *world) { w.replay = caller.NewReplay(3, 5) })
	send := func(s signer, id string) answer {
		return w.send(request{form: asserted(s.sign(t, "", w.claims(id, nil)))})
	}
	first := asserted(w.signer.sign(t, "", w.claims("signer", nil)))
	if got := w.send(request{form: first}); got.ID != "signer" {
		t.Fatalf("got %+v", got)
	}
	for range 2 {
		if got := send(w.signer, "signer"); got.ID != "signer" {
			t.Fatalf("got %+v", got)
		}
	}
	const full = "too many client assertions were used in the last minutes"
	wantRefusal(t, send(w.signer, "signer"), 503, caller.ReasonReplayFull, full)
	wantRefusal(t, w.send(request{form: first}), 401, caller.ReasonReplayed, replayed)
	for range 2 {
		if got := send(w.remote, "remote"); got.ID != "remote" {
			t.Fatalf("another caller: %+v", got)
		}
	}
	wantRefusal(t, send(w.remote, "remote"), 503, caller.ReasonReplayFull, full) // overall
	if got := w.send(request{authorization: []string{basic("mcp-server", mcpSecret)}}); got.ID != "mcp-server" {
		t.Errorf("a caller without assertions: %+v", got)
	}

	w.clock.advance(91 * time.Second)
	for range 3 {
		if got := send(w.signer, "signer"); got.ID != "signer" {
			t.Errorf("once the old ones have expired: %+v", got)
		}
	}
	wantRefusal(t, send(w.signer, "signer"), 503, caller.ReasonReplayFull, full)
}

// TestRefusalOfFullMemory says when to come back, and why to the operator.
func TestRefusalOfFullMemory(t *testing.T) {
	w := newWorld(t, func(w *world) { w.replay = caller.NewReplay(1, 1) })
	var last error
	for range 2 {
		_, last = w.auth.Authenticate(t.Context(), httptest.NewRequest(http.MethodPost, "/token", nil), asserted(w.signer.sign(t, "", w.claims("signer", nil))))
	}
	refusal := (*caller.Refusal)(nil)
	if !errors.As(last, &refusal) || refusal.Answer.RetryAfter != 5*time.Second || refusal.Cause == nil || refusal.Unwrap() != refusal.Cause {
		t.Fatalf("got %v", last)
	}
	if got := last.Error(); got != "authenticating caller: client_assertions_full: too many client assertions were used in the last minutes; wait, and keep exchanged tokens while they live" {
		t.Errorf("got %q", got)
	}
}

// TestMemoryOfReplays: entries go when they expire, whichever caller they are of.
func TestMemoryOfReplays(t *testing.T) {
	replay := caller.NewReplay(0, 0)
	now := start
	for i := range 5000 {
		now = now.Add(100 * time.Millisecond)
		if err := replay.Use(fmt.Sprint("caller-", i%7), rand.Text(), now.Truncate(time.Second).Add(time.Duration(i%60+1)*time.Second), now); err != nil {
			t.Fatal(err)
		}
		if n := replay.Len(); n > 700 {
			t.Fatalf("%d entries after %d assertions, ten a second that live a minute at most", n, i+1)
		}
	}
	now = now.Add(2 * time.Minute)
	if err := replay.Use("last", "one", now.Add(time.Second), now); err != nil || replay.Len() != 1 || replay.Callers() != 1 {
		t.Errorf("err %v, %d entries of %d callers, want 1 of 1", err, replay.Len(), replay.Callers())
	}
}

// FuzzAssertion: whatever is sent, nobody is authenticated but by what the key signed, and
// nothing of it comes back.
func FuzzAssertion(f *testing.F) {
	w := newWorld(f, nil)
	good := w.signer.sign(f, "JWT", w.claims("signer", map[string]any{"jti": "MARKED-jti"}))
	pod := w.pods.sign(f, "", w.podClaims(nil))
	f.Add(good, assertionType, "")
	f.Add(pod, assertionType, "pod")
	f.Add(good+"=", assertionType, "signer")
	f.Add(forge(f, map[string]any{"alg": "none"}, w.claims("signer", nil), ""), assertionType, "")
	f.Add("..", "x", "signer")
	f.Add("", "", "")
	f.Fuzz(func(t *testing.T, assertion, kind, named string) {
		form := url.Values{"client_assertion": {assertion}, "client_assertion_type": {kind}, "client_id": {named}}
		identity, err := w.auth.Authenticate(t.Context(), httptest.NewRequest(http.MethodPost, "/token", nil), form)
		refusal := (*caller.Refusal)(nil)
		switch {
		case err == nil && assertion == good && kind == assertionType && identity == (caller.Identity{ID: "signer", Method: "private_key_jwt"}):
		case err == nil && assertion == pod && kind == assertionType && identity == (caller.Identity{ID: "pod", Method: caller.MethodKubernetes}):
		case err == nil:
			t.Fatalf("authenticated as %+v", identity)
		case !errors.As(err, &refusal) || identity != (caller.Identity{}):
			t.Fatalf("%+v, %v", identity, err)
		case refusal.Answer.Status != 400 && refusal.Answer.Status != 401:
			t.Fatalf("status %d", refusal.Answer.Status)
		}
	})
}

// FuzzBasic: nobody is authenticated but by the secret.
func FuzzBasic(f *testing.F) {
	w := newWorld(f, nil)
	f.Add(basic("mcp-server", mcpSecret))
	f.Add(basic(oddID, oddSecret))
	f.Add("basic  " + basic("mcp-server", mcpOldSecret)[6:])
	f.Add("Basic Og==")
	f.Add("Bearer x")
	f.Add("")
	f.Fuzz(func(t *testing.T, field string) {
		r := httptest.NewRequest(http.MethodPost, "/token", nil)
		r.Header["Authorization"] = []string{field}
		identity, err := w.auth.Authenticate(t.Context(), r, nil)
		id, secret := decodedBasic(field)
		want := id == "mcp-server" && (secret == mcpSecret || secret == mcpOldSecret) || id == oddID && secret == oddSecret
		if want != (err == nil) || want && identity != (caller.Identity{ID: id, Method: "client_secret_basic"}) || !want && identity != (caller.Identity{}) {
			t.Fatalf("field %q: got %+v, %v", field, identity, err)
		}
		refusal := (*caller.Refusal)(nil)
		if err != nil && (!errors.As(err, &refusal) || refusal.Answer.Status != 401 || refusal.Challenge == "") {
			t.Fatalf("field %q: got %v", field, err)
		}
	})
}
