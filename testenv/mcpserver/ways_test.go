package mcpserver_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"phantomtoken/internal/keyring"
	"phantomtoken/internal/oauth"
	"phantomtoken/testenv/issuertest"
	"phantomtoken/testenv/mcpserver"
)

// What the egress proxy answers in its own name is told apart from answers of the API.
func TestThroughProxy(t *testing.T) {
	issuer := issuertest.Start(t)
	var status int
	var own, body string // of the proxy's answer; own is its error code
	var got *http.Request
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		if own != "" {
			w.Header().Set("Phantom-Error", own)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(proxy.Close)
	handler, err := mcpserver.New(mcpserver.Config{Issuer: issuer.URL(), Audience: serverAudience, APIURL: proxy.URL})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	w := &world{issuer: issuer, url: server.URL, client: server.Client()}
	phantom := issuer.Token(t, keyring.Token{Audience: []string{serverAudience}, Scope: oauth.Scopes{"stocks/read"}})
	session := w.connect(t, phantom, nil)
	for _, tt := range []struct {
		name      string
		status    int
		own, body string
		wantError bool
		want      string
	}{
		{"Passed", 200, "", `{"region":"USA","stocks":[]}`, false, `"region":"USA"`},
		{"RefusedByTheAPI", 403, "", `{"error":"access_denied","error_description":"no"}`, true, "the stocks API refused the request with status 403, access_denied: no"},
		{"RefusedWithoutWords", 418, "", "short and stout", true, "the stocks API refused the request with status 418"},
		{"RefusedByPolicy", 403, "invalid_scope", `{"error":"invalid_scope","error_description":"not this one"}`, true, "no token for the stocks API, invalid_scope: not this one"},
		{"NoTokenNow", 503, "temporarily_unavailable", `{"error":"temporarily_unavailable"}`, true, "no token for the stocks API can be had now, try again later"},
		{"APIAway", 502, "upstream_unreachable", `{"error":"upstream_unreachable"}`, true, "the stocks API cannot be reached now, try again later"},
		{"OwnAnswerOfTheAPI", 503, "", `{"error":"temporarily_unavailable","error_description":"keys"}`, true, "the stocks API refused the request with status 503"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, own, body = tt.status, tt.own, tt.body
			res, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "list_stocks"})
			if err != nil {
				t.Fatal(err)
			}
			if said := text(t, res); res.IsError != tt.wantError || !strings.Contains(said, tt.want) {
				t.Errorf("got error=%t %s; want error=%t with %q in it", res.IsError, said, tt.wantError, tt.want)
			}
			if got.URL.Path != "/stocks" || got.Header.Get("Authorization") != "Bearer "+phantom || got.Header.Get("Mcp-Method") != "" {
				t.Errorf("the proxy got %s, the token %t, Mcp-Method %q; want /stocks with the token and nothing else of the request",
					got.URL.Path, got.Header.Get("Authorization") == "Bearer "+phantom, got.Header.Get("Mcp-Method"))
			}
		})
	}
}

// Without credentials the token that was received goes to APIURL: that must be the proxy
// beside this server and not the API.
func TestProxyIsOnThisMachine(t *testing.T) {
	cfg := mcpserver.Config{Issuer: "https://gw.example", Audience: serverAudience}
	for url, want := range map[string]bool{
		"http://127.0.0.1:9201": true, "http://localhost:9201": true, "http://[::1]:9201": true,
		"https://api.example": false, "http://api.internal:9100": false, "http://127.0.0.1.example": false, "127.0.0.1:9201": false, "": false,
	} {
		cfg.APIURL = url
		if _, err := mcpserver.New(cfg); (err == nil) != want {
			t.Errorf("%q: got %v, want it to be taken: %t", url, err, want)
		}
	}
	cfg.APIURL, cfg.InsecureAllowHTTP = "http://sidecar:9201", true
	if _, err := mcpserver.New(cfg); err != nil {
		t.Errorf("on a trusted network: %v", err)
	}
}

// Another server calls with a token that the sidecar made for this one.
func TestAcceptsTwoIssuers(t *testing.T) {
	gateway, sidecar, stranger := issuertest.Start(t), issuertest.Start(t), issuertest.Start(t)
	handler, err := mcpserver.New(mcpserver.Config{
		Issuer: gateway.URL(), Sidecar: sidecar.URL(), Audience: serverAudience, APIURL: "http://127.0.0.1:1",
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	read := oauth.Scopes{"stocks/read"}
	for _, tt := range []struct {
		name, token string
		want        int
	}{
		{"OfTheGateway", gateway.Token(t, keyring.Token{Audience: []string{serverAudience}, Scope: read}), 200},
		{"OfTheSidecar", sidecar.Token(t, keyring.Token{Audience: []string{serverAudience}, Scope: read}), 200},
		{"RejectsTheSidecarsTokenForTheAPI", sidecar.Token(t, keyring.Token{Audience: []string{apiAudience}, Scope: read}), 401},
		{"RejectsStranger", stranger.Token(t, keyring.Token{Audience: []string{serverAudience}, Scope: read}), 401},
		{"RejectsStrangerInTheNameOfTheSidecar", stranger.Token(t, keyring.Token{Issuer: sidecar.URL(), Audience: []string{serverAudience}, Scope: read}), 401},
	} {
		t.Run(tt.name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"ping"}`))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/json")
			req.Header.Set("Accept", "application/json, text/event-stream")
			req.Header.Set("Authorization", "Bearer "+tt.token)
			res, err := server.Client().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if res.StatusCode != tt.want {
				t.Errorf("got %d, want %d", res.StatusCode, tt.want)
			}
		})
	}
}
