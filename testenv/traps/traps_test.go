package traps_test

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/oauthex"

	"phantomtoken/testenv/authserver"
)

// Trap 1: the client's token goes upstream.
//
// Covers: MCP-17, MCP-19
func TestTrap01TokenPassthrough(t *testing.T) {
	r := start(t, options{})
	token := r.token(authserver.Grant{})
	r.wantStatus(r.do("POST", "/mcp", token), 200)
	seen := r.seen()
	if len(seen) != 1 {
		t.Fatalf("upstream saw %d requests, want 1", len(seen))
	}
	for name, values := range seen[0].Header {
		for _, v := range values {
			if strings.Contains(v, token) {
				t.Errorf("upstream header %s holds the access token", name)
			}
		}
	}
	if auth := seen[0].Header.Values("Authorization"); len(auth) != 1 || !strings.HasPrefix(auth[0], "Bearer eyJ") {
		t.Errorf("Authorization upstream = %d values, want one phantom token", len(auth))
	}
}

// Trap 2: any valid token of the provider opens every server.
//
// Covers: MCP-15, PR-21
func TestTrap02AudienceOfAnotherServer(t *testing.T) {
	r := start(t, options{})
	got := r.do("POST", "/mcp", r.token(authserver.Grant{Resource: "https://gw.example.com/other"}))
	r.wantStatus(got, 401)
	if !strings.Contains(got.challenge(), `error="invalid_token"`) || len(r.seen()) != 0 {
		t.Errorf("challenge = %q, upstream saw %d requests", got.challenge(), len(r.seen()))
	}
}

func metadata(t *testing.T, r *rig, path string, headers ...string) map[string]any {
	t.Helper()
	got := r.do("GET", path, "", headers...)
	r.wantStatus(got, 200)
	var doc map[string]any
	if err := json.Unmarshal([]byte(got.body), &doc); err != nil {
		t.Fatalf("metadata %s: %v", got.body, err)
	}
	return doc
}

// Trap 3: resource is not the URL the user typed. Trap 4: internal host or http behind a
// proxy that ends TLS.
//
// Covers: PR-01, PR-03, PR-04, CH-15, CH-16, MCP-02
func TestTrap03And04ResourceIsThePublicURL(t *testing.T) {
	r := start(t, options{})
	forged := []string{"X-Forwarded-Host", "evil.example", "X-Forwarded-Proto", "http", "X-Forwarded-Port", "8080", "Forwarded", "host=evil.example"}
	for _, host := range []string{"gw.example.com", "evil.example", "10.0.0.7:8000"} {
		r.host = host
		for _, path := range []string{"/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-protected-resource/mcp/", "/.well-known/oauth-protected-resource"} {
			if doc := metadata(t, r, path, forged...); doc["resource"] != resource {
				t.Errorf("host %s, %s: resource = %v, want %s", host, path, doc["resource"], resource)
			}
		}
		if got := r.do("POST", "/mcp", "", forged...).challenge(); !strings.Contains(got, `resource_metadata="`+metadataURL+`"`) {
			t.Errorf("host %s: challenge = %q, want %s", host, got, metadataURL)
		}
	}
}

// Trap 5: authorization_servers differs from the issuer in the server's own metadata.
//
// Covers: MCP-07, MCP-23
func TestTrap05IssuerByteForByte(t *testing.T) {
	r := start(t, options{})
	servers, _ := metadata(t, r, "/.well-known/oauth-protected-resource")["authorization_servers"].([]any)
	if len(servers) != 1 || servers[0] != r.idp.Issuer() {
		t.Fatalf("authorization_servers = %v, want %q", servers, r.idp.Issuer())
	}
	meta, err := oauthex.GetAuthServerMeta(t.Context(), r.idp.Issuer()+"/.well-known/oauth-authorization-server", r.idp.Issuer(), http.DefaultClient)
	if err != nil || meta == nil || meta.Issuer != servers[0] {
		t.Errorf("metadata of the authorization server = %+v, %v, want issuer %v", meta, err, servers[0])
	}
}

// Trap 6: a 401 without challenge.
//
// Covers: CH-01, CH-02, CH-18, MCP-01
func TestTrap06EveryUnauthorizedHasAChallenge(t *testing.T) {
	r := start(t, options{})
	expired := r.token(authserver.Grant{Lifetime: -time.Minute})
	revoked := r.token(authserver.Grant{})
	r.idp.Revoke(revoked)
	for name, token := range map[string]string{
		"none": "", "garbage": "garbage", "expired": expired, "revoked": revoked,
		"other resource": r.token(authserver.Grant{Resource: "https://gw.example.com/other"}), "20 KiB": strings.Repeat("a", 7<<10),
	} {
		for _, method := range []string{"POST", "GET", "DELETE", "HEAD", "PUT", "PATCH", "OPTIONS"} {
			got := r.do(method, "/mcp", token)
			r.wantStatus(got, 401)
			cs, err := oauthex.ParseWWWAuthenticate(got.Header.Values("WWW-Authenticate"))
			if err != nil || len(cs) != 1 || !strings.EqualFold(cs[0].Scheme, "bearer") || cs[0].Params["resource_metadata"] != metadataURL {
				t.Errorf("%s with token %q: challenges = %v, %v", method, name, cs, err)
			}
		}
	}
}

// Trap 7: metadata or preflight behind the plugin. Trap 19: no User-Agent.
//
// Covers: PR-05, CO-01
func TestTrap07And19DiscoveryNeedsNothing(t *testing.T) {
	r := start(t, options{})
	for _, headers := range [][]string{
		nil, {"Authorization", "Bearer garbage"}, {"Authorization", "Bearer a b"}, {"Origin", "https://x.example"}, {"User-Agent", ""},
		{"Mcp-Protocol-Version", "2026-07-28"}, {"Cookie", "a=b"},
	} {
		got := r.do("GET", "/.well-known/oauth-protected-resource/mcp", "", headers...)
		r.wantStatus(got, 200)
		if got.Header.Get("Content-Type") != "application/json" || len(got.Header.Values("Set-Cookie")) != 0 {
			t.Errorf("with %q: headers = %v", headers, got.Header)
		}
	}
	r.wantStatus(r.do("POST", "/mcp", "", "User-Agent", ""), 401)
	pre := r.do("OPTIONS", "/mcp", "", "Origin", "https://x.example", "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization,mcp-protocol-version")
	r.wantStatus(pre, 204)
	if len(r.seen()) != 0 {
		t.Errorf("upstream saw %d requests, want none", len(r.seen()))
	}
}

// Trap 8: browsers cannot read the challenge.
//
// Covers: CO-05, CO-06, MCP-25
func TestTrap08BrowsersReadTheChallenge(t *testing.T) {
	r := start(t, options{})
	for name, got := range map[string]response{
		"401": r.do("POST", "/mcp", "", "Origin", "https://x.example"),
		"400": r.do("POST", "/mcp", "a b", "Origin", "https://x.example"),
		"403": r.do("POST", "/mcp", r.token(authserver.Grant{Scope: "mcp:write"}), "Origin", "https://x.example"),
		"200": r.do("POST", "/mcp", r.token(authserver.Grant{}), "Origin", "https://x.example"),
	} {
		if o := got.Header.Values("Access-Control-Allow-Origin"); len(o) != 1 || o[0] != "*" {
			t.Errorf("%s: Access-Control-Allow-Origin = %q, want one *", name, o)
		}
		if e := got.Header.Get("Access-Control-Expose-Headers"); !strings.Contains(e, "WWW-Authenticate") || !strings.Contains(e, "Mcp-Session-Id") {
			t.Errorf("%s: Access-Control-Expose-Headers = %q", name, e)
		}
	}
}

// Trap 9: 400, 403, 500 or a redirect for a token that is no longer good.
//
// Covers: MCP-20, BT-05, BT-13
func TestTrap09DeadTokensAre401(t *testing.T) {
	r := start(t, options{})
	revoked := r.token(authserver.Grant{Scope: "mcp:write"})
	r.idp.Revoke(revoked)
	for name, token := range map[string]string{
		"expired and scope missing": r.token(authserver.Grant{Lifetime: -time.Minute, Scope: "mcp:write"}),
		"revoked and scope missing": revoked,
		"unknown":                   "0123456789abcdef",
	} {
		if got := r.do("POST", "/mcp", token); got.StatusCode != 401 || !strings.Contains(got.challenge(), `error="invalid_token"`) {
			t.Errorf("%s: got %d %s, want 401 invalid_token", name, got.StatusCode, got.challenge())
		}
	}
}

// Trap 10: a refusal by policy that starts a login.
//
// Covers: CH-19
func TestTrap10PolicyRefusalHasNoChallenge(t *testing.T) {
	r := start(t, options{})
	got := r.do("POST", "/mcp", r.token(authserver.Grant{NoUser: true}))
	r.wantStatus(got, 403)
	if got.challenge() != "" || !strings.Contains(got.body, `"error":"access_denied"`) {
		t.Errorf("challenge = %q, body = %s, want none and access_denied", got.challenge(), got.body)
	}
}

// Trap 11: a step-up that never ends.
//
// Covers: MCP-11, MCP-12, MCP-13, CH-08
func TestTrap11StepUpNamesEverythingAtOnce(t *testing.T) {
	r := start(t, options{config: "token:\n  required_claims: []\n"})
	seen := map[string]bool{}
	for range 5 {
		seen[r.do("POST", "/mcp", r.token(authserver.Grant{Scope: "mcp:write"})).challenge()] = true
	}
	want := `Bearer error="insufficient_scope", scope="mcp:read mcp:write", resource_metadata="` + metadataURL + `", error_description="Additional scope is required for this operation"`
	if len(seen) != 1 || !seen[want] {
		t.Errorf("challenges = %v, want only %s", seen, want)
	}
}

// Trap 12: syntax that real parsers choke on. The expressions are those that clients use.
//
// Covers: CH-02, CH-04, CH-05, CH-06, CH-07, CH-13, CH-14
func TestTrap12EveryParserFindsTheParameters(t *testing.T) {
	r := start(t, options{})
	first := regexp.MustCompile(`resource_metadata=(?:"([^"]+)"|([^\s,]+))`)
	last := regexp.MustCompile(`(\w+)=(?:"([^"]*)"|([\w-]+))`)
	for name, got := range map[string]response{
		"none":    r.do("POST", "/mcp", ""),
		"invalid": r.do("POST", "/mcp", "garbage"),
		"syntax":  r.do("POST", "/mcp", "a b"),
		"scope":   r.do("POST", "/mcp", r.token(authserver.Grant{Scope: "mcp:write"})),
	} {
		values := got.Header.Values("WWW-Authenticate")
		if len(values) != 1 || !strings.HasPrefix(values[0], "Bearer ") {
			t.Fatalf("%s: WWW-Authenticate = %q, want one that begins with Bearer", name, values)
		}
		c := values[0]
		if strings.Contains(c, `=""`) || strings.ContainsAny(c, "\\\r\n") || strings.Contains(c, "realm=") {
			t.Errorf("%s: challenge = %q", name, c)
		}
		if m := first.FindStringSubmatch(c); m == nil || m[1] != metadataURL {
			t.Errorf("%s: first-match parser finds %q", name, m)
		}
		params := map[string]string{}
		for _, m := range last.FindAllStringSubmatch(c, -1) {
			params[m[1]] = m[2]
		}
		if params["resource_metadata"] != metadataURL {
			t.Errorf("%s: last-match parser finds %q", name, params["resource_metadata"])
		}
		if _, err := oauthex.ParseWWWAuthenticate(values); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Trap 13: metadata at the root only or at the path only. The official client's own
// check must accept both.
//
// Covers: MCP-03, MCP-04, PR-02, PR-06, PR-07, PR-15
func TestTrap13PathAndRoot(t *testing.T) {
	r := start(t, options{})
	a := r.do("GET", "/.well-known/oauth-protected-resource/mcp", "")
	b := r.do("GET", "/.well-known/oauth-protected-resource", "")
	if a.body != b.body || a.StatusCode != 200 {
		t.Errorf("path form %d %s, root form %d %s, want the same", a.StatusCode, a.body, b.StatusCode, b.body)
	}
	if strings.Contains(a.body, "null") || strings.Contains(a.body, "[]") || a.Header.Get("Cache-Control") != "public, max-age=300" {
		t.Errorf("document = %s, Cache-Control = %q", a.body, a.Header.Get("Cache-Control"))
	}
}

// Trap 14: something else than a small JSON 404 for OAuth-looking paths. Trap 24: the
// gateway plays the authorization server.
//
// Covers: MCP-05, MCP-24, MCP-54
func TestTrap14And24NoAuthorizationServerHere(t *testing.T) {
	r := start(t, options{})
	for _, path := range []string{
		"/.well-known/oauth-protected-resource/nonexistent", "/.well-known/oauth-protected-resource/mcp/x",
		"/.well-known/oauth-authorization-server", "/.well-known/oauth-authorization-server/mcp",
		"/.well-known/openid-configuration", "/.well-known/openid-configuration/mcp", "/mcp/.well-known/openid-configuration",
		"/register", "/authorize", "/token",
	} {
		for _, method := range []string{"GET", "POST"} {
			got := r.do(method, path, "")
			r.wantStatus(got, 404)
			if got.Header.Get("Content-Type") != "application/json" || !json.Valid([]byte(got.body)) || got.challenge() != "" {
				t.Errorf("%s %s: %v %s, want JSON without challenge", method, path, got.Header, got.body)
			}
		}
	}
	if n := len(r.seen()); n != 0 {
		t.Errorf("upstream saw %d requests, want none", n)
	}
}

// Trap 15: GET, HEAD and DELETE answered before authentication.
//
// Covers: MCP-01, MCP-36, MCP-37, CH-18
func TestTrap15EveryMethodIsAuthenticated(t *testing.T) {
	r := start(t, options{upstream: func(w http.ResponseWriter, req *http.Request) {
		if req.Method != http.MethodPost {
			w.Header().Set("Allow", "POST")
			w.WriteHeader(http.StatusMethodNotAllowed)
		}
	}})
	get := r.do("GET", "/mcp", "")
	for _, method := range []string{"HEAD", "DELETE", "GET"} {
		got := r.do(method, "/mcp", "", "Accept", "application/json, text/event-stream")
		r.wantStatus(got, 401)
		if got.challenge() != get.challenge() {
			t.Errorf("%s: challenge = %q, want the one of GET %q", method, got.challenge(), get.challenge())
		}
		got = r.do(method, "/mcp", r.token(authserver.Grant{}))
		r.wantStatus(got, 405)
		if got.Header.Get("Allow") != "POST" {
			t.Errorf("%s: Allow = %q, want the upstream's", method, got.Header.Get("Allow"))
		}
	}
}

// Trap 16: scopes advertised wrongly.
//
// Covers: MCP-08, MCP-09, MCP-10, PR-08
func TestTrap16Scopes(t *testing.T) {
	r := start(t, options{})
	scopes, _ := metadata(t, r, "/.well-known/oauth-protected-resource")["scopes_supported"].([]any)
	if len(scopes) != 1 || scopes[0] != "mcp:read" {
		t.Errorf("scopes_supported = %v, want [mcp:read]", scopes)
	}
	if c := r.do("POST", "/mcp", r.token(authserver.Grant{Scope: "mcp:write"})).challenge(); strings.Contains(c, "offline_access") {
		t.Errorf("challenge = %q, want no offline_access", c)
	}
}

// Trap 17: faults of the cache.
//
// Covers: CA-01, CA-06
func TestTrap17CacheHoldsClaimsNotVerdicts(t *testing.T) {
	r := start(t, options{})
	token := r.token(authserver.Grant{})
	before := r.idp.Introspections()
	for range 5 {
		r.wantStatus(r.do("POST", "/mcp", token), 200)
	}
	if n := r.idp.Introspections() - before; n != 1 {
		t.Errorf("provider was asked %d times, want 1", n)
	}
}

// Trap 18: trouble of the provider sends all users to log in.
//
// Covers: IN-08, IN-09, MCP-35
func TestTrap18ProviderTroubleIs503(t *testing.T) {
	r := start(t, options{})
	known := r.token(authserver.Grant{})
	r.wantStatus(r.do("POST", "/mcp", known), 200)
	for name, trouble := range map[string]authserver.Trouble{
		"down":                {Down: true},
		"our own credentials": {Status: 401, Body: []byte(`{"error":"invalid_client"}`), ContentType: "application/json"},
		"broken":              {Status: 500},
		"html":                {Status: 200, Body: []byte("<html>MARKED</html>"), ContentType: "text/html"},
	} {
		r.idp.Trouble(trouble)
		got := r.do("POST", "/mcp", r.token(authserver.Grant{}))
		if got.StatusCode != 503 || got.challenge() != "" || got.Header.Get("Retry-After") == "" || got.body != `{"error":"temporarily_unavailable"}` {
			t.Errorf("%s: got %d %v %s, want 503 with Retry-After and without challenge", name, got.StatusCode, got.Header, got.body)
		}
		r.wantStatus(r.do("POST", "/mcp", known), 200)
	}
}

// Trap 20: the protocol's own headers dropped.
//
// Covers: MCP-26, MCP-27, MCP-28, CL-11
func TestTrap20ProtocolHeadersPassUnchanged(t *testing.T) {
	const answer = `{"jsonrpc":"2.0","id":1,"result":{"_meta":{"mcp/www_authenticate":["Bearer error=\"x\""]}}}`
	r := start(t, options{upstream: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Mcp-Session-Id", "from-upstream")
		_, _ = w.Write([]byte(answer))
	}})
	want := map[string]string{
		"Mcp-Protocol-Version": "2027-01-01", "Mcp-Session-Id": "s-1", "Mcp-Method": "tools/call", "Mcp-Name": "=?base64?eA==?=",
		"Mcp-Param-Region": "eu", "Mcp-Param-Unknown": "x", "Last-Event-Id": "7", "Accept": "application/json, text/event-stream",
		"Origin": "https://x.example", "Traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
	}
	var headers []string
	for k, v := range want {
		headers = append(headers, k, v)
	}
	got := r.do("POST", "/mcp", r.token(authserver.Grant{}), headers...)
	if got.body != answer || got.Header.Get("Mcp-Session-Id") != "from-upstream" {
		t.Errorf("response = %s %v, want the upstream's bytes and session", got.body, got.Header)
	}
	up := r.seen()[0]
	for k, v := range want {
		if up.Header.Get(k) != v {
			t.Errorf("%s upstream = %q, want %q", k, up.Header.Get(k), v)
		}
	}
}

// Trap 21: an answer to server/discover that makes the client fall back to an old era.
//
// Covers: MCP-34
func TestTrap21DiscoverIsAPlain401(t *testing.T) {
	r := start(t, options{})
	got := r.send("POST", "/mcp", "", `{"jsonrpc":"2.0","id":1,"method":"server/discover"}`, "Mcp-Method", "server/discover", "Mcp-Protocol-Version", "2026-07-28")
	r.wantStatus(got, 401)
	if want := `Bearer resource_metadata="` + metadataURL + `", scope="mcp:read"`; got.challenge() != want {
		t.Errorf("challenge = %q, want %q", got.challenge(), want)
	}
}

// Trap 22: sessions.
//
// Covers: MCP-19, MCP-41, MCP-42
func TestTrap22SessionIsNoIdentity(t *testing.T) {
	r := start(t, options{})
	got := r.do("POST", "/mcp", "", "Mcp-Session-Id", "stolen")
	r.wantStatus(got, 401)
	if got.Header.Get("Mcp-Session-Id") != "" {
		t.Errorf("Mcp-Session-Id on a 401 = %q, want none", got.Header.Get("Mcp-Session-Id"))
	}
	var subjects []string
	for range 2 { // a fresh token of the same user, as after a refresh
		r.wantStatus(r.do("POST", "/mcp", r.token(authserver.Grant{})), 200)
	}
	for _, req := range r.seen() {
		subjects = append(subjects, claim(t, req.Header.Get("Authorization"), "sub")+" "+claim(t, req.Header.Get("Authorization"), "iss"))
	}
	if len(subjects) != 2 || subjects[0] != subjects[1] {
		t.Errorf("sub and iss = %q, want the same twice", subjects)
	}
}

// Trap 23: a bound token accepted as a bearer token.
//
// Covers: DP-01, DP-02
func TestTrap23BoundTokens(t *testing.T) {
	r := start(t, options{})
	token := r.token(authserver.Grant{})
	got := r.do("POST", "/mcp", "", "Authorization", "DPoP "+token, "DPoP", "MARKED.proof.x")
	r.wantStatus(got, 401)
	if len(r.seen()) != 0 {
		t.Error("a DPoP credential went through unproven")
	}
}

// Trap 25: forged identity headers, OPTIONS as a way around, parameters smuggled into the
// introspection form.
//
// Covers: BC-13, CO-02, IN-01, BT-04
func TestTrap25Forgeries(t *testing.T) {
	r := start(t, options{})
	r.wantStatus(r.do("OPTIONS", "/mcp", ""), 401)
	r.wantStatus(r.do("POST", "/mcp", "x&client_id=admin&token=y"), 400)
	got := r.send("POST", "/mcp", "", "access_token="+r.token(authserver.Grant{}), "Content-Type", "application/x-www-form-urlencoded")
	r.wantStatus(got, 401)
	if n := len(r.seen()); n != 0 {
		t.Fatalf("upstream saw %d requests, want none", n)
	}
	forged := []string{
		"X-Consumer-Id", "X_Consumer_ID", "x-consumer_username", "X-Consumer-Custom-Id", "X-Credential-Identifier", "X-Anonymous-Consumer",
		"X-Authenticated-Sub", "X-Userinfo", "X-User", "Proxy-Authorization", "DPoP", "Client-Cert", "Txn-Token", "X-Forwarded-User", "x_forwarded-user",
	}
	var headers []string
	for _, name := range forged {
		headers = append(headers, name, "forged")
	}
	r.wantStatus(r.do("POST", "/mcp", r.token(authserver.Grant{}), headers...), 200)
	for name, values := range r.seen()[0].Header {
		if strings.Contains(strings.Join(values, " "), "forged") {
			t.Errorf("forged header %s reached the upstream", name)
		}
	}
}
