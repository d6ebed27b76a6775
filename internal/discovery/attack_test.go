package discovery_test

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"phantomtoken/internal/discovery"
)

// TestSplitHorizonSecretGoesToNobodyElse: the issuer's origin can be written in several
// ways. What is put in its place is never glued to a text that another host is read from.
//
// Covers: AS-03
func TestSplitHorizonSecretGoesToNobodyElse(t *testing.T) {
	const public = "https://login.example.com"
	tests := []struct{ name, endpoint, want string }{ // an empty want is a refusal
		{"SchemeInCapitals", "HTTPS://login.example.com/token", "/token"},
		{"HostInCapitals", "https://LOGIN.example.com/token?a=b%2Fc", "/token?a=b%2Fc"},
		{"EscapedPath", public + "/a%2Fb/token", "/a%2Fb/token"},
		{"RejectsUser", "https://evil.example@login.example.com/token", ""},
		{"RejectsUserAndPassword", "https://a:b@login.example.com/token", ""},
		{"RejectsFragment", public + "/token#x", ""},
		{"RejectsEmptyFragment", public + "/token#", ""},
		{"RejectsNoHost", "https:login.example.com/token", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := startHost(t)
			m := metadata(public, public)
			m["token_endpoint"] = tt.endpoint
			h.says(rfc8414, m)
			got, err := newIssuer(t, discovery.Config{Issuer: public, InternalURL: h.URL}).TokenEndpoint(t.Context())
			if tt.want == "" {
				if !errors.Is(err, discovery.ErrUnavailable) {
					t.Errorf("TokenEndpoint = %q, %v, want ErrUnavailable", got.URL, err)
				}
				return
			}
			if err != nil || got.URL != h.URL+tt.want {
				t.Errorf("TokenEndpoint = %q, %v, want %q", got.URL, err, h.URL+tt.want)
			}
		})
	}
}

// TestRejectsOriginGluedToInternalHost: an internal address without a port, behind which a
// whole URL was once appended and read as more of the host's name.
//
// Covers: AS-03
func TestRejectsOriginGluedToInternalHost(t *testing.T) {
	const public, internal = "https://login.example.com", "https://idp.internal"
	for _, tt := range []struct{ name, endpoint, want string }{
		{"SchemeInCapitals", "HTTPS://login.example.com/token", internal + "/token"},
		{"User", "https://evil@login.example.com/token", ""},
		{"UserThatIsAHost", "https://.evil.example@login.example.com/token", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := discovery.Location(public, internal, tt.endpoint)
			if got != tt.want || (err != nil) != (tt.want == "") {
				t.Errorf("got %q, %v, want %q", got, err, tt.want)
			}
		})
	}
}

// TestSecureIssuerCannotNamePlainEndpoints: metadata that came over https does not lead
// secrets and tokens to plain http, not even on this machine, where services listen that
// it has no business with. Only a host that the operator named is an exception.
//
// Covers: AS-02
func TestSecureIssuerCannotNamePlainEndpoints(t *testing.T) {
	tests := []struct {
		name, endpoint string
		hosts          []string
		refused        bool
	}{
		{"RejectsLoopbackAddress", "http://127.0.0.1:8001/token", nil, true},
		{"RejectsLoopbackName", "http://localhost:8001/token", nil, true},
		{"RejectsLoopbackBesideNamedHost", "http://[::1]:8001/token", []string{"kc"}, true},
		{"RejectsOtherPortOfNamedHost", "http://127.0.0.1:8001/token", []string{"127.0.0.1:8080"}, true},
		{"NamedLoopback", "http://127.0.0.1:8001/token", []string{"127.0.0.1:8001"}, false},
		{"NamedHost", "http://kc/token", []string{"KC:80"}, false},
		{"SecureLoopback", "https://127.0.0.1:8001/token", nil, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var issuer string
			secure := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				_ = json.NewEncoder(w).Encode(map[string]any{"issuer": issuer, "token_endpoint": tt.endpoint})
			}))
			t.Cleanup(secure.Close)
			issuer = secure.URL
			pool := x509.NewCertPool()
			pool.AddCert(secure.Certificate())
			got, err := newIssuer(t, discovery.Config{Issuer: issuer, CAs: pool, InsecureHosts: tt.hosts}).TokenEndpoint(t.Context())
			if tt.refused && (!errors.Is(err, discovery.ErrUnavailable) || !strings.Contains(err.Error(), "is not acceptable")) {
				t.Errorf("TokenEndpoint = %q, %v, want ErrUnavailable: not acceptable", got.URL, err)
			}
			if !tt.refused && (err != nil || got.URL != tt.endpoint) {
				t.Errorf("TokenEndpoint = %q, %v, want %q", got.URL, err, tt.endpoint)
			}
		})
	}
}

// TestInternalURLAllowsNoOtherSchemes: that the issuer is reached elsewhere does not make
// anything an issuer.
func TestInternalURLAllowsNoOtherSchemes(t *testing.T) {
	for _, issuer := range []string{"ftp://idp.example/x", "file:///etc/passwd", "//idp.example", "https://a:b@idp.example", "javascript:x"} {
		_, err := discovery.New(discovery.Config{Issuer: issuer, InternalURL: "https://keycloak:8443"})
		if err == nil || !strings.HasPrefix(err.Error(), "token.issuer: ") {
			t.Errorf("New with issuer %q = %v, want an error that begins with token.issuer", issuer, err)
		}
	}
}

// TestHangingIssuerIsAskedLessAndLess: the pause is counted from the end of a fetch, which
// may take longer than it, and doubles up to 30 s.
//
// Covers: BC-15
func TestHangingIssuerIsAskedLessAndLess(t *testing.T) {
	h, clk := startHost(t), newClock()
	const hangs = 5 * time.Second
	h.at(rfc8414, func(http.ResponseWriter, *http.Request) {
		clk.advance(hangs)
		panic(http.ErrAbortHandler)
	})
	i := newIssuer(t, discovery.Config{Issuer: h.URL, Now: clk.Now})
	asks := func(want int, when string) {
		t.Helper()
		if _, err := i.TokenEndpoint(t.Context()); !errors.Is(err, discovery.ErrUnavailable) {
			t.Fatalf("%s: got %v, want ErrUnavailable", when, err)
		}
		if got := len(h.questions()); got != want {
			t.Fatalf("%s: asked %d times, want %d", when, got, want)
		}
	}
	asks(1, "first")
	asked := 1
	for _, pause := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
		pause *= time.Second
		asks(asked, "at once")
		clk.advance(pause - time.Millisecond)
		asks(asked, "before "+pause.String())
		clk.advance(time.Millisecond)
		asked++
		asks(asked, "after "+pause.String())
	}

	h.says(rfc8414, metadata(h.URL, h.URL))
	clk.advance(30 * time.Second)
	if _, err := i.TokenEndpoint(t.Context()); err != nil {
		t.Fatalf("after the trouble: %v", err)
	}
	h.at(rfc8414, nil)
	clk.advance(25 * time.Hour) // what was found is too old
	asked = len(h.questions())
	asks(asked+2, "new trouble") // both places
	clk.advance(time.Second)
	asks(asked+4, "a second after the first new failure")
}

// TestHungHandshakesAreNotCollected: a host that accepts and says nothing loses the
// connection soon after the fetch, which ended long before the other side's patience.
//
// Covers: BC-15
func TestHungHandshakesAreNotCollected(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ended := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			ended <- err
			return
		}
		defer conn.Close()
		if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			ended <- err
			return
		}
		for b := make([]byte, 4096); err == nil; { // the hello, and then the end
			_, err = conn.Read(b)
		}
		ended <- err
	}()
	i := newIssuer(t, discovery.Config{Issuer: "https://" + l.Addr().String(), Timeout: 50 * time.Millisecond})
	if _, err := i.TokenEndpoint(t.Context()); !errors.Is(err, discovery.ErrUnavailable) {
		t.Errorf("TokenEndpoint = %v, want ErrUnavailable", err)
	}
	var network net.Error
	if err := <-ended; errors.As(err, &network) && network.Timeout() {
		t.Error("the connection was still open after 10 s, want it closed")
	}
}

// FuzzSplitHorizon: whatever the metadata says, an endpoint is the internal host's or the
// very one that is written there.
func FuzzSplitHorizon(f *testing.F) {
	for _, s := range []string{"https://login.example.com/t", "HTTPS://login.example.com/t", "https://u@login.example.com/t", "https://login.example.com:443/t", "https://x.example/t", "https://login.example.com//evil.example/t"} {
		f.Add(s)
	}
	h := startHost(f)
	internal, err := url.Parse(h.URL)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, endpoint string) {
		got, err := discovery.Location("https://login.example.com", h.URL, endpoint)
		if err != nil {
			return
		}
		u, err := url.Parse(got)
		if err != nil || !slices.Contains([]string{"http", "https"}, u.Scheme) || u.User != nil || got != endpoint && u.Host != internal.Host {
			t.Errorf("%q became %q", endpoint, got)
		}
	})
}
