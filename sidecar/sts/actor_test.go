package sts_test

import (
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"phantomtoken/internal/keyring"
)

// TestActorHasNamesOnly: nothing in act may look like a right, a key or a user.
func TestActorHasNamesOnly(t *testing.T) {
	w := newWorld(t, nil)
	claims := w.issued(w.form(func(f url.Values) {
		f.Set("subject_token", w.mint(func(k *keyring.Token) {
			k.Actor = map[string]any{
				"sub": "planner", "iss": "https://one.example", "client_id": "dyn-7", "scope": "admin", "email": "boss@corp.example",
				"cnf": map[string]any{"jkt": "x"}, "may_act": map[string]any{"sub": "x"},
				"act": map[string]any{"client_id": "agent", "sub": []any{"x"}, "roles": []any{"admin"}},
			}
		}))
	}))
	want := map[string]any{
		"sub": mcpServer, "iss": w.url,
		"act": map[string]any{
			"sub": "planner", "iss": "https://one.example", "client_id": "dyn-7",
			"act": map[string]any{"client_id": "agent"},
		},
	}
	if !reflect.DeepEqual(claims["act"], want) {
		t.Errorf("act: got %v\nwant %v", claims["act"], want)
	}
	if logged := w.lines()[0]["act"]; !reflect.DeepEqual(logged, want) {
		t.Errorf("audit line: got %v\nwant %v", logged, want)
	}
}

// TestTokenWithoutUserIsTold: with leave to exchange tokens of clients, what is issued for
// them cannot be taken for a user's: the client is in act too.
func TestTokenWithoutUserIsTold(t *testing.T) {
	w := newWorld(t, func(_ *world, p *parts) {
		p.policy = strings.Replace(usual, "    audiences:\n", "    allow_without_user: true\n    audiences:\n", 1)
	})
	claims := w.issued(w.form(func(f url.Values) {
		f.Set("subject_token", w.mint(func(k *keyring.Token) { k.Subject = k.ClientID }))
	}))
	want := map[string]any{"sub": mcpServer, "iss": w.url, "act": map[string]any{"sub": "dyn-123", "iss": w.phantom}}
	if claims["sub"] != "dyn-123" || !reflect.DeepEqual(claims["act"], want) {
		t.Errorf("got sub %v, act %v, want dyn-123 and %v", claims["sub"], claims["act"], want)
	}
}

// TestDecisionHasOneTime: a token in its last second is exchanged or refused, whenever the
// second ends during the decision; it is no fault, and nothing outlives it.
func TestDecisionHasOneTime(t *testing.T) {
	for step := range 16 {
		calls := -1 // not counting yet
		w := newWorld(t, func(w *world, p *parts) {
			now := func() time.Time {
				if calls < 0 {
					return w.now()
				}
				if calls++; calls > step {
					return w.now().Add(time.Second)
				}
				return w.now()
			}
			p.exchange.Now, p.callers.Now, p.service.Now = now, now, now
		})
		form := w.form(func(f url.Values) {
			f.Set("subject_token", w.mint(func(k *keyring.Token) { k.Expiry = w.now().Add(time.Second) }))
		})
		calls = 0
		a := w.post(form)
		if a.status != 200 && a.status != 400 || a.status == 200 && a.ok.ExpiresIn != 1 {
			t.Errorf("the second ends after %d looks at the clock: got %d %s", step, a.status, a.body)
		}
	}
}

// TestFailedAuthenticationIsLoggedWithAddress: without it nobody could stop who is guessing.
func TestFailedAuthenticationIsLoggedWithAddress(t *testing.T) {
	w := newWorld(t, nil)
	r := w.request(w.form(nil).Encode())
	setBasic(r, mcpServer, "guess")
	w.do(r)
	w.post(w.form(nil))
	lines := w.lines()
	if address, _ := lines[0]["remote_address"].(string); len(address) < len("127.0.0.1:1") || address[:10] != "127.0.0.1:" {
		t.Errorf("got %v, want the address of the caller", lines[0])
	}
	if lines[1]["remote_address"] != nil {
		t.Errorf("got %v, want no address of a caller that is known", lines[1])
	}
}
