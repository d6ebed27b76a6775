package gate_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"phantomtoken/internal/gate"
	"phantomtoken/internal/introspection"
	"phantomtoken/internal/keyring"
	"phantomtoken/internal/oauth"
	"phantomtoken/internal/tokencache"
)

const (
	resourceURL = "https://gw.example.com/mcp"
	metadataURL = "https://gw.example.com/.well-known/oauth-protected-resource/mcp"
	idpURL      = "https://idp.example.com/realms/mcp"
	issuerURL   = "https://gw.example.com/internal"
	upstreamAud = "https://orders.internal"
	goodToken   = "_0XBPWQQ_2fb1bc61-0e98-413c-a44d-d8a46d3bd2f2"
)

var start = time.Unix(1_800_000_000, 0)

// provider is an introspector whose answers are claims by token.
type provider struct {
	mu     sync.Mutex
	calls  int
	answer map[string]string // token → JSON
	err    error
	jwt    string
}

func (p *provider) Introspect(_ context.Context, token string) (*introspection.Result, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls++
	if p.err != nil {
		return nil, p.err
	}
	doc, ok := p.answer[token]
	if !ok {
		doc = `{"active":false}`
	}
	in, err := oauth.ParseIntrospection([]byte(doc))
	if err != nil {
		return nil, err
	}
	return &introspection.Result{Introspection: in, JWT: p.jwt}, nil
}

func (p *provider) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls
}

// kong answers the gate's questions and counts them.
type kong struct {
	method, host, address string
	route                 gate.Route
	routeErr              error
	questions             []string
	consumers             map[string]gate.Consumer // by what they are asked for
	consumerErr           error
}

func (k *kong) Method() (string, error) {
	k.questions = append(k.questions, "method")
	if k.method == "" {
		return http.MethodPost, nil
	}
	return k.method, nil
}
func (k *kong) Host() (string, error) {
	k.questions = append(k.questions, "host")
	return k.host, nil
}
func (k *kong) ClientAddress() (string, error) {
	k.questions = append(k.questions, "address")
	return k.address, nil
}
func (k *kong) Route() (gate.Route, error) {
	k.questions = append(k.questions, "route")
	return k.route, k.routeErr
}

func (k *kong) Consumer(username string) (gate.Consumer, error) {
	k.questions = append(k.questions, "consumer "+username)
	return k.consumers[username], k.consumerErr
}

type world struct {
	t    *testing.T
	now  time.Time
	idp  *provider
	ring *keyring.Ring
	cfg  gate.Config
	log  bytes.Buffer
	gate *gate.Gate
}

// claims is an answer as a good provider gives it, with members replaced; a replacement
// of nil takes the member away.
func claims(change map[string]any) string {
	members := map[string]any{
		"active": true, "sub": `"john.doe"`, "client_id": `"https://claude.ai/oauth/client"`, "iss": `"` + idpURL + `"`,
		"aud": `"` + resourceURL + `"`, "scope": `"mcp:read"`, "token_type": `"Bearer"`,
		"iat": start.Unix(), "exp": start.Add(15 * time.Minute).Unix(), "region": `"USA"`,
	}
	for k, v := range change {
		if v == nil {
			delete(members, k)
			continue
		}
		members[k] = v
	}
	parts := make([]string, 0, len(members))
	for k, v := range members {
		parts = append(parts, fmt.Sprintf("%q:%v", k, v))
	}
	return "{" + strings.Join(parts, ",") + "}"
}

func newWorld(t *testing.T, change func(*gate.Config)) *world {
	t.Helper()
	w := &world{t: t, now: start, idp: &provider{answer: map[string]string{goodToken: claims(nil)}}}
	key, err := keyring.Generate("ES256")
	if err != nil {
		t.Fatal(err)
	}
	if w.ring, err = keyring.NewRing(key); err != nil {
		t.Fatal(err)
	}
	now := func() time.Time { return w.now }
	cache, err := tokencache.New(tokencache.Config{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	res, err := oauth.ParseResource(resourceURL)
	if err != nil {
		t.Fatal(err)
	}
	w.cfg = gate.Config{
		Resource: res,
		Metadata: oauth.ProtectedResourceMetadata{
			AuthorizationServers: []string{idpURL}, ScopesSupported: []string{"mcp:read"}, ResourceName: "Example MCP",
		},
		MetadataMaxAge: 5 * time.Minute, MetadataAtRoot: true,
		Token: gate.TokenPolicy{Scopes: oauth.Scopes{"mcp:read"}, Leeway: 30 * time.Second, MaxLength: 16384},
		Phantom: &gate.Mint{
			Keys: w.ring, Issuer: issuerURL, Audience: upstreamAud, Lifetime: 5 * time.Minute,
			Claims: map[string]string{"region": "region"},
		},
		CORS:         gate.CORS{Enabled: true, MaxAge: time.Hour},
		Introspector: w.idp, Cache: cache, CacheTTL: 5 * time.Minute, NegativeTTL: 5 * time.Second,
		Timeout: 5 * time.Second, Now: now,
		Logger: slog.New(slog.NewTextHandler(&w.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if change != nil {
		change(&w.cfg)
	}
	if w.gate, err = gate.New(w.cfg); err != nil {
		t.Fatal(err)
	}
	return w
}

func request(target string, headers ...string) gate.Request {
	r := gate.Request{Target: target}
	for i := 0; i < len(headers); i += 2 {
		r.Headers = append(r.Headers, gate.Header{Name: headers[i], Value: headers[i+1]})
	}
	return r
}

func (w *world) decide(r gate.Request) gate.Decision { return w.decideAt(r, &kong{}) }

func (w *world) decideAt(r gate.Request, k *kong) gate.Decision {
	w.t.Helper()
	d := w.gate.Decide(w.t.Context(), r, k)
	if (d.Answer == nil) == (d.Forward == nil) {
		w.t.Fatalf("decision %+v: want exactly one of Answer and Forward", d)
	}
	return d
}

func (w *world) bearer(token string) gate.Decision {
	w.t.Helper()
	return w.decide(request("/mcp", "authorization", "Bearer "+token))
}

// wire is an answer as text, for comparison with the reference responses.
func wire(a *gate.Answer) string {
	var b strings.Builder
	fmt.Fprintln(&b, a.Status)
	for _, h := range a.Headers {
		fmt.Fprintf(&b, "%s: %s\n", h.Name, h.Value)
	}
	fmt.Fprintf(&b, "\n%s", a.Body)
	return b.String()
}

func headerOf(hs []gate.Header, name string) string {
	for _, h := range hs {
		if strings.EqualFold(h.Name, name) {
			return h.Value
		}
	}
	return ""
}

const crossOrigin = `Access-Control-Allow-Origin: *
Access-Control-Expose-Headers: WWW-Authenticate, Mcp-Session-Id, MCP-Protocol-Version, DPoP-Nonce
`

// The reference responses, byte for byte.
//
// Covers: MCP-01, MCP-02, MCP-08, MCP-11, MCP-12, MCP-20, MCP-21, MCP-33, MCP-35, CH-01, CH-04, CH-11, CH-14, CH-17, BT-05, BT-06, BT-07, CO-05, CO-06, PR-17
func TestReferenceAnswers(t *testing.T) {
	const invalid = `401
WWW-Authenticate: Bearer error="invalid_token", error_description="The access token is invalid, expired or not intended for this resource", resource_metadata="` + metadataURL + `", scope="mcp:read"
Cache-Control: no-store
Content-Type: application/json
` + crossOrigin + `
{"error":"invalid_token","error_description":"The access token is invalid, expired or not intended for this resource"}`

	tests := []struct {
		name    string
		headers []string
		prepare func(*world)
		want    string
	}{
		{
			name: "A1 no credentials",
			want: `401
WWW-Authenticate: Bearer resource_metadata="` + metadataURL + `", scope="mcp:read"
Cache-Control: no-store
Content-Type: application/json
` + crossOrigin + `
{"error":"unauthorized"}`,
		},
		{
			name:    "A2 unknown token",
			headers: []string{"authorization", "Bearer garbage"},
			want:    invalid,
		},
		{
			name:    "A2 token of another resource",
			headers: []string{"authorization", "Bearer " + goodToken},
			prepare: func(w *world) {
				w.idp.answer[goodToken] = claims(map[string]any{"aud": `"https://gw.example.com/other"`})
			},
			want: invalid,
		},
		{
			name:    "A2 expired token",
			headers: []string{"authorization", "Bearer " + goodToken},
			prepare: func(w *world) { w.now = start.Add(16 * time.Minute) },
			want:    invalid,
		},
		{
			name:    "A3 scope missing",
			headers: []string{"authorization", "Bearer " + goodToken},
			prepare: func(w *world) {
				w.cfg.Token.Scopes = oauth.Scopes{"mcp:read", "mcp:write"}
				w.gate, _ = gate.New(w.cfg)
			},
			want: `403
WWW-Authenticate: Bearer error="insufficient_scope", scope="mcp:read mcp:write", resource_metadata="` + metadataURL + `", error_description="Additional scope is required for this operation"
Cache-Control: no-store
Content-Type: application/json
` + crossOrigin + `
{"error":"insufficient_scope","error_description":"Additional scope is required for this operation","scope":"mcp:read mcp:write"}`,
		},
		{
			name:    "A6 two credentials",
			headers: []string{"authorization", "Bearer a", "authorization", "Bearer b"},
			want: `400
WWW-Authenticate: Bearer error="invalid_request", error_description="Send one Authorization header field", resource_metadata="` + metadataURL + `"
Cache-Control: no-store
Content-Type: application/json
` + crossOrigin + `
{"error":"invalid_request","error_description":"Send one Authorization header field"}`,
		},
		{
			name:    "A7 provider in trouble",
			headers: []string{"authorization", "Bearer " + goodToken},
			prepare: func(w *world) { w.idp.err = errors.New("connection refused") },
			want: `503
Retry-After: 5
Cache-Control: no-store
Content-Type: application/json
` + crossOrigin + `
{"error":"temporarily_unavailable"}`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, nil)
			if tt.prepare != nil {
				tt.prepare(w)
			}
			d := w.decide(request("/mcp", tt.headers...))
			if d.Answer == nil {
				t.Fatalf("got forward, want\n%s", tt.want)
			}
			if got := wire(d.Answer); got != tt.want {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
}

// Covers: MCP-18, MCP-21, BT-01, BT-02, BT-03, BT-06, BT-09, BT-10
func TestCredentials(t *testing.T) {
	long := strings.Repeat("a", 20<<10)
	tests := []struct {
		name    string
		target  string
		headers []string
		status  int // 0: forwarded
		code    string
	}{
		{name: "bearer", headers: []string{"authorization", "Bearer " + goodToken}},
		{name: "lower case scheme", headers: []string{"authorization", "bearer " + goodToken}},
		{name: "upper case scheme and two blanks", headers: []string{"authorization", "BEARER  " + goodToken}},
		{name: "empty header counts as none", headers: []string{"authorization", ""}, status: 401, code: "unauthorized"},
		{name: "Bearer without token", headers: []string{"authorization", "Bearer"}, status: 400, code: "invalid_request"},
		{name: "Bearer and blanks", headers: []string{"authorization", "Bearer   "}, status: 400, code: "invalid_request"},
		{name: "two tokens after Bearer", headers: []string{"authorization", "Bearer a b"}, status: 400, code: "invalid_request"},
		{name: "tab between tokens", headers: []string{"authorization", "Bearer a\tb"}, status: 400, code: "invalid_request"},
		{name: "SmuggledSecondCredentialByComma", headers: []string{"authorization", "Bearer " + goodToken + ", Bearer other"}, status: 400, code: "invalid_request"},
		{name: "SmuggledBearerBehindBasic", headers: []string{"authorization", "Basic eDp5, Bearer " + goodToken}, status: 400, code: "invalid_request"},
		{name: "SmuggledBearerBehindUnknownScheme", headers: []string{"authorization", "Digest realm=x,Bearer " + goodToken}, status: 400, code: "invalid_request"},
		{name: "two fields", headers: []string{"authorization", "Bearer " + goodToken, "authorization", "Bearer " + goodToken}, status: 400, code: "invalid_request"},
		{name: "basic", headers: []string{"authorization", "Basic eDp5"}, status: 401, code: "unauthorized"},
		{name: "digest", headers: []string{"authorization", `Digest username="x", realm="y"`}, status: 401, code: "unauthorized"},
		{name: "dpop", headers: []string{"authorization", "DPoP " + goodToken}, status: 401, code: "unauthorized"},
		{name: "token without scheme", headers: []string{"authorization", goodToken}, status: 401, code: "unauthorized"},
		{name: "control byte", headers: []string{"authorization", "Bearer a\x01b"}, status: 400, code: "invalid_request"},
		{name: "not UTF-8", headers: []string{"authorization", "Bearer a\xffb"}, status: 400, code: "invalid_request"},
		{name: "form injection", headers: []string{"authorization", "Bearer x&client_id=admin"}, status: 400, code: "invalid_request"},
		{name: "padding only", headers: []string{"authorization", "Bearer =="}, status: 400, code: "invalid_request"},
		{name: "20 KiB", headers: []string{"authorization", "Bearer " + long}, status: 401, code: "invalid_token"},
		{name: "token in query", target: "/mcp?access_token=" + goodToken, status: 401, code: "unauthorized"},
		{name: "escaped name in query", target: "/mcp?x=1&access%5Ftoken=" + goodToken, status: 401, code: "unauthorized"},
		{name: "header and query", target: "/mcp?access_token=x", headers: []string{"authorization", "Bearer " + goodToken}, status: 400, code: "invalid_request"},
		{name: "harmless query", target: "/mcp?my_access_token=x", headers: []string{"authorization", "Bearer " + goodToken}},
		{name: "AnotherSpellingIsNoCredential", headers: []string{"x-authorization", "Bearer " + goodToken}, status: 401, code: "unauthorized"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, nil)
			if tt.target == "" {
				tt.target = "/mcp"
			}
			d := w.decide(request(tt.target, tt.headers...))
			if tt.status == 0 {
				if d.Forward == nil {
					t.Fatalf("got %s, want forwarded", wire(d.Answer))
				}
				return
			}
			if d.Answer == nil {
				t.Fatalf("got forwarded, want %d", tt.status)
			}
			if d.Answer.Status != tt.status || !strings.HasPrefix(string(d.Answer.Body), `{"error":"`+tt.code+`"`) {
				t.Errorf("got\n%s\nwant status %d and error %q", wire(d.Answer), tt.status, tt.code)
			}
			if challenge := headerOf(d.Answer.Headers, "WWW-Authenticate"); !strings.HasPrefix(challenge, "Bearer ") {
				t.Errorf("challenge = %q, want one that begins with Bearer", challenge)
			}
		})
	}
}

// Covers: MCP-15, MCP-16, MCP-53, BT-08, BT-13, IN-06, IN-07, IN-10, IN-11, IN-12, IN-18, PR-21, BC-10, DP-01, CH-19
func TestAuthorization(t *testing.T) {
	user := func(change map[string]any) string { return claims(change) }
	tests := []struct {
		name   string
		answer string
		change func(*gate.Config)
		status int // 0: forwarded
		code   string
	}{
		{name: "good", answer: user(nil)},
		{name: "inactive", answer: `{"active":false,"sub":"x"}`, status: 401, code: "invalid_token"},
		{name: "active as text", answer: `{"active":"true","sub":"x"}`, status: 401, code: "invalid_token"},
		{name: "active only", answer: `{"active":true}`, status: 401, code: "invalid_token"},
		{name: "audience list holds the resource", answer: user(map[string]any{"aud": `["x","` + resourceURL + `"]`})},
		{name: "audience with trailing slash", answer: user(map[string]any{"aud": `"` + resourceURL + `/"`})},
		{name: "audience in upper case", answer: user(map[string]any{"aud": `"HTTPS://GW.Example.com:443/mcp"`})},
		{name: "RejectsAudienceOfOtherResource", answer: user(map[string]any{"aud": `"https://gw.example.com/mcp2"`}), status: 401, code: "invalid_token"},
		{name: "RejectsAudienceOfOriginOnly", answer: user(map[string]any{"aud": `"https://gw.example.com"`}), status: 401, code: "invalid_token"},
		{name: "RejectsAudienceBelowTheResource", answer: user(map[string]any{"aud": `"` + resourceURL + `/sub"`}), status: 401, code: "invalid_token"},
		{name: "RejectsAudienceOverHTTP", answer: user(map[string]any{"aud": `"http://gw.example.com/mcp"`}), status: 401, code: "invalid_token"},
		{name: "RejectsMissingAudience", answer: user(map[string]any{"aud": nil}), status: 401, code: "invalid_token"},
		{
			name: "missing audience allowed by a word", answer: user(map[string]any{"aud": nil}),
			change: func(c *gate.Config) { c.Token.AudienceCheck = gate.AudienceWhenPresent },
		},
		{
			name: "RejectsOtherAudienceWhenPresent", answer: user(map[string]any{"aud": `"https://other"`}),
			change: func(c *gate.Config) { c.Token.AudienceCheck = gate.AudienceWhenPresent }, status: 401, code: "invalid_token",
		},
		{
			name: "audience check off", answer: user(map[string]any{"aud": `"https://other"`}),
			change: func(c *gate.Config) { c.Token.AudienceCheck = gate.AudienceOff },
		},
		{
			name: "further audience", answer: user(map[string]any{"aud": `"mcp-api"`}),
			change: func(c *gate.Config) { c.Token.Audiences = []string{"mcp-api"} },
		},
		{name: "RejectsOtherIssuer", answer: user(map[string]any{"iss": `"https://evil.example"`}), status: 401, code: "invalid_token"},
		{name: "RejectsIssuerWithSlash", answer: user(map[string]any{"iss": `"` + idpURL + `/"`}), status: 401, code: "invalid_token"},
		{name: "answer without issuer", answer: user(map[string]any{"iss": nil})},
		{
			name: "configured issuer wins", answer: user(map[string]any{"iss": `"https://idp.example.com/anonymous"`}),
			change: func(c *gate.Config) { c.Token.Issuer = "https://idp.example.com/anonymous" },
		},
		{name: "not valid yet", answer: user(map[string]any{"nbf": start.Add(31 * time.Second).Unix()}), status: 401, code: "invalid_token"},
		{name: "not valid yet within leeway", answer: user(map[string]any{"nbf": start.Add(30 * time.Second).Unix()})},
		{name: "issued in the future", answer: user(map[string]any{"iat": start.Add(31 * time.Second).Unix()}), status: 401, code: "invalid_token"},
		{name: "expires this second", answer: user(map[string]any{"exp": start.Unix()}), status: 401, code: "invalid_token"},
		{name: "RejectsRefreshToken", answer: user(map[string]any{"typ": `"Refresh"`}), status: 401, code: "invalid_token"},
		{name: "RejectsIDToken", answer: user(map[string]any{"typ": `"ID"`}), status: 401, code: "invalid_token"},
		{name: "RejectsTokenTypeNA", answer: user(map[string]any{"token_type": `"N_A"`}), status: 401, code: "invalid_token"},
		{name: "RejectsBoundTokenAsBearer", answer: user(map[string]any{"cnf": `{"jkt":"x"}`}), status: 401, code: "invalid_token"},
		{name: "RejectsDPoPTokenType", answer: user(map[string]any{"token_type": `"DPoP"`}), status: 401, code: "invalid_token"},
		{name: "scope order does not matter", answer: user(map[string]any{"scope": `"x mcp:read"`})},
		{name: "scope case matters", answer: user(map[string]any{"scope": `"MCP:read"`}), status: 403, code: "insufficient_scope"},
		{name: "no scope", answer: user(map[string]any{"scope": nil}), status: 403, code: "insufficient_scope"},
		{name: "expired and scope missing is 401", answer: user(map[string]any{"scope": nil, "exp": start.Unix()}), status: 401, code: "invalid_token"},
		{name: "RejectsClientCredentials", answer: user(map[string]any{"sub": nil}), status: 403, code: "access_denied"},
		{name: "RejectsSubjectThatIsTheClient", answer: user(map[string]any{"sub": `"c"`, "client_id": `"c"`}), status: 403, code: "access_denied"},
		{name: "RejectsServiceAccount", answer: user(map[string]any{"username": `"service-account-dcr-1"`}), status: 403, code: "access_denied"},
		{
			name: "client allowed without user", answer: user(map[string]any{"sub": nil, "client_id": `"batch"`}),
			change: func(c *gate.Config) { c.Token.ClientsWithoutUser = []string{"batch"} },
		},
		{
			name: "every client allowed without user", answer: user(map[string]any{"sub": nil}),
			change: func(c *gate.Config) { c.Token.AllowWithoutUser = true },
		},
		{name: "answer without client id cannot be minted", answer: user(map[string]any{"client_id": nil}), status: 500, code: "server_error"},
		{name: "azp stands in for client_id", answer: user(map[string]any{"client_id": nil, "azp": `"c1"`})},
		{name: "malformed answer", answer: `{"active":true,"aud":7}`, status: 503, code: "temporarily_unavailable"},
		{name: "RejectsRepeatedAudienceMember", answer: `{"active":true,"aud":"x","aud":"` + resourceURL + `"}`, status: 503, code: "temporarily_unavailable"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, tt.change)
			w.idp.answer[goodToken] = tt.answer
			d := w.bearer(goodToken)
			if tt.status == 0 {
				if d.Forward == nil {
					t.Fatalf("got %s, want forwarded; log: %s", wire(d.Answer), w.log.String())
				}
				return
			}
			if d.Answer == nil {
				t.Fatalf("got forwarded, want %d", tt.status)
			}
			if d.Answer.Status != tt.status || !strings.HasPrefix(string(d.Answer.Body), `{"error":"`+tt.code+`"`) {
				t.Errorf("got\n%s\nwant status %d and error %q", wire(d.Answer), tt.status, tt.code)
			}
			challenged := headerOf(d.Answer.Headers, "WWW-Authenticate") != ""
			if want := tt.status == 401 || tt.code == "insufficient_scope"; challenged != want {
				t.Errorf("challenge present = %v, want %v (a 403 by policy or a 5xx must not start a login)", challenged, want)
			}
			if strings.Contains(w.log.String(), goodToken) {
				t.Error("log holds the access token")
			}
		})
	}
}

// Covers: IN-18
func TestRejectsForeignJWTKindsWithoutAsking(t *testing.T) {
	for _, typ := range []string{"token-introspection+jwt", "application/dpop+jwt", "oauth-id-jag+jwt", "txntoken+jwt", "statuslist+jwt", "SECEVENT+jwt", "logout+jwt"} {
		w := newWorld(t, nil)
		token := b64(`{"alg":"ES256","typ":"`+typ+`"}`) + "." + b64(`{}`) + ".c2ln"
		w.idp.answer[token] = claims(nil)
		if d := w.bearer(token); d.Answer == nil || d.Answer.Status != 401 {
			t.Errorf("typ %q: got %+v, want 401", typ, d)
		}
		if n := w.idp.count(); n != 0 {
			t.Errorf("typ %q: provider was asked %d times, want 0", typ, n)
		}
	}
}

// The reasons are those of a public MCP server's error table.
func TestRequiredClaims(t *testing.T) {
	change := func(c *gate.Config) {
		c.Token.RequiredClaims = []gate.RequiredClaim{
			{Claim: "org_id", Reason: "User has no organization"},
			{Claim: "account.status", Values: []string{"active"}, Reason: "Account is inactive"},
		}
	}
	tests := []struct {
		name, org, account, want string
	}{
		{name: "both", org: `"o1"`, account: `{"status":"active"}`},
		{name: "number", org: `17`, account: `{"status":"active"}`},
		{name: "list", org: `["o1"]`, account: `{"status":["x","active"]}`},
		{name: "missing", account: `{"status":"active"}`, want: "User has no organization"},
		{name: "null", org: `null`, account: `{"status":"active"}`, want: "User has no organization"},
		{name: "empty", org: `""`, account: `{"status":"active"}`, want: "User has no organization"},
		{name: "false", org: `false`, account: `{"status":"active"}`, want: "User has no organization"},
		{name: "true", org: `true`, account: `{"status":"active"}`},
		{name: "empty list", org: `[]`, account: `{"status":"active"}`, want: "User has no organization"},
		{name: "other value", org: `"o1"`, account: `{"status":"blocked"}`, want: "Account is inactive"},
		{name: "nested missing", org: `"o1"`, want: "Account is inactive"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, change)
			members := map[string]any{}
			if tt.org != "" {
				members["org_id"] = tt.org
			}
			if tt.account != "" {
				members["account"] = tt.account
			}
			w.idp.answer[goodToken] = claims(members)
			d := w.bearer(goodToken)
			if tt.want == "" {
				if d.Forward == nil {
					t.Fatalf("got %s, want forwarded", wire(d.Answer))
				}
				return
			}
			want := `Bearer error="invalid_token", error_description="` + tt.want + `", resource_metadata="` + metadataURL + `", scope="mcp:read"`
			if d.Answer == nil || d.Answer.Status != 401 || headerOf(d.Answer.Headers, "WWW-Authenticate") != want {
				t.Errorf("got %+v, want 401 %s", d.Answer, want)
			}
		})
	}
}

// Covers: CH-08, MCP-13
func TestChallengeStaysTheSame(t *testing.T) {
	w := newWorld(t, func(c *gate.Config) { c.Token.Scopes = oauth.Scopes{"mcp:write"} })
	seen := map[string]bool{}
	for i := range 100 {
		scope := `"openid mcp:read offline_access"`
		if i%2 == 0 {
			scope = `"offline_access mcp:read openid"`
		}
		token := fmt.Sprintf("t%d", i)
		w.idp.answer[token] = claims(map[string]any{"scope": scope})
		seen[headerOf(w.bearer(token).Answer.Headers, "WWW-Authenticate")] = true
	}
	want := `Bearer error="insufficient_scope", scope="mcp:write mcp:read openid", resource_metadata="` + metadataURL + `", error_description="Additional scope is required for this operation"`
	if len(seen) != 1 || !seen[want] {
		t.Errorf("challenges = %v, want only %q", seen, want)
	}
}
