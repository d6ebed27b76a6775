package sts_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"phantomtoken/internal/keyring"
	"phantomtoken/internal/oauth"
	"phantomtoken/sidecar/sts"
)

const (
	grantType       = "urn:ietf:params:oauth:grant-type:token-exchange"
	accessTokenType = "urn:ietf:params:oauth:token-type:access_token"
	jwtType         = "urn:ietf:params:oauth:token-type:jwt"

	mcpServer   = "mcp-server"
	mcpSecret   = "MARKED-SECRET-of-mcp-server"
	mcpAudience = "https://mcp.internal.example"
	apiAudience = "https://api.demo.example"
	ordersURI   = "https://ORDERS.example/v1/"

	otherServer   = "other+server:1"
	otherSecret   = "MARKED+SECRET:of%other"
	otherAudience = "https://other.internal.example"
	otherAPI      = "https://other-api.example"

	idleServer = "idle-server"
	idleSecret = "MARKED-SECRET-of-idle"
)

// world is a gateway that mints phantom tokens and a token service on loopback that
// exchanges them, at a stopped clock.
type world struct {
	t       testing.TB
	url     string // of the service and its issuer
	phantom string // the issuer of phantom tokens
	gateway *keyring.Ring
	own     *keyring.Ring
	elapsed atomic.Int64 // nanoseconds since start
	log     *syncBuffer
	service *sts.Service
}

var start = time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)

func (w *world) now() time.Time { return start.Add(time.Duration(w.elapsed.Load())) }

func (w *world) advance(d time.Duration) { w.elapsed.Add(int64(d)) }

// newWorld starts the service; change may alter its configuration first.
func newWorld(t testing.TB, change func(*world, *sts.Config)) *world {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	w := &world{
		t:       t,
		url:     "http://" + server.Listener.Addr().String(),
		gateway: newRing(t, keyring.ES256),
		own:     newRing(t, keyring.ES256),
		log:     new(syncBuffer),
	}
	w.phantom = w.url + "/phantom"
	documents, err := keyring.NewIssuer(oauth.IssuerMetadata{Issuer: w.phantom}, w.gateway)
	if err != nil {
		t.Fatal(err)
	}
	cfg := sts.Config{
		Issuer:           w.url,
		Ring:             w.own,
		Lifetime:         5 * time.Minute,
		SubjectIssuer:    w.phantom,
		SubjectKeys:      w.gateway,
		SubjectDocuments: documents,
		Clients:          clients(),
		Now:              w.now,
		Logger:           slog.New(slog.NewJSONHandler(w.log, nil)),
	}
	if change != nil {
		change(w, &cfg)
	}
	if w.service, err = sts.New(cfg); err != nil {
		t.Fatal(err)
	}
	server.Config.Handler = w.service
	server.Start()
	t.Cleanup(server.Close)
	return w
}

func clients() []sts.Client {
	return []sts.Client{
		{
			ID: mcpServer, Secret: mcpSecret, SubjectAudience: mcpAudience,
			Audiences: []sts.Audience{
				{Name: apiAudience, Scopes: oauth.Scopes{"stocks/read", "stocks/trade"}, Claims: []string{"region", "client_type", "client_assurance_level"}},
				{Name: ordersURI, Scopes: oauth.Scopes{"stocks/read", "orders/write"}, Claims: []string{"region"}},
				{Name: "reports"},
			},
		},
		{
			ID: otherServer, Secret: otherSecret, SubjectAudience: otherAudience,
			Audiences: []sts.Audience{{Name: otherAPI, Scopes: oauth.Scopes{"stocks/read"}}},
		},
		{ID: idleServer, Secret: idleSecret, SubjectAudience: mcpAudience},
	}
}

func newRing(t testing.TB, alg string) *keyring.Ring {
	t.Helper()
	key, err := keyring.Generate(alg)
	if err != nil {
		t.Fatal(err)
	}
	ring, err := keyring.NewRing(key)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// subject is what the gateway says of john, who uses the client dyn-123.
func (w *world) subject() keyring.Token {
	return keyring.Token{
		Issuer:   w.phantom,
		Subject:  "john.doe@demo.example",
		Audience: []string{mcpAudience},
		ClientID: "dyn-123",
		IssuedAt: w.now().Add(-time.Minute),
		Expiry:   w.now().Add(4 * time.Minute),
		ID:       "phantom-1",
		Scope:    oauth.Scopes{"stocks/read", "profile"},
		Extra:    map[string]any{"region": "USA", "client_type": "mcp", "client_assurance_level": 1, "email": "john@demo.example"},
	}
}

// mint signs a phantom token; change may alter what it says.
func (w *world) mint(change func(*keyring.Token)) string {
	w.t.Helper()
	token := w.subject()
	if change != nil {
		change(&token)
	}
	return sign(w.t, w.gateway, token)
}

func sign(t testing.TB, ring *keyring.Ring, token keyring.Token) string {
	t.Helper()
	out, err := ring.Mint(token)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// form is the request of the MCP server for the stocks API.
func (w *world) form(change func(url.Values)) url.Values {
	w.t.Helper()
	form := url.Values{
		"grant_type":         {grantType},
		"subject_token":      {w.mint(nil)},
		"subject_token_type": {accessTokenType},
		"audience":           {apiAudience},
		"scope":              {"stocks/read"},
	}
	if change != nil {
		change(form)
	}
	return form
}

type answer struct {
	status int
	header http.Header
	body   string
	err    struct {
		Code        string `json:"error"`
		Description string `json:"error_description"`
	}
	ok struct {
		AccessToken     string  `json:"access_token"`
		IssuedTokenType string  `json:"issued_token_type"`
		TokenType       string  `json:"token_type"`
		ExpiresIn       int64   `json:"expires_in"`
		Scope           *string `json:"scope"`
	}
}

// request is a token request; the MCP server is the caller.
func (w *world) request(body string) *http.Request {
	w.t.Helper()
	r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, w.url+"/token", strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	setBasic(r, mcpServer, mcpSecret)
	return r
}

func setBasic(r *http.Request, id, secret string) {
	r.SetBasicAuth(url.QueryEscape(id), url.QueryEscape(secret))
}

func (w *world) do(r *http.Request) answer {
	w.t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
	res, err := client.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	a := answer{status: res.StatusCode, header: res.Header, body: string(body)}
	if res.StatusCode == http.StatusOK {
		err = json.Unmarshal(body, &a.ok)
	} else {
		err = json.Unmarshal(body, &a.err)
	}
	if err != nil {
		w.t.Errorf("status %d with a body that is no JSON: %q", res.StatusCode, body)
	}
	return a
}

func (w *world) post(form url.Values) answer {
	w.t.Helper()
	return w.do(w.request(form.Encode()))
}

// issued exchanges and returns the claims of the result.
func (w *world) issued(form url.Values) map[string]any {
	w.t.Helper()
	a := w.post(form)
	if a.status != http.StatusOK {
		w.t.Fatalf("got %d %s, want 200", a.status, a.body)
	}
	return claimsOf(w.t, a.ok.AccessToken)
}

// claimsOf reads a token without verifying it.
func claimsOf(t testing.TB, token string) map[string]any {
	t.Helper()
	return part(t, token, 1)
}

func part(t testing.TB, token string, n int) map[string]any {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("expected a signed JWT, got %d parts", len(parts))
	}
	data, err := base64.RawURLEncoding.DecodeString(parts[n])
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	if err := json.Unmarshal(data, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// syncBuffer collects log lines of several requests.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// lines are the log lines so far, as JSON.
func (w *world) lines() []map[string]any {
	w.t.Helper()
	var out []map[string]any
	for line := range strings.Lines(w.log.String()) {
		var v map[string]any
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			w.t.Fatalf("log line is no JSON: %q", line)
		}
		out = append(out, v)
	}
	return out
}
