package authserver_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"html"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"phantomtoken/testenv/authserver"
)

const (
	resource      = "http://127.0.0.1:8000/mcp"
	otherResource = "http://127.0.0.1:8000/other"
	callback      = "http://127.0.0.1:33418/callback"
	verifier      = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk" // RFC 7636 appendix B
	john          = "john.doe@demo.example"
	johnsPassword = "correct horse"
)

// clock is a clock that tests turn by hand.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Unix(1_800_000_000, 0)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Step(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func baseConfig() authserver.Config {
	return authserver.Config{
		Users: []authserver.User{
			{Name: john, Password: johnsPassword, Region: "USA", Claims: map[string]any{"org_id": "acme"}},
			{Name: "jane.roe@demo.example", Password: "battery staple", Region: "Europe"},
		},
		Clients: []authserver.Client{
			{ID: "api-gateway-client", Secret: "s3cret:with%odd+chars"},
			{ID: "backend", Secret: "backend-secret", ClientCredentials: true, Scopes: []string{"stocks/read"}, Claims: map[string]any{"client_assurance_level": 2}},
		},
		Resources: []string{resource, otherResource},
		Scopes: []authserver.Scope{
			{Name: "stocks/read", Description: "Read stock prices of your region"},
			{Name: "stocks/trade", Description: "Place stock orders in your name"},
		},
	}
}

// server is a running server with what its tests need at hand.
type server struct {
	*authserver.Server
	t     *testing.T
	clock *clock
	log   *syncBuffer
}

func start(t *testing.T, change ...func(*authserver.Config)) *server {
	t.Helper()
	s := &server{t: t, clock: newClock(), log: &syncBuffer{}}
	cfg := baseConfig()
	cfg.Now = s.clock.Now
	cfg.Logger = s.log.logger()
	for _, c := range change {
		c(&cfg)
	}
	running, err := authserver.Start(t.Context(), cfg)
	if err != nil {
		t.Fatalf("Start: %v", err)
	}
	s.Server = running
	t.Cleanup(func() {
		if err := running.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

// answer is an HTTP response read to its end.
type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) object(t *testing.T) map[string]any {
	t.Helper()
	var out map[string]any
	if err := json.Unmarshal([]byte(a.body), &out); err != nil {
		t.Fatalf("answer %d is no JSON object: %v\n%s", a.status, err, a.body)
	}
	return out
}

// client follows no redirect and keeps no connection: what the server says is what the
// test sees.
func client(jar http.CookieJar) *http.Client {
	return &http.Client{
		Jar:           jar,
		Timeout:       10 * time.Second,
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func do(t *testing.T, c *http.Client, req *http.Request) answer {
	t.Helper()
	resp, err := c.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", req.Method, req.URL.Path, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err != nil {
		t.Fatalf("%s %s: reading answer: %v", req.Method, req.URL.Path, err)
	}
	return answer{resp.StatusCode, resp.Header, string(body)}
}

func request(t *testing.T, method, target string, body io.Reader, header ...string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, target, body)
	if err != nil {
		t.Fatalf("NewRequest: %v", err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	return req
}

func (s *server) get(path string, header ...string) answer {
	s.t.Helper()
	return do(s.t, client(nil), request(s.t, http.MethodGet, s.origin()+path, nil, header...))
}

func (s *server) origin() string {
	u, err := url.Parse(s.Issuer())
	if err != nil {
		s.t.Fatal(err)
	}
	return u.Scheme + "://" + u.Host
}

func (s *server) register(body string) answer {
	s.t.Helper()
	return do(s.t, client(nil), request(s.t, http.MethodPost, s.Issuer()+"/register", strings.NewReader(body), "Content-Type", "application/json"))
}

// post sends a form to a back-channel endpoint.
func (s *server) post(path string, form url.Values, header ...string) answer {
	s.t.Helper()
	header = append([]string{"Content-Type", "application/x-www-form-urlencoded"}, header...)
	return do(s.t, client(nil), request(s.t, http.MethodPost, s.Issuer()+path, strings.NewReader(form.Encode()), header...))
}

// basic is the value of an Authorization header as RFC 6749 §2.3.1 wants it.
func basic(id, secret string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(id)+":"+url.QueryEscape(secret)))
}

func (s *server) introspect(token string, header ...string) answer {
	s.t.Helper()
	header = append([]string{"Authorization", basic("api-gateway-client", "s3cret:with%odd+chars")}, header...)
	return s.post("/introspect", url.Values{"token": {token}}, header...)
}

func (s *server) active(token string) bool {
	s.t.Helper()
	active, _ := s.introspect(token).object(s.t)["active"].(bool)
	return active
}

// publicClient registers a client without a secret and returns its id.
func (s *server) publicClient(redirectURIs ...string) string {
	s.t.Helper()
	if len(redirectURIs) == 0 {
		redirectURIs = []string{callback}
	}
	body, _ := json.Marshal(map[string]any{"client_name": "MCP Inspector", "redirect_uris": redirectURIs, "token_endpoint_auth_method": "none"})
	a := s.register(string(body))
	if a.status != http.StatusCreated {
		s.t.Fatalf("registering: got %d %s", a.status, a.body)
	}
	return a.object(s.t)["client_id"].(string)
}

func challenge(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// authorization is a request that nothing is wrong with.
func authorization(clientID string) url.Values {
	return url.Values{
		"response_type":         {"code"},
		"client_id":             {clientID},
		"redirect_uri":          {callback},
		"scope":                 {"stocks/read"},
		"state":                 {"af0ifjsldkj"},
		"resource":              {resource},
		"code_challenge":        {challenge(verifier)},
		"code_challenge_method": {"S256"},
	}
}

// with returns a copy of values in which name has these values, or none.
func with(values url.Values, name string, v ...string) url.Values {
	out := url.Values{}
	for k, vs := range values {
		out[k] = vs
	}
	out[name] = v
	return out
}

// browser is a person's browser: it keeps cookies and sends forms.
type browser struct {
	s *server
	c *http.Client
}

func (s *server) browser() *browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return &browser{s, client(jar)}
}

func (b *browser) open(target string) answer {
	b.s.t.Helper()
	return do(b.s.t, b.c, request(b.s.t, http.MethodGet, target, nil))
}

func (b *browser) authorize(q url.Values) answer {
	b.s.t.Helper()
	return b.open(b.s.Issuer() + "/authorize?" + q.Encode())
}

var (
	actionPattern = regexp.MustCompile(`<form method="post" action="([^"]*)"`)
	hiddenPattern = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)"`)
)

// hidden returns where the form of a page goes and its hidden fields.
func hidden(t *testing.T, page answer) (action string, fields url.Values) {
	t.Helper()
	m := actionPattern.FindStringSubmatch(page.body)
	if m == nil {
		t.Fatalf("expected a page with a form, got %d\n%s", page.status, page.body)
	}
	fields = url.Values{}
	for _, f := range hiddenPattern.FindAllStringSubmatch(page.body, -1) {
		fields.Set(f[1], html.UnescapeString(f[2]))
	}
	return html.UnescapeString(m[1]), fields
}

// submit fills the form of a page and sends it.
func (b *browser) submit(page answer, filled url.Values) answer {
	b.s.t.Helper()
	action, fields := hidden(b.s.t, page)
	for k, v := range filled {
		fields[k] = v
	}
	return b.send(action, fields)
}

func (b *browser) send(action string, fields url.Values) answer {
	b.s.t.Helper()
	return do(b.s.t, b.c, request(b.s.t, http.MethodPost, action, strings.NewReader(fields.Encode()), "Content-Type", "application/x-www-form-urlencoded"))
}

func (b *browser) signIn(page answer) answer {
	b.s.t.Helper()
	a := b.submit(page, url.Values{"username": {john}, "password": {johnsPassword}})
	if a.status != http.StatusSeeOther {
		b.s.t.Fatalf("signing in: got %d, want 303\n%s", a.status, a.body)
	}
	return b.open(a.header.Get("Location"))
}

// allow goes through login and consent and returns the parameters of the redirect.
func (b *browser) allow(q url.Values) url.Values {
	b.s.t.Helper()
	page := b.authorize(q)
	if strings.Contains(page.body, `name="password"`) {
		page = b.signIn(page)
	}
	return location(b.s.t, b.submit(page, url.Values{"accept": {"yes"}}))
}

// location returns the parameters of a redirect to the callback.
func location(t *testing.T, a answer) url.Values {
	t.Helper()
	u, err := url.Parse(a.header.Get("Location"))
	if err != nil || a.status != http.StatusSeeOther {
		t.Fatalf("expected a redirect, got %d %q\n%s", a.status, a.header.Get("Location"), a.body)
	}
	return u.Query()
}

// redemption is the token request for a code of a public client.
func redemption(clientID, code string) url.Values {
	return url.Values{
		"grant_type":    {"authorization_code"},
		"client_id":     {clientID},
		"code":          {code},
		"redirect_uri":  {callback},
		"code_verifier": {verifier},
		"resource":      {resource},
	}
}

func (s *server) code(clientID string) string {
	s.t.Helper()
	code := s.browser().allow(authorization(clientID)).Get("code")
	if code == "" {
		s.t.Fatal("expected a code, got none")
	}
	return code
}

func wantError(t *testing.T, a answer, status int, code string) {
	t.Helper()
	object := a.object(t)
	got, _ := object["error"].(string)
	description, _ := object["error_description"].(string)
	for i := range len(description) {
		if c := description[i]; c < 0x20 || c > 0x7e || c == '"' || c == '\\' {
			t.Errorf("error_description %q: character %q is not allowed (RFC 6749 §5.2)", description, c)
		}
	}
	if a.status != status || got != code {
		t.Errorf("got %d %q, want %d %q\n%s", a.status, got, status, code, a.body)
	}
	if c := a.header.Get("Cache-Control"); c != "no-store" {
		t.Errorf("Cache-Control: got %q, want no-store", c)
	}
	if c := a.header.Get("Content-Type"); c != "application/json" {
		t.Errorf("Content-Type: got %q, want application/json", c)
	}
}

// wantPage checks for a page that tells a person what is wrong and redirects nowhere.
func wantPage(t *testing.T, a answer, status int) {
	t.Helper()
	if a.status != status || !strings.HasPrefix(a.header.Get("Content-Type"), "text/html") {
		t.Errorf("got %d %s, want a page with %d\n%s", a.status, a.header.Get("Content-Type"), status, a.body)
	}
	if l := a.header.Get("Location"); l != "" {
		t.Errorf("expected no redirect, got one to %q", l)
	}
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// freeAddress returns a loopback address that was free a moment ago.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
