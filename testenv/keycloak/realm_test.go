package keycloak_test

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const realmFile = "../../deploy/keycloak/mcp-realm.json"

// variables are what the realm file leaves to the environment.
var variables = []string{"ADVISOR_RESOURCE_URL", "API_GATEWAY_CLIENT_SECRET", "API_RESOURCE_URL", "DEMO_USER_PASSWORD", "MCP_RESOURCE_URL", "MCP_SERVER_CLIENT_SECRET"}

// The realm is in the repository, so whatever is secret in it comes from the environment.
func TestRealmHoldsNoSecret(t *testing.T) {
	text, err := os.ReadFile(realmFile)
	if err != nil {
		t.Fatal(err)
	}
	var realm map[string]any
	if err := json.Unmarshal(text, &realm); err != nil {
		t.Fatal(err)
	}
	reference := regexp.MustCompile(`^\$\{[A-Z_]+\}$`)
	credentials := 0
	var walk func(path string, v any)
	walk = func(path string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for name, member := range v {
				walk(path+"."+name, member)
				value, ok := member.(string)
				secret := name == "secret" || name == "value" && strings.Contains(path, "credentials")
				if ok && secret {
					credentials++
					if !reference.MatchString(value) {
						t.Errorf("%s.%s: expected ${NAME}, got a value", path, name)
					}
				}
			}
		case []any:
			for _, element := range v {
				walk(path, element)
			}
		}
	}
	walk("", realm)
	if credentials != 4 {
		t.Errorf("secrets and passwords: got %d, want 4", credentials)
	}
	var names []string
	for _, m := range regexp.MustCompile(`\$\{([A-Z_]+)\}`).FindAllStringSubmatch(string(text), -1) {
		names = append(names, m[1])
	}
	slices.Sort(names)
	if names = slices.Compact(names); !slices.Equal(names, variables) {
		t.Errorf("variables: got %q, want %q", names, variables)
	}
}

// With scope in its registration, a client gets of the realm's default scopes only basic. So
// each scope must bring everything that the gateway needs of a token.
func TestEachScopeOfTheRealmIsEnough(t *testing.T) {
	text, err := os.ReadFile(realmFile)
	if err != nil {
		t.Fatal(err)
	}
	var realm struct {
		ClientScopes []struct {
			Name       string            `json:"name"`
			Attributes map[string]string `json:"attributes"`
			Mappers    []struct {
				Name   string            `json:"name"`
				Config map[string]string `json:"config"`
			} `json:"protocolMappers"`
		} `json:"clientScopes"`
	}
	if err := json.Unmarshal(text, &realm); err != nil {
		t.Fatal(err)
	}
	servers := map[string]string{ // audience by scope
		"stocks/read": "${MCP_RESOURCE_URL}", "stocks/trade": "${MCP_RESOURCE_URL}", "advisor/use": "${ADVISOR_RESOURCE_URL}",
	}
	found := 0
	for _, scope := range realm.ClientScopes {
		server, ok := servers[scope.Name]
		if !ok {
			if strings.Contains(scope.Name, "/") {
				t.Errorf("%s: expected a server that it is for", scope.Name)
			}
			continue
		}
		found++
		if scope.Attributes["consent.screen.text"] == "" || scope.Attributes["display.on.consent.screen"] != "true" {
			t.Errorf("%s: expected words for the consent page", scope.Name)
		}
		var audiences, claims []string
		for _, m := range scope.Mappers {
			audience := m.Config["included.client.audience"] + m.Config["included.custom.audience"]
			if audience != "" {
				audiences = append(audiences, audience)
				// Otherwise lightweight tokens have no audience, and cannot be exchanged.
				if m.Config["lightweight.claim"] != "true" {
					t.Errorf("%s: %s: expected lightweight.claim", scope.Name, m.Name)
				}
			} else if m.Config["lightweight.claim"] == "true" {
				t.Errorf("%s: %s: expected it in introspection only", scope.Name, m.Name)
			}
			if name := m.Config["claim.name"]; name != "" {
				claims = append(claims, name)
			}
		}
		slices.Sort(audiences)
		slices.Sort(claims)
		if want := []string{server, "api-gateway-client", "mcp-server"}; !slices.Equal(audiences, want) {
			t.Errorf("%s: audiences: got %q, want %q", scope.Name, audiences, want)
		}
		if want := []string{"client_assurance_level", "client_type", "region"}; !slices.Equal(claims, want) {
			t.Errorf("%s: claims: got %q, want %q", scope.Name, claims, want)
		}
	}
	if found != len(servers) {
		t.Errorf("scopes of the sample: got %d, want %d", found, len(servers))
	}
}
