package sts_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"phantomtoken/internal/keyring"
	"phantomtoken/internal/oauth"
	"phantomtoken/sidecar/sts"
)

// BenchmarkExchange measures one exchange through the handler beside its two limits: the
// cryptography that no token service can do without (verify one token, sign another), and
// the HTTP part without it (read the form, answer a constant).
func BenchmarkExchange(b *testing.B) {
	w := newWorld(b, func(_ *world, c *sts.Config) { c.Logger = nil })
	body := w.form(nil).Encode()
	token := w.mint(nil)
	serve := func(b *testing.B, handler http.Handler) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				rec := httptest.NewRecorder()
				r := httptest.NewRequest(http.MethodPost, "/token", strings.NewReader(body))
				r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				setBasic(r, mcpServer, mcpSecret)
				handler.ServeHTTP(rec, r)
				if rec.Code != http.StatusOK {
					b.Errorf("got %d %s", rec.Code, rec.Body)
				}
			}
		})
	}

	b.Run("handler", func(b *testing.B) { serve(b, w.service) })

	b.Run("baseline-verify+sign", func(b *testing.B) {
		verifier, err := keyring.NewVerifier(keyring.VerifierConfig{Issuer: w.phantom, Audiences: []string{mcpAudience}, Keys: w.gateway, Now: w.now})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				verified, err := verifier.Verify(b.Context(), token)
				if err != nil {
					b.Error(err)
					return
				}
				if _, err := w.own.Mint(keyring.Token{
					Issuer: w.url, Subject: verified.Introspection.Subject, Audience: []string{apiAudience}, ClientID: mcpServer,
					IssuedAt: w.now(), Expiry: w.now().Add(time.Minute), Scope: oauth.Scopes{"stocks/read"},
				}); err != nil {
					b.Error(err)
				}
			}
		})
	})

	b.Run("baseline-form", func(b *testing.B) {
		answer := `{"access_token":"` + token + `","issued_token_type":"` + accessTokenType + `","token_type":"Bearer","expires_in":240}`
		serve(b, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(rw, r.Body, 64<<10)
			if err := r.ParseForm(); err != nil || r.PostForm.Get("subject_token") == "" {
				rw.WriteHeader(http.StatusBadRequest)
				return
			}
			rw.Header().Set("Content-Type", "application/json")
			rw.Header().Set("Cache-Control", "no-store")
			_, _ = io.WriteString(rw, answer)
		}))
	})
}
