package main

import (
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"phantomtoken/internal/gate"
)

// TestReloadKeepsWhatIsShared: Kong starts the new instance before it closes the old one,
// and what they share must live on. The last user takes it away.
func TestReloadKeepsWhatIsShared(t *testing.T) {
	shared, err := newParts(time.Now, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	settings := providerSettings{Endpoint: "https://idp.example.com/i", ClientID: "a", ClientSecret: testSecret, FailuresPerMinute: 1}
	old, err := shared.acquire(settings)
	if err != nil {
		t.Fatal(err)
	}
	old.failures.Take("192.0.2.1")
	fresh, err := shared.acquire(settings)
	if err != nil {
		t.Fatal(err)
	}
	if fresh != old || fresh.failures.Take("192.0.2.1") {
		t.Error("a reload lost the client or the failures")
	}
	shared.release(old)
	again, err := shared.acquire(settings)
	if err != nil || again != fresh {
		t.Errorf("acquire after one of two releases = %p, %v, want %p", again, err, fresh)
	}
	shared.release(fresh)
	shared.release(again)
	if len(shared.providers) != 0 {
		t.Errorf("%d providers after the last release, want none", len(shared.providers))
	}
}

// TestAnswersOfOneClientAreNotAnothers: every setting that can change an answer gives a
// provider, and cache entries, of its own.
//
// Covers: IN-13
func TestAnswersOfOneClientAreNotAnothers(t *testing.T) {
	shared, err := newParts(time.Now, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	base := providerSettings{Endpoint: "https://idp.example.com/i", ClientID: "a", ClientSecret: testSecret}
	seen := map[[32]byte]string{}
	for name, change := range map[string]func(*providerSettings){
		"Base":       func(*providerSettings) {},
		"Endpoint":   func(s *providerSettings) { s.Endpoint += "2" },
		"ClientID":   func(s *providerSettings) { s.ClientID = "b" },
		"Secret":     func(s *providerSettings) { s.ClientSecret = "c" },
		"AuthMethod": func(s *providerSettings) { s.AuthMethod = "client_secret_post" },
		"AcceptJWT":  func(s *providerSettings) { s.AcceptJWT = true },
		"Exchange": func(s *providerSettings) {
			s.Exchange, s.Issuer, s.JWKSURI, s.TokenEndpoint = true, "https://idp.example.com", "https://idp.example.com/k", "https://idp.example.com/t"
		},
		"TLS": func(s *providerSettings) { s.InsecureSkipVerify = true },
		"CAs": func(s *providerSettings) { s.CAs = certificate(t) },
	} {
		settings := base
		change(&settings)
		p, err := shared.acquire(settings)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		defer shared.release(p)
		if other, dup := seen[p.id]; dup {
			t.Errorf("%s and %s share a provider", name, other)
		}
		seen[p.id] = name
	}
}

func TestPartsAreSafeForConcurrentUse(t *testing.T) {
	shared, err := newParts(time.Now, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	var users sync.WaitGroup
	for range 8 {
		users.Go(func() {
			for range 100 {
				p, err := shared.acquire(providerSettings{Endpoint: "https://idp.example.com/i", ClientID: "a", ClientSecret: testSecret})
				if err != nil {
					t.Error(err)
					return
				}
				shared.release(p)
			}
		})
	}
	users.Wait()
	if len(shared.providers) != 0 {
		t.Errorf("%d providers are left, want none", len(shared.providers))
	}
}

// A plugin of a service runs for all its routes, so the route of one request says nothing
// about the next.
func TestRouteIsRememberedForARoutesOwnPluginOnly(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	for _, scoped := range []bool{true, false} {
		memo := routeMemo{scoped: scoped, now: func() time.Time { return now }}
		memo.set(gate.Route{Hosts: []string{"a"}}, nil)
		if _, _, known := memo.get(); known != scoped {
			t.Errorf("scoped %v: route is known = %v", scoped, known)
		}
	}
}

// A connection that was lost once must not end a route for good.
func TestUnknownRouteIsAskedForAgain(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	memo := routeMemo{scoped: true, now: func() time.Time { return now }}
	memo.set(gate.Route{}, errors.New("closed"))
	if _, err, known := memo.get(); !known || err == nil {
		t.Errorf("right after the failure: known %v, %v, want it remembered", known, err)
	}
	now = now.Add(routeRetry)
	if _, _, known := memo.get(); known {
		t.Error("later: the failure is still remembered, want the route asked for again")
	}
}
