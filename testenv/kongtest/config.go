package kongtest

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Config is a gateway to be started: what kong.conf, the declarative configuration and the
// environment are for Kong. Exactly one of File and YAML is required, everything else has a
// default.
type Config struct {
	// File is the path of a kong.yml.
	File string
	// YAML is the text of a kong.yml.
	YAML []byte
	// Addresses maps texts of the configuration ("mcp.internal:9000") to what stands there
	// in this run ("127.0.0.1:40123"). They are replaced in the text before it is parsed,
	// the longest first.
	Addresses map[string]string

	// Plugins maps the names of the enabled plugins to their binaries. As in Kong, the
	// name must be the one that the binary prints for -dump.
	Plugins map[string]string
	// Env is the environment of the gateway. {vault://env/NAME} reads it. The plugin
	// processes inherit none of it, see MainEnv.
	Env map[string]string
	// MainEnv names the variables of Env that plugin processes inherit, like
	// nginx_main_env in kong.conf.
	MainEnv []string

	// Listen is the address of the HTTP listener; empty means a free port of 127.0.0.1.
	Listen string
	// Certificate opens a second, HTTPS listener; nil opens none.
	Certificate *tls.Certificate
	// ListenTLS is the address of the HTTPS listener; empty means a free port of 127.0.0.1.
	ListenTLS string
	// RequestClientCertificates asks HTTPS clients for a certificate without verifying it,
	// like nginx_proxy_ssl_verify_client = optional_no_ca.
	RequestClientCertificates bool

	// Workers is the number of workers, each with its own instances of every plugin and
	// its own connections to them. Zero means 2. Connections of clients go round them.
	Workers int
	// TrustedIPs are the peers, addresses or CIDR ranges, whose X-Forwarded-* headers and
	// RealIPHeader are believed. None by default.
	TrustedIPs []string
	// RealIPHeader is the header from which a trusted peer's client address is taken:
	// X-Real-IP (the default) or X-Forwarded-For.
	RealIPHeader string
	// HeaderBuffers bounds a request head, like large_client_header_buffers. Zero means
	// nginx's 4 buffers of 8 KiB.
	HeaderBuffers HeaderBuffers
	// PluginTimeout bounds every wait for a plugin. Zero means Kong's 60 seconds.
	PluginTimeout time.Duration

	// Log receives the gateway's error.log: its own lines, the output of the plugin
	// processes and kong.log. Nil discards it. Writes are serialized, one line each.
	Log io.Writer
	// LogLevel is the least level written: debug, info, notice, warn, error or crit.
	// Empty means info, because what plugins print comes at info.
	LogLevel string
	// Now is the clock of the log and of the latency headers; nil means time.Now.
	Now func() time.Time

	// servers replaces the processes of some plugins by sockets managed elsewhere, like a
	// plugin server without start command. Tests replay recordings through it.
	servers map[string]externalServer
}

// HeaderBuffers is nginx's large_client_header_buffers: a request line or header line must
// fit into one buffer, all of them together into Number buffers.
type HeaderBuffers struct {
	Number int
	Size   int // bytes
}

// externalServer is a plugin server that kongtest does not start.
type externalServer struct {
	dump   []byte // what -dump would print
	socket string
}

const (
	defaultWorkers       = 2
	defaultPluginTimeout = 60 * time.Second
	defaultRealIPHeader  = "X-Real-IP"
)

// withDefaults returns cfg with every default filled in, or all that is wrong with it.
func (cfg Config) withDefaults() (Config, error) {
	var errs []error
	if (cfg.File == "") == (cfg.YAML == nil) {
		errs = append(errs, errors.New("config: expected exactly one of File and YAML"))
	}
	if cfg.Workers == 0 {
		cfg.Workers = defaultWorkers
	}
	if cfg.Workers < 0 {
		errs = append(errs, fmt.Errorf("config: expected Workers to be positive, got %d", cfg.Workers))
	}
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	if cfg.ListenTLS == "" {
		cfg.ListenTLS = "127.0.0.1:0"
	}
	if cfg.RealIPHeader == "" {
		cfg.RealIPHeader = defaultRealIPHeader
	}
	if cfg.HeaderBuffers == (HeaderBuffers{}) {
		cfg.HeaderBuffers = HeaderBuffers{Number: 4, Size: 8 << 10}
	}
	if cfg.HeaderBuffers.Number < 1 || cfg.HeaderBuffers.Size < firstHeaderBuffer {
		errs = append(errs, fmt.Errorf("config: expected HeaderBuffers of at least 1 × %d bytes, got %d × %d",
			firstHeaderBuffer, cfg.HeaderBuffers.Number, cfg.HeaderBuffers.Size))
	}
	if cfg.PluginTimeout == 0 {
		cfg.PluginTimeout = defaultPluginTimeout
	}
	if cfg.Log == nil {
		cfg.Log = io.Discard
	}
	if cfg.LogLevel == "" {
		cfg.LogLevel = "info"
	}
	if _, ok := parseLevel(cfg.LogLevel); !ok {
		errs = append(errs, fmt.Errorf("config: expected LogLevel to be one of debug, info, notice, warn, error, crit, got %q", cfg.LogLevel))
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	for _, name := range cfg.MainEnv {
		if _, ok := cfg.Env[name]; !ok {
			errs = append(errs, fmt.Errorf("config: expected MainEnv to name variables of Env, got %q", name))
		}
	}
	if _, err := parseTrusted(cfg.TrustedIPs); err != nil {
		errs = append(errs, err)
	}
	for name, path := range cfg.Plugins {
		if _, bundled := bundledPlugins()[name]; bundled {
			errs = append(errs, fmt.Errorf("config: plugin %q is one of Kong's own, which kongtest does not model", name))
		}
		if filepath.Base(path) != name {
			errs = append(errs, fmt.Errorf("config: expected the binary of plugin %q to have that name, got %q: the plugin takes its name from its file", name, filepath.Base(path)))
		}
	}
	return cfg, errors.Join(errs...)
}

// text returns the declarative configuration with the addresses of this run.
func (cfg *Config) text() ([]byte, error) {
	text := cfg.YAML
	if cfg.File != "" {
		var err error
		if text, err = os.ReadFile(cfg.File); err != nil {
			return nil, fmt.Errorf("reading the declarative configuration: %w", err)
		}
	}
	return cfg.replaceAddresses(text), nil
}

func (cfg *Config) replaceAddresses(text []byte) []byte {
	var pairs []string
	for _, from := range longestFirst(cfg.Addresses) {
		pairs = append(pairs, from, cfg.Addresses[from])
	}
	return []byte(strings.NewReplacer(pairs...).Replace(string(text)))
}

// parseTrusted reads trusted_ips: addresses and CIDR ranges.
func parseTrusted(texts []string) ([]netip.Prefix, error) {
	var prefixes []netip.Prefix
	for _, text := range texts {
		if addr, err := netip.ParseAddr(text); err == nil {
			prefixes = append(prefixes, netip.PrefixFrom(addr, addr.BitLen()))
			continue
		}
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("config: expected TrustedIPs to be addresses or CIDR ranges, got %q", text)
		}
		prefixes = append(prefixes, p.Masked())
	}
	return prefixes, nil
}
