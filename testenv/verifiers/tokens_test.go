package verifiers_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"phantomtoken/internal/keyring"
	"phantomtoken/testenv/issuertest"
)

// who is what the sample API answers: who is behind the token.
type who struct {
	User   string   `json:"user"`
	Client string   `json:"client"`
	Actor  string   `json:"acted_by"`
	Chain  []string `json:"chain"`
}

// attempt is one request to the sample API.
type attempt struct {
	name          string
	authorization string
	method, path  string // GET /stocks when empty
	status        int
	who           *who // of the answer, if it matters
}

const (
	noCredential      = "Bearer"
	invalidToken      = `Bearer error="invalid_token"`
	insufficientScope = `Bearer error="insufficient_scope"`
)

// challenge is what WWW-Authenticate begins with.
func (a attempt) challenge() string {
	switch {
	case a.status == http.StatusForbidden:
		return insufficientScope
	case a.status == http.StatusUnauthorized && strings.HasPrefix(a.authorization, "Bearer "):
		return invalidToken
	case a.status == http.StatusUnauthorized:
		return noCredential
	}
	return ""
}

// attempts is the table that every verifier is held against.
func attempts(t *testing.T, i *issuer) []attempt {
	t.Helper()
	now := time.Now()
	in := func(d time.Duration) int64 { return now.Add(d).Unix() }
	gateway := issuertest.Start(t) // with a key of its own
	stranger := newKey(t, i.key.id)
	good := i.token(t, nil, nil)
	parts := strings.Split(good, ".")
	act := map[string]any{"sub": "mcp-server", "iss": i.url, "act": map[string]any{"sub": "mcp-client", "iss": gateway.URL()}}
	var long any
	for range 9 {
		next := map[string]any{"sub": "mcp-server"}
		if long != nil {
			next["act"] = long
		}
		long = next
	}

	var out []attempt
	accepted := func(name, token string, want *who) {
		out = append(out, attempt{name: "Accepts" + name, authorization: "Bearer " + token, status: http.StatusOK, who: want})
	}
	refused := func(name, token string) {
		out = append(out, attempt{name: "Rejects" + name, authorization: "Bearer " + token, status: http.StatusUnauthorized})
	}
	accepted("GoodToken", good, &who{"john", "mcp-server", "mcp-server", []string{}})
	accepted("TokenWithActors", i.token(t, nil, change{"act": act}), &who{"john", "mcp-server", "mcp-server", []string{"mcp-server", "mcp-client"}})
	accepted("ActorThatIsNotTheClient", i.token(t, nil, change{"act": map[string]any{"sub": "agent-7", "client_id": "mcp-server"}}), &who{"john", "mcp-server", "agent-7", []string{"agent-7"}})
	accepted("LongNameOfTheType", i.token(t, change{"typ": "application/at+jwt"}, nil), nil)
	accepted("OneOfSeveralAudiences", i.token(t, nil, change{"aud": []string{"https://other.example.com", audience}}), nil)
	accepted("ExpiredWithinLeeway", i.token(t, nil, change{"iat": in(-time.Minute), "exp": in(-10 * time.Second)}), nil)
	accepted("FutureWithinLeeway", i.token(t, nil, change{"iat": in(10 * time.Second)}), nil)

	refused("AudienceOfOtherAPI", i.token(t, nil, change{"aud": "https://other.example.com"}))
	refused("AudienceWithSlash", i.token(t, nil, change{"aud": audience + "/"}))
	refused("NoAudience", i.token(t, nil, change{"aud": nil}))
	refused("OtherIssuer", i.token(t, nil, change{"iss": "https://other.example.com"}))
	refused("IssuerWithSlash", i.token(t, nil, change{"iss": i.url + "/"}))
	refused("NoIssuer", i.token(t, nil, change{"iss": nil}))
	refused("Expired", i.token(t, nil, change{"iat": in(-2 * time.Hour), "exp": in(-time.Hour)}))
	refused("NoExpiry", i.token(t, nil, change{"exp": nil}))
	refused("NotYetValid", i.token(t, nil, change{"nbf": in(time.Hour)}))
	refused("IssuedInTheFuture", i.token(t, nil, change{"iat": in(time.Hour), "exp": in(2 * time.Hour)}))
	refused("TypeJWT", i.token(t, change{"typ": "JWT"}, nil))
	refused("NoType", i.token(t, change{"typ": nil}, nil))
	refused("IDToken", i.token(t, change{"typ": "JWT"}, change{"nonce": "n", "scope": nil, "client_id": nil}))
	refused("NoClient", i.token(t, nil, change{"client_id": nil}))
	refused("NoSubject", i.token(t, nil, change{"sub": nil}))
	refused("ScopeThatIsNoText", i.token(t, nil, change{"scope": map[string]any{"stocks/read": true}}))
	refused("TokenBoundToAKey", i.token(t, nil, change{"cnf": map[string]any{"jkt": "x"}}))
	refused("ActThatIsNoObject", i.token(t, nil, change{"act": "mcp-server"}))
	refused("ActorWithoutName", i.token(t, nil, change{"act": map[string]any{"iss": i.url}}))
	refused("ChainOfNineActors", i.token(t, nil, change{"act": long}))

	refused("AlgorithmNone", encode(t, i.header(change{"alg": "none"}))+"."+parts[1]+".")
	refused("AlgorithmNoneWithSignature", encode(t, i.header(change{"alg": "none"}))+"."+parts[1]+"."+parts[2])
	refused("PublicKeyAsHMACSecret", i.hmacToken(t, i.key.pem(t)))
	jwk, err := json.Marshal(i.key.public())
	if err != nil {
		t.Fatal(err)
	}
	refused("PublicJWKAsHMACSecret", i.hmacToken(t, jwk))
	refused("TamperedClaims", parts[0]+"."+encode(t, i.claims(change{"sub": "jane"}))+"."+parts[2])
	refused("TamperedHeader", encode(t, i.header(change{"x": "y"}))+"."+parts[1]+"."+parts[2])
	refused("NoSignature", parts[0]+"."+parts[1]+".")
	refused("KeyOfSomebodyElse", stranger.sign(t, i.header(nil), i.claims(nil)))
	refused("KeyInTheHeader", stranger.sign(t, i.header(change{"jwk": stranger.public()}), i.claims(nil)))
	refused("NoKeyID", i.token(t, change{"kid": nil}, nil))
	refused("UnknownExtension", i.token(t, change{"crit": []string{"x"}, "x": 1}, nil))
	refused("Garbage", "not-a-token")
	refused("PhantomTokenOfTheServer", gateway.Token(t, keyring.Token{Audience: []string{"https://mcp.example.com"}, Scope: []string{"stocks/read"}}))
	refused("PhantomTokenWithOurAudience", gateway.Token(t, keyring.Token{Audience: []string{audience}, Scope: []string{"stocks/read"}}))

	denied := func(name, method, path, scope string) {
		claims := change{"scope": scope}
		if scope == "" {
			claims["scope"] = nil
		}
		out = append(out, attempt{name: "Denies" + name, method: method, path: path, authorization: "Bearer " + i.token(t, nil, claims), status: http.StatusForbidden})
	}
	denied("OrdersWithoutTrade", "POST", "/orders", "stocks/read")
	denied("TokenWithoutScope", "GET", "/stocks", "")
	denied("ScopeThatOnlyBeginsAlike", "GET", "/stocks", "stocks/readonly stocks")
	return append(out,
		attempt{name: "AcceptsTrade", method: "POST", path: "/orders", authorization: "Bearer " + i.token(t, nil, change{"scope": "stocks/trade"}), status: http.StatusOK},
		attempt{name: "AcceptsSchemeInLowerCase", authorization: "bearer " + good, status: http.StatusOK},
		attempt{name: "RejectsNoToken", status: http.StatusUnauthorized},
		attempt{name: "RejectsOtherScheme", authorization: "Basic " + good, status: http.StatusUnauthorized},
		attempt{name: "RejectsTokenInTheQuery", path: "/stocks?access_token=" + good, status: http.StatusUnauthorized},
	)
}

// checkTokens holds a running verifier against the table.
func checkTokens(t *testing.T, p *program) {
	for _, a := range attempts(t, p.issuer) {
		t.Run(a.name, func(t *testing.T) {
			res, body := p.do(t, a)
			if res.StatusCode != a.status {
				t.Fatalf("got %d, want %d", res.StatusCode, a.status)
			}
			if got := res.Header.Get("WWW-Authenticate"); !strings.HasPrefix(got, a.challenge()) || a.challenge() == "" && got != "" || a.challenge() == noCredential && strings.Contains(got, "error=") {
				t.Errorf("WWW-Authenticate: got %q, want it to begin with %q", got, a.challenge())
			}
			if a.status != http.StatusOK || a.who == nil {
				return
			}
			var got who
			if err := json.Unmarshal(body, &got); err != nil || got.User != a.who.User || got.Client != a.who.Client || got.Actor != a.who.Actor || !slices.Equal(got.Chain, a.who.Chain) {
				t.Errorf("got %s, %v; want %+v", body, err, *a.who)
			}
		})
	}
}
