package doctor_test

import (
	"crypto/tls"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"phantomtoken/kong-plugin/doctor"
)

// TestIsNotSentToServicesOfThisComputer: a server that is asked over the network names
// places on this computer. The doctor says so and goes to none of them, neither to look
// nor to register and remove.
func TestIsNotSentToServicesOfThisComputer(t *testing.T) {
	var mu sync.Mutex
	var asked []string
	victim := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked = append(asked, r.Method+" "+r.URL.String()+" "+r.Header.Get("Authorization"))
		mu.Unlock()
		answer(w, 201, "application/json", `{"client_id":"c","registration_client_uri":"http://`+r.Host+`/services/1?force","registration_access_token":"chosen"}`)
	}))
	t.Cleanup(victim.Close)
	authority := newAuthority(t)
	for _, tt := range []struct {
		name     string
		register bool
		plain    bool                                               // the visited URL is http
		change   func(self string, resource, server map[string]any) // of the metadata
		named    string                                             // resource_metadata
		rule     string
	}{
		{name: "RegistrationEndpointWithRegister", register: true, rule: "AS-02", change: func(_ string, _, server map[string]any) {
			server["registration_endpoint"] = victim.URL + "/services?x=1"
		}},
		{name: "RegistrationEndpoint", rule: "AS-02", change: func(_ string, _, server map[string]any) {
			server["registration_endpoint"] = victim.URL + "/services?x=1"
		}},
		{name: "RegistrationEndpointByName", register: true, rule: "AS-02", change: func(_ string, _, server map[string]any) {
			server["registration_endpoint"] = strings.Replace(victim.URL, "127.0.0.1", "localhost", 1) + "/services"
		}},
		{name: "TokenEndpoint", rule: "AS-02", change: func(_ string, _, server map[string]any) {
			server["token_endpoint"] = victim.URL + "/token"
		}},
		{name: "Issuer", rule: "AS-01", change: func(_ string, resource, _ map[string]any) {
			resource["authorization_servers"] = []string{victim.URL + "/issuer"}
		}},
		{name: "IssuerOfUnusableURL", rule: "AS-01", change: func(_ string, resource, _ map[string]any) {
			resource["authorization_servers"] = []string{"http://a@" + strings.TrimPrefix(victim.URL, "http://")}
		}},
		{name: "ResourceMetadata", plain: true, named: victim.URL + "/metadata", rule: "CH-15"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			mu.Lock()
			asked = nil
			mu.Unlock()
			foreign := httptest.NewUnstartedServer(nil)
			_, port, _ := strings.Cut(foreign.Listener.Addr().String(), ":")
			// The address of no loopback host that leads to the server nevertheless.
			self := "https://0.0.0.0:" + port
			if tt.plain {
				self = "http://0.0.0.0:" + port
			}
			resource := map[string]any{"resource": self + "/mcp", "authorization_servers": []string{self}}
			server := map[string]any{
				"issuer": self, "authorization_endpoint": self + "/authorize", "token_endpoint": self + "/token",
				"registration_endpoint": self + "/register", "code_challenge_methods_supported": []string{"S256"},
			}
			if tt.change != nil {
				tt.change(self, resource, server)
			}
			named := tt.named
			if named == "" {
				named = self + resourceMetadata + "/mcp"
			}
			foreign.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				document := map[string]map[string]any{resourceMetadata + "/mcp": resource, serverMetadata: server}[r.URL.Path]
				if document == nil {
					answer(w, 401, "application/json", `{}`, "WWW-Authenticate", `Bearer resource_metadata="`+named+`"`)
					return
				}
				w.Header().Set("Content-Type", "application/json")
				_ = json.NewEncoder(w).Encode(document)
			})
			if tt.plain {
				foreign.Start()
			} else {
				foreign.TLS = &tls.Config{Certificates: []tls.Certificate{*authority.issue(t, certificateFor("0.0.0.0"))}}
				foreign.StartTLS()
			}
			t.Cleanup(foreign.Close)

			r, err := doctor.Run(t.Context(), doctor.Config{URL: self + "/mcp", CAs: authority.pool, Register: tt.register})
			if err != nil {
				t.Fatal(err)
			}
			if r.Unreachable {
				t.Fatalf("not reachable:\n%s", text(t, r))
			}
			mu.Lock()
			defer mu.Unlock()
			if len(asked) > 0 {
				t.Errorf("a service of this computer was asked %q, want nothing", asked)
			}
			for _, s := range r.Steps {
				for _, f := range s.Faults {
					if f.Rule == tt.rule && (strings.Contains(f.Seen, "127.0.0.1") || strings.Contains(f.Seen, "localhost")) {
						return
					}
				}
			}
			t.Errorf("no fault of %s names the place:\n%s", tt.rule, text(t, r))
		})
	}
}

// TestPlacesThatMayBeNamed: what is nearer than the visited server is not asked.
func TestPlacesThatMayBeNamed(t *testing.T) {
	for _, tt := range []struct {
		name, visited, location string
		want                    bool
	}{
		{"AnotherHost", "https://gw.example.com/mcp", "https://idp.example.com/register", true},
		{"RejectsPlainHTTP", "https://gw.example.com/mcp", "http://idp.example.com/register", false},
		{"RejectsLoopback", "https://gw.example.com/mcp", "http://127.0.0.1:8001/services", false},
		{"RejectsSecureLoopback", "https://gw.example.com/mcp", "https://127.0.0.1:8444/services", false},
		{"RejectsLoopbackName", "https://gw.example.com/mcp", "http://LOCALHOST.:8001/services", false},
		{"RejectsLoopback6", "https://gw.example.com/mcp", "http://[::1]:8001/services", false},
		{"RejectsMappedLoopback", "https://gw.example.com/mcp", "http://[::ffff:127.0.0.1]:8001/services", false},
		{"RejectsNoAddress", "https://gw.example.com/mcp", "https://0.0.0.0:8444/services", false},
		{"RejectsPrivate", "https://gw.example.com/mcp", "https://10.0.0.1/register", false},
		{"RejectsMappedPrivate", "https://gw.example.com/mcp", "https://[::ffff:10.0.0.1]/register", false},
		{"RejectsPrivate6", "https://gw.example.com/mcp", "https://[fd00::1]/register", false},
		{"RejectsLinkLocal", "https://gw.example.com/mcp", "https://169.254.169.254/latest", false},
		{"RejectsLinkLocalOverHTTP", "http://10.0.0.2/mcp", "http://169.254.169.254/latest", false},
		{"PrivateOfPrivate", "https://10.0.0.2/mcp", "https://10.0.0.1/register", true},
		{"RejectsLoopbackOfPrivate", "https://10.0.0.2/mcp", "http://127.0.0.1/register", false},
		{"LoopbackOfLoopback", "http://127.0.0.1:8000/mcp", "http://localhost:8180/register", true},
		{"RejectsNoURL", "http://127.0.0.1:8000/mcp", "\x00", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := doctor.MayBeNamed(tt.visited, tt.location); got != tt.want {
				t.Errorf("got %t, want %t", got, tt.want)
			}
		})
	}
}
