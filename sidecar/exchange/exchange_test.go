package exchange_test

import (
	"context"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"phantomtoken/internal/keyring"
	"phantomtoken/internal/oauth"
	"phantomtoken/sidecar/exchange"
)

// TestChain follows a token through two servers: each hop is in act, outermost first, and the
// rights only shrink.
//
// Covers: TX-37, TX-41
func TestChain(t *testing.T) {
	w := newWorld(t, usual, nil)
	first := w.exchange(w.request(func(r *exchange.Request) {
		r.Caller, r.Audience = "advisor", []string{server}
		r.SubjectToken = w.mint(func(k *keyring.Token) { k.Audience = []string{advisor} })
	}))
	second := w.exchange(w.request(func(r *exchange.Request) { r.SubjectToken, r.Scope = first.Token, nil }))
	claims := w.claims(second.Token)
	want := map[string]any{
		"sub": "server", "iss": issuer,
		"act": map[string]any{
			"sub": "advisor", "iss": issuer,
			"act": map[string]any{"sub": "dyn-123", "iss": gateway},
		},
	}
	if !reflect.DeepEqual(claims["act"], want) {
		t.Errorf("act: got %v\nwant %v", claims["act"], want)
	}
	if claims["sub"] != "john" || claims["scope"] != "read" || claims["client_id"] != "server" {
		t.Errorf("got %v, want john's rights to read", claims)
	}
	if second.Expiry.After(first.Expiry) {
		t.Errorf("the second token lives until %s, longer than the first, %s", second.Expiry, first.Expiry)
	}
}

// TestRejectsExchangedTokenWhereItIsNotAccepted: a server that nobody calls but the gateway
// exchanges no tokens of this service.
func TestRejectsExchangedTokenWhereItIsNotAccepted(t *testing.T) {
	w := newWorld(t, strings.Replace(usual, "accept_exchanged: true", "accept_exchanged: false", 1), nil)
	first := w.exchange(w.request(func(r *exchange.Request) {
		r.Caller, r.Audience = "advisor", []string{server}
		r.SubjectToken = w.mint(func(k *keyring.Token) { k.Audience = []string{advisor} })
	}))
	if r := w.refused(w.request(func(r *exchange.Request) { r.SubjectToken = first.Token })); r.Reason != exchange.ReasonSubject {
		t.Errorf("got %v, want the subject token refused", r)
	}
}

// TestRejectsChainBeyondTheLimit of the policy: four with the caller.
//
// Covers: TX-40
func TestRejectsChainBeyondTheLimit(t *testing.T) {
	w := newWorld(t, usual, nil)
	with := func(actors int) *exchange.Request {
		return w.request(func(r *exchange.Request) {
			r.SubjectToken = w.mint(func(k *keyring.Token) {
				for range actors {
					act := map[string]any{"sub": "hop"}
					if k.Actor != nil {
						act["act"] = k.Actor
					}
					k.Actor = act
				}
			})
		})
	}
	w.exchange(with(3))
	if r := w.refused(with(4)); r.Answer.Code != "invalid_request" {
		t.Errorf("got %v, want invalid_request", r)
	}
}

// TestActorToken: somebody else than the caller acts, if the policy names it; the caller is
// in the picture as the client that showed the token.
//
// Covers: TX-32, TX-37, TX-38
func TestActorToken(t *testing.T) {
	robot := func(k *keyring.Token) { k.Subject, k.ClientID = "robot", "robot" }
	for _, tc := range []struct {
		name    string
		actor   func(*keyring.Token)
		subject func(*keyring.Token)
		caller  string
		reason  exchange.Reason // empty: granted
	}{
		{name: "named", actor: robot},
		{name: "may_act names it", actor: robot, subject: func(k *keyring.Token) {
			k.Extra["may_act"] = map[string]any{"sub": "robot", "iss": gateway}
		}},
		{name: "RejectsActorThatMayActDoesNotName", actor: robot, reason: exchange.ReasonMayAct, subject: func(k *keyring.Token) {
			k.Extra["may_act"] = map[string]any{"sub": "server", "iss": issuer}
		}},
		{name: "RejectsActorOfOtherName", actor: func(k *keyring.Token) { k.Subject = "spy" }, reason: exchange.ReasonActorToken},
		{name: "RejectsUserAsActor", actor: func(*keyring.Token) {}, reason: exchange.ReasonActorToken},
		{name: "RejectsExpiredActorToken", reason: exchange.ReasonActorToken, actor: func(k *keyring.Token) {
			robot(k)
			k.IssuedAt, k.Expiry = k.IssuedAt.Add(-time.Hour), k.Expiry.Add(-time.Hour)
		}},
		{name: "RejectsActorTokenForOtherCaller", reason: exchange.ReasonActorToken, actor: func(k *keyring.Token) {
			robot(k)
			k.Audience = []string{advisor}
		}},
		{name: "RejectsActorTokenOfCallerWithoutActors", actor: robot, caller: "advisor", reason: exchange.ReasonActorToken, subject: func(k *keyring.Token) {
			k.Audience = []string{advisor}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t, usual, nil)
			req := w.request(func(r *exchange.Request) {
				r.ActorToken, r.SubjectToken = w.mint(tc.actor), w.mint(tc.subject)
				if tc.caller != "" {
					r.Caller, r.Audience = tc.caller, []string{server}
				}
			})
			if tc.reason != "" {
				if r := w.refused(req); r.Reason != tc.reason || r.Answer.Code != "invalid_request" {
					t.Errorf("got %v, want %s", r, tc.reason)
				}
				return
			}
			want := map[string]any{
				"sub": "robot", "iss": gateway, "client_id": "server",
				"act": map[string]any{"sub": "dyn-123", "iss": gateway},
			}
			if got := w.claims(w.exchange(req).Token)["act"]; !reflect.DeepEqual(got, want) {
				t.Errorf("act: got %v\nwant %v", got, want)
			}
		})
	}
}

// TestRuleIsLoggedByName: a scope that the subject token lacks comes by a rule only, and the
// audit line names the rule.
//
// Covers: TX-05, TX-43
func TestRuleIsLoggedByName(t *testing.T) {
	w := newWorld(t, usual, nil)
	issued := w.exchange(w.request(func(r *exchange.Request) {
		r.Scope = oauth.Scopes{"audit"}
		r.SubjectToken = w.mint(func(k *keyring.Token) { k.Scope = oauth.Scopes{"write"} })
	}))
	if got := w.claims(issued.Token)["scope"]; got != "audit" {
		t.Errorf("scope: got %v, want audit", got)
	}
	if got := w.lines()[0]["rules"]; !reflect.DeepEqual(got, []any{"writers-audit"}) {
		t.Errorf("rules in the audit line: got %v", got)
	}
	if r := w.refused(w.request(func(r *exchange.Request) { r.Scope = oauth.Scopes{"audit"} })); r.Answer.Code != "invalid_scope" {
		t.Errorf("without the scope that the rule wants: got %v", r)
	}
}

// TestToolIsAudited by its name where the policy has it, never by what the caller made up.
func TestToolIsAudited(t *testing.T) {
	w := newWorld(t, usual, nil)
	w.exchange(w.request(func(r *exchange.Request) { r.Tool, r.Scope = "look", nil }))
	w.refused(w.request(func(r *exchange.Request) { r.Tool = "MARKED" }))
	lines := w.lines()
	if lines[0]["tool"] != "look" || lines[1]["tool"] != "unknown" {
		t.Errorf("got %v and %v, want look and unknown", lines[0]["tool"], lines[1]["tool"])
	}
	for _, o := range w.seen {
		if strings.Contains(string(o.Reason)+o.Caller+o.Audience, "MARKED") {
			t.Errorf("observation %+v has what the caller made up", o)
		}
	}
}

// TestClaimMap: claims change their names on the way.
func TestClaimMap(t *testing.T) {
	w := newWorld(t, usual, nil)
	claims := w.claims(w.exchange(w.request(nil)).Token)
	if claims["area"] != "USA" || claims["region"] != nil {
		t.Errorf("got %v, want area USA and no region", claims)
	}
}

// TestResourceIsAnotherNameOfAnAudience: aud is the audience whatever it was asked by.
//
// Covers: TX-04
func TestResourceIsAnotherNameOfAnAudience(t *testing.T) {
	w := newWorld(t, usual, nil)
	if aud := w.claims(w.exchange(w.request(func(r *exchange.Request) { r.Audience = []string{api + "/v1"} })).Token)["aud"]; aud != api {
		t.Errorf("aud: got %v, want %s", aud, api)
	}
}

// TestStandsFromCache: the same request gets the same token until shortly before its end, a
// request that differs in anything gets another.
//
// Covers: TX-09, TX-13
func TestStandsFromCache(t *testing.T) {
	w := newWorld(t, usual, nil)
	token := w.mint(func(k *keyring.Token) { k.Expiry = k.Expiry.Add(time.Hour); k.Scope = oauth.Scopes{"read", "write"} })
	ask := func(change func(*exchange.Request)) *exchange.Issued {
		return w.exchange(w.request(func(r *exchange.Request) {
			r.SubjectToken = token
			if change != nil {
				change(r)
			}
		}))
	}
	first := ask(nil)
	if again := ask(nil); again.Token != first.Token {
		t.Error("the same request got another token")
	}
	if line := w.lines()[1]; line["cached"] != true || line["jti"] != w.claims(first.Token)["jti"] {
		t.Errorf("audit line of the second answer: got %v, want cached and the same jti", line)
	}
	for name, change := range map[string]func(*exchange.Request){
		"subject":  func(r *exchange.Request) { r.SubjectToken = w.mint(nil) },
		"scope":    func(r *exchange.Request) { r.Scope = oauth.Scopes{"write"} },
		"audience": func(r *exchange.Request) { r.Audience = []string{orders} },
		"tool":     func(r *exchange.Request) { r.Tool = "look" },
		"actor":    func(r *exchange.Request) { r.ActorToken = w.mint(func(k *keyring.Token) { k.Subject = "robot" }) },
	} {
		if other := ask(change); other.Token == first.Token {
			t.Errorf("another %s got the token of the first", name)
		}
	}
	w.advance(first.Expiry.Sub(w.now()) - 9*time.Second)
	if late := ask(nil); late.Token == first.Token {
		t.Error("a token in its last ten seconds was given out again")
	}
}

// TestRejectsExpiredSubjectThatIsCached: what was issued for a subject token is not given out
// once that is dead.
//
// Covers: TX-09, TX-41
func TestRejectsExpiredSubjectThatIsCached(t *testing.T) {
	w := newWorld(t, usual, nil)
	token := w.mint(func(k *keyring.Token) { k.Expiry = w.now().Add(time.Minute) })
	req := w.request(func(r *exchange.Request) { r.SubjectToken = token })
	issued := w.exchange(req)
	if want := w.now().Add(time.Minute); !issued.Expiry.Equal(want) {
		t.Errorf("expiry: got %s, want that of the subject, %s", issued.Expiry, want)
	}
	w.advance(time.Minute)
	if r := w.refused(req); r.Reason != exchange.ReasonSubject {
		t.Errorf("got %v, want the subject token refused", r)
	}
}

// TestEvict: an API that says 401 to a token gets another the next time; bad news about an
// old token does not take the new one away.
//
// Covers: TX-18
func TestEvict(t *testing.T) {
	w := newWorld(t, usual, nil)
	req := w.request(nil)
	first := w.exchange(req)
	w.x.Evict(req, first.Token)
	if again := w.exchange(req); again.Token != first.Token {
		t.Error("a token that was just issued was replaced: an API that refuses all would cost an exchange each")
	}
	w.advance(5 * time.Second)
	w.x.Evict(req, first.Token)
	second := w.exchange(req)
	if second.Token == first.Token {
		t.Fatal("the token that the API refused was given out again")
	}
	w.advance(5 * time.Second)
	w.x.Evict(req, first.Token)
	if third := w.exchange(req); third.Token != second.Token {
		t.Error("late news about the first token evicted the second")
	}
}

// TestOneDecisionForAllWhoWait: concurrent requests for the same share one token.
func TestOneDecisionForAllWhoWait(t *testing.T) {
	w := newWorld(t, usual, nil)
	req := w.request(nil)
	tokens := make([]string, 64)
	var group sync.WaitGroup
	for i := range tokens {
		group.Go(func() {
			if issued, err := w.x.Exchange(t.Context(), req); err == nil {
				tokens[i] = issued.Token
			}
		})
	}
	group.Wait()
	for i, token := range tokens {
		if token == "" || token != tokens[0] {
			t.Fatalf("request %d got another token than the first, or none", i)
		}
	}
}

// TestPolicyIsReplacedWhileItWorks: what the old policy gave is not given out again; a policy
// that cannot work leaves the old one in use.
func TestPolicyIsReplacedWhileItWorks(t *testing.T) {
	w := newWorld(t, usual, nil)
	req := w.request(func(r *exchange.Request) {
		r.SubjectToken = w.mint(func(k *keyring.Token) { k.Scope = oauth.Scopes{"read", "write"} })
		r.Scope = oauth.Scopes{"write"}
	})
	w.exchange(req)
	if err := w.x.Use(parse(t, strings.Replace(usual, "        scopes: [read, write]\n        rules:\n        - {name: writers-audit, when: [write], grant: [audit]}", "        scopes: [read]", 1))); err != nil {
		t.Fatal(err)
	}
	if r := w.refused(req); r.Answer.Code != "invalid_scope" {
		t.Errorf("after the scope was taken away: got %v, want invalid_scope", r)
	}
	bad := strings.Replace(usual, "{scopes: [read, order]}", "{scopes: [read, order], issue: idp}", 1)
	if err := w.x.Use(parse(t, bad)); err == nil {
		t.Error("a policy that wants a provider which is not there was taken")
	}
	if r := w.refused(req); r.Answer.Code != "invalid_scope" {
		t.Errorf("after a bad policy: got %v, want the last good policy in use", r)
	}
}

// TestRefusalIsForgottenSoon: the user grants what was missing, with the same token at a
// provider that allows that, or the operator mends the policy.
func TestRefusalIsForgottenSoon(t *testing.T) {
	w := newWorld(t, usual, nil)
	req := w.request(func(r *exchange.Request) { r.Scope = oauth.Scopes{"write"} })
	first := w.refused(req)
	if again := w.refused(req); again != first {
		t.Error("the refusal was made anew at once")
	}
	w.advance(3 * time.Second)
	if later := w.refused(req); later == first {
		t.Error("the refusal is still the one of three seconds ago")
	}
}

// TestCallerThatGoesAwayHurtsNobody: its request ends with its context, the decision goes on
// for the others.
func TestCallerThatGoesAwayHurtsNobody(t *testing.T) {
	asked, answer := make(chan struct{}), make(chan struct{})
	w := newWorld(t, usual, nil)
	keys := w.gateway
	w = newWorld(t, usual, func(c *exchange.Config) { c.Subject.Keys = slowKeys{keys, asked, answer} })
	w.gateway = keys
	req := w.request(nil)
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() {
		_, err := w.x.Exchange(ctx, req)
		left <- err
	}()
	<-asked
	stayed := make(chan error, 1)
	go func() {
		_, err := w.x.Exchange(t.Context(), req)
		stayed <- err
	}()
	leave()
	if err := <-left; err == nil {
		t.Error("who went away got a token")
	}
	close(answer)
	if err := <-stayed; err != nil {
		t.Errorf("who stayed got %v", err)
	}
}

// slowKeys says when it is asked and answers when it may.
type slowKeys struct {
	keyring.KeySource
	asked  chan<- struct{}
	answer <-chan struct{}
}

func (s slowKeys) Keys(ctx context.Context, kid string) ([]keyring.PublicKey, error) {
	select {
	case s.asked <- struct{}{}:
	default:
	}
	<-s.answer
	return s.KeySource.Keys(ctx, kid)
}

// TestKeysUnavailable: keys that cannot be had are trouble, 503, and not remembered.
//
// Covers: TX-14
func TestKeysUnavailable(t *testing.T) {
	keys := &switchedKeys{}
	w := newWorld(t, usual, func(c *exchange.Config) { c.Subject.Keys = keys })
	req := w.request(nil)
	if r := w.refused(req); r.Answer.Status != 503 || r.Answer.RetryAfter <= 0 {
		t.Errorf("got %v, want 503 with a time to wait", r)
	}
	keys.source = w.gateway
	w.exchange(req)
}

type switchedKeys struct{ source keyring.KeySource }

func (s *switchedKeys) Keys(ctx context.Context, kid string) ([]keyring.PublicKey, error) {
	if s.source == nil {
		return nil, keyring.ErrKeysUnavailable
	}
	return s.source.Keys(ctx, kid)
}

// TestRejectsPolicyThatCannotWork: what a policy wants of a provider fits the way in which
// the gateway makes its tokens, or is refused at load in words.
func TestRejectsPolicyThatCannotWork(t *testing.T) {
	delegated := func(extra string) string {
		return strings.Replace(usual, "  https://orders.example: {scopes: [read, order]}\n", "  https://orders.example:\n    issue: idp\n"+extra, 1)
	}
	for _, tc := range []struct {
		name, policy string
		minted       bool
		want         string
	}{
		{name: "tokens of the gateway", policy: delegated("    scopes: [read]\n"), minted: true,
			want: "audiences.https://orders.example.issue: expected mint, got idp: the gateway mints its phantom tokens itself"},
		{name: "RejectsTokensForThisServiceAsSubject", policy: strings.Replace(usual, "subject_audience: https://server.internal.example", "subject_audience: "+issuer, 1),
			want: "callers.server.subject_audience: expected the audience of tokens meant for this caller, got the issuer of this service"},
		{name: "no provider", policy: delegated("    scopes: [read]\n"),
			want: "expected an identity provider for idp, got none: set TOKEN_EXCHANGE_IDP_TOKEN_ENDPOINT"},
		{name: "no scopes", policy: strings.Replace(delegated(""), "      https://orders.example: {scopes: [read]}\n", "", 1), want: "audiences.https://orders.example.scopes: expected at least one scope"},
		{name: "rules", policy: strings.Replace(usual, "    claims: {area: region}\n", "    issue: idp\n", 1),
			want: "callers.server.audiences.https://api.example.rules: expected none with issue: idp"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := &world{t: t, gateway: newRing(t), own: newRing(t)}
			_, err := exchange.New(w.config(func(c *exchange.Config) { c.Subject.Minted = tc.minted }), parse(t, tc.policy))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v\nwant %s", err, tc.want)
			}
		})
	}
}
