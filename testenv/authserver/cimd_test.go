package authserver_test

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"phantomtoken/testenv/authserver"
)

// documentHost serves client metadata documents over TLS on loopback.
type documentHost struct {
	*httptest.Server
	fetches atomic.Int32
	answer  atomic.Pointer[http.HandlerFunc]
}

func newDocumentHost(t *testing.T) *documentHost {
	t.Helper()
	h := &documentHost{}
	h.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.fetches.Add(1)
		(*h.answer.Load())(w, r)
	}))
	t.Cleanup(h.Close)
	h.serve("application/json", h.document(""))
	return h
}

func (h *documentHost) id() string   { return h.URL + "/oauth/client.json" }
func (h *documentHost) host() string { return strings.TrimPrefix(h.URL, "https://") }

func (h *documentHost) document(more string) string {
	return fmt.Sprintf(`{"client_id":%q,"client_name":"Example Agent","redirect_uris":[%q],"token_endpoint_auth_method":"none","grant_types":["authorization_code","refresh_token"]%s}`, h.id(), callback, more)
}

func (h *documentHost) handle(f http.HandlerFunc) { h.answer.Store(&f) }

func (h *documentHost) serve(contentType, body string) {
	h.handle(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		fmt.Fprint(w, body)
	})
}

// trusting lets the server fetch from this host although it is on loopback.
func (h *documentHost) trusting(c *authserver.Config) {
	pool := x509.NewCertPool()
	pool.AddCert(h.Certificate())
	c.ClientMetadataCAs = pool
	c.ClientMetadataHosts = []string{h.host()}
}

func TestClientMetadataDocument(t *testing.T) {
	h := newDocumentHost(t)
	s := start(t, h.trusting)
	b := s.browser()
	page := b.signIn(b.authorize(authorization(h.id())))
	for _, want := range []string{"Example Agent", "published by " + h.host()} {
		if !strings.Contains(page.body, want) {
			t.Errorf("consent page lacks %q\n%s", want, page.body)
		}
	}
	code := location(t, b.submit(page, url.Values{"accept": {"yes"}})).Get("code")
	a := s.post("/token", redemption(h.id(), code))
	if a.status != http.StatusOK {
		t.Fatalf("token: got %d\n%s", a.status, a.body)
	}
	got := s.introspect(a.object(t)["access_token"].(string)).object(t)
	if got["client_id"] != h.id() || got["client_type"] != "mcp" || got["client_assurance_level"] != 1.0 {
		t.Errorf("introspection: got %v", got)
	}
	if n := h.fetches.Load(); n != 1 {
		t.Errorf("the document was fetched %d times, want once", n)
	}
	s.clock.Step(5 * time.Minute)
	s.browser().authorize(authorization(h.id()))
	if n := h.fetches.Load(); n != 2 {
		t.Errorf("after its lifetime the document was fetched %d times, want twice", n)
	}

	t.Run("loopback port chosen later", func(t *testing.T) {
		if a := s.browser().authorize(with(authorization(h.id()), "redirect_uri", "http://127.0.0.1:50001/callback")); a.status != http.StatusOK {
			t.Errorf("got %d", a.status)
		}
	})
	t.Run("RejectsRedirectToUnregisteredURI", func(t *testing.T) {
		wantPage(t, s.browser().authorize(with(authorization(h.id()), "redirect_uri", "https://evil.example/cb")), http.StatusBadRequest)
	})
}

// TestClientMetadataDocumentRefused serves documents that must not make a client.
func TestClientMetadataDocumentRefused(t *testing.T) {
	h := newDocumentHost(t)
	s := start(t, h.trusting)
	fixed := func(contentType, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			fmt.Fprint(w, body)
		}
	}
	good := h.document("")
	tests := []struct {
		name   string
		answer http.HandlerFunc
		want   string
	}{
		{"RejectsDocumentOfAnotherClient", fixed("application/json", strings.Replace(good, "client.json", "other.json", 1)), "its own URL"},
		{"RejectsClientIDWithAddedSlash", fixed("application/json", strings.Replace(good, "client.json", "client.json/", 1)), "its own URL"},
		{"RejectsClientIDInOtherCase", fixed("application/json", strings.Replace(good, "client.json", "Client.json", 1)), "its own URL"},
		{"no client_id", fixed("application/json", `{"redirect_uris":["`+callback+`"]}`), "its own URL"},
		{"client_id twice", fixed("application/json", h.document(`,"client_id":"https://evil.example/x"`)), "members occur once"},
		{"not JSON", fixed("application/json", "<html>"), "JSON object"},
		{"HTML", fixed("text/html", good), "content type"},
		{"no content type", fixed("", good), "content type"},
		{"RejectsSharedSecret", fixed("application/json", h.document(`,"client_secret":"x"`)), "client_secret"},
		{"RejectsSecretMethod", fixed("application/json", strings.Replace(good, `"none"`, `"client_secret_basic"`, 1)), "expected none"},
		{"private_key_jwt", fixed("application/json", strings.Replace(good, `"none"`, `"private_key_jwt"`, 1)), "token_endpoint_auth_method"},
		{"no redirect URI", fixed("application/json", strings.Replace(good, callback, "", 1)), "redirect_uris"},
		{"plain http redirect URI", fixed("application/json", strings.Replace(good, callback, "http://app.example/cb", 1)), "redirect_uris"},
		{"RejectsClientCredentials", fixed("application/json", strings.Replace(good, "refresh_token", "client_credentials", 1)), "grant_types"},
		{"RejectsLargeDocument", fixed("application/json", h.document(`,"x":"`+strings.Repeat("a", 20<<10)+`"`)), "bytes"},
		{"RejectsRedirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere.json", http.StatusFound)
		}, "got 302"},
		{"missing", func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) }, "got 404"},
		{"failing", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }, "got 500"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h.handle(tt.answer)
			before := h.fetches.Load()
			a := s.browser().authorize(authorization(h.id()))
			wantPage(t, a, http.StatusBadRequest)
			if !strings.Contains(a.body, tt.want) {
				t.Errorf("the page does not say %q\n%s", tt.want, a.body)
			}
			if n := h.fetches.Load() - before; n != 1 {
				t.Errorf("fetched %d times, want once", n)
			}
		})
	}
	t.Run("a failure is not remembered", func(t *testing.T) {
		h.serve("application/oauth-client+json", good)
		if a := s.browser().authorize(authorization(h.id())); a.status != http.StatusOK {
			t.Errorf("got %d\n%s", a.status, a.body)
		}
	})
}

func TestClientMetadataDocumentTimeout(t *testing.T) {
	h := newDocumentHost(t)
	s := start(t, h.trusting)
	s.SetDocumentTimeout(50 * time.Millisecond)
	h.handle(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	a := s.browser().authorize(authorization(h.id()))
	wantPage(t, a, http.StatusBadRequest)
	if !strings.Contains(a.body, "cannot be fetched") {
		t.Errorf("got\n%s", a.body)
	}
}

// TestClientMetadataFetchesAreBounded holds every place for a fetch and looks whether one
// more waits until its browser gives up.
func TestClientMetadataFetchesAreBounded(t *testing.T) {
	h := newDocumentHost(t)
	s := start(t, h.trusting)
	arrived, release := make(chan struct{}), make(chan struct{})
	h.handle(func(http.ResponseWriter, *http.Request) {
		arrived <- struct{}{}
		<-release
	})
	done := make(chan struct{})
	for range 4 {
		go func() {
			defer func() { done <- struct{}{} }()
			resp, err := client(nil).Get(s.Issuer() + "/authorize?" + authorization(h.id()).Encode())
			if err == nil {
				resp.Body.Close()
			}
		}()
		<-arrived
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Issuer()+"/authorize?"+authorization(h.id()).Encode(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := client(nil).Do(req); err == nil {
		resp.Body.Close()
		t.Errorf("a fifth fetch got an answer: %d", resp.StatusCode)
	}
	if n := h.fetches.Load(); n != 4 {
		t.Errorf("got %d fetches at once, want 4", n)
	}
	close(release)
	for range 4 {
		<-done
	}
}

// TestClientIDMustBeSafeToFetch names URLs that the server must not fetch. None of them
// leaves the machine: the address is refused before anything is sent.
func TestClientIDMustBeSafeToFetch(t *testing.T) {
	h := newDocumentHost(t)
	plain := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { h.fetches.Add(1) }))
	defer plain.Close()
	port := h.host()[strings.LastIndex(h.host(), ":"):]

	tests := []struct {
		name string
		id   string
		want string
	}{
		{"RejectsLoopback", h.id(), "public address"},
		{"RejectsLocalhostName", "https://localhost" + port + "/client.json", "public address"},
		{"RejectsLoopbackIPv6", "https://[::1]" + port + "/client.json", "public address"},
		{"RejectsMappedLoopback", "https://[::ffff:127.0.0.1]" + port + "/client.json", "public address"},
		{"RejectsCloudMetadataAddress", "https://169.254.169.254/latest/meta-data/", "public address"},
		{"RejectsCloudMetadataAddressIPv6", "https://[fd00:ec2::254]/latest/", "public address"},
		{"RejectsPrivateAddress", "https://10.0.0.1/client.json", "public address"},
		{"RejectsUnspecified", "https://0.0.0.0" + port + "/client.json", "public address"},
		{"RejectsPlainHTTP", plain.URL + "/client.json", "expected https"},
		{"no path", "https://app.example", "a path"},
		{"root path", "https://app.example/", "a path"},
		{"fragment", "https://app.example/c#x", "fragment"},
		{"user information", "https://u:p@app.example/c", "user information"},
		{"dot segment", "https://app.example/a/../c", "dot segments"},
		{"encoded dot segment", "https://app.example/a/%2e%2e/c", "dot segments"},
		{"backslash", `https://app.example\@127.0.0.1/c`, "printable ASCII"},
		{"no host", "https:///c", "a host"},
		{"very long", "https://app.example/" + strings.Repeat("a", 3000), "a host"},
	}
	s := start(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := s.browser().authorize(authorization(tt.id))
			wantPage(t, a, http.StatusBadRequest)
			if !strings.Contains(a.body, tt.want) {
				t.Errorf("the page does not say %q\n%s", tt.want, a.body)
			}
		})
	}
	t.Run("RejectsCloudMetadataAddressOfTrustedHost", func(t *testing.T) {
		s := start(t, func(c *authserver.Config) { c.ClientMetadataHosts = []string{"169.254.169.254"} })
		wantPage(t, s.browser().authorize(authorization("http://169.254.169.254/latest/meta-data")), http.StatusBadRequest)
	})
	t.Run("RejectsFetchAtTokenEndpoint", func(t *testing.T) {
		wantError(t, s.post("/token", redemption(h.id(), "x")), http.StatusUnauthorized, "invalid_client")
	})
	if n := h.fetches.Load(); n != 0 {
		t.Errorf("%d requests arrived, want none", n)
	}
	t.Run("plain http from a trusted host", func(t *testing.T) {
		s := start(t, func(c *authserver.Config) { c.ClientMetadataHosts = []string{"127.0.0.1"} })
		if a := s.browser().authorize(authorization(plain.URL + "/client.json")); !strings.Contains(a.body, "content type") || h.fetches.Load() != 1 {
			t.Errorf("expected the document to be fetched\n%s", a.body)
		}
	})
}

func TestMayFetchFrom(t *testing.T) {
	tests := []struct {
		addr     string
		stranger bool
		trusted  bool
	}{
		{"93.184.216.34", true, true},
		{"2606:4700::1111", true, true},
		{"127.0.0.1", false, true},
		{"::1", false, true},
		{"10.1.2.3", false, true},
		{"172.16.0.1", false, true},
		{"192.168.1.1", false, true},
		{"fd12::1", false, true},
		{"100.64.0.1", false, true},
		{"198.18.0.1", false, true},
		{"240.0.0.1", false, true},
		{"255.255.255.255", false, true},
		{"64:ff9b::7f00:1", false, true},
		{"2002:7f00:1::", false, true},
		{"::ffff:10.0.0.1", false, true},
		{"::ffff:169.254.169.254", false, false},
		{"169.254.169.254", false, false},
		{"fe80::1", false, false},
		{"0.0.0.0", false, false},
		{"::", false, false},
		{"224.0.0.1", false, false},
		{"ff02::1", false, false},
	}
	for _, tt := range tests {
		addr := netip.MustParseAddr(tt.addr)
		if got := authserver.MayFetchFrom(addr, false); got != tt.stranger {
			t.Errorf("%s for a stranger: got %t, want %t", tt.addr, got, tt.stranger)
		}
		if got := authserver.MayFetchFrom(addr, true); got != tt.trusted {
			t.Errorf("%s for a trusted host: got %t, want %t", tt.addr, got, tt.trusted)
		}
	}
}
