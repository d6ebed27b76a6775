package deploy_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// realmFile is the part of the realm that says who may have which scope, and whom it is for.
type realmFile struct {
	ClientScopes []struct {
		Name            string
		ProtocolMappers []struct{ Config map[string]string }
	}
	DefaultOptionalClientScopes []string
	Components                  map[string][]struct {
		Name, SubType string
		Config        map[string][]string
	}
}

// audiencesOf are the URLs that a scope brings, as the realm file writes them.
func (r realmFile) audiencesOf(scope string) []string {
	var out []string
	for _, s := range r.ClientScopes {
		for _, m := range s.ProtocolMappers {
			if url := m.Config["included.custom.audience"]; s.Name == scope && url != "" {
				out = append(out, url)
			}
		}
	}
	return out
}

// registrable are the scopes that a client may register with.
func (r realmFile) registrable() []string {
	for _, p := range r.Components["org.keycloak.services.clientregistration.policy.ClientRegistrationPolicy"] {
		if p.Name == "Allowed Client Scopes" && p.SubType == "anonymous" {
			return p.Config["allowed-client-scopes"]
		}
	}
	return nil
}

// Keycloak ignores the parameter resource. A client that knows only the URL of an MCP server
// asks for the scopes of its challenge, so these must lead to a token for that URL.
func TestScopesOfTheGatewayLeadToItsResources(t *testing.T) {
	var realm realmFile
	if err := json.Unmarshal([]byte(read(t, "deploy/keycloak/mcp-realm.json")), &realm); err != nil {
		t.Fatal(err)
	}
	kong := kongFile(t, "kong.yml")
	keycloak := compose(t).Services["keycloak"].Environment
	for _, service := range []string{"stocks-mcp", "advisor-mcp"} {
		config := kong.config(t, service)
		scopes := strings.Fields(config.Scope)
		if !slices.Equal(scopes, config.Metadata.ScopesSupported) {
			t.Errorf("%s: scope %q, metadata.scopes_supported %q; want the same", service, scopes, config.Metadata.ScopesSupported)
		}
		var audiences []string
		for _, scope := range scopes {
			for _, a := range realm.audiencesOf(scope) {
				audiences = append(audiences, keycloak[strings.Trim(a, "${}")])
			}
			// Named in a registration, or not.
			if !slices.Contains(realm.registrable(), scope) || !slices.Contains(realm.DefaultOptionalClientScopes, scope) {
				t.Errorf("%s: expected scope %s for clients that register themselves", service, scope)
			}
		}
		if !slices.Contains(audiences, config.Resource) {
			t.Errorf("%s: the scopes %q lead to %q, want %s among them", service, scopes, audiences, config.Resource)
		}
	}
}
