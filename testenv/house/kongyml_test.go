package house_test

import (
	"bytes"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"phantomtoken/internal/keyring"
	"phantomtoken/testenv/kongtest"
)

// kongYAML loads every kong.yml of the documents as Kong would and asks for what needs no
// provider: the challenge, the metadata and the keys.
func kongYAML(t *testing.T, plugin string) {
	const keyFile = "/etc/kong/phantom-token/key.json" // in the documents
	n := 0
	for name, doc := range documents(t) {
		for _, b := range blocks(doc) {
			if b.info != "yaml kong.yml" {
				continue
			}
			n++
			key := filepath.Join(t.TempDir(), "key.json")
			if _, err := keyring.LoadOrCreate(key, keyring.ES256); err != nil {
				t.Fatal(err)
			}
			var log bytes.Buffer
			gateway, err := kongtest.Start(t.Context(), kongtest.Config{
				YAML:      []byte(b.text),
				Addresses: map[string]string{keyFile: key},
				Plugins:   map[string]string{"phantom-token": plugin},
				Env:       map[string]string{"GATEWAY_CLIENT_SECRET": "a secret of this test"},
				Log:       &log,
			})
			if err != nil {
				t.Errorf("%s:%d: %v", name, b.line, err)
				continue
			}
			client := &http.Client{Timeout: 10 * time.Second}
			for path, want := range map[string]struct {
				status int
				text   string // in the challenge or the body
			}{
				"/mcp":  {401, `Bearer resource_metadata="https://gw.example.com/.well-known/oauth-protected-resource/mcp", scope="stocks/read"`},
				"/mcp/": {401, `scope="stocks/read"`},
				"/.well-known/oauth-protected-resource/mcp":       {200, `"resource":"https://gw.example.com/mcp"`},
				"/.well-known/oauth-protected-resource":           {200, `"authorization_servers":["https://idp.example.com"]`},
				"/phantom/jwks.json":                              {200, `"keys"`},
				"/phantom/.well-known/openid-configuration":       {200, `"issuer":"https://gw.example.com/phantom"`},
				"/.well-known/oauth-authorization-server/phantom": {200, `"jwks_uri":"https://gw.example.com/phantom/jwks.json"`},
				"/.well-known/oauth-authorization-server":         {404, `"not_found"`},
			} {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, gateway.URL()+path, nil)
				if err != nil {
					t.Fatal(err)
				}
				req.Host = "gw.example.com"
				res, err := client.Do(req)
				if err != nil {
					t.Errorf("%s:%d: GET %s: %v", name, b.line, path, err)
					continue
				}
				body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
				res.Body.Close()
				if got := res.Header.Get("WWW-Authenticate") + " " + string(body); err != nil || res.StatusCode != want.status || !strings.Contains(got, want.text) {
					t.Errorf("%s:%d: GET %s: got %d %s, want %d with %s", name, b.line, path, res.StatusCode, got, want.status, want.text)
				}
			}
			if err := gateway.Close(); err != nil {
				t.Error(err)
			}
			if t.Failed() {
				t.Logf("log of the gateway:\n%s", log.String())
			}
		}
	}
	if n == 0 {
		t.Error("no document has a block marked yaml kong.yml")
	}
}
