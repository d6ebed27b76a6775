package delegation_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"phantomtoken/internal/delegation"
	"phantomtoken/internal/keyring"
	"phantomtoken/internal/oauth"
	"phantomtoken/tokenexchange"
)

const (
	issuer       = "https://idp.example.com/realms/mcp"
	audience     = "https://api.example.com"
	user         = "john.doe"
	subjectToken = "_0XBPWQQ_MARKED-token-of-john"
	secret       = "MARKED-secret-of-the-client"
)

var start = time.Unix(1_800_000_000, 0)

// settings are unlike those of any program, so that a fixed name in a text is noticed.
func settings() delegation.Settings {
	return delegation.Settings{
		Subject: "SUBJECT", ClientID: "CLIENT", Credentials: "CREDENTIALS", Endpoint: "ENDPOINT", Issuer: "ISSUER",
		Keys: "KEYS", Issue: "ISSUE", Audience: "AUDIENCE", Scope: "SCOPE",
	}
}

// signer signs whatever claims a test wants, with a key of one id.
type signer struct {
	id      string
	private ed25519.PrivateKey
}

func newSigner(t *testing.T, id string) *signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &signer{id, private}
}

func (s *signer) sign(header, claims map[string]any) string {
	encode := func(v map[string]any) string {
		b, err := json.Marshal(v)
		if err != nil {
			return err.Error()
		}
		return base64.RawURLEncoding.EncodeToString(b)
	}
	h := map[string]any{"typ": "JWT", "alg": "EdDSA", "kid": s.id}
	maps.Copy(h, header)
	signed := encode(h) + "." + encode(claims)
	return signed + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(s.private, []byte(signed)))
}

func (s *signer) jwks() []byte {
	public, _ := s.private.Public().(ed25519.PublicKey)
	return fmt.Appendf(nil, `{"keys":[{"kty":"OKP","crv":"Ed25519","use":"sig","alg":"EdDSA","kid":%q,"x":%q}]}`,
		s.id, base64.RawURLEncoding.EncodeToString(public))
}

// exchanger is a delegation.Exchanger.
type exchanger func(context.Context, tokenexchange.Request) (*tokenexchange.Response, error)

func (f exchanger) Exchange(ctx context.Context, req tokenexchange.Request) (*tokenexchange.Response, error) {
	return f(ctx, req)
}

// world is an identity provider on loopback, and a target that has tokens exchanged there.
type world struct {
	t        *testing.T
	server   *httptest.Server
	endpoint *delegation.Endpoint
	target   *delegation.Target
	cfg      delegation.TargetConfig
	keys     *keyring.RemoteKeys
	hurry    bool // the exchanger does not wait long: where the provider hangs

	mu     sync.Mutex
	now    time.Time
	log    bytes.Buffer
	forms  []url.Values // of the exchanges
	answer http.HandlerFunc
	signer *signer
	jwks   []byte
	header map[string]any // members that differ from a good token
	claims map[string]any
	body   map[string]any
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, now: start, signer: newSigner(t, "first")}
	w.jwks = w.signer.jwks()
	mux := http.NewServeMux()
	mux.HandleFunc("POST /token", func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
		form, formErr := url.ParseQuery(string(body))
		if err := errors.Join(err, formErr); err != nil {
			t.Errorf("reading the request: %v", err)
		}
		r.Form = form
		w.mu.Lock()
		w.forms = append(w.forms, form)
		answer := w.answer
		w.mu.Unlock()
		if answer == nil {
			answer = w.issue
		}
		answer(rw, r)
	})
	mux.HandleFunc("GET /jwks", func(rw http.ResponseWriter, _ *http.Request) {
		w.mu.Lock()
		defer w.mu.Unlock()
		rw.Header().Set("Content-Type", "application/json")
		_, _ = rw.Write(w.jwks)
	})
	w.server = httptest.NewUnstartedServer(mux)
	w.server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	w.server.Start()
	t.Cleanup(w.server.Close)

	client := func(timeout time.Duration) *tokenexchange.Client {
		t.Helper()
		c, err := tokenexchange.New(tokenexchange.Config{
			Endpoint: w.server.URL + "/token", ClientID: "gateway", ClientSecret: secret, Timeout: timeout, Now: w.clock,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.CloseIdleConnections)
		return c
	}
	patient, hurried := client(time.Minute), client(100*time.Millisecond)
	w.connect(exchanger(func(ctx context.Context, req tokenexchange.Request) (*tokenexchange.Response, error) {
		if w.hurry {
			return hurried.Exchange(ctx, req)
		}
		return patient.Exchange(ctx, req)
	}))
	return w
}

// connect makes endpoint and target over an exchanger.
func (w *world) connect(x delegation.Exchanger) {
	w.t.Helper()
	var err error
	w.endpoint, err = delegation.NewEndpoint(delegation.EndpointConfig{Exchanger: x, Now: w.clock, Logger: slog.New(slog.NewTextHandler(w, nil))})
	if err != nil {
		w.t.Fatal(err)
	}
	w.keys, err = keyring.NewRemoteKeys(keyring.RemoteConfig{URL: w.server.URL + "/jwks", Now: w.clock})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(w.keys.Close)
	w.cfg = delegation.TargetConfig{
		Endpoint: w.endpoint, Audience: audience, ClientID: "gateway", Settings: settings(), Now: w.clock, Verifier: w.verifier(audience),
	}
	w.target = w.newTarget(nil)
}

func (w *world) verifier(audiences ...string) *keyring.Verifier {
	w.t.Helper()
	verifier, err := keyring.NewVerifier(keyring.VerifierConfig{
		Issuer: issuer, Audiences: audiences, Keys: w.keys, Types: []string{"at+jwt", "jwt"}, Now: w.clock,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return verifier
}

func (w *world) newTarget(change func(*delegation.TargetConfig)) *delegation.Target {
	w.t.Helper()
	cfg := w.cfg
	if change != nil {
		change(&cfg)
	}
	target, err := delegation.NewTarget(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	return target
}

// Write is that of the log.
func (w *world) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.Write(p)
}

func (w *world) logged() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.String()
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) step(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

// answers makes the token endpoint answer like this; nil issues tokens.
func (w *world) answers(h http.HandlerFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answer = h
}

// calls is how many exchanges arrived.
func (w *world) calls() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.forms)
}

// issue answers with a good token, with the members that the test replaces.
func (w *world) issue(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	claims := map[string]any{
		"iss": issuer, "sub": user, "aud": r.Form.Get("audience"), "azp": "gateway", "typ": "Bearer", "jti": "id-1",
		"iat": w.now.Unix(), "exp": w.now.Add(5 * time.Minute).Unix(), "scope": r.Form.Get("scope"),
	}
	change(claims, w.claims)
	body := map[string]any{
		"access_token": w.signer.sign(w.header, claims), "issued_token_type": tokenexchange.TokenTypeAccessToken,
		"token_type": "Bearer", "expires_in": 300, "scope": r.Form.Get("scope"),
	}
	change(body, w.body)
	w.mu.Unlock()
	rw.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(rw).Encode(body)
}

// change replaces members; nil takes one away.
func change(members, by map[string]any) {
	for name, v := range by {
		if members[name] = v; v == nil {
			delete(members, name)
		}
	}
}

// refuse is an error answer of a token endpoint; its text is marked.
func refuse(status int, code, text string) http.HandlerFunc {
	return func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "application/json")
		rw.WriteHeader(status)
		_ = json.NewEncoder(rw).Encode(map[string]string{"error": code, "error_description": text + " MARKED"})
	}
}

// bare is a status without an OAuth error.
func bare(status int) http.HandlerFunc {
	return func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "text/html")
		rw.WriteHeader(status)
		_, _ = io.WriteString(rw, "<html>MARKED")
	}
}

// request is a good one.
func request() delegation.Request {
	return delegation.Request{
		SubjectToken: subjectToken,
		Subject: &oauth.Introspection{Active: true, Subject: user, Scope: oauth.Scopes{"stocks/read", "stocks/trade"}, Expiry: start.Add(15 * time.Minute),
			Claims: map[string]any{"permissions": []any{"own"}}},
		Scope: oauth.Scopes{"stocks/read"},
	}
}

func (w *world) exchange() (*delegation.Token, error) {
	return w.target.Exchange(w.t.Context(), request())
}

// wantKind checks an error: its kind, and that its text and the log have no marked word.
func (w *world) wantKind(err error, want delegation.Kind) *delegation.Error {
	w.t.Helper()
	var e *delegation.Error
	if !errors.As(err, &e) || e.Kind != want {
		w.t.Fatalf("got %v, want an error of kind %s", err, want)
	}
	for _, text := range []string{err.Error(), fmt.Sprintf("%+v", e), w.logged()} {
		if strings.Contains(text, "MARKED") || strings.Contains(text, "eyJ") {
			w.t.Errorf("%q holds a token, a secret or a word of the provider", text)
		}
	}
	return e
}

func (w *world) wantToken(got *delegation.Token, err error) *delegation.Token {
	w.t.Helper()
	if err != nil || got == nil {
		w.t.Fatalf("got %v, want a token", err)
	}
	return got
}

// bareTarget is a target that gets no token to verify.
func bareTarget(t *testing.T, endpoint *delegation.Endpoint) *delegation.Target {
	t.Helper()
	verifier, err := keyring.NewVerifier(keyring.VerifierConfig{Issuer: issuer, Audiences: []string{audience}, Keys: keyring.PublicKeys{}})
	if err != nil {
		t.Fatal(err)
	}
	target, err := delegation.NewTarget(delegation.TargetConfig{Endpoint: endpoint, Verifier: verifier, Audience: audience, Settings: settings()})
	if err != nil {
		t.Fatal(err)
	}
	return target
}
