// Package doctor walks the way of an MCP client through a running gateway, from the URL
// that a user types to an answer of the MCP server, and says at which step it ends, what
// was seen there, what was expected and what to change. It knows the gateway from outside
// only, so it serves for any gateway.
//
// The rules that it names are those of docs/conformance.md.
package doctor

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"phantomtoken/internal/oauth"
)

// Config says whom to visit. URL is required.
type Config struct {
	// URL is that of the MCP server, as a user types it into a client.
	URL string
	// Token is an access token for it; empty leaves out what needs one. It is sent to URL
	// alone, only over a connection that can be trusted, and never written anywhere.
	Token string
	// Origin is the web origin of a client in a browser; empty means that of MCP Inspector.
	Origin string
	// SharedHost says that the host has several resources, so that nothing is expected at
	// the root well-known path.
	SharedHost bool
	// Register registers a client at the authorization server, and removes it again where
	// the server offers that (RFC 7592). False only looks whether one could.
	Register bool
	// CAs are the authorities that certificates may come from; nil means the system's.
	CAs *x509.CertPool
	// Timeout bounds every single request; zero means 10 seconds.
	Timeout time.Duration
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

const (
	defaultTimeout = 10 * time.Second
	defaultOrigin  = "http://localhost:6274"
)

// Run visits the server. The error says that the configuration cannot be used; everything
// else is in the report.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	if cfg.Timeout == 0 {
		cfg.Timeout = defaultTimeout
	}
	if cfg.Origin == "" {
		cfg.Origin = defaultOrigin
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Timeout < 0 {
		return nil, fmt.Errorf("timeout: expected a positive time, got %s", cfg.Timeout)
	}
	if strings.ContainsFunc(cfg.Token, func(c rune) bool { return c <= 0x20 || c >= 0x7f }) {
		return nil, errors.New("token: expected an access token alone, in printable ASCII, got something else")
	}
	if origin, err := url.Parse(cfg.Origin); err != nil || origin.Host == "" || cfg.Origin != origin.Scheme+"://"+origin.Host {
		return nil, fmt.Errorf("origin: expected scheme://host or scheme://host:port, got %q", cfg.Origin)
	}
	id, err := oauth.ParseResource(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("url: %w", err)
	}
	u, err := url.Parse(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("url: %w", err)
	}
	v := &visit{cfg: cfg, url: u, id: id, report: &Report{URL: cfg.URL}}
	v.gateway, v.others = newClient(cfg, false), newClient(cfg, false)
	v.walk(ctx)
	return v.report, nil
}

// visit is one walk. It is used by one goroutine.
type visit struct {
	cfg    Config
	url    *url.URL
	id     oauth.Resource
	report *Report

	gateway, others *http.Client
	distrusted      bool // the gateway's certificate is bad: it gets no token

	written   []string       // WWW-Authenticate of a POST without token, as it came
	all       []*challenge   // the same, read
	challenge *challenge     // the Bearer challenge among them, if any
	document  map[string]any // protected resource metadata, if any
	servers   []*server      // authorization servers that could be read
	dates     []dated        // Date fields
}

// walk takes the steps in the order in which a client does.
func (v *visit) walk(ctx context.Context) {
	steps := []struct {
		name string
		take func(context.Context, *Step)
	}{
		{"URL", v.address},
		{"connection", v.connection},
		{"401 without a token", v.refusal},
		{"challenge", v.challenged},
		{"metadata at the resource's path", v.metadata},
		{"metadata at the root", v.rootMetadata},
		{"other OAuth paths", v.otherPaths},
		{"web pages", v.webPages},
		{"authorization server", v.authorizationServers},
		{"clocks", v.clocks},
		{"registration of clients", v.registration},
		{"a token that does not exist", v.unknownToken},
		{"your token", v.token},
	}
	for i, s := range steps {
		step := &Step{Number: i + 1, Name: s.name}
		switch {
		case v.report.Unreachable:
			step.skip("not reachable")
		case ctx.Err() != nil:
			step.skip("interrupted")
		default:
			s.take(ctx, step)
		}
		v.report.add(step, v.cfg.Token)
	}
}

// at is the URL of a path on the gateway.
func (v *visit) at(path string) string { return v.url.Scheme + "://" + v.url.Host + path }

// address looks at the URL itself.
func (v *visit) address(_ context.Context, s *Step) {
	s.Seen = v.cfg.URL
	if v.url.Scheme != "https" && !oauth.IsLoopbackHost(v.url.Hostname()) {
		s.fault("BT-12", "http to "+v.url.Host, "https: tokens go over this connection",
			"give the gateway a certificate and use the https URL")
	}
	if strings.HasSuffix(v.url.Path, "/") && v.url.Path != "/" {
		s.note("clients keep or drop the last slash of a URL as they like; tell users the one without it (PR-04)")
	}
}
