package caller_test

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"
)

// BenchmarkAuthenticate is what a request costs before anything else is looked at.
// baseline is decoding, one digest and one comparison, which no secret goes without;
// baseline-net-http is the Basic parser of net/http with that.
func BenchmarkAuthenticate(b *testing.B) {
	w := newWorld(b, nil)
	withBasic := httptest.NewRequest(http.MethodPost, "/token", nil)
	withBasic.Header.Set("Authorization", basic("mcp-server", mcpSecret))
	plain := httptest.NewRequest(http.MethodPost, "/token", nil)
	want := sha256.Sum256([]byte(mcpSecret))

	b.Run("baseline", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var room [256]byte
			decoded, err := base64.StdEncoding.AppendDecode(room[:0], []byte(withBasic.Header["Authorization"][0][6:]))
			got := sha256.Sum256(decoded[len("mcp-server:"):])
			if err != nil || subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
				b.Fatal("differs")
			}
		}
	})
	b.Run("baseline-net-http", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, secret, _ := withBasic.BasicAuth()
			got := sha256.Sum256([]byte(secret))
			if subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
				b.Fatal("differs")
			}
		}
	})
	for _, bm := range []struct {
		name    string
		request *http.Request
		form    url.Values
	}{
		{"basic", withBasic, url.Values{"grant_type": {"x"}}},
		{"post", plain, url.Values{"client_id": {"mcp-server"}, "client_secret": {mcpSecret}}},
		{"kubernetes", plain, asserted(w.pods.sign(b, "", w.podClaims(nil)))},
	} {
		b.Run(bm.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := w.auth.Authenticate(b.Context(), bm.request, bm.form); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("certificate", func(b *testing.B) {
		b.ReportAllocs()
		r := plain.Clone(b.Context())
		r.TLS = w.ca.verified(names([]string{"server-7d9f.mcp.svc"}, spiffeID))
		for b.Loop() {
			if _, err := w.auth.Authenticate(b.Context(), r, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkReplay is the memory of used assertions, entries coming and going.
func BenchmarkReplay(b *testing.B) {
	b.ReportAllocs()
	w := newWorld(b, nil)
	now, n := start, int64(0)
	var jti [8]byte
	for b.Loop() {
		n++
		for i := range jti {
			jti[i] = byte(n >> (8 * i))
		}
		if n%1000 == 0 {
			now = now.Add(time.Second)
		}
		if err := w.replay.Use("signer", string(jti[:]), now.Add(time.Minute), now); err != nil {
			b.Fatal(err)
		}
	}
}
