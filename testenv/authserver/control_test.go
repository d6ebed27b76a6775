package authserver_test

import (
	"net/http"
	"strings"
	"testing"

	"phantomtoken/testenv/authserver"
)

func (s *server) ask(method, path, body string, header ...string) answer {
	s.t.Helper()
	header = append(header, "Content-Type", "application/json")
	return do(s.t, client(nil), request(s.t, method, s.ControlURL()+path, strings.NewReader(body), header...))
}

func TestControlPort(t *testing.T) {
	s := start(t, func(c *authserver.Config) { c.ControlListen = "127.0.0.1:0" })

	a := s.ask("POST", "/tokens", `{"user":"jane.roe@demo.example","client_id":"c","scope":"stocks/read","resource":"`+resource+`","lifetime":"1m","claims":{"acr":"mfa"}}`)
	if a.status != http.StatusOK {
		t.Fatalf("tokens: got %d %s", a.status, a.body)
	}
	token := a.object(t)["access_token"].(string)
	got := s.introspect(token).object(t)
	if got["sub"] != "jane.roe@demo.example" || got["client_id"] != "c" || got["aud"] != resource || got["acr"] != "mfa" || got["exp"].(float64)-got["iat"].(float64) != 60 {
		t.Errorf("got %v", got)
	}
	if a := s.ask("GET", "/introspections", ""); a.object(t)["count"] != 1.0 {
		t.Errorf("introspections: got %s, want 1", a.body)
	}

	if a := s.ask("POST", "/trouble", `{"delay":"1ms","status":500,"content_type":"text/html","pad_to":1000,"set":{"active":"true"},"remove":["exp"]}`); a.status != http.StatusNoContent {
		t.Fatalf("trouble: got %d %s", a.status, a.body)
	}
	spoiled := s.introspect(token)
	if o := spoiled.object(t); spoiled.status != 500 || len(spoiled.body) != 1000 || o["active"] != "true" || o["exp"] != nil {
		t.Errorf("got %d %s", spoiled.status, spoiled.body)
	}
	if a := s.ask("POST", "/trouble", `{"body":"","drip":"1us"}`); a.status != http.StatusNoContent || s.introspect(token).body != "" {
		t.Errorf("empty body: got %d", a.status)
	}
	if a := s.ask("POST", "/trouble", `{"redirect":"https://elsewhere.example"}`); a.status != http.StatusNoContent || s.introspect(token).status != 307 {
		t.Errorf("redirect: got %d", a.status)
	}
	if a := s.ask("DELETE", "/trouble", ""); a.status != http.StatusNoContent || !s.active(token) {
		t.Errorf("healing: got %d", a.status)
	}
	if a := s.ask("POST", "/revoke", `{"token":"`+token+`"}`); a.status != http.StatusNoContent || s.active(token) {
		t.Errorf("revocation: got %d", a.status)
	}
}

func TestControlPortRefuses(t *testing.T) {
	s := start(t, func(c *authserver.Config) { c.ControlListen = "127.0.0.1:0" })
	tests := []struct {
		name   string
		path   string
		body   string
		header []string
		status int
	}{
		{name: "RejectsWebPage", path: "/tokens", body: `{}`, header: []string{"Origin", "https://evil.example"}, status: 403},
		{name: "unknown member", path: "/trouble", body: `{"dwon":true}`, status: 400},
		{name: "duration as a number", path: "/trouble", body: `{"delay":5}`, status: 400},
		{name: "duration without a unit", path: "/trouble", body: `{"delay":"5"}`, status: 400},
		{name: "impossible status", path: "/trouble", body: `{"status":42}`, status: 400},
		{name: "two objects", path: "/trouble", body: `{}{}`, status: 400},
		{name: "no JSON", path: "/tokens", body: `x`, status: 400},
		{name: "no JSON to revoke", path: "/revoke", body: `x`, status: 400},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if a := s.ask("POST", tt.path, tt.body, tt.header...); a.status != tt.status {
				t.Errorf("got %d %s, want %d", a.status, a.body, tt.status)
			}
		})
	}
	t.Run("RejectsSimpleRequest", func(t *testing.T) { // what a page may send without asking
		a := do(t, client(nil), request(t, "POST", s.ControlURL()+"/tokens", strings.NewReader(`{}`), "Content-Type", "text/plain"))
		if a.status != http.StatusUnsupportedMediaType {
			t.Errorf("got %d", a.status)
		}
	})
	t.Run("RejectsDNSRebinding", func(t *testing.T) {
		req := request(t, "POST", s.ControlURL()+"/tokens", strings.NewReader(`{}`), "Content-Type", "application/json")
		req.Host = "rebound.evil.example:80"
		if a := do(t, client(nil), req); a.status != http.StatusForbidden {
			t.Errorf("got %d", a.status)
		}
	})
	t.Run("off by default", func(t *testing.T) {
		if u := start(t).ControlURL(); u != "" {
			t.Errorf("got %s", u)
		}
	})
	t.Run("not on the public port", func(t *testing.T) {
		s := start(t)
		for _, path := range []string{"/tokens", "/trouble", "/introspections"} {
			if a := s.get(path); a.status != http.StatusNotFound {
				t.Errorf("%s: got %d", path, a.status)
			}
		}
	})
}
