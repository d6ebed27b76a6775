package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"phantomtoken/internal/delegation"
	"phantomtoken/internal/oauth"
)

// Routes and reloads share what is known of a token endpoint: none of them finds out anew
// that it is down.
func TestRoutesShareThePauseOfTheTokenEndpoint(t *testing.T) {
	var calls atomic.Int32
	idp := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	t.Cleanup(idp.Close)
	shared, err := newParts(time.Now, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	target := func(audience string) *delegation.Target {
		t.Helper()
		p, err := shared.acquire(providerSettings{
			Endpoint: idp.URL + "/introspect", TokenEndpoint: idp.URL + "/token", ClientID: "gateway", ClientSecret: testSecret,
			Issuer: "https://idp.example.com", JWKSURI: "https://idp.example.com/jwks", Exchange: true, Timeout: 5 * time.Second,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { shared.release(p) })
		target, err := p.target(audience)
		if err != nil {
			t.Fatal(err)
		}
		return target
	}
	targets := []*delegation.Target{target("https://a.internal"), target("https://b.internal")}
	for i := range 12 {
		_, err := targets[i%2].Exchange(t.Context(), delegation.Request{
			SubjectToken: fmt.Sprint("token-", i), Subject: &oauth.Introspection{Subject: "john"}, Scope: oauth.Scopes{"a"},
		})
		if e := (*delegation.Error)(nil); !errors.As(err, &e) || e.Kind != delegation.KindUnavailable {
			t.Fatalf("got %v, want unavailable", err)
		}
	}
	if calls.Load() != 5 {
		t.Errorf("%d calls, want 5 and then a pause for all", calls.Load())
	}
}
