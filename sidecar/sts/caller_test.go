package sts_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"phantomtoken/internal/keyring"
	"phantomtoken/sidecar/caller"
	"phantomtoken/sidecar/sts"
	"phantomtoken/tokenexchange"
)

const (
	cluster  = "https://kubernetes.default.svc"
	spiffeID = "spiffe://example.com/ns/mcp/sa/server"
)

// everyMethod has a caller for each method of authentication; JWKS stands for a file.
const everyMethod = `version: 1
audiences: {https://api.demo.example: {scopes: [stocks/read]}}
callers:
  secret:
    subject_audience: https://mcp.internal.example
    authentication: {secret_variables: [MCP_SECRET]}
    audiences: &one {https://api.demo.example: {scopes: [stocks/read]}}
  signer:
    subject_audience: https://mcp.internal.example
    authentication: {private_key_jwt: {jwks_file: JWKS}}
    audiences: *one
  workload:
    subject_audience: https://mcp.internal.example
    authentication: {mtls: {spiffe_id: spiffe://example.com/ns/mcp/sa/server}}
    audiences: *one
  pod:
    subject_audience: https://mcp.internal.example
    authentication: {kubernetes: {namespace: mcp, service_account: server}}
    audiences: *one
`

// TestEveryMethodOfCallerAuthentication goes through TLS with the client of package
// tokenexchange, so that both sides speak the same. Package caller has the details.
func TestEveryMethodOfCallerAuthentication(t *testing.T) {
	folder := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	signerKey, signer := newPrivate(t)
	clusterKey, clusterRing := newPrivate(t)
	authority, certificate := newCertificate(t)

	w := newWorld(t, func(w *world, p *parts) {
		p.policy = strings.Replace(everyMethod, "JWKS", file("jwks.json", string(signer.JWKS())), 1)
		p.tls = &tls.Config{MinVersion: tls.VersionTLS12, ClientCAs: authority, ClientAuth: tls.VerifyClientCertIfGiven, Time: w.now}
		w.url = strings.Replace(w.url, "http://", "https://", 1)
		p.exchange.Issuer, p.service.Issuer = w.url, w.url
		p.callers.Issuer, p.callers.TokenEndpoint = w.url, sts.TokenEndpoint(w.url)
		p.callers.Kubernetes = &caller.Kubernetes{Issuer: cluster, Keys: clusterRing}
	})
	account := file("token", signTyped(t, clusterKey, map[string]any{"alg": "ES256", "kid": clusterRing.SigningKeyID()}, map[string]any{
		"iss": cluster, "sub": "system:serviceaccount:mcp:server", "aud": []string{w.url},
		"iat": w.now().Unix(), "exp": w.now().Add(time.Hour).Unix(),
	}))
	roots := x509.NewCertPool()
	roots.AddCert(w.server.Certificate())

	for _, tc := range []struct {
		name   string
		cfg    tokenexchange.Config
		caller string
		method string // in the audit line, where it differs
	}{
		{name: "client_secret_basic", caller: "secret", cfg: tokenexchange.Config{ClientSecret: mcpSecret}},
		{name: "client_secret_post", caller: "secret", cfg: tokenexchange.Config{ClientSecret: mcpSecret, AuthMethod: tokenexchange.AuthPost}},
		{name: "private_key_jwt", caller: "signer", cfg: tokenexchange.Config{
			AuthMethod: tokenexchange.AuthPrivateKeyJWT, ClientKey: signerKey, ClientKeyID: signer.SigningKeyID(),
		}},
		{name: "tls_client_auth", caller: "workload", cfg: tokenexchange.Config{AuthMethod: tokenexchange.AuthTLS}},
		{name: "service account of Kubernetes", caller: "pod", method: "kubernetes", cfg: tokenexchange.Config{
			AuthMethod: tokenexchange.AuthAssertionFile, AssertionFile: account,
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, Time: w.now}
			if tc.caller == "workload" {
				config.Certificates = []tls.Certificate{certificate}
			}
			transport := &http.Transport{TLSClientConfig: config}
			defer transport.CloseIdleConnections()
			cfg := tc.cfg
			cfg.Endpoint, cfg.ClientID, cfg.Transport, cfg.Now = sts.TokenEndpoint(w.url), tc.caller, transport, w.now
			client, err := tokenexchange.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			res, err := client.Exchange(t.Context(), tokenexchange.Request{
				SubjectToken: w.mint(nil), Audience: []string{apiAudience}, Scope: []string{"stocks/read"},
			})
			if err != nil {
				t.Fatal(err)
			}
			if claims := claimsOf(t, res.AccessToken); claims["client_id"] != tc.caller || claims["aud"] != apiAudience {
				t.Errorf("got %v, want a token of %s", claims, tc.caller)
			}
			lines := w.lines()
			method := tc.name
			if tc.method != "" {
				method = tc.method
			}
			if line := lines[len(lines)-1]; line["caller"] != tc.caller || line["caller_authentication"] != method {
				t.Errorf("audit line: got %v, want %s by %s", line, tc.caller, method)
			}
		})
	}

	t.Run("metadata", func(t *testing.T) {
		var got struct {
			Methods    []string `json:"token_endpoint_auth_methods_supported"`
			Algorithms []string `json:"token_endpoint_auth_signing_alg_values_supported"`
		}
		document := w.serve(http.MethodGet, "/.well-known/oauth-authorization-server")
		if err := json.Unmarshal(document, &got); err != nil {
			t.Fatal(err)
		}
		if want := []string{"client_secret_basic", "client_secret_post", "private_key_jwt", "tls_client_auth"}; !reflect.DeepEqual(got.Methods, want) {
			t.Errorf("methods: got %q, want %q", got.Methods, want)
		}
		if want := []string{"ES256", "RS256", "PS256", "EdDSA"}; !reflect.DeepEqual(got.Algorithms, want) {
			t.Errorf("algorithms: got %q, want %q", got.Algorithms, want)
		}
	})
}

// newCertificate is the certificate of a workload and the authority that vouches for it.
func newCertificate(t *testing.T) (*x509.CertPool, tls.Certificate) {
	t.Helper()
	id, err := url.Parse(spiffeID)
	if err != nil {
		t.Fatal(err)
	}
	newKey := func() *ecdsa.PrivateKey {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	issue := func(template, parent *x509.Certificate, key, by *ecdsa.PrivateKey) *x509.Certificate {
		template.NotBefore, template.NotAfter = start.Add(-time.Hour), start.Add(24*time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
		if err != nil {
			t.Fatal(err)
		}
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return certificate
	}
	rootKey, leafKey := newKey(), newKey()
	rootTemplate := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	root := issue(rootTemplate, rootTemplate, rootKey, rootKey)
	leaf := issue(&x509.Certificate{
		SerialNumber: big.NewInt(2), BasicConstraintsValid: true, URIs: []*url.URL{id},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, root, leafKey, rootKey)
	pool := x509.NewCertPool()
	pool.AddCert(root)
	return pool, tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: leafKey}
}

// TestCallersAreReplacedWhileRequestsRun: a request that is being answered ends with the old
// callers, the next one meets the new ones, and the metadata speaks of them.
func TestCallersAreReplacedWhileRequestsRun(t *testing.T) {
	const newSecret = "MARKED-NEW-SECRET-of-mcp-server"
	asked, proceed := make(chan struct{}), make(chan struct{})
	w := newWorld(t, func(w *world, p *parts) {
		p.exchange.Subject.Keys = slowKeys{w.gateway, asked, proceed}
	})
	before := string(w.serve(http.MethodGet, "/.well-known/oauth-authorization-server"))

	running := make(chan answer, 1)
	form := w.form(nil)
	go func() { running <- w.post(form) }()
	<-asked

	text := fmt.Sprintf("%s  signer:\n    subject_audience: x\n    authentication: {kubernetes: {namespace: mcp, service_account: server}}\n", usual)
	w.parts.callers.Lookup = func(variable string) (string, bool) {
		if variable == "MCP_SECRET" {
			return newSecret, true
		}
		return lookup(variable)
	}
	_, clusterKeys := newPrivate(t)
	w.parts.callers.Kubernetes = &caller.Kubernetes{Issuer: cluster, Keys: clusterKeys}
	w.service.UseCallers(w.newCallers(parsePolicy(t, text)))

	if a := w.post(w.form(nil)); a.status != 401 {
		t.Errorf("the old secret after the change: got %d %s, want 401", a.status, a.body)
	}
	close(proceed)
	if a := <-running; a.status != 200 {
		t.Errorf("the request that was running: got %d %s, want 200", a.status, a.body)
	}
	r := w.request(w.form(nil).Encode())
	setBasic(r, mcpServer, newSecret)
	if a := w.do(r); a.status != 200 {
		t.Errorf("the new secret: got %d %s, want 200", a.status, a.body)
	}
	after := string(w.serve(http.MethodGet, "/.well-known/oauth-authorization-server"))
	if strings.Contains(before, "private_key_jwt") || !strings.Contains(after, "private_key_jwt") {
		t.Errorf("metadata before: %s\nafter: %s\nwant private_key_jwt only after", before, after)
	}
}

// TestCallerThatThePolicyDoesNotKnow: between two reloads the callers may be ahead of the
// policy. Nothing is issued.
func TestCallerThatThePolicyDoesNotKnow(t *testing.T) {
	w := newWorld(t, nil)
	w.service.UseCallers(w.newCallers(parsePolicy(t, strings.ReplaceAll(usual, "mcp-server", "newcomer"))))
	r := w.request(w.form(nil).Encode())
	setBasic(r, "newcomer", mcpSecret)
	if a := w.do(r); a.status != 400 || a.err.Code != "unauthorized_client" {
		t.Errorf("got %d %s, want 400 unauthorized_client", a.status, a.body)
	}
}

// TestRejectsSecondUseOfAssertion through the endpoint: the memory of used assertions
// outlives a change of callers.
func TestRejectsSecondUseOfAssertion(t *testing.T) {
	key, ring := newPrivate(t)
	path := filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(path, ring.JWKS(), 0o600); err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(usual, "{secret_variables: [MCP_SECRET]}", "{private_key_jwt: {jwks_file: "+path+"}}", 1)
	w := newWorld(t, func(_ *world, p *parts) { p.policy = text })
	assertion := signTyped(t, key, map[string]any{"alg": keyring.ES256, "kid": ring.SigningKeyID()}, map[string]any{
		"iss": mcpServer, "sub": mcpServer, "aud": w.url, "jti": "one", "exp": w.now().Add(time.Minute).Unix(),
	})
	post := func() answer {
		r := w.request(w.form(func(f url.Values) {
			f.Set("client_assertion", assertion)
			f.Set("client_assertion_type", tokenexchange.ClientAssertionTypeJWT)
		}).Encode())
		r.Header.Del("Authorization")
		return w.do(r)
	}
	if a := post(); a.status != 200 {
		t.Fatalf("got %d %s, want 200", a.status, a.body)
	}
	if a := post(); a.status != 401 || a.err.Code != "invalid_client" {
		t.Errorf("the second use: got %d %s, want 401 invalid_client", a.status, a.body)
	}
	w.service.UseCallers(w.newCallers(parsePolicy(t, text)))
	if a := post(); a.status != 401 {
		t.Errorf("the second use with new callers: got %d %s, want 401", a.status, a.body)
	}
	if strings.Contains(w.log.String(), assertion) {
		t.Error("the assertion is in the log")
	}
}
