package sts_test

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"phantomtoken/internal/keyring"
	"phantomtoken/internal/oauth"
)

// BenchmarkExchange measures one exchange through the handler beside its two limits: the HTTP
// part without it (read the form, answer a constant), and the cryptography that no token
// service can do without (verify one token, sign another). All pay for the same recorder and
// request.
func BenchmarkExchange(b *testing.B) {
	quiet := newWorld(b, func(_ *world, p *parts) { p.exchange.Logger = nil })
	body := quiet.form(nil).Encode()
	token := quiet.mint(nil)

	b.Run("cached", func(b *testing.B) { serve(b, quiet.service, func() string { return body }) })

	b.Run("cached+audit", func(b *testing.B) {
		w := newWorld(b, func(_ *world, p *parts) { p.exchange.Logger = slog.New(slog.NewJSONHandler(io.Discard, nil)) })
		body := w.form(nil).Encode()
		serve(b, w.service, func() string { return body })
	})

	b.Run("baseline-form", func(b *testing.B) {
		answer := `{"access_token":"` + token + `","issued_token_type":"` + accessTokenType + `","token_type":"Bearer","expires_in":240}`
		handler := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(rw, r.Body, 64<<10)
			if err := r.ParseForm(); err != nil || r.PostForm.Get("subject_token") == "" {
				rw.WriteHeader(http.StatusBadRequest)
				return
			}
			rw.Header().Set("Content-Type", "application/json")
			rw.Header().Set("Cache-Control", "no-store")
			_, _ = io.WriteString(rw, answer)
		})
		serve(b, handler, func() string { return body })
	})

	b.Run("minted", func(b *testing.B) {
		// As many subject tokens as there are exchanges, made before the clock runs.
		bodies := make([]string, b.N)
		for i := range bodies {
			bodies[i] = quiet.form(nil).Encode()
		}
		runtime.GC()
		var next atomic.Int64
		b.ResetTimer()
		serve(b, quiet.service, func() string { return bodies[next.Add(1)-1] })
	})

	b.Run("baseline-verify+sign", func(b *testing.B) {
		// The token that the exchange issues, claim by claim.
		claims := quiet.issued(quiet.form(nil))
		act, _ := claims["act"].(map[string]any)
		extra := map[string]any{"region": claims["region"], "client_type": claims["client_type"], "client_assurance_level": claims["client_assurance_level"]}
		verifier, err := keyring.NewVerifier(keyring.VerifierConfig{Issuer: quiet.phantom, Audiences: []string{mcpAudience}, Keys: quiet.gateway, Now: quiet.now})
		if err != nil {
			b.Fatal(err)
		}
		handler := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			verified, err := verifier.Verify(r.Context(), token)
			if err != nil {
				rw.WriteHeader(http.StatusBadRequest)
				return
			}
			issued, err := quiet.own.Mint(keyring.Token{
				Issuer: quiet.url, Subject: verified.Introspection.Subject, Audience: []string{apiAudience}, ClientID: mcpServer,
				IssuedAt: quiet.now(), Expiry: quiet.now().Add(time.Minute), Scope: oauth.Scopes{"stocks/read"},
				Actor: act, Extra: extra,
			})
			if err != nil {
				rw.WriteHeader(http.StatusInternalServerError)
				return
			}
			_, _ = io.WriteString(rw, issued)
		})
		serve(b, handler, func() string { return body })
	})
}

// serve has handler answer one request after the other, of the form that body returns.
func serve(b *testing.B, handler http.Handler, body func() string) {
	b.Helper()
	basic := httptest.NewRequest(http.MethodPost, "/token", nil)
	setBasic(basic, mcpServer, mcpSecret)
	target, err := url.Parse("/token")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	defer reportCPU(b)()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			text := body()
			// Not httptest.NewRequest, whose parsing would hide what is measured.
			r := &http.Request{
				Method: http.MethodPost, URL: target, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Host: "sts.example",
				Header: http.Header{
					"Content-Type":  {"application/x-www-form-urlencoded"},
					"Authorization": basic.Header["Authorization"],
				},
				Body: io.NopCloser(strings.NewReader(text)), ContentLength: int64(len(text)), RemoteAddr: "127.0.0.1:1",
			}
			rec := httptest.NewRecorder()
			handler.ServeHTTP(rec, r.WithContext(b.Context()))
			if rec.Code != http.StatusOK {
				b.Errorf("got %d %s", rec.Code, rec.Body)
				return
			}
		}
	})
}

// reportCPU reports the processor time of an operation, which other work on the machine
// changes less than the time on the clock.
func reportCPU(b *testing.B) func() {
	begin := cpuTime(b)
	return func() {
		b.ReportMetric(float64(cpuTime(b)-begin)/float64(b.N), "cpu-ns/op")
	}
}

func cpuTime(b *testing.B) int64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return usage.Utime.Nano() + usage.Stime.Nano()
}
