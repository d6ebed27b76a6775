package oidcprovider_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"phantomtoken/testenv/oidcprovider"
	"phantomtoken/testenv/toolcache"
)

// The program and what it depends on are the same everywhere.
func TestPinned(t *testing.T) {
	data, err := os.ReadFile("package.json")
	if err != nil {
		t.Fatal(err)
	}
	var wanted struct {
		Dependencies map[string]string `json:"dependencies"`
	}
	if err := json.Unmarshal(data, &wanted); err != nil {
		t.Fatal(err)
	}
	locked, err := toolcache.NPMPackages(os.DirFS("."))
	if err != nil {
		t.Fatal(err)
	}
	const name = "oidc-provider"
	if wanted.Dependencies[name] != oidcprovider.Version || locked[name] != oidcprovider.Version {
		t.Errorf("got %s %q in package.json, %q in package-lock.json; want %q", name, wanted.Dependencies[name], locked[name], oidcprovider.Version)
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
