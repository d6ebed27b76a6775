package probe

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// WantStatus fails the test when an answer has another status.
func WantStatus(t testing.TB, a Answer, want int) {
	t.Helper()
	if a.Status != want {
		t.Errorf("status: got %d, want %d; challenge %q, body %.300s", a.Status, want, a.Challenge(), a.Body)
	}
}

// WantInvalidToken is what a client must see to sign its user in again.
func WantInvalidToken(t testing.TB, a Answer) {
	t.Helper()
	WantStatus(t, a, http.StatusUnauthorized)
	if !strings.HasPrefix(a.Challenge(), `Bearer error="invalid_token"`) {
		t.Errorf("WWW-Authenticate: got %s, want error invalid_token", a.Challenge())
	}
}

// WantTrouble is what a client must see while nobody can say what its token is worth: no
// challenge, or it would throw the token away.
func WantTrouble(t testing.TB, a Answer) {
	t.Helper()
	WantStatus(t, a, http.StatusServiceUnavailable)
	if a.Challenge() != "" || a.Header.Get("Retry-After") == "" {
		t.Errorf("got challenge %q, Retry-After %q; want none and a time", a.Challenge(), a.Header.Get("Retry-After"))
	}
}

// WantLog waits for a line in a log, after so many bytes of it, that has all the words. Lines
// of a plugin arrive a moment after its answers.
func WantLog(t testing.TB, log fmt.Stringer, after int, words ...string) {
	t.Helper()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		text := log.String()[after:]
		for line := range strings.Lines(text) {
			if !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(line, word) }) {
				return
			}
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Errorf("log: got %s, want a line with %q", Tail(text), words)
			return
		}
	}
}

// Decode reads header and payload of a JWT, unverified.
func Decode(t testing.TB, token string) (header, claims map[string]any) {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("expected a JWT, got a token of %d parts", len(parts))
	}
	for i, into := range []*map[string]any{&header, &claims} {
		data, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(data, into); err != nil {
			t.Fatal(err)
		}
	}
	return header, claims
}

// tailLines are enough to see why something failed.
const tailLines = 30

// Tail is the end of a log.
func Tail(log string) string {
	all := strings.Split(strings.TrimSpace(log), "\n")
	return strings.Join(all[max(0, len(all)-tailLines):], "\n")
}
