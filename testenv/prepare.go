package testenv

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"phantomtoken/internal/keyring"
	"phantomtoken/testenv/authserver"
)

// run is what is needed while starting.
type run struct {
	opts  Options
	stack *Stack

	folder   string
	binaries Binaries
	ports    *ports

	// Addresses.
	gateway, authServer, control, advisor, mcpServer, api, sidecar, egress string
	// Further addresses of the MCP server and the API, so that the recorder can tell who calls.
	mcpServerForAdvisor, apiForEgress string

	gatewaySecret, mcpSecret, advisorSecret string
	phantomKey, sidecarKey                  string // files
	issuer, introspection                   string // URLs; the second of the tap, once it runs
}

func (r *run) onClose(f func() error) { r.stack.closers = append(r.stack.closers, f) }

func (r *run) secret() string {
	s := rand.Text()
	r.stack.Secrets = append(r.stack.Secrets, s)
	return s
}

// password is a secret that people can type.
func (r *run) password() string {
	s := strings.ToLower(rand.Text()[:12])
	r.stack.Secrets = append(r.stack.Secrets, s)
	return s
}

func (r *run) prepareFolder(context.Context) (err error) {
	if r.opts.Folder != "" {
		// Absolute, because the plugin reads its key in a working directory of its own.
		if r.folder, err = filepath.Abs(r.opts.Folder); err != nil {
			return fmt.Errorf("finding the folder for keys: %w", err)
		}
		return os.MkdirAll(r.folder, 0o700)
	}
	folder, err := os.MkdirTemp("", "phantom-token-")
	if err != nil {
		return fmt.Errorf("making a folder for keys: %w", err)
	}
	r.folder = folder
	r.onClose(func() error { return os.RemoveAll(folder) })
	return nil
}

func (r *run) prepareBinaries(ctx context.Context) (err error) {
	r.binaries = r.opts.Binaries
	if r.binaries == (Binaries{}) {
		r.binaries, err = Build(ctx, filepath.Join(r.folder, "bin"))
	}
	return err
}

func (r *run) prepareAddresses(context.Context) error {
	r.ports = &ports{fixed: r.opts.DefaultPorts, held: map[string]net.Listener{}}
	r.onClose(r.ports.releaseAll)
	for _, a := range []struct {
		to   *string
		port int
	}{
		{&r.gateway, portGateway},
		{&r.authServer, portAuthServer},
		{&r.control, portControl},
		{&r.mcpServer, portMCPServer},
		{&r.api, portStocksAPI},
		{&r.sidecar, portSidecar},
		{&r.egress, portEgress},
		{&r.advisor, portAdvisor},
		{&r.mcpServerForAdvisor, 0},
		{&r.apiForEgress, 0},
	} {
		addr, err := r.ports.reserve(a.port)
		if err != nil {
			return err
		}
		*a.to = addr
	}
	if r.opts.Listen != "" {
		r.gateway = r.opts.Listen
	}
	s := r.stack
	s.MCPURL = "http://" + r.gateway + "/mcp"
	s.AdvisorURL = "http://" + r.gateway + "/advisor/mcp"
	s.OtherResource = "http://" + r.gateway + "/other"
	s.APIResource = "http://" + r.gateway + "/api"
	s.PhantomIssuer = "http://" + r.gateway + "/phantom"
	s.MCPServerURL = "http://" + r.mcpServer + "/mcp"
	s.APIURL = "http://" + r.api
	s.SidecarURL = "http://" + r.sidecar
	s.EgressURL = "http://" + r.egress
	s.Recorder.Name(r.gateway, Gateway)
	if r.opts.Provider == nil {
		s.Recorder.Name(r.authServer, AuthServer)
	}
	s.Recorder.Name(r.mcpServer, MCPServer)
	s.Recorder.Name(r.api, StocksAPI)
	s.Recorder.Name(r.mcpServerForAdvisor, MCPServer)
	s.Recorder.Name(r.sidecar, Sidecar)
	s.Recorder.Name(r.egress, Egress)
	return nil
}

func (r *run) prepareSecrets(context.Context) error {
	r.gatewaySecret, r.mcpSecret, r.advisorSecret = r.secret(), r.secret(), r.secret()
	if r.opts.Provider == nil {
		r.stack.Users = []authserver.User{
			{Name: "john.doe@demo.example", Password: r.password(), Region: "USA"},
			{Name: "jane.roe@demo.example", Password: r.password(), Region: "Europe"},
		}
	}
	r.phantomKey = filepath.Join(r.folder, "phantom-token.jwk")
	r.sidecarKey = filepath.Join(r.folder, "sidecar.jwk")
	for _, file := range []string{r.phantomKey, r.sidecarKey} {
		if _, err := keyring.LoadOrCreate(file, "ES256"); err != nil {
			return fmt.Errorf("preparing signing key: %w", err)
		}
		if err := r.noteKey(file); err != nil {
			return fmt.Errorf("preparing signing key: %w", err)
		}
	}
	return nil
}

// noteKey counts the private part of a key among the secrets.
func (r *run) noteKey(file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var key struct {
		D string `json:"d"`
	}
	if err := json.Unmarshal(data, &key); err != nil || key.D == "" {
		return fmt.Errorf("expected a private JWK in %s", file)
	}
	r.stack.Secrets = append(r.stack.Secrets, key.D)
	return nil
}
