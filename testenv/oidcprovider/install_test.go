package oidcprovider_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"phantomtoken/testenv/oidcprovider"
)

// The program and what it depends on are the same everywhere: exact versions, checksums, and
// from whichever registry the machine is set up with.
func TestPinned(t *testing.T) {
	var wanted struct {
		Dependencies map[string]string `json:"dependencies"`
	}
	var locked struct {
		Packages map[string]struct {
			Version, Integrity, Resolved string
		} `json:"packages"`
	}
	for name, into := range map[string]any{"package.json": &wanted, "package-lock.json": &locked} {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(data, into); err != nil {
			t.Fatal(err)
		}
	}
	if got := wanted.Dependencies["oidc-provider"]; got != oidcprovider.Version {
		t.Errorf("package.json: got oidc-provider %q, want %q", got, oidcprovider.Version)
	}
	if got := locked.Packages["node_modules/oidc-provider"].Version; got != oidcprovider.Version {
		t.Errorf("package-lock.json: got oidc-provider %q, want %q", got, oidcprovider.Version)
	}
	for name, p := range locked.Packages {
		if name == "" {
			continue // the program itself
		}
		if !strings.HasPrefix(p.Integrity, "sha512-") || p.Resolved != "" {
			t.Errorf("%s: got integrity %q, resolved %q; want a SHA-512 and no address", name, p.Integrity, p.Resolved)
		}
	}
}

func TestStartRefuses(t *testing.T) {
	whole := oidcprovider.Config{Listen: "127.0.0.1:0", Resources: []string{"https://gw.example.com/mcp"}, ClientSecret: "secret"}
	for _, tt := range []struct {
		name   string
		change func(*oidcprovider.Config)
	}{
		{"NoAddress", func(c *oidcprovider.Config) { c.Listen = "" }},
		{"NoResource", func(c *oidcprovider.Config) { c.Resources = nil }},
		{"NoSecret", func(c *oidcprovider.Config) { c.ClientSecret = "" }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := whole
			tt.change(&cfg)
			if _, err := oidcprovider.Start(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "expected Listen, Resources and ClientSecret") {
				t.Errorf("got %v, want the fields that are required", err)
			}
		})
	}
}
