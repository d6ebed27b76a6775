package authserver_test

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"time"

	"phantomtoken/internal/oauth"
	"phantomtoken/testenv/authserver"
)

// asked sends one introspection request and returns the error as well.
func (s *server) asked(ctx context.Context, token string) (answer, error) {
	form := url.Values{"token": {token}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.IntrospectionEndpoint(), strings.NewReader(form.Encode()))
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Authorization", basic("api-gateway-client", "s3cret:with%odd+chars"))
	resp, err := client(nil).Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(body)}, err
}

func TestTrouble(t *testing.T) {
	s := start(t)
	token := s.IssueToken(authserver.Grant{Resource: resource})
	healthy := s.introspect(token).body
	tests := []struct {
		name    string
		trouble authserver.Trouble
		check   func(t *testing.T, a answer)
	}{
		{"healthy", authserver.Trouble{}, func(t *testing.T, a answer) {
			if a.status != 200 || a.body != healthy {
				t.Errorf("got %d %s", a.status, a.body)
			}
		}},
		{"status keeps the body", authserver.Trouble{Status: 503}, func(t *testing.T, a answer) {
			if a.status != 503 || a.body != healthy {
				t.Errorf("got %d %s", a.status, a.body)
			}
		}},
		{"body and type", authserver.Trouble{Body: []byte("<html>"), ContentType: "text/html"}, func(t *testing.T, a answer) {
			if a.status != 200 || a.body != "<html>" || a.header.Get("Content-Type") != "text/html" {
				t.Errorf("got %d %s", a.status, a.body)
			}
		}},
		{"empty body", authserver.Trouble{Body: []byte{}}, func(t *testing.T, a answer) {
			if a.status != 200 || a.body != "" {
				t.Errorf("got %d %s", a.status, a.body)
			}
		}},
		{"5 MB that are still JSON", authserver.Trouble{PadTo: 5 << 20}, func(t *testing.T, a answer) {
			in, err := oauth.ParseIntrospection([]byte(a.body))
			if len(a.body) != 5<<20 || err != nil || !in.Active {
				t.Errorf("got %d bytes, %v", len(a.body), err)
			}
		}},
		{"no content", authserver.Trouble{Status: 204}, func(t *testing.T, a answer) {
			if a.status != 204 || a.body != "" {
				t.Errorf("got %d %s", a.status, a.body)
			}
		}},
		{"redirect", authserver.Trouble{Redirect: "http://127.0.0.1:1/"}, func(t *testing.T, a answer) {
			if a.status != 307 || a.header.Get("Location") != "http://127.0.0.1:1/" {
				t.Errorf("got %d %v", a.status, a.header)
			}
		}},
		{"redirect with status", authserver.Trouble{Redirect: "/x", Status: 302}, func(t *testing.T, a answer) {
			if a.status != 302 {
				t.Errorf("got %d", a.status)
			}
		}},
		{"byte by byte", authserver.Trouble{Drip: time.Microsecond, PadTo: 600}, func(t *testing.T, a answer) {
			if strings.TrimRight(a.body, " ") != healthy || len(a.body) != 600 {
				t.Errorf("got %d bytes: %s", len(a.body), a.body)
			}
		}},
		{"active as a string", authserver.Trouble{Rewrite: func(c map[string]any) { c["active"] = "true" }}, func(t *testing.T, a answer) {
			if a.object(t)["active"] != "true" {
				t.Errorf("got %s", a.body)
			}
		}},
		{"other audience, no exp", authserver.Trouble{Rewrite: func(c map[string]any) { c["aud"] = "x"; delete(c, "exp") }}, func(t *testing.T, a answer) {
			if o := a.object(t); o["aud"] != "x" || o["exp"] != nil {
				t.Errorf("got %s", a.body)
			}
		}},
		{"delay", authserver.Trouble{Delay: time.Millisecond}, func(t *testing.T, a answer) {
			if a.body != healthy {
				t.Errorf("got %s", a.body)
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s.Trouble(tt.trouble)
			a, err := s.asked(t.Context(), token)
			if err != nil {
				t.Fatal(err)
			}
			tt.check(t, a)
		})
	}
	t.Run("down", func(t *testing.T) {
		s.Trouble(authserver.Trouble{Down: true})
		if a, err := s.asked(t.Context(), token); err == nil {
			t.Errorf("got an answer: %d", a.status)
		}
		if a := s.get("/healthz"); a.status != http.StatusOK {
			t.Errorf("the rest of the server is down too: %d", a.status)
		}
	})
	t.Run("client leaves", func(t *testing.T) {
		s.Trouble(authserver.Trouble{Delay: time.Hour})
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if _, err := s.asked(ctx, token); err == nil {
			t.Error("got an answer")
		}
	})
	t.Run("errors are troubled too", func(t *testing.T) {
		s.Trouble(authserver.Trouble{ContentType: "text/plain"})
		a := s.post("/introspect", url.Values{"token": {token}})
		if a.status != http.StatusUnauthorized || a.header.Get("Content-Type") != "text/plain" {
			t.Errorf("got %d %v", a.status, a.header)
		}
	})
	t.Run("healed", func(t *testing.T) {
		s.Trouble(authserver.Trouble{})
		if !s.active(token) {
			t.Error("inactive")
		}
	})
	t.Run("signed lies", func(t *testing.T) {
		s := start(t, func(c *authserver.Config) { c.JWTIntrospection = authserver.JWTCurity })
		s.Trouble(authserver.Trouble{Rewrite: func(c map[string]any) { c["aud"] = "https://elsewhere.example" }})
		a := s.introspect(s.IssueToken(authserver.Grant{Resource: resource}), "Accept", "application/jwt")
		if strings.Count(a.body, ".") != 2 {
			t.Errorf("got %s", a.body)
		}
	})
}

// TestCloseEndsWhatWaits closes a server that holds a request for an hour.
func TestCloseEndsWhatWaits(t *testing.T) {
	for name, trouble := range map[string]authserver.Trouble{"delay": {Delay: time.Hour}, "drip": {Drip: time.Hour}} {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			s.Trouble(trouble)
			done := make(chan error, 1)
			go func() {
				a, err := s.asked(context.WithoutCancel(t.Context()), "x")
				if err == nil && a.body != "" {
					t.Errorf("got %s", a.body)
				}
				done <- err
			}()
			for s.Introspections() == 0 {
				runtime.Gosched()
			}
			if err := s.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
			<-done
			if _, err := s.asked(context.WithoutCancel(t.Context()), "x"); err == nil {
				t.Error("the server answers after Close")
			}
		})
	}
}

func TestContextEndsServer(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cfg := baseConfig()
	cfg.ControlListen = "127.0.0.1:0"
	s, err := authserver.Start(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := s.Close(); err != nil { // waits for the stop that the context began
		t.Errorf("Close: %v", err)
	}
	for _, u := range []string{s.Issuer() + "/healthz", s.ControlURL() + "/introspections"} {
		if resp, err := client(nil).Get(u); err == nil {
			resp.Body.Close()
			t.Errorf("%s answers after the end of the context", u)
		}
	}
}
