package deploy_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// composeFile is the part of docker-compose.yml that is held against something here. The
// loader of Docker Compose reads it as a whole in `make check-deploy`.
type composeFile struct {
	Services map[string]composeService
	Networks map[string]struct{ Internal bool }
	Volumes  map[string]any
}

type composeService struct {
	Image       string
	Build       *struct{ Context, Dockerfile, Target string }
	Environment map[string]string
	DependsOn   map[string]struct{ Condition string } `yaml:"depends_on"`
	Ports       []string
	Volumes     []string
	Tmpfs       []string
	Networks    []string
	Healthcheck struct {
		Test    any
		Disable bool
	}
	Restart     string
	ReadOnly    bool     `yaml:"read_only"`
	CapDrop     []string `yaml:"cap_drop"`
	CapAdd      []string `yaml:"cap_add"`
	SecurityOpt []string `yaml:"security_opt"`
	MemLimit    string   `yaml:"mem_limit"`
	Privileged  bool
	NetworkMode string `yaml:"network_mode"`
	User        string
	Profiles    []string
}

func compose(t *testing.T) composeFile {
	t.Helper()
	var c composeFile
	if err := yaml.Unmarshal([]byte(read(t, "docker-compose.yml")), &c); err != nil {
		t.Fatal(err)
	}
	if len(c.Services) == 0 {
		t.Fatal("docker-compose.yml has no services")
	}
	return c
}

func TestContainersAreHardened(t *testing.T) {
	for name, s := range compose(t).Services {
		var wrong []string
		if !s.ReadOnly {
			wrong = append(wrong, "read_only")
		}
		if !slices.Equal(s.CapDrop, []string{"ALL"}) || len(s.CapAdd) > 0 {
			wrong = append(wrong, "cap_drop")
		}
		if !slices.Contains(s.SecurityOpt, "no-new-privileges:true") || s.Privileged {
			wrong = append(wrong, "security_opt")
		}
		if s.MemLimit == "" {
			wrong = append(wrong, "mem_limit")
		}
		if s.User == "root" || s.User == "0" {
			wrong = append(wrong, "user")
		}
		for _, p := range s.Ports {
			if !strings.HasPrefix(p, "127.0.0.1:") || name != "kong" {
				wrong = append(wrong, "ports "+p)
			}
		}
		for _, p := range s.Tmpfs {
			if !strings.HasSuffix(p, ":mode=1777") { // else it is root's, and nobody here is root
				wrong = append(wrong, "tmpfs "+p)
			}
		}
		// Whatever is waited for must be able to say that it is ready.
		if s.Healthcheck.Test == nil && !(s.Healthcheck.Disable && s.Restart == "no") {
			wrong = append(wrong, "healthcheck")
		}
		if s.Image == "" || strings.HasSuffix(s.Image, ":latest") || s.Build == nil && !strings.Contains(s.Image, ":") {
			wrong = append(wrong, "image "+s.Image)
		}
		if len(wrong) > 0 {
			t.Errorf("service %s: %s", name, strings.Join(wrong, ", "))
		}
	}
}

func TestComposeNamesWhatExists(t *testing.T) {
	c := compose(t)
	for name, s := range c.Services {
		for other, on := range s.DependsOn {
			want := "service_healthy"
			if c.Services[other].Restart == "no" {
				want = "service_completed_successfully"
			}
			if _, ok := c.Services[other]; !ok || on.Condition != want {
				t.Errorf("service %s depends on %s: %q, want an existing service and %q", name, other, on.Condition, want)
			}
		}
		for _, n := range s.Networks {
			if _, ok := c.Networks[n]; !ok {
				t.Errorf("service %s: there is no network %s", name, n)
			}
		}
		for _, v := range s.Volumes {
			source, rest, _ := strings.Cut(v, ":")
			if !strings.HasPrefix(source, ".") {
				if _, ok := c.Volumes[source]; !ok {
					t.Errorf("service %s: there is no volume %s", name, source)
				}
				continue
			}
			if _, err := os.Stat(filepath.Join(root, source)); err != nil || !strings.HasSuffix(rest, ":ro") {
				t.Errorf("service %s mounts %s: %v; want a file of this project, read-only", name, v, err)
			}
		}
		if s.Build != nil {
			file := filepath.Join(root, s.Build.Context, s.Build.Dockerfile)
			if s.Build.Dockerfile == "" {
				file = filepath.Join(root, s.Build.Context, "Dockerfile")
			}
			text, err := os.ReadFile(file)
			if err != nil || s.Build.Target != "" && !strings.Contains(string(text), "AS "+s.Build.Target+"\n") {
				t.Errorf("service %s is built from %s, target %q: %v", name, file, s.Build.Target, err)
			}
		}
	}
	for name, n := range c.Networks {
		if !n.Internal && name != "outside" {
			t.Errorf("network %s: expected it to be internal", name)
		}
	}
	if got := c.Services["kong"].Networks; !slices.Equal(got, []string{"outside", "inside"}) {
		t.Errorf("networks of kong: got %q", got)
	}
	for name, s := range c.Services {
		if name != "kong" && slices.Contains(s.Networks, "outside") {
			t.Errorf("service %s is on the network outside", name)
		}
	}
}

// mounted are the files of this project that a service sees, by their paths in its container.
func (s composeService) mounted() map[string]string {
	out := map[string]string{}
	for _, v := range s.Volumes {
		if parts := strings.Split(v, ":"); strings.HasPrefix(parts[0], "./") && len(parts) > 1 {
			out[parts[1]] = filepath.Join(root, parts[0])
		}
	}
	return out
}

// policyFile is the part of the sidecar's policy file that is held against other files.
type policyFile struct {
	Callers map[string]struct {
		SubjectAudience string `yaml:"subject_audience"`
		AcceptExchanged bool   `yaml:"accept_exchanged"`
		Authentication  struct {
			SecretVariables []string `yaml:"secret_variables"`
		}
		Audiences map[string]any
	}
}

// policyOf reads the file that the sidecar of docker-compose.yml is told to read.
func policyOf(t *testing.T, c composeFile) policyFile {
	t.Helper()
	sidecar := c.Services["sidecar"]
	data, err := os.ReadFile(sidecar.mounted()[sidecar.Environment["TOKEN_EXCHANGE_POLICY_FILE"]])
	if err != nil {
		t.Fatalf("TOKEN_EXCHANGE_POLICY_FILE: expected a file that is mounted: %v", err)
	}
	var p policyFile
	if err := yaml.Unmarshal(data, &p); err != nil {
		t.Fatal(err)
	}
	return p
}

var reference = regexp.MustCompile(`\$\{([A-Z_]+)(:\?[^}]+)?\}`)

// Secrets come from the environment only; .env.example names each of them and nothing else,
// without a value, and starting without them says what to do.
func TestSecretsAreNotCommitted(t *testing.T) {
	var want []string
	for line := range strings.Lines(read(t, ".env.example")) {
		if strings.HasPrefix(line, "#") || strings.TrimSpace(line) == "" {
			continue
		}
		name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok || value != "" {
			t.Errorf(".env.example: %s: expected a name without a value", name)
		}
		want = append(want, name)
	}
	used := map[string]bool{}
	secret := regexp.MustCompile(`SECRET|PASSWORD|AUTH$`)
	for name, s := range compose(t).Services {
		for variable, value := range s.Environment {
			m := reference.FindStringSubmatch(value)
			switch {
			case m != nil && m[2] != ":?run make env":
				t.Errorf("service %s: %s: expected ${NAME:?run make env}, got %s", name, variable, value)
			case m != nil:
				used[m[1]] = true
			case secret.MatchString(variable):
				t.Errorf("service %s: %s has a value in the file", name, variable)
			}
		}
	}
	for _, name := range want {
		if !used[name] {
			t.Errorf(".env.example: docker-compose.yml does not use %s", name)
		}
		delete(used, name)
	}
	for name := range used {
		t.Errorf("docker-compose.yml uses %s, which .env.example does not name", name)
	}
	if !strings.Contains(read(t, ".gitignore"), "\n/.env\n") || !strings.Contains(read(t, ".dockerignore"), "\n.env\n") {
		t.Error("expected .env in .gitignore and .dockerignore")
	}
}

// What one file says of another's part is what that part is told.
func TestFilesAgree(t *testing.T) {
	c := compose(t)
	kong := kongFile(t, "kong.yml")
	env := func(service, variable string) string {
		value := c.Services[service].Environment[variable]
		if value == "" {
			t.Errorf("docker-compose.yml: service %s: expected %s", service, variable)
		}
		return value
	}
	same := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: got %s, want %s", what, got, want)
		}
	}
	mcp, advisor, api := kong.config(t, "stocks-mcp"), kong.config(t, "advisor-mcp"), kong.config(t, "stocks-api")
	issuer := env("keycloak", "KC_HOSTNAME") + "/realms/mcp"
	for _, p := range []pluginConfig{mcp, advisor, api} {
		same("authorization_servers", fmt.Sprint(p.AuthorizationServers), fmt.Sprintf("[%s]", issuer))
		same("token.issuer", p.Token.Issuer, issuer)
		same("introspection_endpoint", p.IntrospectionEndpoint, "http://keycloak:8080/realms/mcp/protocol/openid-connect/token/introspect")
		same("phantom_token.issuer", p.PhantomToken.Issuer, env("sidecar", "TOKEN_EXCHANGE_SUBJECT_ISSUER"))
		same("phantom_token.issuer", p.PhantomToken.Issuer, env("mcp-server", "MCP_SERVER_ISSUER"))
		same("phantom_token.issuer", p.PhantomToken.Issuer, env("advisor", "ADVISOR_ISSUER"))
		same("phantom_token.issuer", p.PhantomToken.Issuer, env("stocks-api", "STOCKS_API_GATEWAY"))
	}
	same("resource", mcp.Resource, env("keycloak", "MCP_RESOURCE_URL"))
	same("resource", advisor.Resource, env("keycloak", "ADVISOR_RESOURCE_URL"))
	same("resource", api.Resource, env("keycloak", "API_RESOURCE_URL"))
	same("audience of the MCP server", mcp.PhantomToken.Audience, env("mcp-server", "MCP_SERVER_AUDIENCE"))
	same("audience of the advisor", advisor.PhantomToken.Audience, env("advisor", "ADVISOR_AUDIENCE"))
	same("audience that the advisor asks for", env("advisor", "ADVISOR_STOCKS_AUDIENCE"), mcp.PhantomToken.Audience)
	same("audience of the API", api.PhantomToken.Audience, env("stocks-api", "STOCKS_API_AUDIENCE"))
	same("audience that the MCP server asks for", env("mcp-server", "MCP_SERVER_API_AUDIENCE"), api.PhantomToken.Audience)
	same("issuer of the sidecar", env("sidecar", "TOKEN_EXCHANGE_ISSUER"), env("stocks-api", "STOCKS_API_ISSUER"))
	same("issuer of the sidecar", env("sidecar", "TOKEN_EXCHANGE_ISSUER"), env("mcp-server", "MCP_SERVER_SIDECAR"))
	same("server whose orders the API takes", env("stocks-api", "STOCKS_API_ORDERS_THROUGH"), env("mcp-server", "MCP_SERVER_CLIENT_ID"))
	same("secret of the gateway", env("kong", "GATEWAY_CLIENT_SECRET"), env("keycloak", "API_GATEWAY_CLIENT_SECRET"))
	same("secret of the MCP server", env("mcp-server", "MCP_SERVER_CLIENT_SECRET"), env("sidecar", "MCP_SERVER_CLIENT_SECRET"))
	same("secret of the advisor", env("advisor", "ADVISOR_CLIENT_SECRET"), env("sidecar", "ADVISOR_CLIENT_SECRET"))

	// Who may what stands in the policy file.
	callers := policyOf(t, c).Callers
	for _, caller := range []struct{ id, audience, may string }{
		{env("mcp-server", "MCP_SERVER_CLIENT_ID"), mcp.PhantomToken.Audience, api.PhantomToken.Audience},
		{env("advisor", "ADVISOR_CLIENT_ID"), advisor.PhantomToken.Audience, mcp.PhantomToken.Audience},
	} {
		p := callers[caller.id]
		same("audience that the sidecar takes of "+caller.id, p.SubjectAudience, caller.audience)
		if _, ok := p.Audiences[caller.may]; !ok {
			t.Errorf("policy file: %s: expected audience %s", caller.id, caller.may)
		}
		for _, name := range p.Authentication.SecretVariables {
			env("sidecar", name)
		}
	}
	if !callers[env("mcp-server", "MCP_SERVER_CLIENT_ID")].AcceptExchanged {
		t.Error("policy file: the MCP server is called with exchanged tokens: expected accept_exchanged")
	}

	// Kong calls its upstreams by the names of services, at the ports that they listen on.
	ports := map[string]string{"keycloak": "8080"}
	for service, variable := range map[string]string{"mcp-server": "MCP_SERVER_LISTEN", "advisor": "ADVISOR_LISTEN", "stocks-api": "STOCKS_API_LISTEN", "sidecar": "TOKEN_EXCHANGE_LISTEN"} {
		ports[service] = strings.TrimPrefix(env(service, variable), "0.0.0.0:")
	}
	for _, s := range kong.Services {
		host, port, _ := strings.Cut(strings.TrimPrefix(s.URL, "http://"), ":")
		if ports[host] == "" || ports[host] != port {
			t.Errorf("kong.yml: service %s: url %s: no service of docker-compose.yml listens there", s.Name, s.URL)
		}
	}
	// What the realm asks of its environment.
	for _, m := range regexp.MustCompile(`\$\{([A-Z_]+)\}`).FindAllStringSubmatch(read(t, "deploy/keycloak/mcp-realm.json"), -1) {
		env("keycloak", m[1])
	}
	// What kong.yml takes from Kong's environment.
	for _, m := range regexp.MustCompile(`\{vault://env/([a-z-]+)\}`).FindAllStringSubmatch(read(t, "kong.yml"), -1) {
		env("kong", strings.ToUpper(strings.ReplaceAll(m[1], "-", "_")))
	}
}
