//go:build keycloak

package keycloak_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"phantomtoken/testenv"
	"phantomtoken/testenv/loopback"
	"phantomtoken/testenv/probe"
)

// badInput puts something between the gateway and Keycloak that goes wrong, with a good token
// in hand. The client must see trouble and never that its token is bad, the log must say what
// is wrong, and when it is mended the token is good, with nothing restarted. The gateway is
// told either the introspection endpoint or the issuer alone.
func badInput(t *testing.T, w *world) {
	token := w.freshToken(t, john)
	for _, tt := range []struct {
		name          string
		start         func(f *front, t *testing.T)
		introspection string   // a setting
		endpoint      []string // in the log, when the endpoint is configured
		issuer        []string // in the log, when the issuer is
	}{
		{"Slow", (*front).startSlow, "{timeout_seconds: 1}",
			[]string{"no complete answer from", "introspection.timeout_seconds"}, []string{"waiting for the metadata of token.issuer", "introspection.timeout_seconds"}},
		{"DownAtStart", (*front).startDown, "",
			[]string{"connection refused", "check introspection_endpoint"}, []string{"discovering token.issuer", "connection refused; check token.internal_url"}},
		{"LoginPageInFrontOfIt", startPage(http.StatusOK), "",
			[]string{"introspecting the access token", "check introspection_endpoint"}, []string{"expected metadata at one of", "check token.issuer"}},
		{"ErrorPageInFrontOfIt", startPage(http.StatusBadGateway), "",
			[]string{"502", "check introspection_endpoint"}, []string{"expected metadata at one of", "status 502"}},
		{"CertificateExpired", (*front).startExpired, `{ca_file: "CA_FILE"}`,
			[]string{"the certificate has expired or is not valid yet; renew it, or check the clock"}, []string{"discovering token.issuer", "the certificate has expired or is not valid yet; renew it, or check the clock"}},
	} {
		for _, way := range []string{"Endpoint", "Issuer"} {
			t.Run(tt.name+"/"+way, func(t *testing.T) {
				f := newFront(t, w.keycloak.URL())
				tt.start(f, t)
				words := tt.endpoint
				lines := []string{minted, "introspection_endpoint: " + f.url + "/realms/mcp/protocol/openid-connect/token/introspect"}
				if way == "Issuer" {
					words = tt.issuer
					lines = []string{minted, "introspection_endpoint: null", "token: {issuer: " + w.keycloak.Issuer() + ", internal_url: " + f.url + "}"}
				}
				if tt.introspection != "" {
					lines = append(lines, "introspection: "+f.expand(tt.introspection))
				}
				w.load(t, lines...)
				before := len(w.Log.String())
				_, arrived := w.upstream.Last()
				for range 2 {
					probe.WantTrouble(t, w.ask(t, token))
				}
				probe.WantLog(t, w.Log, before, append(words, "level=WARN", "status=503")...)
				if _, n := w.upstream.Last(); n != arrived {
					t.Error("a request reached the upstream")
				}
				f.mend()
				w.wantServed(t, token)
			})
		}
	}
}

// front stands in front of Keycloak, until it is mended in the way of what is wrong.
type front struct {
	url    string
	caFile string
	mend   func()

	proxy http.Handler
	well  atomic.Bool
	ended chan struct{} // closed at the end of the test
}

func newFront(t *testing.T, target string) *front {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{Proxy: nil}
	f := &front{ended: make(chan struct{}), proxy: &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(u) }, Transport: transport}}
	f.mend = func() { f.well.Store(true) }
	t.Cleanup(func() {
		close(f.ended)
		transport.CloseIdleConnections()
	})
	return f
}

// unless lets requests through once all is well, and gives the others to wrong.
func (f *front) unless(wrong http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if f.well.Load() {
			f.proxy.ServeHTTP(rw, r)
			return
		}
		wrong(rw, r)
	})
}

func (f *front) serve(t *testing.T, address string, h http.Handler) {
	t.Helper()
	server, err := loopback.Serve(address, h, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	f.url = server.URL()
}

// startSlow answers, but not while anybody waits.
func (f *front) startSlow(t *testing.T) {
	f.serve(t, "", f.unless(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // the server sees who goes away only when it has read
		select {
		case <-r.Context().Done():
		case <-f.ended:
		}
	}))
}

// startDown listens only when it is mended.
func (f *front) startDown(t *testing.T) {
	address, err := testenv.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	f.url = "http://" + address
	f.mend = func() { f.serve(t, address, f.proxy) }
}

// startPage has a page for people in the place of every answer.
func startPage(status int) func(*front, *testing.T) {
	return func(f *front, t *testing.T) {
		f.serve(t, "", f.unless(func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Type", "text/html; charset=utf-8")
			rw.WriteHeader(status)
			_, _ = io.WriteString(rw, "<!doctype html><title>Sign in</title><p>Please sign in to the network.")
		}))
	}
}

// startExpired speaks TLS with a certificate of yesterday, until it has a new one.
func (f *front) startExpired(t *testing.T) {
	a := newAuthority(t)
	expired := a.issue(t, time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour))
	renewed := a.issue(t, time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour))
	f.caFile = a.file
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			if f.well.Load() {
				return renewed, nil
			}
			return expired, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: f.proxy, ReadHeaderTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0)}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		_ = server.Close()
		<-served
	})
	f.url = "https://" + l.Addr().String()
}

// expand fills in what a setting leaves to the run.
func (f *front) expand(setting string) string {
	return strings.ReplaceAll(setting, "CA_FILE", f.caFile)
}

// authority issues certificates for 127.0.0.1. Its own is in a file.
type authority struct {
	file        string
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{file: filepath.Join(t.TempDir(), "ca.pem"), key: newKey(t)}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority of the test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.certificate, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(a.file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *authority) issue(t *testing.T, from, until time.Time) *tls.Certificate {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(from.Unix()), NotBefore: from, NotAfter: until,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
