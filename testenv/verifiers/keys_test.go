package verifiers_test

import (
	"crypto/rand"
	"net/http"
	"testing"
	"time"
)

// cooldown is the shortest time between two fetches of keys for unknown key ids, in these
// tests. Nimbus allows two fetches in it.
const (
	cooldown        = time.Second
	fetchesEachTime = 2
)

// checkOutage shows what a verifier says before it had the keys once, and that it recovers.
func checkOutage(t *testing.T, p *program) {
	p.issuer.setDown(true)
	a := attempt{authorization: "Bearer " + p.issuer.token(t, nil, nil)}
	for range 5 {
		res, _ := p.do(t, a)
		if res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" {
			t.Errorf("issuer down: got %d, Retry-After %q; want 503 and a time", res.StatusCode, res.Header.Get("Retry-After"))
		}
	}
	p.issuer.setDown(false)
	p.eventually(t, a, http.StatusOK)
}

// checkOutageLater shows that tokens of known keys go on working while the issuer is down, that
// invented key ids change nothing about that, and that they do not become requests either.
func checkOutageLater(t *testing.T, p *program) {
	good := attempt{authorization: "Bearer " + p.issuer.token(t, nil, nil)}
	p.eventually(t, good, http.StatusOK)
	p.issuer.setDown(true)
	defer p.issuer.setDown(false)
	began, fetched := time.Now(), p.issuer.keyFetches()
	const invented = 20
	for range invented {
		res, _ := p.do(t, attempt{authorization: "Bearer " + p.issuer.token(t, change{"kid": rand.Text()}, nil)})
		if res.StatusCode != http.StatusUnauthorized && res.StatusCode != http.StatusServiceUnavailable {
			t.Fatalf("invented key id: got %d, want 401 or 503", res.StatusCode)
		}
		if res, _ = p.do(t, good); res.StatusCode != http.StatusOK {
			t.Fatalf("token of a known key: got %d, want 200", res.StatusCode)
		}
	}
	p.fewFetches(t, fetched, invented, time.Since(began))
}

// checkRotation shows that a new key works without a restart and that a withdrawn one stops.
func checkRotation(t *testing.T, p *program) {
	old := attempt{authorization: "Bearer " + p.issuer.token(t, nil, nil)}
	p.issuer.rotate(t, "second")
	fetched := p.issuer.keyFetches()
	fresh := attempt{authorization: "Bearer " + p.issuer.token(t, nil, nil)}
	p.eventually(t, fresh, http.StatusOK)
	for range 5 {
		if res, _ := p.do(t, fresh); res.StatusCode != http.StatusOK {
			t.Fatalf("token of the new key: got %d, want 200", res.StatusCode)
		}
	}
	if got := p.issuer.keyFetches() - fetched; got != 1 {
		t.Errorf("the key set was fetched %d times for a new key, want once", got)
	}
	if res, _ := p.do(t, old); res.StatusCode != http.StatusUnauthorized {
		t.Errorf("token of the withdrawn key: got %d, want 401", res.StatusCode)
	}
}

// checkInventedKeys shows that tokens with invented key ids do not become requests to the
// issuer, and that good tokens go on working beside them.
func checkInventedKeys(t *testing.T, p *program) {
	good := attempt{authorization: "Bearer " + p.issuer.token(t, nil, nil)}
	p.eventually(t, good, http.StatusOK)
	began, fetched := time.Now(), p.issuer.keyFetches()
	const invented = 40
	for range invented {
		token := p.issuer.token(t, change{"kid": rand.Text()}, nil)
		if res, _ := p.do(t, attempt{authorization: "Bearer " + token}); res.StatusCode != http.StatusUnauthorized {
			t.Fatalf("invented key id: got %d, want 401", res.StatusCode)
		}
		if res, _ := p.do(t, good); res.StatusCode != http.StatusOK {
			t.Fatalf("good token beside invented ones: got %d, want 200", res.StatusCode)
		}
	}
	p.fewFetches(t, fetched, invented, time.Since(began))
}

// fewFetches checks that so many invented key ids in this time made few requests of keys.
func (p *program) fewFetches(t *testing.T, before, invented int, took time.Duration) {
	t.Helper()
	most := fetchesEachTime * (2 + int(took/cooldown))
	if got := p.issuer.keyFetches() - before; got > most || got >= invented {
		t.Errorf("%d invented key ids became %d fetches, want at most %d", invented, got, most)
	}
}
