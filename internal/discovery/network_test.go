package discovery_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"phantomtoken/internal/discovery"
)

// TestCertificateTroubleIsToldApart: the three mistakes have three cures, and to name an
// authority cures one of them only.
func TestCertificateTroubleIsToldApart(t *testing.T) {
	const trust = "name its authority in introspection.ca_file"
	tests := []struct {
		name     string
		change   func(*x509.Certificate)
		internal bool // the issuer is reached by token.internal_url
		stranger bool // its authority is not named
		want     string
		not      string
	}{
		{"RejectsUnknownAuthority", nil, false, true, "the certificate comes from an unknown authority; " + trust, "check"},
		{"RejectsExpired", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) }, false, false,
			"the certificate has expired or is not valid yet; renew it, or check the clock", trust},
		{"RejectsNotYetValid", func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }, false, false,
			"the certificate has expired or is not valid yet; renew it, or check the clock", trust},
		{"RejectsOtherHost", func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"idp.example"} }, false, false,
			"the certificate is for another host; check token.issuer", trust},
		{"RejectsOtherInternalHost", func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"idp.example"} }, true, false,
			"the certificate is for another host; check token.internal_url", trust},
		{"RejectsCertificateOfClient", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }, false, false,
			"the certificate is not acceptable; " + trust, "expired"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			certificate, pool := issue(t, tt.change)
			server := httptest.NewUnstartedServer(http.NotFoundHandler())
			server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
			server.Config.ErrorLog = log.New(io.Discard, "", 0)
			server.StartTLS()
			t.Cleanup(server.Close)
			cfg := discovery.Config{Issuer: server.URL, CAs: pool}
			if tt.internal {
				cfg.Issuer, cfg.InternalURL = "https://login.example.com", server.URL
			}
			if tt.stranger {
				cfg.CAs = nil
			}
			_, err := newIssuer(t, cfg).TokenEndpoint(t.Context())
			if !errors.Is(err, discovery.ErrUnavailable) || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), tt.not) {
				t.Errorf("got %v, want %q and not %q", err, tt.want, tt.not)
			}
			if strings.Contains(err.Error(), "idp.example") {
				t.Errorf("error quotes the certificate: %v", err)
			}
		})
	}
}

// TestSlowMetadataNamesTheSetting: whether the fetch ends first or the patience of the caller.
//
// Covers: BC-15
func TestSlowMetadataNamesTheSetting(t *testing.T) {
	ended := make(chan struct{})
	h := startHost(t)
	t.Cleanup(func() { close(ended) })
	h.at(rfc8414, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-ended:
		}
	})
	const setting = "introspection.timeout_seconds"
	t.Run("Fetch", func(t *testing.T) {
		_, err := newIssuer(t, discovery.Config{Issuer: h.URL, Timeout: 20 * time.Millisecond}).TokenEndpoint(t.Context())
		if !errors.Is(err, discovery.ErrUnavailable) || !strings.Contains(err.Error(), "no complete answer within 20ms ("+setting) {
			t.Errorf("got %v, want what took too long and %s", err, setting)
		}
	})
	t.Run("Caller", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		_, err := newIssuer(t, discovery.Config{Issuer: h.URL}).TokenEndpoint(ctx)
		if !errors.Is(err, discovery.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "waiting for the metadata") || !strings.Contains(err.Error(), setting) {
			t.Errorf("got %v, want who was waited for and %s", err, setting)
		}
	})
	t.Run("CallerWentAway", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := newIssuer(t, discovery.Config{Issuer: h.URL}).TokenEndpoint(ctx)
		if !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), setting) {
			t.Errorf("got %v, want context.Canceled without %s", err, setting)
		}
	})
}

// TestHostThatCannotBeAskedNamesTheSetting: the one by which it is reached.
func TestHostThatCannotBeAskedNamesTheSetting(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := "http://" + l.Addr().String()
	_ = l.Close()
	babbler := startBabbler(t)
	for _, tt := range []struct {
		name string
		cfg  discovery.Config
		want string
	}{
		{"Refused", discovery.Config{Issuer: closed}, "connection refused; check token.issuer"},
		{"RefusedInside", discovery.Config{Issuer: "https://login.example.com", InternalURL: closed}, "connection refused; check token.internal_url"},
		{"NoHTTP", discovery.Config{Issuer: "http://" + babbler}, "expected an answer in HTTP, got something else; check token.issuer"},
		{"NoTLS", discovery.Config{Issuer: "https://" + babbler}, "the endpoint does not speak TLS; check token.issuer"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := newIssuer(t, tt.cfg).TokenEndpoint(t.Context())
			if !errors.Is(err, discovery.ErrUnavailable) || !strings.HasSuffix(err.Error(), tt.want) || strings.Contains(err.Error(), remoteMe) {
				t.Errorf("got %v, want %q at the end", err, tt.want)
			}
		})
	}
}

// startBabbler answers whoever connects with a line that is neither HTTP nor TLS.
func startBabbler(t *testing.T) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, remoteMe+"\n")
			_, _ = conn.Read(make([]byte, 4096)) // or the question would reset what was said
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	return l.Addr().String()
}

// issue returns a certificate for 127.0.0.1, after change, and the authority it comes from.
func issue(t *testing.T, change func(*x509.Certificate)) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	now := time.Now()
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority of the test"},
		NotBefore: now.Add(-24 * time.Hour), NotAfter: now.Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true,
	}
	server := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: now.Add(-2 * time.Hour), NotAfter: now.Add(2 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if change != nil {
		change(server)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, authority, authority, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	if der, err = x509.CreateCertificate(rand.Reader, server, root, key.Public(), key); err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(root)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}
