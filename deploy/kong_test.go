package deploy_test

import (
	"testing"

	"go.yaml.in/yaml/v3"
)

// kongConfig is the part of a kong.yml that is held against other files.
type kongConfig struct {
	Services []struct {
		Name, URL string
		Plugins   []struct {
			Name   string
			Config pluginConfig
		}
	}
}

type pluginConfig struct {
	Resource string
	Scope    string
	Metadata struct {
		ScopesSupported []string `yaml:"scopes_supported"`
	}
	AuthorizationServers  []string `yaml:"authorization_servers"`
	IntrospectionEndpoint string   `yaml:"introspection_endpoint"`
	Token                 struct{ Issuer string }
	PhantomToken          struct{ Issuer, Audience string } `yaml:"phantom_token"`
}

func kongFile(t *testing.T, name string) kongConfig {
	t.Helper()
	var k kongConfig
	if err := yaml.Unmarshal([]byte(read(t, name)), &k); err != nil {
		t.Fatal(err)
	}
	return k
}

// config is the configuration of the one plugin of a service.
func (k kongConfig) config(t *testing.T, service string) pluginConfig {
	t.Helper()
	for _, s := range k.Services {
		if s.Name == service && len(s.Plugins) == 1 && s.Plugins[0].Name == "phantom-token" {
			return s.Plugins[0].Config
		}
	}
	t.Fatalf("kong.yml: expected a service %s with the plugin phantom-token", service)
	return pluginConfig{}
}
