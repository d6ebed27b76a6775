package kongtest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// claimTimeout is how long a request waits for another that is starting an instance.
	claimTimeout = 10 * time.Second
	// maxRepeats bounds how often one event is repeated for a plugin that closes the
	// connection instead of answering. Kong has no bound and hangs in a loop.
	maxRepeats = 100
)

// worker is one of nginx's worker processes: it has its own plugin instances and its own
// connections to the plugin servers.
type worker struct {
	g      *Gateway
	rpcs   map[string]*rpc // by plugin name
	loaded atomic.Pointer[loadedConfig]

	mu        sync.Mutex
	instances map[string]*instance // by id of the plugin entity
}

// instance is a plugin instance that this worker has started, or is starting.
type instance struct {
	plugin  string
	id      int32
	seq     int64
	started chan struct{} // closed when the start has ended, well or not
}

func newWorker(g *Gateway) *worker {
	w := &worker{g: g, rpcs: map[string]*rpc{}, instances: map[string]*instance{}}
	functions := pdkFunctions()
	for _, p := range g.plugins {
		if p.access == nil {
			w.rpcs[p.name] = newRPC(p, g.cfg.PluginTimeout, functions)
		}
	}
	return w
}

func (w *worker) close() {
	for _, r := range w.rpcs {
		r.pool.close()
	}
}

// instanceID returns the instance for c, starting it if this worker has none for this
// loading of the configuration. The instance of an earlier loading is closed after that.
func (w *worker) instanceID(ctx context.Context, x *exchange, c *pluginConfig) (int32, error) {
	for {
		w.mu.Lock()
		in := w.instances[c.id]
		if in != nil && !in.ready() {
			w.mu.Unlock()
			if err := w.awaitStart(ctx, in, c); err != nil {
				return 0, err
			}
			continue
		}
		if in != nil && in.seq == c.seq {
			w.mu.Unlock()
			return in.id, nil
		}
		claim := &instance{plugin: c.plugin.name, seq: c.seq, started: make(chan struct{})}
		w.instances[c.id] = claim
		w.mu.Unlock()
		return w.start(ctx, x, c, claim, in)
	}
}

func (in *instance) ready() bool {
	select {
	case <-in.started:
		return true
	default:
		return false
	}
}

// awaitStart waits for another request of this worker that is starting the instance.
func (w *worker) awaitStart(ctx context.Context, in *instance, c *pluginConfig) error {
	timer := time.NewTimer(claimTimeout)
	defer timer.Stop()
	select {
	case <-in.started:
		return nil
	case <-ctx.Done():
		return luaErrorf("%v", ctx.Err())
	case <-timer.C:
		w.drop(c.id, in)
		return rpcError(fmt.Sprintf("Could not claim instance_id for %s (key: %s)", c.plugin.name, c.id))
	}
}

func (w *worker) start(ctx context.Context, x *exchange, c *pluginConfig, claim, old *instance) (int32, error) {
	r := w.rpcs[c.plugin.name]
	id, err := r.startInstance(ctx, c)
	if err != nil {
		// Others may succeed. This request ends with 500, whatever went wrong.
		w.drop(c.id, claim)
		close(claim.started)
		x.log(levelError, "[kong] plugin.lua:275 starting instance: "+err.Error())
		return 0, luaError(err.Error())
	}
	claim.id = id
	close(claim.started)
	x.log(levelDebug, fmt.Sprintf("[kong] pb_rpc.lua:340 started plugin server: seq %d, worker %d, instance id %d", c.seq, w.index(), id))
	if old != nil {
		// Kong does not care for an error: another request may have closed it.
		_ = r.closeInstance(ctx, old.id)
	}
	return id, nil
}

// drop forgets an instance, unless another has taken its place.
func (w *worker) drop(key string, in *instance) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.instances[key] == in {
		delete(w.instances, key)
	}
}

// forget forgets every instance of a plugin: its server may have died.
func (w *worker) forget(plugin string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for key, in := range w.instances {
		if in.plugin == plugin {
			delete(w.instances, key)
		}
	}
}

func (w *worker) index() int {
	for i, other := range w.g.workers {
		if other == w {
			return i
		}
	}
	return 0
}

// runAccess runs the access phase of one plugin configuration. It leaves the outcome in
// x.delayed: nil lets the request go on.
func (w *worker) runAccess(ctx context.Context, x *exchange, c *pluginConfig) {
	if c.plugin.access != nil {
		if err := c.plugin.access(x, c.config); err != nil {
			x.log(levelError, "[kong] init.lua:405 "+err.Error())
			x.delayed = x.errorResponse(500, "")
		}
		return
	}
	err := w.handleEvent(ctx, x, c)
	var failed rpcError
	switch {
	case err == nil, errors.Is(err, errExit):
		return
	case errors.As(err, &failed):
		x.log(levelError, "[kong] pb_rpc.lua:383 pluginserver error: "+err.Error())
	default:
		x.log(levelError, "[kong] init.lua:405 "+err.Error())
	}
	x.delayed = x.errorResponse(500, "")
}

// handleEvent sends the event, again and again while the plugin closes the connection
// instead of answering.
func (w *worker) handleEvent(ctx context.Context, x *exchange, c *pluginConfig) error {
	for range maxRepeats {
		id, err := w.instanceID(ctx, x, c)
		if err != nil {
			return err
		}
		err = w.rpcs[c.plugin.name].handleEvent(ctx, x, id, "access")
		if !unknownInstance(err) || ctx.Err() != nil {
			return err
		}
		for _, other := range w.g.workers {
			other.forget(c.plugin.name)
		}
		x.log(levelWarn, "[kong] pb_rpc.lua:380 "+err.Error())
	}
	return luaErrorf("plugin %s closed the connection %d times instead of handling the event; Kong would go on for ever", c.plugin.name, maxRepeats)
}
