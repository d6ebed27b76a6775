package caller_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"phantomtoken/sidecar/caller"
)

// TestNewPolicyKeepsFetchedKeys: a caller whose keys cannot be fetched again is known by those
// that were.
func TestNewPolicyKeepsFetchedKeys(t *testing.T) {
	w := newWorld(t, func(w *world) { w.cfg.KeySets = new(caller.KeySets) })
	send := func() answer { return w.send(request{form: asserted(w.remote.sign(t, "", w.claims("remote", nil)))}) }
	if got := send(); got.ID != "remote" {
		t.Fatalf("got %+v", got)
	}
	w.jwks.set("")
	old := w.auth
	w.auth = w.new()
	old.Close()
	if got := send(); got.ID != "remote" {
		t.Errorf("after a new policy: %+v", got)
	}
}

// TestNewPolicyKeepsFetchUnderWay: who waits for keys gets them, even if the new policy has
// that caller no more.
func TestNewPolicyKeepsFetchUnderWay(t *testing.T) {
	for _, tc := range []struct {
		name string
		next func(*world)
	}{
		{name: "caller stays", next: func(*world) {}},
		{name: "caller goes", next: func(w *world) { w.known = w.known[:3] }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			asked, answer := make(chan struct{}), make(chan struct{})
			var keys string
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				close(asked)
				select {
				case <-answer:
					_, _ = w.Write([]byte(keys))
				case <-r.Context().Done():
				}
			}))
			t.Cleanup(server.Close)
			w := newWorld(t, func(w *world) {
				w.cfg.KeySets = new(caller.KeySets)
				w.known[3].JWKSURI = server.URL
				keys = w.remote.jwks(t)
			})
			form := asserted(w.remote.sign(t, "", w.claims("remote", nil)))
			got := make(chan error, 1)
			go func() {
				r := httptest.NewRequest(http.MethodPost, tokenEndpoint, nil)
				_, err := w.auth.Authenticate(t.Context(), r, form)
				got <- err
			}()
			<-asked
			tc.next(w)
			w.new()
			w.auth.Close()
			close(answer)
			if err := <-got; err != nil {
				t.Error(err)
			}
		})
	}
}

// TestKeySetThatNobodyNamesIsForgotten: policies that come and go leave nothing behind, whether
// they were good or not.
func TestKeySetThatNobodyNamesIsForgotten(t *testing.T) {
	var sets caller.KeySets
	w := newWorld(t, func(w *world) {
		w.cfg.KeySets = &sets
		w.known = append(w.known, caller.Caller{ID: "same keys", JWKSURI: w.jwks.url, Where: "same"})
	})
	want := func(n int, when string) {
		t.Helper()
		if got := sets.Len(); got != n {
			t.Errorf("%s: %d key sets, want %d", when, got, n)
		}
	}
	want(1, "two callers with the same")
	second := w.new()
	w.known[3].JWKSURI = w.jwks.url + "?other"
	third := w.new()
	want(2, "another one")
	w.known[1].SecretVariables = []string{"NONE"}
	w.known[3].JWKSURI = w.jwks.url + "?never-used"
	if _, err := caller.New(w.cfg, w.known, w.replay); err == nil {
		t.Fatal("accepted")
	}
	want(2, "a policy that was refused")
	third.Close()
	third.Close()
	want(1, "the third closed, twice")
	second.Close()
	want(1, "the second closed")
	w.auth.Close()
	want(0, "all closed")
}

// TestCloseOfKeySetsEndsFetches: at the end of the process nobody waits for a server that hangs.
func TestCloseOfKeySetsEndsFetches(t *testing.T) {
	asked := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(asked)
		<-r.Context().Done()
	}))
	t.Cleanup(server.Close)
	var sets caller.KeySets
	w := newWorld(t, func(w *world) { w.cfg.KeySets, w.known[3].JWKSURI = &sets, server.URL })
	form := asserted(w.remote.sign(t, "", w.claims("remote", nil)))
	got := make(chan error, 1)
	go func() {
		_, err := w.auth.Authenticate(t.Context(), httptest.NewRequest(http.MethodPost, tokenEndpoint, nil), form)
		got <- err
	}()
	<-asked
	began := time.Now()
	sets.Close()
	if err := <-got; err == nil {
		t.Error("accepted without keys")
	}
	if took := time.Since(began); took > 3*time.Second { // a fetch may take 5 s
		t.Errorf("closing took %s", took)
	}
}
