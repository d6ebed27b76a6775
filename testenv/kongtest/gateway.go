package kongtest

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"phantomtoken/internal/kongconfig"
)

// Gateway is a running gateway. Its methods are safe for concurrent use.
type Gateway struct {
	cfg     Config
	errlog  *errorLog
	trusted []netip.Prefix
	dir     string // the -kong-prefix of the plugins
	bodyDir string
	nodeID  string
	started time.Time

	plugins   map[string]*plugin
	order     []*plugin
	workers   []*worker
	upstreams upstreamPool
	listeners []net.Listener

	sequence atomic.Int64  // of __seq__, over all workers
	bodies   atomic.Uint64 // of buffered request bodies
	connIDs  atomic.Uint64

	ctx    context.Context
	cancel context.CancelFunc
	tasks  sync.WaitGroup

	shut   func() error // shutdown, once
	reload sync.Mutex   // one at a time

	mu    sync.Mutex
	conns map[*clientConn]struct{}
}

// Start starts the plugins' servers and a gateway for them. It returns when the gateway
// answers, or with all that is wrong: a *ConfigError for a declarative configuration that
// Kong refuses. ctx bounds the start only; Close ends the gateway.
func Start(ctx context.Context, cfg Config) (*Gateway, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	trusted, err := parseTrusted(cfg.TrustedIPs)
	if err != nil {
		return nil, err
	}
	g := &Gateway{
		cfg: cfg, errlog: newErrorLog(cfg.Log, cfg.LogLevel, cfg.Now), trusted: trusted,
		nodeID: kongconfig.RandomUUID(), started: cfg.Now(),
		plugins: map[string]*plugin{}, conns: map[*clientConn]struct{}{},
	}
	g.shut = sync.OnceValue(g.shutdown)
	g.ctx, g.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if err := g.start(ctx); err != nil {
		return nil, errors.Join(err, g.Close())
	}
	return g, nil
}

func (g *Gateway) start(ctx context.Context) error {
	var err error
	// Short, because the path of a Unix socket may have about a hundred characters.
	if g.dir, err = os.MkdirTemp("", "kong"); err != nil {
		return fmt.Errorf("creating the prefix: %w", err)
	}
	g.bodyDir = filepath.Join(g.dir, "client_body_temp")
	if err := os.Mkdir(g.bodyDir, 0o700); err != nil {
		return fmt.Errorf("creating the prefix: %w", err)
	}
	if err := g.startPlugins(ctx); err != nil {
		return err
	}
	text, err := g.cfg.text()
	if err != nil {
		return err
	}
	for range g.cfg.Workers {
		g.workers = append(g.workers, newWorker(g))
	}
	if err := g.apply(text, true); err != nil {
		return err
	}
	return g.listen(ctx)
}

func (g *Gateway) startPlugins(ctx context.Context) error {
	bundled, err := standIns()
	if err != nil {
		return err
	}
	for _, p := range bundled {
		g.plugins[p.name] = p
		g.order = append(g.order, p)
	}
	names := slices.Concat(sortedKeys(g.cfg.Plugins), sortedKeys(g.cfg.servers))
	for _, name := range names {
		p, err := startPlugin(ctx, &g.cfg, name, g.dir, g.errlog)
		if p != nil {
			g.plugins[name] = p // even a failed one has a process to end
		}
		if err != nil {
			return err
		}
		g.order = append(g.order, p)
	}
	slices.SortFunc(g.order, byPriority)
	return nil
}

// apply loads a declarative configuration into every worker.
func (g *Gateway) apply(text []byte, first bool) error {
	d, err := parseDeclarative(text, g.plugins, func(warning string) { g.errlog.printf(levelWarn, "%s", warning) })
	if err != nil {
		return err
	}
	routes := slices.DeleteFunc(slices.Clone(d.Routes), func(r *routeEntity) bool { return r.Upstream != nil && !r.Upstream.Enabled })
	rt, err := newRouter(routes)
	if err != nil {
		return err
	}
	if first {
		// Kong's master process loads the configuration too, before it forks the workers.
		g.sequence.Add(int64(len(d.Plugins)))
	}
	secrets := &vault{env: g.cfg.Env, log: g.errlog, logged: map[string]bool{}}
	for _, w := range g.workers {
		w.loaded.Store(d.load(g, rt, secrets))
	}
	return nil
}

// Reload replaces the declarative configuration, with the addresses of the Config. Requests
// under way keep the old one. As in Kong, every plugin configuration gets a new number, so
// that the next request starts a new instance of it and closes the old one. On an error
// the old configuration stays.
func (g *Gateway) Reload(yaml []byte) error {
	g.reload.Lock()
	defer g.reload.Unlock()
	return g.apply(g.cfg.replaceAddresses(yaml), false)
}

func (g *Gateway) listen(ctx context.Context) error {
	var lc net.ListenConfig
	plain, err := lc.Listen(ctx, "tcp", g.cfg.Listen)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	g.listeners = append(g.listeners, plain)
	if g.cfg.Certificate != nil {
		l, err := lc.Listen(ctx, "tcp", g.cfg.ListenTLS)
		if err != nil {
			return fmt.Errorf("listening for TLS: %w", err)
		}
		config := &tls.Config{Certificates: []tls.Certificate{*g.cfg.Certificate}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
		if g.cfg.RequestClientCertificates {
			config.ClientAuth = tls.RequestClientCert
		}
		g.listeners = append(g.listeners, tls.NewListener(l, config))
	}
	for _, l := range g.listeners {
		g.tasks.Go(func() { g.accept(l) })
	}
	return nil
}

func (g *Gateway) accept(l net.Listener) {
	port := parseEndpoint(l.Addr()).port
	for {
		conn, err := l.Accept()
		if err != nil {
			if g.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			g.errlog.printf(levelAlert, "accept() failed (%v)", err)
			continue
		}
		id := g.connIDs.Add(1)
		c := &clientConn{
			g: g, id: id, Conn: conn, peer: parseEndpoint(conn.RemoteAddr()), port: port,
			worker: g.workers[int(id-1)%len(g.workers)],
			r:      bufio.NewReader(conn),
		}
		c.w = bufio.NewWriter(c)
		if !g.track(c) {
			conn.Close()
			return
		}
		g.tasks.Go(func() {
			defer g.untrack(c)
			c.serve(g.ctx)
		})
	}
}

// track notes an open connection, unless the gateway is being closed.
func (g *Gateway) track(c *clientConn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ctx.Err() != nil {
		return false
	}
	g.conns[c] = struct{}{}
	return true
}

func (g *Gateway) untrack(c *clientConn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.conns, c)
}

// URL returns the address of the HTTP listener, like http://127.0.0.1:8000.
func (g *Gateway) URL() string { return "http://" + g.listeners[0].Addr().String() }

// TLSURL returns the address of the HTTPS listener, empty without one.
func (g *Gateway) TLSURL() string {
	if len(g.listeners) < 2 {
		return ""
	}
	return "https://" + g.listeners[1].Addr().String()
}

// PluginPID returns the process id of a plugin's server: 0 between the death of one and the
// start of the next.
func (g *Gateway) PluginPID(name string) int {
	if p := g.plugins[name]; p != nil && p.process != nil {
		return p.process.currentPID()
	}
	return 0
}

func (g *Gateway) isTrusted(addr netip.Addr) bool {
	return slices.ContainsFunc(g.trusted, func(p netip.Prefix) bool { return p.Contains(addr.Unmap()) })
}

// Close ends the gateway and the plugins' servers, and waits for them. Requests under way
// are cut off. It may be called more than once.
func (g *Gateway) Close() error { return g.shut() }

func (g *Gateway) shutdown() error {
	g.mu.Lock()
	g.cancel()
	for c := range g.conns {
		c.Close()
	}
	g.mu.Unlock()
	var errs []error
	for _, l := range g.listeners {
		errs = append(errs, l.Close())
	}
	var stopping sync.WaitGroup
	for _, p := range g.plugins {
		if p.process != nil {
			stopping.Go(p.process.close)
		}
	}
	stopping.Wait()
	g.tasks.Wait()
	for _, w := range g.workers {
		w.close()
	}
	g.upstreams.close()
	if g.dir != "" {
		errs = append(errs, os.RemoveAll(g.dir))
	}
	return errors.Join(errs...)
}
