package pluginserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"github.com/Kong/go-pdk/server/kong_plugin_protocol"
	"google.golang.org/protobuf/proto"
)

// Config says what a server serves.
type Config struct {
	// Socket is the path of the Unix socket. A socket that an earlier process left there
	// is removed.
	Socket string
	// Start makes the instance of one plugin configuration, the JSON object as Kong sent it.
	// It cannot fail, because Kong has no use for the failure: an instance that cannot work
	// answers its requests accordingly. It is called from many goroutines at once.
	Start func(config []byte) Instance
	// EventTimeout bounds one event. Kong itself gives up after 60 seconds. Default 20 s.
	EventTimeout time.Duration
	// CloseGrace is how long an instance stays usable after Kong has closed it. Default 60 s.
	CloseGrace time.Duration
	// StopTimeout bounds how long Serve waits for events that run when it is told to stop.
	// Default 5 s.
	StopTimeout time.Duration
	Now         func() time.Time // nil: time.Now
	Logger      *slog.Logger     // nil: discard
}

// Server serves the plugin on its socket. Make one with Listen.
type Server struct {
	cfg       Config
	log       *slog.Logger
	now       func() time.Time
	socket    *socket
	instances *instances

	mu      sync.Mutex
	conns   map[*conn]struct{}
	closing bool
	served  sync.WaitGroup // connections
}

// Listen opens the socket. Kong may connect from then on; it is served by Serve.
func Listen(cfg Config) (*Server, error) {
	s := newServer(cfg)
	var err error
	if s.socket, err = listen(cfg.Socket); err != nil {
		return nil, err
	}
	return s, nil
}

func newServer(cfg Config) *Server {
	if cfg.EventTimeout <= 0 {
		cfg.EventTimeout = 20 * time.Second
	}
	if cfg.CloseGrace <= 0 {
		cfg.CloseGrace = time.Minute
	}
	if cfg.StopTimeout <= 0 {
		cfg.StopTimeout = 5 * time.Second
	}
	s := &Server{cfg: cfg, log: cfg.Logger, now: cfg.Now, conns: map[*conn]struct{}{}}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	s.instances = newInstances(s.start, cfg.CloseGrace, s.now)
	return s
}

// Serve accepts connections until ctx ends. Then it removes the socket, lets the events
// that run finish for StopTimeout, closes all connections and instances and returns nil.
func (s *Server) Serve(ctx context.Context) error {
	events, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()

	accepting := make(chan error, 1)
	go func() { accepting <- s.accept(events) }()
	var err error
	select {
	case <-ctx.Done():
		s.socket.close()
		<-accepting
	case err = <-accepting:
		s.socket.close()
	}
	s.stop(cancel)
	return err
}

func (s *Server) accept(events context.Context) error {
	const maxPause = time.Second
	pause := time.Duration(0)
	for {
		nc, err := s.socket.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil && pause >= 10*maxPause:
			return fmt.Errorf("accepting connections on %s: %w", s.cfg.Socket, err)
		case err != nil:
			// Out of file descriptors, most likely: those in use are worth keeping.
			s.log.Warn("accepting a connection failed", "err", err)
			pause += maxPause / 10
			select {
			case <-events.Done():
				return nil
			case <-time.After(min(pause, maxPause)):
			}
			continue
		}
		pause = 0
		s.add(events, newConn(nc))
	}
}

func (s *Server) add(events context.Context, c *conn) {
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		_ = c.net.Close() // came too late to be served
		return
	}
	s.conns[c] = struct{}{}
	s.served.Add(1)
	s.mu.Unlock()
	go func() {
		defer s.served.Done()
		s.serve(events, c)
		_ = c.net.Close() // its end is no news to either side
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	}()
}

// stop ends all connections: first those that wait, after StopTimeout the rest.
func (s *Server) stop(cancelEvents context.CancelFunc) {
	s.mu.Lock()
	s.closing = true
	for c := range s.conns {
		c.stop()
	}
	s.mu.Unlock()

	done := make(chan struct{})
	go func() {
		s.served.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(s.cfg.StopTimeout):
		cancelEvents()
		s.mu.Lock()
		s.log.Warn("stopping with events still running", "connections", len(s.conns))
		for c := range s.conns {
			_ = c.net.Close() // ends every wait for Kong
		}
		s.mu.Unlock()
		// What ignores its context and its connection is left behind.
		select {
		case <-done:
		case <-time.After(time.Second):
		}
	}
	s.instances.closeAll()
}

// serve works through the calls of one connection.
func (s *Server) serve(events context.Context, c *conn) {
	for {
		call, err := c.next()
		if err != nil {
			if !isGone(err) {
				s.log.Warn("reading from kong failed", "err", err)
			}
			return
		}
		if !c.resume() {
			return
		}
		c.setDeadline(s.cfg.EventTimeout)
		err = s.exchange(events, c, call)
		if err != nil {
			if !isGone(err) {
				s.log.Warn("closing a connection to kong", "err", err)
			}
			return
		}
		c.setDeadline(0)
		if !c.pause() {
			return
		}
	}
}

// exchange answers one call. After an error the connection is of no use.
func (s *Server) exchange(events context.Context, c *conn, payload []byte) error {
	var call kong_plugin_protocol.RpcCall
	if err := proto.Unmarshal(payload, &call); err != nil {
		return fmt.Errorf("decoding a call: %w", err)
	}
	switch cmd := call.Call.(type) {
	case *kong_plugin_protocol.RpcCall_CmdHandleEvent:
		return s.event(events, c, call.Sequence, cmd.CmdHandleEvent)
	case *kong_plugin_protocol.RpcCall_CmdStartInstance:
		inst := s.instances.open(cmd.CmdStartInstance.GetConfig())
		return c.sendReturn(status(call.Sequence, cmd.CmdStartInstance.GetName(), inst.id, inst.started))
	case *kong_plugin_protocol.RpcCall_CmdCloseInstance:
		id := cmd.CmdCloseInstance.GetInstanceId()
		started, ok := s.instances.close(id)
		if !ok {
			// Another worker was first. That is what the caller wanted, so it is no error.
			started = time.Unix(0, 0)
		}
		return c.sendReturn(status(call.Sequence, "---", id, started))
	default:
		return fmt.Errorf("expected a call to start, close or use an instance, got %T", call.Call)
	}
}

func status(sequence int64, name string, id int32, started time.Time) *kong_plugin_protocol.RpcReturn {
	return &kong_plugin_protocol.RpcReturn{
		Sequence: sequence,
		Return: &kong_plugin_protocol.RpcReturn_InstanceStatus{
			InstanceStatus: &kong_plugin_protocol.InstanceStatus{Name: name, InstanceId: id, StartedAt: started.Unix()},
		},
	}
}

// phaseAccess is the one phase that instances handle.
const phaseAccess = "access"

func (s *Server) event(events context.Context, c *conn, sequence int64, cmd *kong_plugin_protocol.CmdHandleEvent) error {
	inst := s.instances.acquire(cmd.GetInstanceId())
	if inst == nil {
		return fmt.Errorf("event for instance %d, which does not exist here: kong will start it", cmd.GetInstanceId())
	}
	defer s.instances.release(inst)

	e := &Event{conn: c, sequence: sequence}
	if cmd.GetEventName() != phaseAccess {
		return e.Continue()
	}
	ctx, cancel := context.WithTimeout(events, s.cfg.EventTimeout)
	defer cancel()
	s.access(ctx, inst, e)
	if !e.finish() {
		return ErrGone
	}
	return nil
}

func (s *Server) access(ctx context.Context, inst *instance, e *Event) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("handling a request panicked", "panic", describe(p), "stack", string(debug.Stack()))
		}
	}()
	inst.Access(ctx, e)
}

// start guards the making of an instance: whatever happens, Kong gets an instance that
// answers.
func (s *Server) start(config []byte) (inst Instance) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("starting an instance panicked", "panic", describe(p), "stack", string(debug.Stack()))
			inst = brokenInstance{}
		}
	}()
	return guarded{s.cfg.Start(config), s.log}
}

// brokenInstance leaves every event without a decision, which is a 500 for the client.
type brokenInstance struct{}

func (brokenInstance) Access(context.Context, *Event) {}
func (brokenInstance) Close()                         {}

// guarded survives a panic in Close.
type guarded struct {
	Instance
	log *slog.Logger
}

func (g guarded) Close() {
	defer func() {
		if p := recover(); p != nil {
			g.log.Error("closing an instance panicked", "panic", describe(p))
		}
	}()
	g.Instance.Close()
}

// describe says what is known of a panic without its payload, which may hold parts of a
// request. The texts of runtime errors hold none.
func describe(p any) string {
	if err, ok := p.(runtime.Error); ok {
		return err.Error()
	}
	return fmt.Sprintf("%T", p)
}
