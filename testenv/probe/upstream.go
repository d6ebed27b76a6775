package probe

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// Upstream is a server behind the gateway of which only the tokens that arrive count. It
// answers 204. Create it with NewUpstream; it is safe for concurrent use.
type Upstream struct {
	server *httptest.Server

	mu     sync.Mutex
	tokens []string
}

// NewUpstream starts an upstream that ends with the test.
func NewUpstream(t testing.TB) *Upstream {
	t.Helper()
	u := &Upstream{}
	u.server = httptest.NewServer(http.HandlerFunc(u.receive))
	t.Cleanup(u.server.Close)
	return u
}

func (u *Upstream) receive(w http.ResponseWriter, r *http.Request) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.tokens = append(u.tokens, strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
	w.WriteHeader(http.StatusNoContent)
}

// URL is its base URL, without a slash at the end.
func (u *Upstream) URL() string { return u.server.URL }

// Last is the bearer token that arrived last, and how many requests have arrived.
func (u *Upstream) Last() (token string, n int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if n = len(u.tokens); n > 0 {
		token = u.tokens[n-1]
	}
	return token, n
}
