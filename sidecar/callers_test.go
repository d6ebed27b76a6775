package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwk"

	"phantomtoken/tokenexchange"
)

// authority signs certificates.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{key: newKey(t)}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.certificate, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *authority) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.certificate.Raw}))
}

// issue makes a certificate for a server (a DNS name) or a client (a SPIFFE id), in PEM with
// its key.
func (a *authority) issue(t testing.TB, dnsName, spiffeID string) (certificate, key string) {
	t.Helper()
	own := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if dnsName != "" {
		template.DNSNames = []string{dnsName}
	}
	if spiffeID != "" {
		id, err := url.Parse(spiffeID)
		if err != nil {
			t.Fatal(err)
		}
		template.URIs = []*url.URL{id}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, &own.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(own)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
}

// TestCallersWithoutSecrets: mutual TLS with a SPIFFE id and private_key_jwt, each with the
// client of the library, beside a health check over TLS.
//
// Covers: TX-07
func TestCallersWithoutSecrets(t *testing.T) {
	t.Parallel()
	const spiffe = "spiffe://example.com/ns/mcp/sa/server"
	ca := newAuthority(t)
	certificate, key := ca.issue(t, "localhost", "")
	assertionKey := newKey(t)
	kid, jwks := publicSet(t, assertionKey)
	text := strings.Replace(usual, "{secret_variables: [MCP_SERVER_SECRET]}", "{mtls: {spiffe_id: \""+spiffe+"\"}, private_key_jwt: {jwks_file: "+write(t, jwks)+"}}", 1)
	environ := environment(t, text, map[string]string{
		"TOKEN_EXCHANGE_ISSUER": "https://localhost:9200", "TOKEN_EXCHANGE_TLS_CERTIFICATE_FILE": write(t, certificate), "TOKEN_EXCHANGE_TLS_KEY_FILE": write(t, key),
		"TOKEN_EXCHANGE_TLS_CLIENT_CA_FILE": write(t, ca.pem()),
	})
	p := start(t, environ)
	roots := x509.NewCertPool()
	roots.AddCert(ca.certificate)
	transport := func(certificates ...tls.Certificate) *http.Transport {
		out := &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "tcp", p.address["token endpoint"])
			},
			TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: certificates},
		}
		t.Cleanup(out.CloseIdleConnections)
		return out
	}
	client := func(id string) tls.Certificate {
		certificate, key := ca.issue(t, "", id)
		pair, err := tls.X509KeyPair([]byte(certificate), []byte(key))
		if err != nil {
			t.Fatal(err)
		}
		return pair
	}
	for _, tc := range []struct {
		name string
		cfg  tokenexchange.Config
		good bool
	}{
		{name: "mutual TLS", cfg: tokenexchange.Config{AuthMethod: tokenexchange.AuthTLS, Transport: transport(client(spiffe))}, good: true},
		{name: "private_key_jwt", cfg: tokenexchange.Config{AuthMethod: tokenexchange.AuthPrivateKeyJWT, ClientKey: assertionKey, ClientKeyID: kid, Transport: transport()}, good: true},
		{name: "RejectsCertificateOfOtherName", cfg: tokenexchange.Config{AuthMethod: tokenexchange.AuthTLS, Transport: transport(client("spiffe://example.com/ns/mcp/sa/spy"))}},
		{name: "RejectsNoCertificate", cfg: tokenexchange.Config{AuthMethod: tokenexchange.AuthTLS, Transport: transport()}},
		{name: "RejectsAssertionOfOtherKey", cfg: tokenexchange.Config{AuthMethod: tokenexchange.AuthPrivateKeyJWT, ClientKey: newKey(t), ClientKeyID: kid, Transport: transport()}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.cfg.Endpoint, tc.cfg.ClientID = "https://localhost:9200/token", "mcp-server"
			client, err := tokenexchange.New(tc.cfg)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := client.Exchange(t.Context(), tokenexchange.Request{SubjectToken: mint(t, environ, nil), Audience: []string{api}}); (err == nil) != tc.good {
				t.Errorf("got error %v, want granted %t", err, tc.good)
			}
		})
	}
	environ = append(environ, "TOKEN_EXCHANGE_LISTEN="+p.address["token endpoint"])
	var out bytes.Buffer
	if status := run([]string{"-healthcheck"}, environ, &out, &out); status != exitOK {
		t.Errorf("health check over TLS: got %d, %s", status, &out)
	}
	p.signal(t, syscall.SIGHUP)
	p.used(t, 0, text)
	p.stop(t)
}

// publicSet is the JWK Set of the public half of a key, and its id in there.
func publicSet(t testing.TB, private *ecdsa.PrivateKey) (kid, jwks string) {
	t.Helper()
	key, err := jwk.FromRaw(&private.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	if err := key.Set("alg", "ES256"); err != nil {
		t.Fatal(err)
	}
	if err := jwk.AssignKeyID(key); err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(map[string]any{"keys": []any{key}})
	if err != nil {
		t.Fatal(err)
	}
	return key.KeyID(), string(data)
}

// TestUnreadableFiles: files that cannot be read are named with their setting, whether they
// hold keys, the policy or certificates.
func TestUnreadableFiles(t *testing.T) {
	loop := filepath.Join(t.TempDir(), "loop") // unreadable for root too
	if err := syscall.Symlink(loop, loop); err != nil {
		t.Fatal(err)
	}
	for variable, extra := range map[string]map[string]string{
		"TOKEN_EXCHANGE_POLICY_FILE":         nil,
		"TOKEN_EXCHANGE_SIGNING_KEY_FILE":    nil,
		"TOKEN_EXCHANGE_SUBJECT_KEY_FILES":   nil,
		"TOKEN_EXCHANGE_PUBLISHED_KEY_FILES": nil,
		"TOKEN_EXCHANGE_TLS_KEY_FILE":        {"TOKEN_EXCHANGE_TLS_CERTIFICATE_FILE": loop},
		"TOKEN_EXCHANGE_KUBERNETES_CA_FILE":  {"TOKEN_EXCHANGE_KUBERNETES_ISSUER": "https://k.example", "TOKEN_EXCHANGE_KUBERNETES_JWKS_URI": "https://k.example/keys"},
		"TOKEN_EXCHANGE_IDP_CA_FILE":         providerSettings(nil),
	} {
		t.Run(variable, func(t *testing.T) {
			change := map[string]string{variable: loop}
			maps.Copy(change, extra)
			want := variable + ": "
			if variable == "TOKEN_EXCHANGE_POLICY_FILE" {
				want = loop + ": "
			}
			var stdout, stderr bytes.Buffer
			if status := run([]string{"-check"}, environment(t, usual, change), &stdout, &stderr); status != exitUsage || !strings.Contains(stderr.String(), "\n"+want) {
				t.Errorf("got %d %s, want %d and %q", status, &stderr, exitUsage, want)
			}
		})
	}
}
