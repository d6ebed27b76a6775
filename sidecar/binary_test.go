package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"phantomtoken/internal/keyring"
	"phantomtoken/internal/oauth"
	"phantomtoken/tokenexchange"
)

// TestBinary runs the real program through its life: it makes its key, serves, exchanges a
// token that an OpenID Connect library verifies by metadata alone, and ends when asked.
//
// Covers: AS-06
func TestBinary(t *testing.T) {
	environ := environment(t, usual, nil)
	p := start(t, environ)
	subject := mint(t, environ, nil)
	request := tokenexchange.Request{SubjectToken: subject, Audience: []string{api}, Scope: []string{"stocks/read"}}
	res, err := p.tokens(t, nil).Exchange(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	if res.ExpiresIn <= 0 || res.ExpiresIn > 4*time.Minute {
		t.Errorf("expires in %s, want at most the life of the subject token", res.ExpiresIn)
	}
	ctx := oidc.ClientContext(t.Context(), p.client)
	provider, err := oidc.NewProvider(ctx, issuer)
	if err != nil {
		t.Fatal(err)
	}
	verified, err := provider.Verifier(&oidc.Config{ClientID: api}).Verify(ctx, res.AccessToken)
	if err != nil {
		t.Fatal(err)
	}
	var claims struct {
		Region   string
		ClientID string `json:"client_id"`
	}
	if err := verified.Claims(&claims); err != nil || verified.Subject != "john" || claims.Region != "USA" || claims.ClientID != "mcp-server" {
		t.Errorf("got sub %q, claims %+v, error %v", verified.Subject, claims, err)
	}

	request.Scope = []string{"stocks/trade"}
	var refused *tokenexchange.Error
	if _, err := p.tokens(t, nil).Exchange(t.Context(), request); !errors.As(err, &refused) || refused.Code != tokenexchange.ErrorInvalidScope {
		t.Errorf("a scope that the subject token lacks: got %v, want invalid_scope", err)
	}
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/phantom/jwks.json": 200, "/other": 404} {
		if got, _ := p.get(t, path); got != want {
			t.Errorf("%s: got %d, want %d", path, got, want)
		}
	}
	key, err := os.Stat(variable(environ, "TOKEN_EXCHANGE_SIGNING_KEY_FILE"))
	if err != nil || key.Mode().Perm() != 0o600 {
		t.Errorf("key file: got %v, error %v, want mode 0600", key, err)
	}
	p.stop(t)
	for _, want := range []string{`"msg":"signing key created"`, `"msg":"stopped"`, `"outcome":"granted"`, `"outcome":"refused"`} {
		if !strings.Contains(p.log(), want) {
			t.Errorf("log has no %s:\n%s", want, p.log())
		}
	}
	withoutSecrets(t, "log", p.log(), subject, res.AccessToken)
}

// TestRunningRequestEnds: a request whose body is on its way when the signal comes gets its
// token.
func TestRunningRequestEnds(t *testing.T) {
	environ := environment(t, usual, nil)
	p := start(t, environ)
	conn, err := net.Dial("tcp", p.address["token endpoint"])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	body := url.Values{
		"grant_type": {tokenexchange.GrantType}, "subject_token": {mint(t, environ, nil)}, "subject_token_type": {tokenexchange.TokenTypeAccessToken},
		"audience": {api}, "client_id": {"mcp-server"}, "client_secret": {secret},
	}.Encode()
	fmt.Fprintf(conn, "POST /token HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n", len(body))
	reader := bufio.NewReader(conn)
	// 100 Continue is sent when the handler reads the body: the request is running.
	if line, err := reader.ReadString('\n'); err != nil || !strings.Contains(line, "100 Continue") {
		t.Fatalf("got %q, error %v", line, err)
	}
	if _, err := reader.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	p.signal(t, os.Interrupt)
	// The stop is under way when nobody is let in any more.
	for {
		probe, err := net.Dial("tcp", p.address["token endpoint"])
		if err != nil {
			break
		}
		probe.Close()
	}
	if _, err := io.WriteString(conn, body); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(reader, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var got tokenexchange.Response
	if err := json.NewDecoder(res.Body).Decode(&got); err != nil || res.StatusCode != 200 || got.AccessToken == "" {
		t.Errorf("got %d, error %v, want a token", res.StatusCode, err)
	}
	if status := p.wait(t); status != exitOK {
		t.Errorf("after the interrupt: got status %d, want %d", status, exitOK)
	}
}

// TestKeysOfTheGatewayByURL: until they were to be had once, the sidecar is not ready and says
// why; it needs no second start.
func TestKeysOfTheGatewayByURL(t *testing.T) {
	t.Parallel()
	environ := environment(t, usual, nil)
	subject := mint(t, environ, nil)
	keys := ring(t, variable(environ, "TOKEN_EXCHANGE_SUBJECT_KEY_FILES")).JWKS()
	up := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		select {
		case <-up:
			w.Header().Set("Content-Type", "application/json")
			w.Write(keys)
		default:
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	defer server.Close()
	for i, entry := range environ {
		if strings.HasPrefix(entry, "TOKEN_EXCHANGE_SUBJECT_KEY_FILES=") {
			environ[i] = "TOKEN_EXCHANGE_SUBJECT_JWKS_URI=" + server.URL
		}
	}
	p := start(t, environ)
	if status, text := p.get(t, "/readyz"); status != 503 || text != "keys of the subject issuer are unavailable\n" {
		t.Errorf("without the gateway's keys: got %d %q, want 503", status, text)
	}
	request := tokenexchange.Request{SubjectToken: subject, Audience: []string{api}}
	if _, err := p.tokens(t, nil).Exchange(t.Context(), request); !errors.Is(err, tokenexchange.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	close(up)
	eventually(t, "the keys of the gateway", func() bool { // the key source pauses a second between two attempts
		status, _ := p.get(t, "/readyz")
		return status == 200
	})
	if _, err := p.tokens(t, nil).Exchange(t.Context(), request); err != nil {
		t.Errorf("with the gateway up: %v", err)
	}
	p.stop(t)
}

// TestSettingsThatCannotWork end the program with everything that is wrong.
func TestSettingsThatCannotWork(t *testing.T) {
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path)
	cmd.Env = environment(t, usual, map[string]string{"TOKEN_EXCHANGE_ISSUER": "", "MCP_SERVER_SECRET": ""})
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != exitUsage {
		t.Errorf("got %v, want status %d", err, exitUsage)
	}
	for _, want := range []string{"TOKEN_EXCHANGE_ISSUER: ", ".secret_variables[0]: "} {
		if !strings.Contains(string(out), want) {
			t.Errorf("got %s\nwant %s in it", out, want)
		}
	}
}

// TestClock: a gateway whose clock is half a minute ahead is borne with, five minutes are not,
// and a token is never taken past its end.
//
// Covers: TX-09
func TestClock(t *testing.T) {
	environ := environment(t, usual, nil)
	p := start(t, environ)
	for _, tc := range []struct {
		name  string
		shift time.Duration
		life  time.Duration
		good  bool
	}{
		{name: "a little ahead", shift: 20 * time.Second, life: 4 * time.Minute, good: true},
		{name: "RejectsClockFiveMinutesAhead", shift: 5 * time.Minute, life: 4 * time.Minute},
		{name: "RejectsClockFiveMinutesBehind", shift: -5 * time.Minute, life: 4 * time.Minute},
	} {
		t.Run(tc.name, func(t *testing.T) {
			subject := mint(t, environ, func(k *keyring.Token) {
				k.IssuedAt = time.Now().Add(tc.shift)
				k.Expiry = k.IssuedAt.Add(tc.life)
			})
			_, err := p.tokens(t, nil).Exchange(t.Context(), tokenexchange.Request{SubjectToken: subject, Audience: []string{api}})
			var refused *tokenexchange.Error
			switch {
			case tc.good && err != nil:
				t.Error(err)
			case !tc.good && (!errors.As(err, &refused) || refused.Code != "invalid_request" || refused.Description == ""):
				t.Errorf("got %v, want invalid_request and why", err)
			}
		})
	}
	p.stop(t)
}

// TestKilledUnderLoad: after kill -9 in the middle of its work, even of its first start, the
// sidecar starts again with the same key and works at once.
func TestKilledUnderLoad(t *testing.T) {
	t.Parallel()
	socket := t.TempDir() + "/egress.sock"
	environ := environment(t, usual, map[string]string{"TOKEN_EXCHANGE_EGRESS_LISTEN": "unix:" + socket})
	p := start(t, environ)
	before := p.exchange(t, mint(t, environ, nil), api)
	var kids []string
	for range 2 {
		ended := make(chan int)
		for range 4 {
			client := p.tokens(t, nil)
			go func() {
				n := 0
				for {
					if _, err := client.Exchange(t.Context(), tokenexchange.Request{SubjectToken: mint(t, environ, func(k *keyring.Token) { k.Scope = oauth.Scopes{"stocks/read"} }), Audience: []string{api}}); err != nil {
						ended <- n
						return
					}
					n++
				}
			}()
		}
		mark := p.mark()
		p.await(t, mark, "an exchange", func(l line) bool { return l["outcome"] == "granted" })
		if err := p.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for range 4 {
			<-ended
		}
		<-p.read
		_ = p.cmd.Wait()
		p = start(t, environ)
		if l := p.find(0, func(l line) bool { return l.is("signing key created") }); l != nil {
			t.Errorf("a second key was made: %v", l)
		}
		after := p.exchange(t, mint(t, environ, nil), api)
		p.claims(t, after.AccessToken, api)
		p.claims(t, before.AccessToken, api) // what was issued before the end is good still
		_, body := p.get(t, "/jwks.json")
		kids = append(kids, body)
	}
	if kids[0] != kids[1] {
		t.Error("the keys changed")
	}
	folder, err := os.ReadDir(strings.TrimSuffix(variable(environ, "TOKEN_EXCHANGE_SIGNING_KEY_FILE"), "/sidecar.jwk"))
	if err != nil || len(folder) != 1 {
		t.Errorf("got %v, error %v, want the key file alone", folder, err)
	}
	p.stop(t)
}
