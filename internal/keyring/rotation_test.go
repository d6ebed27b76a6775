package keyring_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/lestrrat-go/jwx/v2/jws"

	"phantomtoken/internal/keyring"
	"phantomtoken/internal/oauth"
)

// strictVerifier is a verifier by the library jwx that keeps a key set for its time and
// asks for no other meanwhile, whatever key id it meets.
type strictVerifier struct {
	cache   *jwk.Cache
	url     string
	keeps   time.Duration
	fetched time.Time
}

func (v *strictVerifier) verify(t *testing.T, now time.Time, token string) error {
	t.Helper()
	if now.Sub(v.fetched) >= v.keeps {
		if _, err := v.cache.Refresh(t.Context(), v.url); err != nil {
			t.Fatal(err)
		}
		v.fetched = now
	}
	set, err := v.cache.Get(t.Context(), v.url)
	if err != nil {
		t.Fatal(err)
	}
	_, err = jws.Verify([]byte(token), jws.WithKeySet(set))
	return err
}

// Keys rotate again and again under several nodes whose clocks differ, with the shortest lead
// there may be. Verifiers of two libraries that keep key sets for minutes or for hours, each
// fetched from whatever node was next, accept every token from its first moment to its last.
//
// Covers: JW-14, JW-15
func TestVerifiersNeverMeetAnUnknownKey(t *testing.T) {
	dir, c := filepath.Join(t.TempDir(), "keys"), newClock()
	schedule := keyring.Schedule{Every: 6 * time.Hour, Lead: 2 * time.Hour, Lifetime: 3 * time.Hour}
	var nodes []*keyring.Folder
	var issuers []*keyring.Issuer
	for _, skew := range []time.Duration{0, 40 * time.Second, -40 * time.Second} {
		now := func() time.Time { return c.Now().Add(skew) }
		nodes = append(nodes, openFolder(t, keyring.FolderConfig{Dir: dir, Schedule: schedule, Now: now}))
	}

	var requests atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, ok := issuers[int(requests.Add(1))%len(issuers)].Document(r.URL.Path)
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", fmt.Sprintf("public, max-age=%d", int(keyring.DocumentMaxAge.Seconds())))
		_, _ = w.Write(body)
	}))
	defer srv.Close()
	for _, node := range nodes {
		issuers = append(issuers, newIssuer(t, oauth.IssuerMetadata{Issuer: srv.URL}, node))
	}

	provider, err := oidc.NewProvider(t.Context(), srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	follower := provider.Verifier(&oidc.Config{ClientID: audience, Now: c.Now})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var strict []*strictVerifier
	for _, keeps := range []time.Duration{15 * time.Minute, time.Hour, 65 * time.Minute, 90 * time.Minute, 119 * time.Minute} {
		cache := jwk.NewCache(ctx)
		if err := cache.Register(srv.URL+keyring.JWKSPath, jwk.WithMinRefreshInterval(1000*time.Hour)); err != nil {
			t.Fatal(err)
		}
		strict = append(strict, &strictVerifier{cache: cache, url: srv.URL + keyring.JWKSPath, keeps: keeps})
	}

	type living struct {
		token  string
		minted time.Time
		expiry time.Time
	}
	var tokens []living
	signed := map[string]bool{}
	for step := range 2 * 24 * 4 {
		now := c.Now()
		if step%4 == 0 { // a cron job, once an hour
			if _, err := keyring.Rotate(dir, "", schedule, now, false); err != nil {
				t.Fatal(err)
			}
		}
		tok := plainToken()
		tok.Issuer, tok.IssuedAt, tok.Expiry = srv.URL, now, now.Add(schedule.Lifetime)
		ring := nodes[step%len(nodes)].Ring()
		signed[ring.SigningKeyID()] = true
		tokens = append(tokens, living{mint(t, ring, tok), now, tok.Expiry})
		for len(tokens) > 0 && !tokens[0].expiry.After(now) {
			tokens = tokens[1:]
		}
		for _, tok := range tokens {
			for _, v := range strict {
				if err := v.verify(t, now, tok.token); err != nil {
					t.Fatalf("%s: jwx keeping keys for %s, token minted %s: %v", now, v.keeps, tok.minted, err)
				}
			}
			if _, err := follower.Verify(t.Context(), tok.token); err != nil {
				t.Fatalf("%s: go-oidc, token minted %s: %v", now, tok.minted, err)
			}
		}
		c.Advance(15 * time.Minute)
	}
	if len(signed) < 8 {
		t.Errorf("%d keys signed, want one in six hours", len(signed))
	}
	if got := names(t, dir); len(got) > 4 {
		t.Errorf("folder holds %v, want what is in use", got)
	}
}
