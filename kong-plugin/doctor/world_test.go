package doctor_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"phantomtoken/internal/keyring"
	"phantomtoken/kong-plugin/doctor"
	"phantomtoken/testenv/authserver"
	"phantomtoken/testenv/kongtest"
)

var pluginBinary string

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "doctor")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	pluginBinary = filepath.Join(dir, "phantom-token")
	build := exec.Command("go", "build", "-o", pluginBinary, "phantomtoken/kong-plugin")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "building the plugin:", err)
		return 1
	}
	return m.Run()
}

// fault is what is planted between the doctor and a good stack. The zero value is none.
type fault struct {
	// gateway and server answer a request themselves and report that, or let it pass.
	gateway, server func(w http.ResponseWriter, r *http.Request) bool
	// spoil changes an answer of the gateway, spoilServer one of the authorization server.
	spoil, spoilServer func(a *spoiled)
	// config replaces texts of the plugin's configuration: old and new in turn.
	config []string
	// upstream is the MCP server; nil is a good one.
	upstream http.HandlerFunc
}

// spoiled is an answer that a fault may change.
type spoiled struct {
	path, method string
	status       *int
	header       http.Header
	body         *string
}

func (a *spoiled) replace(old, new string) {
	for name, values := range a.header {
		for i := range values {
			values[i] = strings.ReplaceAll(values[i], old, new)
		}
		a.header[name] = values
	}
	*a.body = strings.ReplaceAll(*a.body, old, new)
}

// world is a good stack: the real plugin behind the embedded gateway, and an authorization
// server, each behind a proxy in which a fault can be planted.
type world struct {
	url    string // of the MCP server, http
	secure string // the same over TLS, with rewritten URLs
	idp    *authserver.Server
	gw     *kongtest.Gateway
	yaml   func(config ...string) []byte
	log    *logBuffer

	planted     atomic.Pointer[fault]
	certificate atomic.Pointer[tls.Certificate]
	authority   *authority
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

const gatewaySecret = "the secret of the gateway"

func newWorld(t *testing.T) *world {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	w := &world{log: &logBuffer{}, authority: newAuthority(t)}
	w.planted.Store(&fault{})
	w.certificate.Store(w.authority.issue(t, certificateFor("127.0.0.1")))

	idpFront := httptest.NewUnstartedServer(nil)
	t.Cleanup(idpFront.Close)
	issuer := "http://" + idpFront.Listener.Addr().String()
	front := httptest.NewUnstartedServer(nil)
	t.Cleanup(front.Close)
	w.url = "http://" + front.Listener.Addr().String() + "/mcp"
	secure := httptest.NewUnstartedServer(nil)
	t.Cleanup(secure.Close)
	w.secure = "https://" + secure.Listener.Addr().String() + "/mcp"

	reserved, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	behind := reserved.Addr().String()
	if err := reserved.Close(); err != nil {
		t.Fatal(err)
	}
	w.idp, err = authserver.Start(ctx, authserver.Config{
		Issuer:    issuer,
		Listen:    behind,
		Users:     []authserver.User{{Name: "john.doe@demo.example", Password: "correct horse", Region: "USA"}},
		Clients:   []authserver.Client{{ID: "gateway", Secret: gatewaySecret}},
		Resources: []string{w.url, w.secure},
		Scopes:    []authserver.Scope{{Name: "stocks/read", Description: "Read"}, {Name: "stocks/trade", Description: "Trade"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.idp.Close() })

	upstream := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if h := w.planted.Load().upstream; h != nil {
			h(rw, r)
			return
		}
		rw.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(rw, `{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-06-18","capabilities":{},"serverInfo":{"name":"x","version":"1"}}}`)
	}))
	t.Cleanup(upstream.Close)

	key := filepath.Join(t.TempDir(), "key.json")
	if _, err := keyring.LoadOrCreate(key, "ES256"); err != nil {
		t.Fatal(err)
	}
	w.yaml = func(config ...string) []byte {
		return []byte(strings.NewReplacer(append(config,
			"INTROSPECTION", w.idp.IntrospectionEndpoint(), "ISSUER", issuer, "RESOURCE", w.url, "UPSTREAM", upstream.URL, "KEY", key, "SECRET", gatewaySecret,
		)...).Replace(`_format_version: "3.0"
services:
- name: mcp
  url: UPSTREAM
  plugins:
  - name: phantom-token
    config:
      introspection_endpoint: INTROSPECTION
      client_id: gateway
      client_secret: SECRET
      resource: RESOURCE
      authorization_servers: [ISSUER]
      scope: stocks/read
      token_cache_seconds: 0
      phantom_token:
        issuer: https://gw.example.com/phantom
        audience: https://mcp.internal.example
        signing_key_file: KEY
  routes:
  - name: mcp
    paths: ["/"]
    strip_path: false
`))
	}
	w.gw, err = kongtest.Start(ctx, kongtest.Config{
		YAML: w.yaml(), Plugins: map[string]string{"phantom-token": pluginBinary}, Log: w.log,
	})
	if err != nil {
		t.Fatalf("starting the gateway: %v\n%s", err, w.log)
	}
	t.Cleanup(func() {
		if err := w.gw.Close(); err != nil {
			t.Errorf("closing the gateway: %v", err)
		}
	})

	gateway := w.proxy(t, w.gw.URL(), func() (func(http.ResponseWriter, *http.Request) bool, func(*spoiled)) {
		f := w.planted.Load()
		return f.gateway, f.spoil
	})
	front.Config.Handler = gateway
	front.Start()
	quiet := log.New(io.Discard, "", 0)
	secure.Config.Handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		gateway.ServeHTTP(rw, r.WithContext(context.WithValue(r.Context(), secureKey{}, true)))
	})
	secure.Config.ErrorLog = quiet
	secure.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return &tls.Config{Certificates: []tls.Certificate{*w.certificate.Load()}}, nil
	}}
	secure.StartTLS()
	idpFront.Config.Handler = w.proxy(t, "http://"+behind, func() (func(http.ResponseWriter, *http.Request) bool, func(*spoiled)) {
		f := w.planted.Load()
		return f.server, f.spoilServer
	})
	idpFront.Start()
	return w
}

type secureKey struct{}

// proxy passes requests to a part of the stack, with the fault that is planted now.
func (w *world) proxy(t *testing.T, target string, planted func() (func(http.ResponseWriter, *http.Request) bool, func(*spoiled))) http.Handler {
	t.Helper()
	to, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(to)
	proxy.ErrorLog = log.New(io.Discard, "", 0)
	proxy.ModifyResponse = func(res *http.Response) error {
		b, err := io.ReadAll(res.Body)
		if err != nil {
			return err
		}
		body := string(b)
		a := &spoiled{path: res.Request.URL.Path, method: res.Request.Method, status: &res.StatusCode, header: res.Header, body: &body}
		if res.Request.Context().Value(secureKey{}) != nil {
			a.replace(strings.TrimSuffix(w.url, "/mcp"), strings.TrimSuffix(w.secure, "/mcp"))
		}
		if _, spoil := planted(); spoil != nil {
			spoil(a)
		}
		if res.Request.Method != http.MethodHead {
			res.Header.Set("Content-Length", strconv.Itoa(len(body)))
			res.ContentLength = int64(len(body))
		}
		res.Body = io.NopCloser(strings.NewReader(body))
		return nil
	}
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if answer, _ := planted(); answer != nil && answer(rw, r) {
			return
		}
		proxy.ServeHTTP(rw, r)
	})
}

// plant puts a fault into the stack.
func (w *world) plant(t *testing.T, f fault) {
	t.Helper()
	if err := w.gw.Reload(w.yaml(f.config...)); err != nil {
		t.Fatal(err)
	}
	w.planted.Store(&f)
}

func (w *world) visit(t *testing.T, cfg doctor.Config) *doctor.Report {
	t.Helper()
	if cfg.URL == "" {
		cfg.URL = w.url
	}
	report, err := doctor.Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func (w *world) token(g authserver.Grant) string {
	if g.Scope == "" {
		g.Scope = "stocks/read"
	}
	return w.idp.IssueToken(g)
}

// text is the report as people read it.
func text(t *testing.T, r *doctor.Report) string {
	t.Helper()
	var b bytes.Buffer
	if err := r.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// authority issues certificates.
type authority struct {
	key         *ecdsa.PrivateKey
	certificate *x509.Certificate
	pool        *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-24 * time.Hour * 365), NotAfter: time.Now().Add(24 * time.Hour * 365),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{key: key, certificate: certificate, pool: x509.NewCertPool()}
	a.pool.AddCert(certificate)
	return a
}

func certificateFor(host string) *x509.Certificate {
	c := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: host},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(90 * 24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ip := net.ParseIP(host); ip != nil {
		c.IPAddresses = []net.IP{ip}
	} else {
		c.DNSNames = []string{host}
	}
	return c
}

func (a *authority) issue(t *testing.T, template *x509.Certificate) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
