package kongtest

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"sort"

	"phantomtoken/internal/kongconfig"
)

// plugin is an enabled plugin: what its -dump says, and its server.
type plugin struct {
	name     string
	priority int
	schema   *kongconfig.Schema // of its configuration, as a subschema of Kong's plugins
	socket   string
	process  *process // nil when managed elsewhere

	// access stands in for one of Kong's own plugins; nil for one with a server.
	access func(x *exchange, config map[string]any) error
}

// dump is what a plugin prints for -dump.
type dump struct {
	Protocol string
	Plugins  []struct {
		Name     string
		Version  string
		Priority json.Number
		Phases   []string
		Schema   json.RawMessage
	}
}

// loadPlugin takes the first plugin of a dump, with the checks that Kong makes of it.
func loadPlugin(name string, data []byte) (*plugin, error) {
	var d dump
	if err := json.Unmarshal(data, &d); err != nil {
		return nil, fmt.Errorf("failed loading external plugins: failed decoding plugin info: %w", err)
	}
	if len(d.Plugins) == 0 {
		return nil, fmt.Errorf("failed loading external plugins: not a plugin info table: %s", name)
	}
	info := d.Plugins[0]
	if d.Protocol != "ProtoBuf:1" {
		return nil, fmt.Errorf("plugin %q: expected the protocol ProtoBuf:1, got %q, which kongtest does not model", name, d.Protocol)
	}
	if info.Name != name {
		return nil, fmt.Errorf("%s plugin is enabled but not installed;\nno plugin found (the binary calls itself %q)", name, info.Name)
	}
	priority, err := info.Priority.Int64()
	if err != nil {
		return nil, fmt.Errorf("plugin %q cannot be loaded because its PRIORITY field is not a valid integer number, got: %q", name, info.Priority)
	}
	if !regexp.MustCompile(`^\d+(\.\d+){0,2}$`).MatchString(info.Version) {
		return nil, fmt.Errorf("plugin %q cannot be loaded because its VERSION field does not follow the \"x.y.z\" format, got: %q", name, info.Version)
	}
	for _, phase := range info.Phases {
		if phase != "access" && phase != "preread" { // preread is for TCP streams only
			return nil, fmt.Errorf("plugin %q handles the phase %q, which kongtest does not model: only access", name, phase)
		}
	}
	if !slices.Contains(info.Phases, "access") {
		return nil, fmt.Errorf("plugin %q: expected it to handle the phase access, got %q", name, info.Phases)
	}
	s, err := kongconfig.NewSchema(info.Schema)
	if err != nil {
		return nil, fmt.Errorf("error loading plugin schemas: on plugin '%s': %w", name, err)
	}
	return &plugin{name: name, priority: int(priority), schema: s}, nil
}

// startPlugin queries a plugin and starts its server.
func startPlugin(ctx context.Context, cfg *Config, name, prefix string, log *errorLog) (*plugin, error) {
	if ext, ok := cfg.servers[name]; ok {
		p, err := loadPlugin(name, ext.dump)
		if err != nil {
			return nil, err
		}
		p.socket = ext.socket
		return p, nil
	}
	path, err := filepath.Abs(cfg.Plugins[name])
	if err != nil {
		return nil, fmt.Errorf("finding the binary of plugin %q: %w", name, err)
	}
	data, err := query(ctx, name, path, prefix, append(environ(cfg.Env), "PWD=/"), log)
	if err != nil {
		return nil, err
	}
	p, err := loadPlugin(name, data)
	if err != nil {
		return nil, err
	}
	// The process inherits nothing but PWD, which is the shell's doing, and what
	// nginx_main_env names.
	env := []string{"PWD=/"}
	for _, name := range cfg.MainEnv {
		env = append(env, name+"="+cfg.Env[name])
	}
	p.socket = filepath.Join(prefix, name+".socket")
	p.process, err = startProcess(ctx, name, path, prefix, p.socket, env, log)
	return p, err
}

func environ(m map[string]string) []string {
	env := make([]string, 0, len(m))
	for k, v := range m {
		env = append(env, k+"="+v)
	}
	sort.Strings(env)
	return env
}

// dial connects to the plugin's server.
func (p *plugin) dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "unix", p.socket)
}

// byPriority orders plugins as Kong runs them: by priority, then by name, both downwards.
func byPriority(a, b *plugin) int {
	if a.priority != b.priority {
		return b.priority - a.priority
	}
	switch {
	case a.name > b.name:
		return -1
	case a.name < b.name:
		return 1
	}
	return 0
}

// pluginConfig is one configuration of a plugin as one worker has loaded it.
type pluginConfig struct {
	plugin *plugin
	id     string // of the plugin entity
	seq    int64  // __seq__, the number of this loading
	json   []byte // what the plugin gets
	config map[string]any
}
