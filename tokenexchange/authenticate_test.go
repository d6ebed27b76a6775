package tokenexchange_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	jwxjwt "github.com/lestrrat-go/jwx/v2/jwt"

	"phantomtoken/tokenexchange"
)

// signer hides the type of a key, as a key in a hardware module does.
type signer struct{ crypto.Signer }

// publicKey is all there is of a key.
type publicKey struct{ public crypto.PublicKey }

func (k publicKey) Public() crypto.PublicKey { return k.public }

func (publicKey) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("no private half")
}

func generate(t *testing.T) (p256, rsa2048, ed crypto.Signer) {
	t.Helper()
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsa2048, err = rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err = ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return p256, rsa2048, ed
}

// TestPrivateKeyJWT has another library verify what is sent.
//
// Covers: TX-07
func TestPrivateKeyJWT(t *testing.T) {
	p256, rsa2048, ed := generate(t)
	for _, tc := range []struct {
		name      string
		key       crypto.Signer
		algorithm string // configured
		want      jwa.SignatureAlgorithm
		audience  string
	}{
		{name: "ES256", key: p256, want: jwa.ES256},
		{name: "ES256 named", key: p256, algorithm: "ES256", want: jwa.ES256},
		{name: "ES256 behind crypto.Signer", key: signer{p256}, want: jwa.ES256},
		{name: "RS256", key: rsa2048, want: jwa.RS256},
		{name: "PS256", key: rsa2048, algorithm: "PS256", want: jwa.PS256},
		{name: "EdDSA", key: ed, want: jwa.EdDSA, audience: "https://idp.example"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			seen := map[string]bool{}
			var endpoint string
			client := newClient(t, func(w http.ResponseWriter, r *http.Request) {
				form := formOf(t, r)
				if got := form.Get("client_assertion_type"); got != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" {
					t.Errorf("client_assertion_type: got %q", got)
				}
				if r.Header.Get("Authorization") != "" || form.Has("client_secret") || form.Get("client_id") != "mcp-server" {
					t.Errorf("got Authorization %q, form %v, want the client_id and the assertion only", r.Header.Get("Authorization"), form)
				}
				want := tc.audience
				if want == "" {
					want = endpoint
				}
				token, err := jwxjwt.Parse([]byte(form.Get("client_assertion")), jwxjwt.WithKey(tc.want, tc.key.Public()),
					jwxjwt.WithClock(jwxjwt.ClockFunc(func() time.Time { return now })), jwxjwt.WithValidate(true),
					jwxjwt.WithIssuer("mcp-server"), jwxjwt.WithSubject("mcp-server"), jwxjwt.WithAudience(want))
				if err != nil {
					t.Fatalf("assertion: %v", err)
				}
				if life := token.Expiration().Sub(now); life <= 0 || life > 2*time.Minute {
					t.Errorf("exp: got %s ahead, want a minute", life)
				}
				if id := token.JwtID(); len(id) < 16 || seen[id] {
					t.Errorf("jti: got %q, want a long one that is new", id)
				} else {
					seen[id] = true
				}
				header, _ := base64.RawURLEncoding.DecodeString(strings.Split(form.Get("client_assertion"), ".")[0])
				if want := `{"alg":"` + tc.want.String() + `","typ":"JWT","kid":"key-1"}`; string(header) != want {
					t.Errorf("header: got %s, want %s", header, want)
				}
				answer(200, "application/json", success("t", ""))(w, r)
			}, func(c *tokenexchange.Config) {
				c.AuthMethod, c.ClientSecret = tokenexchange.AuthPrivateKeyJWT, ""
				c.ClientKey, c.ClientKeyID, c.ClientKeyAlgorithm, c.AssertionAudience = tc.key, "key-1", tc.algorithm, tc.audience
				endpoint = c.Endpoint
			})
			for range 5 { // signatures differ in length as ASN.1
				if _, err := client.Exchange(t.Context(), tokenexchange.Request{SubjectToken: "s"}); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func formOf(t *testing.T, r *http.Request) url.Values {
	t.Helper()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Error(err)
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		t.Error(err)
	}
	return form
}

// failing is a key that cannot be reached, or answers nonsense.
type failing struct {
	crypto.Signer
	signature []byte
	err       error
}

func (f failing) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return f.signature, f.err
}

func TestKeyThatFailsSendsNothing(t *testing.T) {
	p256, _, _ := generate(t)
	for _, tc := range []struct {
		name string
		key  failing
		want string
	}{
		{name: "error", key: failing{p256, nil, errors.New("module locked")}, want: "module locked"},
		{name: "nothing", key: failing{p256, nil, nil}, want: "ASN.1"},
		{name: "garbage", key: failing{p256, []byte("MARKED"), nil}, want: "ASN.1"},
		{name: "numbers that are too long", key: failing{p256, append([]byte{0x30, 0x29, 2, 34, 1}, append(make([]byte, 33), 2, 3, 1, 1, 1)...), nil}, want: "ASN.1"},
		{name: "zero", key: failing{p256, []byte{0x30, 6, 2, 1, 0, 2, 1, 0}, nil}, want: "ASN.1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			client := newClient(t, func(http.ResponseWriter, *http.Request) { t.Error("something was sent") }, func(c *tokenexchange.Config) {
				c.AuthMethod, c.ClientSecret, c.ClientKey = tokenexchange.AuthPrivateKeyJWT, "", tc.key
			})
			_, err := client.Exchange(t.Context(), tokenexchange.Request{SubjectToken: "s"})
			if err == nil || !strings.Contains(err.Error(), "ClientKey: signing") || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "MARKED") {
				t.Errorf("got %v, want it to name ClientKey and %q", err, tc.want)
			}
		})
	}
}

// TestAssertionFile: a token that the platform renews is read again within a minute.
//
// Covers: TX-07
func TestAssertionFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	write := func(content string) {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	first, second := "MARKED-header.first.sig", "MARKED-header.second.sig"
	write(first + "\n")
	clk := newClock()
	var sent []url.Values
	client := newClient(t, func(w http.ResponseWriter, r *http.Request) {
		sent = append(sent, formOf(t, r))
		answer(200, "application/json", success("t", ""))(w, r)
	}, func(c *tokenexchange.Config) {
		c.AuthMethod, c.ClientID, c.ClientSecret, c.AssertionFile, c.Now = tokenexchange.AuthAssertionFile, "", "", path, clk.now
	})
	ask := func() error {
		_, err := client.Exchange(t.Context(), tokenexchange.Request{SubjectToken: "s"})
		return err
	}
	for _, step := range []struct {
		after   time.Duration
		content string
		want    string // empty: an error
	}{
		{content: first, want: first},
		{after: 59 * time.Second, content: second, want: first},
		{after: time.Second, content: second, want: second},
		{after: -time.Hour, content: first, want: first}, // the clock was set back
		{after: time.Minute, content: "", want: ""},
		{after: 0, content: "MARKED not a token", want: ""},
		{after: 0, content: "MARKED-no-token", want: ""},
		{after: 0, content: "MARKED.h\r\nX: y.z", want: ""},
		{after: 0, content: strings.Repeat("MARKED", 20<<10) + ".x.y", want: ""},
		{after: 0, content: second, want: second},
	} {
		write(step.content)
		clk.step(step.after)
		before := len(sent)
		err := ask()
		if step.want == "" {
			if err == nil || len(sent) != before || !strings.Contains(err.Error(), "AssertionFile: expected one JWT in "+path) || strings.Contains(err.Error(), "MARKED") {
				t.Errorf("with %.20q: got %v, want an error about the file and nothing sent", step.content, err)
			}
			continue
		}
		if err != nil || sent[len(sent)-1].Get("client_assertion") != step.want {
			t.Errorf("after %s: got %v, %v, want %s", step.after, err, sent[len(sent)-1], step.want)
		}
	}
	if form := sent[0]; form.Has("client_id") || form.Get("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" {
		t.Errorf("got %v, want the assertion and no client_id", form)
	}
	clk.step(time.Hour)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := ask(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without the file: got %v, want os.ErrNotExist", err)
	}
}

// TestMutualTLS: the certificate is the proof, the form only says whose.
//
// Covers: TX-07
func TestMutualTLS(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		form := formOf(t, r)
		want := url.Values{"client_id": {"mcp-server"}}
		for _, name := range []string{"grant_type", "subject_token", "subject_token_type", "requested_token_type"} {
			want[name] = form[name]
		}
		if len(r.TLS.PeerCertificates) != 1 || !reflect.DeepEqual(form, want) || r.Header.Get("Authorization") != "" {
			t.Errorf("got %d certificates, form %v, want one and client_id", len(r.TLS.PeerCertificates), form)
		}
		answer(200, "application/json", success("t", ""))(w, r)
	}))
	server.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	server.StartTLS()
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: server.TLS.Certificates}}
	client, err := tokenexchange.New(tokenexchange.Config{
		Endpoint: server.URL, ClientID: "mcp-server", AuthMethod: tokenexchange.AuthTLS, Transport: transport,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer client.CloseIdleConnections()
	if _, err := client.Exchange(t.Context(), tokenexchange.Request{SubjectToken: "s"}); err != nil {
		t.Error(err)
	}
}

// TestNewChecksAuthentication: what the method needs, and nothing that it does not.
func TestNewChecksAuthentication(t *testing.T) {
	p256, rsa2048, _ := generate(t)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	// A public half is enough to be refused by; making a key so small is not allowed any more.
	small := signer{publicKey{&rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 1023), E: 65537}}}
	odd := signer{publicKey{"no key"}}
	for _, tc := range []struct {
		name string
		cfg  tokenexchange.Config
		want []string // empty: accepted
	}{
		{name: "key", cfg: tokenexchange.Config{AuthMethod: "private_key_jwt", ClientKey: p256}},
		{name: "no key", cfg: tokenexchange.Config{AuthMethod: "private_key_jwt"}, want: []string{"ClientKey: expected a private key, got nothing"}},
		{name: "key and secret", cfg: tokenexchange.Config{AuthMethod: "private_key_jwt", ClientKey: p256, ClientSecret: "MARKED"}, want: []string{`ClientSecret: expected nothing with AuthMethod "private_key_jwt"`}},
		{name: "key without its method", cfg: tokenexchange.Config{ClientKey: p256, ClientSecret: "MARKED"}, want: []string{`ClientKey: expected nothing with AuthMethod "client_secret_basic"`}},
		{name: "details of a key without its method", cfg: tokenexchange.Config{ClientSecret: "MARKED", ClientKeyID: "k", ClientKeyAlgorithm: "PS256", AssertionAudience: "a"},
			want: []string{"ClientKeyID", "ClientKeyAlgorithm", "AssertionAudience"}},
		{name: "another curve", cfg: tokenexchange.Config{AuthMethod: "private_key_jwt", ClientKey: p384}, want: []string{"P-256"}},
		{name: "RejectsSmallRSAKey", cfg: tokenexchange.Config{AuthMethod: "private_key_jwt", ClientKey: small}, want: []string{"2048 bits or more, got 1024"}},
		{name: "no key at all", cfg: tokenexchange.Config{AuthMethod: "private_key_jwt", ClientKey: odd}, want: []string{"ClientKey: expected an ECDSA, RSA or Ed25519 key, got one of type string"}},
		{name: "algorithm of another key", cfg: tokenexchange.Config{AuthMethod: "private_key_jwt", ClientKey: p256, ClientKeyAlgorithm: "PS256"}, want: []string{`ClientKeyAlgorithm: expected nothing or "ES256"`}},
		{name: "RejectsAlgorithmNone", cfg: tokenexchange.Config{AuthMethod: "private_key_jwt", ClientKey: rsa2048, ClientKeyAlgorithm: "none"}, want: []string{`expected nothing or "RS256" with this ClientKey, got "none"`}},
		{name: "file that is missing", cfg: tokenexchange.Config{AuthMethod: tokenexchange.AuthAssertionFile, AssertionFile: "/nonexistent/token"}, want: []string{"AssertionFile", "/nonexistent/token"}},
		{name: "no file", cfg: tokenexchange.Config{AuthMethod: tokenexchange.AuthAssertionFile}, want: []string{"AssertionFile: expected the path of a file, got nothing"}},
		{name: "mutual TLS", cfg: tokenexchange.Config{AuthMethod: "tls_client_auth", Transport: &http.Transport{}}},
		{name: "mutual TLS without certificate", cfg: tokenexchange.Config{AuthMethod: "tls_client_auth"}, want: []string{"Transport: expected one that has the client certificate"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.cfg.Endpoint, tc.cfg.ClientID = "https://sts.example/token", "c"
			_, err := tokenexchange.New(tc.cfg)
			if (err == nil) != (len(tc.want) == 0) {
				t.Fatalf("got %v, want %q", err, tc.want)
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "MARKED") {
					t.Errorf("got %v, want %q in it and no secret", err, want)
				}
			}
		})
	}
}

// TestAssertionIsWithheldFromErrors: a service that sends it back must not get it into a log.
func TestAssertionIsWithheldFromErrors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte("header-of-the.assertion-in-the.file"), 0o600); err != nil {
		t.Fatal(err)
	}
	client := newClient(t, func(w http.ResponseWriter, r *http.Request) {
		answer(401, "application/json", `{"error":"invalid_client","error_description":"`+r.PostFormValue("client_assertion")+`"}`)(w, r)
	}, func(c *tokenexchange.Config) {
		c.AuthMethod, c.ClientSecret, c.AssertionFile = tokenexchange.AuthAssertionFile, "", path
	})
	_, err := client.Exchange(t.Context(), tokenexchange.Request{SubjectToken: "subject-token-0001"})
	var refused *tokenexchange.Error
	if !errors.As(err, &refused) || strings.Contains(refused.Description, "assertion-in-the") {
		t.Errorf("got %+v, want a refusal that quotes no assertion", refused)
	}
}
