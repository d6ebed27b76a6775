// Package issuertest runs an issuer of access tokens on loopback for tests of services that
// verify such tokens: metadata, keys, and tokens of any content.
package issuertest

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"phantomtoken/internal/keyring"
	"phantomtoken/internal/oauth"
)

// Issuer is a running issuer. It ends with the test.
type Issuer struct {
	// Ring signs what Token mints.
	Ring *keyring.Ring

	url  string
	down atomic.Bool
}

// Start runs an issuer with a fresh ES256 key. Its URL has a path, as a gateway's has.
func Start(t testing.TB) *Issuer {
	t.Helper()
	key, err := keyring.Generate("ES256")
	if err != nil {
		t.Fatal(err)
	}
	i := &Issuer{}
	if i.Ring, err = keyring.NewRing(key); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	i.url = server.URL + "/issuer"
	documents, err := keyring.NewIssuer(oauth.IssuerMetadata{Issuer: i.url}, i.Ring)
	if err != nil {
		t.Fatal(err)
	}
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		doc, ok := documents.Document(r.URL.Path)
		switch {
		case i.down.Load():
			http.Error(w, "down", http.StatusServiceUnavailable)
		case !ok:
			http.NotFound(w, r)
		default:
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(doc)
		}
	})
	return i
}

// URL is the issuer identifier.
func (i *Issuer) URL() string { return i.url }

// Down makes the issuer answer 503, or well again.
func (i *Issuer) Down(down bool) { i.down.Store(down) }

// Token mints an access token. Empty fields of c get usable values: this issuer, subject
// "john", client "client-1", five minutes of life from now. Audience is the caller's.
func (i *Issuer) Token(t testing.TB, c keyring.Token) string {
	t.Helper()
	if c.Issuer == "" {
		c.Issuer = i.url
	}
	if c.Subject == "" {
		c.Subject = "john"
	}
	if c.ClientID == "" {
		c.ClientID = "client-1"
	}
	if c.IssuedAt.IsZero() {
		c.IssuedAt = time.Now()
	}
	if c.Expiry.IsZero() {
		c.Expiry = c.IssuedAt.Add(5 * time.Minute)
	}
	token, err := i.Ring.Mint(c)
	if err != nil {
		t.Fatal(err)
	}
	return token
}
