package exchange_test

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
	"unsafe"

	"phantomtoken/internal/keyring"
	"phantomtoken/internal/oauth"
	"phantomtoken/sidecar/exchange"
)

// forAdvisor makes the request of the first server of a chain.
func (w *world) forAdvisor(change func(*keyring.Token)) *exchange.Request {
	return w.request(func(r *exchange.Request) {
		r.Caller, r.Audience = "advisor", []string{server}
		r.SubjectToken = w.mint(func(k *keyring.Token) {
			k.Audience = []string{advisor}
			change(k)
		})
	})
}

// TestRejectsClientTokenLaunderedIntoUserToken: a token without a user does not become a
// user's by passing through a server that may exchange such tokens.
func TestRejectsClientTokenLaunderedIntoUserToken(t *testing.T) {
	const subjectAudience = "    subject_audience: https://advisor.internal.example\n"
	w := newWorld(t, strings.Replace(usual, subjectAudience, subjectAudience+"    allow_without_user: true\n", 1), nil)
	first := w.exchange(w.forAdvisor(func(k *keyring.Token) { k.Subject, k.ClientID = "batch", "batch" }))
	if r := w.refused(w.request(func(r *exchange.Request) { r.SubjectToken = first.Token })); r.Reason != exchange.ReasonNoUser {
		t.Errorf("got %v, want %s", r, exchange.ReasonNoUser)
	}
}

// TestRejectsActorThatMayActForgotAfterOneHop: who may act for the user holds for the next
// exchange too.
//
// Covers: TX-38
func TestRejectsActorThatMayActForgotAfterOneHop(t *testing.T) {
	w := newWorld(t, usual, nil)
	first := w.exchange(w.forAdvisor(func(k *keyring.Token) {
		k.Extra["may_act"] = map[string]any{"sub": "advisor", "iss": issuer}
	}))
	if r := w.refused(w.request(func(r *exchange.Request) { r.SubjectToken = first.Token })); r.Reason != exchange.ReasonMayAct {
		t.Errorf("got %v, want %s", r, exchange.ReasonMayAct)
	}
	may := map[string]any{"sub": "server", "iss": issuer}
	last := w.exchange(w.request(func(r *exchange.Request) {
		r.SubjectToken = w.mint(func(k *keyring.Token) { k.Extra["may_act"] = may })
	}))
	if got := w.claims(last.Token)["may_act"]; !reflect.DeepEqual(got, may) {
		t.Errorf("may_act of a token for an API: got %v, want %v: somebody may exchange it elsewhere", got, may)
	}
}

// TestRejectsExpiredActorTokenFromCache: what was issued while an actor token lived ends with
// it, in the cache and by itself.
//
// Covers: TX-32
func TestRejectsExpiredActorTokenFromCache(t *testing.T) {
	w := newWorld(t, usual, nil)
	req := w.request(func(r *exchange.Request) {
		r.ActorToken = w.mint(func(k *keyring.Token) {
			k.Subject, k.ClientID, k.Expiry = "robot", "robot", w.now().Add(20*time.Second)
		})
	})
	if issued := w.exchange(req); issued.Expiry.After(w.now().Add(20 * time.Second)) {
		t.Errorf("the token lives until %s, longer than the actor token", issued.Expiry)
	}
	w.advance(21 * time.Second)
	if r := w.refused(req); r.Reason != exchange.ReasonActorToken {
		t.Errorf("got %v, want %s", r, exchange.ReasonActorToken)
	}
}

// TestOneQuestionHasOneAnswer: what decides nothing, a tool without a table of tools, the
// order of lists, repetitions, makes no further tokens.
func TestOneQuestionHasOneAnswer(t *testing.T) {
	text, _, _ := strings.Cut(usual, "tools:")
	w := newWorld(t, text, nil)
	subject := w.mint(nil)
	tokens := make(map[string]bool)
	for i := range 10 {
		tokens[w.exchange(w.request(func(r *exchange.Request) {
			r.SubjectToken, r.Tool = subject, fmt.Sprint("tool", i)
			r.Audience = [][]string{{api, orders}, {orders, api}, {api, orders, api}}[i%3]
			r.Scope = oauth.Scopes{"read", "read"}[:1+i%2]
		})).Token] = true
	}
	if len(tokens) != 1 {
		t.Errorf("one question had %d answers", len(tokens))
	}
}

// TestCacheKeepsNoRequestForm: scopes of a request are parts of its body, which must not stay
// in memory with the answer.
func TestCacheKeepsNoRequestForm(t *testing.T) {
	w := newWorld(t, usual, nil)
	body := strings.Repeat("x", 1<<16) + "read"
	issued := w.exchange(w.request(func(r *exchange.Request) { r.Scope = oauth.Scopes{body[1<<16:]} }))
	begin := uintptr(unsafe.Pointer(unsafe.StringData(body)))
	if at := uintptr(unsafe.Pointer(unsafe.StringData(issued.Scope[0]))); at >= begin && at < begin+uintptr(len(body)) {
		t.Error("the scope of the issued token is a part of the request's body")
	}
}

// TestRefusalsAreAccountedFor with the texts they hold.
func TestRefusalsAreAccountedFor(t *testing.T) {
	w := newWorld(t, usual, nil)
	before := w.x.CacheBytes()
	r := w.refused(w.request(func(r *exchange.Request) { r.Scope = oauth.Scopes{strings.Repeat("x", 100)} }))
	if grown := w.x.CacheBytes() - before; grown < int64(len(r.Answer.Description)) {
		t.Errorf("the cache grew by %d bytes for a description of %d", grown, len(r.Answer.Description))
	}
}

// TestRequestThatIsUsedAgainPoisonsNothing: a caller that makes another request of the same
// value after its answer does not change what is refreshed behind it.
func TestRequestThatIsUsedAgainPoisonsNothing(t *testing.T) {
	w := newWorld(t, usual, nil)
	long := func(k *keyring.Token) { k.Expiry = w.now().Add(time.Hour) }
	john := w.mint(long)
	mary := w.mint(func(k *keyring.Token) { long(k); k.Subject = "mary" })
	req := w.request(func(r *exchange.Request) { r.SubjectToken = john })
	first := w.exchange(req)
	w.advance(first.Expiry.Sub(w.now()) * 85 / 100)
	w.exchange(req) // from the cache; replaces the token behind us
	req.SubjectToken = mary
	for {
		again := w.exchange(w.request(func(r *exchange.Request) { r.SubjectToken = john }))
		if sub := w.claims(again.Token)["sub"]; sub != "john" {
			t.Fatalf("john got a token of %v", sub)
		}
		if again.Token != first.Token {
			return // replaced
		}
	}
}

// TestActorWithoutNameIsLeftOut: a token without client_id has nobody to name; it counts in the
// chain all the same, and the next exchange can read it.
func TestActorWithoutNameIsLeftOut(t *testing.T) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, usual, func(c *exchange.Config) {
		c.Subject.Minted, c.Subject.Types = false, []string{"JWT"}
		c.Subject.Keys = keyring.PublicKeys{{ID: "k", Algorithm: keyring.EdDSA, Key: public}}
	})
	part := func(v map[string]any) string {
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(data)
	}
	signed := part(map[string]any{"alg": "EdDSA", "kid": "k", "typ": "JWT"}) + "." + part(map[string]any{
		"iss": gateway, "sub": "john", "aud": advisor, "scope": "read", "iat": w.now().Unix(), "exp": w.now().Add(4 * time.Minute).Unix(),
	})
	first := w.exchange(w.request(func(r *exchange.Request) {
		r.Caller, r.Audience = "advisor", []string{server}
		r.SubjectToken = signed + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(private, []byte(signed)))
	}))
	second := w.exchange(w.request(func(r *exchange.Request) { r.SubjectToken = first.Token }))
	want := map[string]any{"sub": "server", "iss": issuer, "act": map[string]any{"sub": "advisor", "iss": issuer}}
	if got := w.claims(second.Token)["act"]; !reflect.DeepEqual(got, want) {
		t.Errorf("act: got %v\nwant %v", got, want)
	}
}

// TestRejectsProviderTokenOfAnExchange: a token that the provider issued to this service in an
// exchange is an exchanged token, whoever signed it: only who accepts those may exchange it.
func TestRejectsProviderTokenOfAnExchange(t *testing.T) {
	exchanged := func(k *keyring.Token) { k.ClientID = "sidecar-at-idp" }
	change := func(c *exchange.Config) { c.Subject.Minted, c.Subject.Exchanger = false, "sidecar-at-idp" }
	w := newWorld(t, usual, change)
	w.exchange(w.request(func(r *exchange.Request) { r.SubjectToken = w.mint(exchanged) })) // accept_exchanged
	w = newWorld(t, strings.Replace(usual, "accept_exchanged: true", "accept_exchanged: false", 1), change)
	if r := w.refused(w.request(func(r *exchange.Request) { r.SubjectToken = w.mint(exchanged) })); r.Reason != exchange.ReasonSubject {
		t.Errorf("got %v, want %s", r, exchange.ReasonSubject)
	}
}

// TestLinksOfAChainHaveOneFingerprint: the lines of all hops can be joined by the user.
//
// Covers: TX-43
func TestLinksOfAChainHaveOneFingerprint(t *testing.T) {
	w := newWorld(t, usual, nil)
	first := w.exchange(w.forAdvisor(func(*keyring.Token) {}))
	w.exchange(w.request(func(r *exchange.Request) { r.SubjectToken = first.Token }))
	lines := w.lines()
	if lines[0]["subject_fingerprint"] != lines[1]["subject_fingerprint"] {
		t.Errorf("got %v and %v", lines[0]["subject_fingerprint"], lines[1]["subject_fingerprint"])
	}
	if lines[0]["jti"] != lines[1]["subject_jti"] {
		t.Errorf("jti of the first is %v, subject_jti of the second %v", lines[0]["jti"], lines[1]["subject_jti"])
	}
}

// TestPanicIsAFaultWithALine: whatever goes wrong in a decision, who waits gets an answer and
// the log a line, without what went wrong for the caller to read.
func TestPanicIsAFaultWithALine(t *testing.T) {
	w := newWorld(t, usual, func(c *exchange.Config) { c.Subject.Keys = panickingKeys{} })
	r := w.refused(w.request(nil))
	if r.Reason != exchange.ReasonFault || r.Answer.Status != 500 || r.Answer.Description != "" {
		t.Errorf("got %v, want a fault without a word", r)
	}
	if lines := w.lines(); len(lines) != 1 || lines[0]["outcome"] != "failed" {
		t.Errorf("audit: got %v, want one line that says failed", lines)
	}
}

type panickingKeys struct{}

func (panickingKeys) Keys(context.Context, string) ([]keyring.PublicKey, error) { panic("a fault") }
