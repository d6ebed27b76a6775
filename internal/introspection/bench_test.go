package introspection_test

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"phantomtoken/internal/introspection"
)

// BenchmarkIntrospect is one call over loopback beside its baseline, a bare POST with the
// same form whose answer is read and thrown away.
func BenchmarkIntrospect(b *testing.B) {
	const body = `{"active":true,"sub":"john.doe","scope":"stocks/read","aud":"https://gw.example.com/mcp","exp":1785240000,"client_id":"mcp-client","region":"USA"}`
	srv := func(b *testing.B) string {
		mux := http.NewServeMux()
		mux.HandleFunc("POST /introspect", json200(body))
		e := newEndpoint(b, nil)
		e.Config.Handler = mux // records nothing: b.N is large
		e.Start()
		return e.URL + "/introspect"
	}
	b.Run("client", func(b *testing.B) {
		c := newClient(b, introspection.Config{Endpoint: srv(b), TokenTypeHint: true})
		b.ReportAllocs()
		for b.Loop() {
			if got, err := c.Introspect(b.Context(), "token"); err != nil || !got.Introspection.Active {
				b.Fatalf("got %v, %v, want active", got, err)
			}
		}
	})
	b.Run("baseline", func(b *testing.B) {
		endpoint := srv(b)
		transport := &http.Transport{}
		defer transport.CloseIdleConnections()
		client := &http.Client{Transport: transport}
		form := url.Values{"token": {"token"}, "token_type_hint": {"access_token"}}.Encode()
		b.ReportAllocs()
		for b.Loop() {
			resp, err := client.Post(endpoint, "application/x-www-form-urlencoded", strings.NewReader(form))
			if err != nil {
				b.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, resp.Body); err != nil {
				b.Fatal(err)
			}
			resp.Body.Close()
		}
	})
}
