package tokenexchange_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"phantomtoken/tokenexchange"
)

// clock is a clock that only the test moves.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: now} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) step(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// counter is a token endpoint that issues "token-1", "token-2" and so on, or whatever
// answer says instead.
type counter struct {
	calls  atomic.Int64
	answer func(call int64, w http.ResponseWriter, r *http.Request)
}

func (c *counter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n := c.calls.Add(1)
	if c.answer != nil {
		c.answer(n, w, r)
		return
	}
	answer(200, "application/json", success(fmt.Sprintf("token-%d", n), `,"expires_in":300`))(w, r)
}

func (c *counter) called(t *testing.T, want int64) {
	t.Helper()
	if got := c.calls.Load(); got != want {
		t.Errorf("calls of the token endpoint: got %d, want %d", got, want)
	}
}

func newCachingClient(t testing.TB, clk *clock, sts http.Handler, change func(*tokenexchange.Config)) *tokenexchange.Client {
	return newClient(t, sts.ServeHTTP, func(c *tokenexchange.Config) {
		c.Cache, c.Now = &tokenexchange.CacheConfig{}, clk.now
		if change != nil {
			change(c)
		}
	})
}

func exchange(t *testing.T, client *tokenexchange.Client, req tokenexchange.Request, want string) *tokenexchange.Response {
	t.Helper()
	res, err := client.Exchange(t.Context(), req)
	if err != nil {
		t.Fatalf("Exchange: %v", err)
	}
	if res.AccessToken != want {
		t.Errorf("got %s, want %s", res.AccessToken, want)
	}
	return res
}

// TestCachedTokenEnds: a cached token is used no longer than anything that it depends on.
//
// Covers: TX-09
func TestCachedTokenEnds(t *testing.T) {
	exp := func(d time.Duration) string { return fmt.Sprint(now.Add(d).Unix()) }
	for _, tc := range []struct {
		name    string
		subject string
		actor   string
		issued  string // opaque when empty
		rest    string // of the answer
		want    time.Duration
	}{
		{name: "expires_in", rest: `,"expires_in":300`, want: 290 * time.Second},
		{name: "exp of the issued token", issued: `{"exp":` + exp(2*time.Minute) + `}`, want: 110 * time.Second},
		{name: "exp of the issued token before expires_in", issued: `{"exp":` + exp(2*time.Minute) + `}`, rest: `,"expires_in":300`, want: 110 * time.Second},
		{name: "exp of the subject token", subject: jwt(`{"exp":` + exp(time.Minute) + `}`), rest: `,"expires_in":300`, want: 50 * time.Second},
		{name: "exp of the actor token", actor: jwt(`{"exp":` + exp(time.Minute) + `}`), rest: `,"expires_in":300`, want: 50 * time.Second},
		{name: "later exp of the subject token", subject: jwt(`{"exp":` + exp(time.Hour) + `}`), rest: `,"expires_in":300`, want: 290 * time.Second},
		{name: "nothing says", want: 50 * time.Second},
		{name: "margin of a short life", rest: `,"expires_in":10`, want: 5 * time.Second},
		{name: "subject token that has expired", subject: jwt(`{"exp":` + exp(-time.Second) + `}`), rest: `,"expires_in":300`, want: 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			clk, sts := newClock(), &counter{}
			sts.answer = func(_ int64, w http.ResponseWriter, r *http.Request) {
				token := "opaque"
				if tc.issued != "" {
					token = jwt(tc.issued)
				}
				answer(200, "application/json", success(token, tc.rest))(w, r)
			}
			client := newCachingClient(t, clk, sts, nil)
			req := tokenexchange.Request{SubjectToken: "opaque-subject"}
			if tc.subject != "" {
				req.SubjectToken = tc.subject
			}
			if tc.actor != "" {
				req.ActorToken, req.ActorTokenType = tc.actor, accessTokenType
			}
			ask := func() {
				if _, err := client.Exchange(t.Context(), req); err != nil {
					t.Fatal(err)
				}
			}
			ask()
			if tc.want > 0 {
				// In steps that do not reach the last fifth, in which it would be refreshed.
				clk.step(tc.want/2 - 1)
				ask()
				sts.called(t, 1)
				clk.step(tc.want - tc.want/2 + 1)
			}
			ask()
			sts.called(t, 2)
		})
	}
}

// TestCachedTokenSaysHowLongItStillLives.
func TestCachedTokenSaysHowLongItStillLives(t *testing.T) {
	clk, sts := newClock(), &counter{}
	client := newCachingClient(t, clk, sts, nil)
	req := tokenexchange.Request{SubjectToken: "s", Scope: []string{"a", "b"}}
	first := exchange(t, client, req, "token-1")
	clk.step(time.Minute)
	second := exchange(t, client, req, "token-1")
	if first.ExpiresIn != 5*time.Minute || second.ExpiresIn != 4*time.Minute {
		t.Errorf("got %s, then %s, want 5m, then 4m", first.ExpiresIn, second.ExpiresIn)
	}
	second.Scope[0], second.AccessToken = "spoiled", "spoiled"
	if third := exchange(t, client, req, "token-1"); !reflect.DeepEqual(third.Scope, []string{"a", "b"}) {
		t.Errorf("scope after a caller changed its copy: %q", third.Scope)
	}
}

// TestCacheConfusionBySeparatorsInNames: whatever decides the answer is in the key, and no
// name can look like two, or like another field.
//
// Covers: TX-13
func TestCacheConfusionBySeparatorsInNames(t *testing.T) {
	sts := &counter{}
	client := newCachingClient(t, newClock(), sts, nil)
	for i, req := range []tokenexchange.Request{
		{SubjectToken: "s"},
		{SubjectToken: "t"},
		{SubjectToken: "s", Audience: []string{"a b"}},
		{SubjectToken: "s", Audience: []string{"a", "b"}},
		{SubjectToken: "s", Audience: []string{"a,b"}},
		{SubjectToken: "s", Audience: []string{"a\x00b"}},
		{SubjectToken: "s", Audience: []string{"a&audience=b"}},
		{SubjectToken: "s", Audience: []string{"ab"}},
		{SubjectToken: "s", Audience: []string{"a\x00\x00\x00\x00\x00\x00\x00\x01b"}},
		{SubjectToken: "s", Resource: []string{"x:a"}},
		{SubjectToken: "s", Audience: []string{"x:a"}},
		{SubjectToken: "s", Audience: []string{"A"}},
		{SubjectToken: "s", Audience: []string{"a"}},
		{SubjectToken: "s", Audience: []string{"a"}, Scope: []string{"b"}},
		{SubjectToken: "s", Audience: []string{"a", "b"}, Scope: []string{"b"}},
		{SubjectToken: "s", Scope: []string{"a"}},
		{SubjectToken: "s", Scope: []string{"a", "b"}},
		{SubjectToken: "s", Scope: []string{"ab"}},
		{SubjectToken: "s", SubjectTokenType: tokenexchange.TokenTypeJWT},
		{SubjectToken: "s", RequestedTokenType: tokenexchange.TokenTypeJWT},
		{SubjectToken: "s", ActorToken: "s", ActorTokenType: accessTokenType},
		{SubjectToken: "s", ActorToken: "s", ActorTokenType: tokenexchange.TokenTypeJWT},
		{SubjectToken: "s", ActorToken: "t", ActorTokenType: accessTokenType},
		{SubjectToken: "t", ActorToken: "s", ActorTokenType: accessTokenType},
	} {
		for range 2 {
			exchange(t, client, req, fmt.Sprintf("token-%d", i+1))
		}
	}
	// What is the same in other words is the same.
	before := sts.calls.Load()
	exchange(t, client, tokenexchange.Request{SubjectToken: "s", SubjectTokenType: accessTokenType, RequestedTokenType: accessTokenType}, "token-1")
	exchange(t, client, tokenexchange.Request{SubjectToken: "s", Scope: []string{"b", "a"}}, "token-17")
	sts.called(t, before)
}

// TestParallelUsersNeverGetEachOthersToken is also for the race detector.
//
// Covers: TX-13
func TestParallelUsersNeverGetEachOthersToken(t *testing.T) {
	sts := &counter{answer: func(_ int64, w http.ResponseWriter, r *http.Request) {
		user := r.PostFormValue("subject_token")
		if strings.HasPrefix(user, "refused") {
			answer(400, "application/json", `{"error":"invalid_request","error_description":"`+user+`-x"}`)(w, r)
			return
		}
		answer(200, "application/json", success("for-"+user+"-at-"+r.PostFormValue("audience"), `,"expires_in":300`))(w, r)
	}}
	clk := newClock()
	client := newCachingClient(t, clk, sts, func(c *tokenexchange.Config) { c.Cache.MaxEntries = 20 })
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			for i := range 50 {
				user, audience := fmt.Sprintf("user-%d", (g+i)%8), fmt.Sprintf("api-%d", i%5)
				req := tokenexchange.Request{SubjectToken: user, Audience: []string{audience}}
				res, err := client.Exchange(t.Context(), req)
				if want := "for-" + user + "-at-" + audience; err != nil || res.AccessToken != want {
					t.Errorf("got %v, %v, want %s", res, err, want)
					return
				}
				if i%7 == 0 {
					client.Evict(req, res.AccessToken)
					clk.step(time.Second)
				}
				if _, err := client.Exchange(t.Context(), tokenexchange.Request{SubjectToken: "refused-" + user}); err == nil {
					t.Error("a refused user got a token")
				}
			}
		})
	}
	wg.Wait()
}

// TestOneCallForAThousandCallers.
//
// Covers: TX-13
func TestOneCallForAThousandCallers(t *testing.T) {
	release := make(chan struct{})
	sts := &counter{answer: func(_ int64, w http.ResponseWriter, r *http.Request) {
		<-release
		answer(200, "application/json", success("t", `,"expires_in":300`))(w, r)
	}}
	client := newCachingClient(t, newClock(), sts, nil)
	var started, done sync.WaitGroup
	for range 1000 {
		started.Add(1)
		done.Go(func() {
			started.Done()
			if res, err := client.Exchange(t.Context(), tokenexchange.Request{SubjectToken: "s"}); err != nil || res.AccessToken != "t" {
				t.Errorf("got %v, %v", res, err)
			}
		})
	}
	started.Wait()
	close(release)
	done.Wait()
	sts.called(t, 1)
}

// TestLeaderThatLeavesHurtsNobody.
func TestLeaderThatLeavesHurtsNobody(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	sts := &counter{answer: func(_ int64, w http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-release
		answer(200, "application/json", success("t", `,"expires_in":300`))(w, r)
	}}
	client := newCachingClient(t, newClock(), sts, nil)
	req := tokenexchange.Request{SubjectToken: "s"}
	leader, cancel := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() {
		_, err := client.Exchange(leader, req)
		left <- err
	}()
	<-arrived
	cancel()
	if err := <-left; !errors.Is(err, context.Canceled) || errors.Is(err, tokenexchange.ErrUnavailable) {
		t.Errorf("the leader: got %v, want context.Canceled alone", err)
	}
	close(release)
	exchange(t, client, req, "t")
	sts.called(t, 1)
}

// TestRefusalsAreRememberedShortly, for the one who was refused, and trouble not at all.
func TestRefusalsAreRememberedShortly(t *testing.T) {
	for _, tc := range []struct {
		name    string
		handler http.HandlerFunc
		kept    bool
	}{
		{name: "invalid_target", handler: answer(400, "application/json", `{"error":"invalid_target"}`), kept: true},
		{name: "invalid_client", handler: answer(401, "application/json", `{"error":"invalid_client"}`), kept: true},
		{name: "forbidden", handler: answer(403, "application/json", `{"error":"access_denied"}`), kept: true},
		{name: "page of a proxy", handler: answer(404, "text/html", `<html>`)},
		{name: "too many requests", handler: answer(429, "application/json", `{"error":"slow_down"}`)},
		{name: "timeout", handler: answer(408, "application/json", `{"error":"timeout"}`)},
		{name: "try later", handler: answer(400, "application/json", `{"error":"temporarily_unavailable"}`)},
		{name: "server error", handler: answer(500, "application/json", `{"error":"server_error"}`)},
		{name: "unavailable", handler: answer(503, "text/plain", ``)},
		{name: "connection cut", handler: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }},
		{name: "unacceptable", handler: answer(200, "application/json", `{}`)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			clk := newClock()
			sts := &counter{answer: func(_ int64, w http.ResponseWriter, r *http.Request) { tc.handler(w, r) }}
			client := newCachingClient(t, clk, sts, nil)
			req := tokenexchange.Request{SubjectToken: "subject-token-0001"}
			_, first := client.Exchange(t.Context(), req)
			if refused := (*tokenexchange.Error)(nil); errors.As(first, &refused) {
				refused.Description = "spoiled by its caller"
			}
			_, second := client.Exchange(t.Context(), req)
			if first == nil || second == nil || first.Error() != second.Error() || errors.Is(first, tokenexchange.ErrUnavailable) != errors.Is(second, tokenexchange.ErrUnavailable) {
				t.Errorf("got %v, then %v, want the same error", first, second)
			}
			if refused := (*tokenexchange.Error)(nil); errors.As(second, &refused) && refused.Description != "" {
				t.Errorf("got %q, changed by another caller", refused.Description)
			}
			if !tc.kept {
				sts.called(t, 2)
				return
			}
			sts.called(t, 1)
			clk.step(5 * time.Second)
			if _, err := client.Exchange(t.Context(), req); err == nil {
				t.Error("got a token")
			}
			sts.called(t, 2)
		})
	}
}

// TestRefusalOfOneUserDoesNotHitAnother.
//
// Covers: TX-13
func TestRefusalOfOneUserDoesNotHitAnother(t *testing.T) {
	sts := &counter{answer: func(_ int64, w http.ResponseWriter, r *http.Request) {
		if r.PostFormValue("subject_token") == "mallory" {
			answer(400, "application/json", `{"error":"invalid_request"}`)(w, r)
			return
		}
		answer(200, "application/json", success("t", `,"expires_in":300`))(w, r)
	}}
	client := newCachingClient(t, newClock(), sts, nil)
	if _, err := client.Exchange(t.Context(), tokenexchange.Request{SubjectToken: "mallory", Audience: []string{"a"}}); err == nil {
		t.Error("mallory got a token")
	}
	exchange(t, client, tokenexchange.Request{SubjectToken: "alice", Audience: []string{"a"}}, "t")
	if _, err := client.Exchange(t.Context(), tokenexchange.Request{SubjectToken: "mallory", Audience: []string{"a"}}); err == nil {
		t.Error("mallory got a token")
	}
}

// TestMalformedRequestIsNotRemembered: nothing was sent, so nothing was answered.
func TestMalformedRequestIsNotRemembered(t *testing.T) {
	sts := &counter{}
	client := newCachingClient(t, newClock(), sts, nil)
	for range 2 {
		_, err := client.Exchange(t.Context(), tokenexchange.Request{SubjectToken: "s", Audience: []string{""}})
		var e *tokenexchange.Error
		if !errors.As(err, &e) || e.Status != 0 {
			t.Errorf("got %v, want invalid_target with status 0", err)
		}
	}
	sts.called(t, 0)
}

// TestTokenInUseIsReplacedAhead, and not when another would end with the subject token too.
func TestTokenInUseIsReplacedAhead(t *testing.T) {
	clk := newClock()
	refreshed := make(chan struct{}, 10)
	sts := &counter{answer: func(n int64, w http.ResponseWriter, r *http.Request) {
		answer(200, "application/json", success(fmt.Sprintf("token-%d", n), `,"expires_in":300`))(w, r)
		refreshed <- struct{}{}
	}}
	client := newCachingClient(t, clk, sts, nil)
	req := tokenexchange.Request{SubjectToken: "opaque"}
	exchange(t, client, req, "token-1")
	<-refreshed
	clk.step(240 * time.Second) // of 290
	exchange(t, client, req, "token-1")
	<-refreshed // behind the caller
	for exchangeToken(t, client, req) != "token-2" {
	}
	sts.called(t, 2)

	ends := tokenexchange.Request{SubjectToken: jwt(fmt.Sprintf(`{"exp":%d}`, clk.now().Add(5*time.Minute).Unix()))}
	exchange(t, client, ends, "token-3")
	clk.step(280 * time.Second)
	exchange(t, client, ends, "token-3")
	sts.called(t, 3)
}

// TestTokenThatIsRefusedAtItsRefreshIsGivenOutNoMore: the service has taken back what it
// said. Trouble says nothing of the token.
func TestTokenThatIsRefusedAtItsRefreshIsGivenOutNoMore(t *testing.T) {
	for _, tc := range []struct {
		name   string
		second http.HandlerFunc
		taken  bool // back
	}{
		{name: "RevokedAtRefresh", second: answer(400, "application/json", `{"error":"invalid_grant"}`), taken: true},
		{name: "trouble", second: answer(503, "text/plain", "")},
		{name: "unacceptable", second: answer(200, "application/json", "{}")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			clk := newClock()
			sts := &counter{answer: func(n int64, w http.ResponseWriter, r *http.Request) {
				if n == 1 {
					answer(200, "application/json", success("token-1", `,"expires_in":300`))(w, r)
					return
				}
				tc.second(w, r)
			}}
			req := tokenexchange.Request{SubjectToken: "opaque"}
			synctest.Test(t, func(t *testing.T) {
				client, err := tokenexchange.New(tokenexchange.Config{
					Endpoint: "https://sts.example/token", ClientID: "mcp-server", ClientSecret: "MARKED",
					Cache: &tokenexchange.CacheConfig{}, Now: clk.now,
					Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
						rec := httptest.NewRecorder()
						sts.ServeHTTP(rec, r)
						return rec.Result(), nil
					}),
				})
				if err != nil {
					t.Fatal(err)
				}
				exchange(t, client, req, "token-1")
				clk.step(240 * time.Second) // of 290
				exchange(t, client, req, "token-1")
				synctest.Wait() // for the call behind it
				_, err = client.Exchange(t.Context(), req)
				if refused := (*tokenexchange.Error)(nil); errors.As(err, &refused) != tc.taken || (err != nil) != tc.taken {
					t.Errorf("got %v, want the refusal: %v", err, tc.taken)
				}
				sts.called(t, 2)
			})
		})
	}
}

func exchangeToken(t *testing.T, client *tokenexchange.Client, req tokenexchange.Request) string {
	t.Helper()
	res, err := client.Exchange(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return res.AccessToken
}

// TestEvictionByAStaleAnswer: bad news about an old token must not take the new one away,
// and an API that refuses every token must not cost an exchange for each of its calls.
//
// Covers: TX-18
func TestEvictionByAStaleAnswer(t *testing.T) {
	clk, sts := newClock(), &counter{}
	client := newCachingClient(t, clk, sts, nil)
	req := tokenexchange.Request{SubjectToken: "s", Audience: []string{"a"}}
	exchange(t, client, req, "token-1")
	client.Evict(req, "token-1")
	exchange(t, client, req, "token-1") // so young a token is not worth another
	clk.step(5 * time.Second)
	client.Evict(tokenexchange.Request{SubjectToken: "s", Audience: []string{"b"}}, "token-1")
	client.Evict(req, "token-0")
	exchange(t, client, req, "token-1")
	client.Evict(req, "token-1")
	exchange(t, client, req, "token-2")
	clk.step(time.Minute)
	client.Evict(req, "token-1") // late
	exchange(t, client, req, "token-2")
	sts.called(t, 2)
}

// TestCacheConfigRefuses names the fields.
func TestCacheConfigRefuses(t *testing.T) {
	cfg := tokenexchange.Config{Endpoint: "https://sts.example/token", ClientID: "c", ClientSecret: "s",
		Cache: &tokenexchange.CacheConfig{MaxEntries: -1, MaxBytes: -1, Margin: -1, Refusals: -1}}
	_, err := tokenexchange.New(cfg)
	for _, want := range []string{"Cache", "MaxEntries", "MaxBytes", "Margin", "Refusals"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to name %s", err, want)
		}
	}
}
