package gate_test

import (
	"bytes"
	"path/filepath"
	"testing"
	"time"

	"phantomtoken/internal/gate"
	"phantomtoken/internal/keyring"
	"phantomtoken/internal/oauth"
)

// When another key begins to sign, phantom tokens of the last one are not used again, though
// they are young; the provider is not asked for it. The published keys follow, and no cache
// may keep them as long as metadata.
//
// Covers: CA-10, JW-15
func TestMintFollowsTheKeys(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	for _, name := range []string{"20200101T000000Z.jwk", start.Add(time.Minute).UTC().Format("20060102T150405Z") + ".jwk"} {
		if _, err := keyring.LoadOrCreate(filepath.Join(dir, name), ""); err != nil {
			t.Fatal(err)
		}
	}
	for name, way := range map[string]func(*gate.Mint) gate.Phantom{
		"mint":     func(m *gate.Mint) gate.Phantom { return m },
		"fallback": func(m *gate.Mint) gate.Phantom { return &gate.Relay{Fallback: m} },
	} {
		t.Run(name, func(t *testing.T) {
			var folder *keyring.Folder
			w := newWorld(t, func(c *gate.Config) {
				var err error
				if folder, err = keyring.OpenFolder(keyring.FolderConfig{Dir: dir, Now: c.Now}); err != nil {
					t.Fatal(err)
				}
				mint := c.Phantom.(*gate.Mint)
				mint.Keys = folder
				c.Phantom = way(mint)
				issuer, err := keyring.NewIssuer(oauth.IssuerMetadata{Issuer: issuerURL}, folder)
				if err != nil {
					t.Fatal(err)
				}
				c.Issuers, c.MetadataMaxAge = []*keyring.Issuer{issuer}, 24*time.Hour
			})
			token := func() string {
				t.Helper()
				d := w.bearer(goodToken)
				if d.Forward == nil {
					t.Fatalf("refused: %+v", d.Answer)
				}
				return d.Forward.Authorization
			}
			first := token()
			w.now = w.now.Add(59 * time.Second)
			if token() != first {
				t.Error("a token was replaced before another key signs")
			}
			old := folder.Ring().SigningKeyID()
			w.now = w.now.Add(time.Second)
			second := token()
			if second == first || folder.Ring().SigningKeyID() == old {
				t.Error("a token of the last key is used again")
			}
			if token() != second {
				t.Error("the new token is not used again")
			}
			d := w.decideAt(request("/internal"+keyring.JWKSPath), &kong{method: "GET"})
			if d.Answer == nil || !bytes.Equal(d.Answer.Body, folder.Ring().JWKS()) || bytes.Count(d.Answer.Body, []byte(`"kid"`)) != 2 {
				t.Errorf("got %+v, want both keys", d.Answer)
			}
			if got := headerOf(d.Answer.Headers, "Cache-Control"); got != "public, max-age=300" {
				t.Errorf("Cache-Control of the keys = %q, want five minutes", got)
			}
			d = w.decideAt(request("/.well-known/oauth-protected-resource"), &kong{method: "GET"})
			if got := headerOf(d.Answer.Headers, "Cache-Control"); got != "public, max-age=86400" {
				t.Errorf("Cache-Control of the metadata = %q, want what is configured", got)
			}
		})
	}
}
