package caller_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"phantomtoken/internal/keyring"
	"phantomtoken/sidecar/caller"
)

const (
	issuer        = "https://sts.example/tenant"
	tokenEndpoint = issuer + "/token"
	cluster       = "https://kubernetes.default.svc.cluster.local"
	assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

	mcpOldSecret = "MARKED-SECRET-of-mcp-server-old"
	mcpSecret    = "MARKED-SECRET-of-mcp-server-new"
	// oddID and oddSecret have everything that form-encoding changes.
	oddID     = "other+server:1"
	oddSecret = "MARKED+SECRET:of%other&ümlaut="

	spiffeID = "spiffe://example.com/ns/mcp/sa/server"
	dnsName  = "mcp.example.com"
)

var start = time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)

// clock moves when told.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// world is a token endpoint on loopback, over TLS, that says who asked.
type world struct {
	t      testing.TB
	clock  *clock
	log    *logBuffer
	cfg    caller.Config
	known  []caller.Caller
	replay *caller.Replay
	auth   *caller.Authenticator

	signer, remote, pods signer // keys of callers and of the cluster
	jwks                 *jwksServer

	ca    *authority
	files tlsFiles
	url   string
}

func newWorld(t testing.TB, change func(*world)) *world {
	t.Helper()
	folder := t.TempDir()
	w := &world{
		t:      t,
		clock:  &clock{now: start},
		log:    new(logBuffer),
		replay: caller.NewReplay(0, 0),
		signer: newSigner(t, "signer-1"),
		remote: newSigner(t, "remote-1"),
		pods:   newSigner(t, "cluster-1"),
		ca:     newAuthority(t),
	}
	w.jwks = newJWKSServer(t, w.remote)
	w.cfg = caller.Config{
		Issuer:        issuer,
		TokenEndpoint: tokenEndpoint,
		Kubernetes:    &caller.Kubernetes{Issuer: cluster, Keys: w.pods.public(t)},
		Lookup: func(name string) (string, bool) {
			v, ok := map[string]string{"OTHER_SECRET": oddSecret, "BROKEN": "line\nbreak in a MARKED secret"}[name]
			return v, ok
		},
		Now:    w.clock.Now,
		Logger: slog.New(slog.NewJSONHandler(w.log, nil)),
	}
	w.known = []caller.Caller{
		{ID: "mcp-server", SecretFiles: []string{
			writeFile(t, folder, "old", mcpOldSecret+"\n", 0o600), writeFile(t, folder, "new", mcpSecret+"\r\n", 0o600),
		}},
		{ID: oddID, SecretVariables: []string{"OTHER_SECRET"}},
		{ID: "signer", JWKSFile: writeFile(t, folder, "signer.jwks.json", w.signer.jwks(t), 0o644)},
		{ID: "remote", JWKSURI: w.jwks.url},
		{ID: "workload", SPIFFEID: spiffeID},
		{ID: "mesh", DNSName: dnsName},
		{ID: "pod", ServiceAccount: &caller.ServiceAccount{Namespace: "mcp", Name: "server"}},
		{ID: "nobody"},
	}
	for i := range w.known {
		w.known[i].Where = "callers." + w.known[i].ID + ".authentication"
	}
	if change != nil {
		change(w)
	}
	w.auth = w.new()
	w.serve()
	return w
}

// new makes an Authenticator of what the world knows, as a new policy would.
func (w *world) new() *caller.Authenticator {
	w.t.Helper()
	a, err := caller.New(w.cfg, w.known, w.replay)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(a.Close)
	return a
}

func (w *world) serve() {
	w.files = newTLSFiles(w.t, w.ca)
	config, _, err := caller.ServerTLS(caller.TLSConfig{
		CertFile: w.files.cert, KeyFile: w.files.key, ClientCAFile: w.files.clientCAs, Now: w.clock.Now,
		Logger: slog.New(slog.NewJSONHandler(w.log, nil)),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			rw.WriteHeader(http.StatusTeapot)
			return
		}
		identity, err := w.auth.Authenticate(r.Context(), r, r.PostForm)
		writeAnswer(rw, identity, err)
	}))
	server.TLS = config
	server.Config.ErrorLog = slog.NewLogLogger(slog.NewJSONHandler(w.log, nil), slog.LevelInfo)
	server.StartTLS()
	w.t.Cleanup(server.Close)
	w.url = server.URL
}

// answer is what the token endpoint of a world says.
type answer struct {
	Status      int    `json:"-"`
	Challenge   string `json:"-"`
	ID          string `json:"id"`
	Method      string `json:"method"`
	Error       string `json:"error"`
	Description string `json:"error_description"`
	Reason      string `json:"reason"`
}

func writeAnswer(rw http.ResponseWriter, identity caller.Identity, err error) {
	refusal := (*caller.Refusal)(nil)
	switch {
	case err == nil:
		_ = json.NewEncoder(rw).Encode(answer{ID: identity.ID, Method: identity.Method})
	case !errors.As(err, &refusal) || identity != (caller.Identity{}):
		rw.WriteHeader(http.StatusTeapot)
	default:
		if refusal.Challenge != "" {
			rw.Header().Set("WWW-Authenticate", refusal.Challenge)
		}
		rw.WriteHeader(refusal.Answer.Status)
		_ = json.NewEncoder(rw).Encode(answer{Error: refusal.Answer.Code, Description: refusal.Answer.Description, Reason: refusal.Reason})
	}
}

// request is a token request; each field but form may stay empty.
type request struct {
	form          url.Values
	authorization []string
	certificate   *tls.Certificate
}

func (w *world) client(certificate *tls.Certificate) *http.Client {
	config := &tls.Config{RootCAs: w.ca.pool(), Time: w.clock.Now}
	if certificate != nil {
		// Sent whether or not the server says that it knows the authority.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return certificate, nil }
	}
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
	w.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 10 * time.Second}
}

// send is post with a connection of its own, which must come about.
func (w *world) send(r request) answer {
	w.t.Helper()
	got, err := w.post(w.client(r.certificate), r)
	if err != nil {
		w.t.Fatal(err)
	}
	return got
}

// post sends r. Nothing that is secret may come back or be in the log.
func (w *world) post(client *http.Client, r request) (answer, error) {
	w.t.Helper()
	req, err := http.NewRequest(http.MethodPost, w.url+"/token", strings.NewReader(r.form.Encode()))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if r.authorization != nil {
		req.Header["Authorization"] = r.authorization
	}
	resp, err := client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	secret := []string{"MARKED"}
	if assertion := r.form.Get("client_assertion"); len(assertion) > 40 {
		secret = append(secret, assertion[len(assertion)-40:])
	}
	for _, s := range secret {
		if bytes.Contains(body, []byte(s)) || strings.Contains(w.log.String(), s) {
			w.t.Errorf("a credential in the answer or in the log: %s\n%s", body, w.log)
		}
	}
	got := answer{Status: resp.StatusCode, Challenge: resp.Header.Get("WWW-Authenticate")}
	if err := json.Unmarshal(body, &got); err != nil {
		w.t.Fatalf("status %d with %q: %v", resp.StatusCode, body, err)
	}
	return got, nil
}

// wantRefusal checks a refusal: its status, its code, its reason and a part of its text.
func wantRefusal(t testing.TB, got answer, status int, reason, text string) {
	t.Helper()
	code := map[int]string{400: "invalid_request", 401: "invalid_client", 503: "temporarily_unavailable"}[status]
	if got.Status != status || got.Error != code || got.Reason != reason || !strings.Contains(got.Description, text) || got.ID != "" {
		t.Errorf("got %+v\nwant status %d, %s, reason %s, text with %q", got, status, code, reason, text)
	}
	if (got.Challenge != "") != (status == 401) {
		t.Errorf("status %d with WWW-Authenticate %q", status, got.Challenge)
	}
}

func basic(id, secret string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(id)+":"+url.QueryEscape(secret)))
}

func asserted(assertion string) url.Values {
	return url.Values{"client_assertion_type": {assertionType}, "client_assertion": {assertion}}
}

// signer is a private key with its kid.
type signer struct {
	kid string
	alg jose.SignatureAlgorithm
	key crypto.Signer
}

func newSigner(t testing.TB, kid string) signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return signer{kid: kid, alg: jose.ES256, key: key}
}

// sign makes a JWT with a library that has nothing of ours.
func (s signer) sign(t testing.TB, typ string, claims map[string]any) string {
	t.Helper()
	return sign(t, jose.SigningKey{Algorithm: s.alg, Key: s.key}, s.kid, typ, claims)
}

func sign(t testing.TB, key jose.SigningKey, kid, typ string, claims map[string]any) string {
	t.Helper()
	options := (&jose.SignerOptions{}).WithHeader("kid", kid)
	if typ != "" {
		options.WithHeader("typ", typ)
	}
	made, err := jose.NewSigner(key, options)
	if err != nil {
		t.Fatal(err)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	jws, err := made.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	compact, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return compact
}

func (s signer) jwks(t testing.TB) string {
	t.Helper()
	data, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: s.key.Public(), KeyID: s.kid, Algorithm: string(s.alg), Use: "sig"}}})
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func (s signer) public(t testing.TB) keyring.PublicKeys {
	t.Helper()
	keys, err := keyring.ParsePublic([]byte(s.jwks(t)))
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// claims are those of a good assertion, changed.
func (w *world) claims(id string, change map[string]any) map[string]any {
	now := w.clock.Now()
	claims := map[string]any{
		"iss": id, "sub": id, "aud": issuer, "jti": rand.Text(),
		"iat": now.Unix(), "exp": now.Add(time.Minute).Unix(),
	}
	return changed(claims, change)
}

// podClaims are those of a projected service account token, changed.
func (w *world) podClaims(change map[string]any) map[string]any {
	now := w.clock.Now()
	claims := map[string]any{
		"iss": cluster, "sub": "system:serviceaccount:mcp:server", "aud": []string{issuer}, "jti": "33a4b02e-f4f4-4b0e-8a2d-8d2c5d1c2c55",
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Hour).Unix(),
		"kubernetes.io": map[string]any{
			"namespace":      "mcp",
			"pod":            map[string]any{"name": "server-7d9f", "uid": "5e0bd49b-f040-43b0-99b7-22765a53f7f3"},
			"serviceaccount": map[string]any{"name": "server", "uid": "14ee3fa4-a7e2-420f-9f9a-dbc4507c3798"},
		},
	}
	return changed(claims, change)
}

// changed sets claims, or removes those that are nil.
func changed(claims, change map[string]any) map[string]any {
	for name, value := range change {
		if value == nil {
			delete(claims, name)
		} else {
			claims[name] = value
		}
	}
	return claims
}

// jwksServer publishes keys, or fails.
type jwksServer struct {
	url  string
	mu   sync.Mutex
	body string
}

func newJWKSServer(t testing.TB, keys signer) *jwksServer {
	s := &jwksServer{body: keys.jwks(t)}
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.body == "" {
			rw.WriteHeader(http.StatusBadGateway)
			return
		}
		_, _ = io.WriteString(rw, s.body)
	}))
	t.Cleanup(server.Close)
	s.url = server.URL + "/jwks"
	return s
}

func (s *jwksServer) set(body string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.body = body
}

// authority issues certificates.
type authority struct {
	t    testing.TB
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{t: t, key: newSigner(t, "").key.(*ecdsa.PrivateKey)}
	template := &x509.Certificate{
		SerialNumber: serial(t), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: start.Add(-24 * time.Hour), NotAfter: start.Add(24 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return a
}

func serial(t testing.TB) *big.Int {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

func (a *authority) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}))
}

// issue signs a certificate for an hour, as change wants it.
func (a *authority) issue(change func(*x509.Certificate)) *tls.Certificate {
	a.t.Helper()
	key := newSigner(a.t, "").key.(*ecdsa.PrivateKey)
	template := &x509.Certificate{
		SerialNumber: serial(a.t), BasicConstraintsValid: true,
		NotBefore: start.Add(-time.Hour), NotAfter: start.Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	change(template)
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// names makes a certificate with these subject alternative names.
func names(dns []string, uris ...string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.DNSNames = dns
		for _, u := range uris {
			parsed, err := url.Parse(u)
			if err != nil {
				panic(err)
			}
			c.URIs = append(c.URIs, parsed)
		}
	}
}

// tlsFiles are the files of a TLS server.
type tlsFiles struct {
	t                    testing.TB
	cert, key, clientCAs string
}

func newTLSFiles(t testing.TB, ca *authority) tlsFiles {
	folder := t.TempDir()
	f := tlsFiles{t: t, cert: filepath.Join(folder, "cert.pem"), key: filepath.Join(folder, "key.pem"), clientCAs: filepath.Join(folder, "ca.pem")}
	f.write(serverCertificate(ca), ca.pem())
	return f
}

func serverCertificate(ca *authority) *tls.Certificate {
	return ca.issue(func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = []string{"localhost"}, loopback() })
}

func (f tlsFiles) write(cert *tls.Certificate, clientCAs string) {
	f.t.Helper()
	f.writeCert(cert)
	f.writeKey(cert)
	f.put(f.clientCAs, clientCAs)
}

func (f tlsFiles) writeCert(cert *tls.Certificate) {
	f.t.Helper()
	f.put(f.cert, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]})))
}

func (f tlsFiles) writeKey(cert *tls.Certificate) {
	f.t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		f.t.Fatal(err)
	}
	f.put(f.key, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})))
}

func (f tlsFiles) put(path, content string) {
	f.t.Helper()
	writeFile(f.t, filepath.Dir(path), filepath.Base(path), content, 0o600)
}

// writeFile replaces a file as a secret store does: by a new one of the same name.
func writeFile(t testing.TB, folder, name, content string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(folder, name)
	if err := os.WriteFile(path+".new", []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path+".new", mode); err != nil { // whatever the umask
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	return path
}

// logBuffer is a log that several goroutines write.
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

// decodedBasic reads an Authorization field by the request parser of net/http, which is not
// ours, and takes the form-encoding off.
func decodedBasic(field string) (id, secret string) {
	for strings.Contains(field, "  ") && strings.IndexByte(field, ' ') == strings.Index(field, "  ") {
		field = strings.Replace(field, "  ", " ", 1) // RFC 9110 §11.4 allows several blanks
	}
	r := &http.Request{Header: http.Header{"Authorization": {field}}}
	rawID, rawSecret, _ := r.BasicAuth()
	id, errID := url.QueryUnescape(rawID)
	secret, errSecret := url.QueryUnescape(rawSecret)
	if errID != nil || errSecret != nil {
		return "", ""
	}
	return id, secret
}

// verified is a connection whose client certificate the handshake verified.
func (a *authority) verified(change func(*x509.Certificate)) *tls.ConnectionState {
	leaf := a.issue(change).Leaf
	return &tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}, VerifiedChains: [][]*x509.Certificate{{leaf, a.cert}}}
}
