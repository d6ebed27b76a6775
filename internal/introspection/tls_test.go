package introspection_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"phantomtoken/internal/introspection"
)

// authority issues certificates for servers on loopback.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CANARY-authority"},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(48 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	return &authority{cert: sign(t, template, template, &key.PublicKey, key), key: key}
}

func sign(t testing.TB, template, parent *x509.Certificate, public *ecdsa.PublicKey, by *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, by)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// issue returns a server certificate for 127.0.0.1, after change.
func (a *authority) issue(t testing.TB, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "CANARY-server"},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if change != nil {
		change(template)
	}
	cert := sign(t, template, a.cert, &key.PublicKey, a.key)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

// Covers: IN-05
func TestTLS(t *testing.T) {
	ours := newAuthority(t)
	for _, tt := range []struct {
		name   string
		server *tls.Config
		cas    *x509.CertPool
		skip   bool
		ok     bool
		hint   string
	}{
		{name: "own authority is accepted", server: &tls.Config{Certificates: []tls.Certificate{ours.issue(t, nil)}}, cas: ours.pool(), ok: true},
		{name: "RejectsSelfSigned", server: &tls.Config{Certificates: []tls.Certificate{ours.issue(t, nil)}}, hint: "introspection.ca_file"},
		{name: "RejectsOtherAuthority", server: &tls.Config{Certificates: []tls.Certificate{newAuthority(t).issue(t, nil)}}, cas: ours.pool(), hint: "introspection.ca_file"},
		{name: "RejectsExpired", server: &tls.Config{Certificates: []tls.Certificate{ours.issue(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) })}}, cas: ours.pool(), hint: "expired"},
		{name: "RejectsOtherHost", server: &tls.Config{Certificates: []tls.Certificate{ours.issue(t, func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"idp.example"} })}}, cas: ours.pool(), hint: "another host"},
		{name: "RejectsCertificateOfClient", server: &tls.Config{Certificates: []tls.Certificate{ours.issue(t, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })}}, cas: ours.pool(), hint: "not acceptable"},
		{name: "RejectsTLS11", server: &tls.Config{Certificates: []tls.Certificate{ours.issue(t, nil)}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, cas: ours.pool()},
		{name: "endpoint that wants a client certificate", server: &tls.Config{Certificates: []tls.Certificate{ours.issue(t, nil)}, ClientAuth: tls.RequireAnyClientCert}, cas: ours.pool(), hint: "alert"},
		{name: "not verified when told so", server: &tls.Config{Certificates: []tls.Certificate{ours.issue(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) })}}, skip: true, ok: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := newEndpoint(t, json200(`{"active":true}`))
			e.TLS = tt.server.Clone()
			e.EnableHTTP2 = true
			e.StartTLS()
			var lines logs
			c := newClient(t, introspection.Config{Endpoint: e.URL, CAs: tt.cas, InsecureSkipVerify: tt.skip, Logger: lines.logger()})
			got, err := c.Introspect(t.Context(), "token")
			if warned := strings.Contains(lines.String(), "level=WARN"); warned != tt.skip {
				t.Errorf("warned: got %v, want %v; log %q", warned, tt.skip, lines.String())
			}
			if tt.ok {
				if err != nil || !got.Introspection.Active {
					t.Fatalf("got %v, %v, want active", got, err)
				}
				if proto := e.asked()[0].proto; proto != "HTTP/1.1" {
					t.Errorf("got %s, want HTTP/1.1", proto)
				}
				return
			}
			wantKind(t, got, err, introspection.KindTLS)
			if !strings.Contains(err.Error(), tt.hint) || strings.Contains(err.Error(), "CANARY") {
				t.Errorf("got %q, want it to name %q and nothing from the certificate", err, tt.hint)
			}
			if n := len(e.asked()); n != 0 {
				t.Errorf("the endpoint was asked %d times, want never", n)
			}
		})
	}
}

func TestHTTPSToAServerOfPlainHTTP(t *testing.T) {
	e := start(t, json200(`{"active":true}`))
	c := newClient(t, introspection.Config{Endpoint: strings.Replace(e.URL, "http://", "https://", 1)})
	got, err := c.Introspect(t.Context(), "token")
	wantKind(t, got, err, introspection.KindTLS)
	if !strings.Contains(err.Error(), "does not speak TLS") {
		t.Errorf("got %q, want the cause named", err)
	}
}

// A certificate that cannot be trusted now will not be trusted in a second, but neither
// does it mean that the endpoint is down: the circuit stays as it is.
func TestTLSFailuresDoNotOpenTheCircuit(t *testing.T) {
	e := newEndpoint(t, json200(`{"active":true}`))
	e.StartTLS()
	c := newClient(t, introspection.Config{Endpoint: e.URL, Now: newClock().now})
	var texts [][]byte
	for range 10 {
		got, err := c.Introspect(t.Context(), "token")
		wantKind(t, got, err, introspection.KindTLS)
		texts = append(texts, []byte(err.Error()))
	}
	for _, text := range texts {
		if !bytes.Equal(text, texts[0]) {
			t.Errorf("got %q and %q, want the same each time", text, texts[0])
		}
	}
}
