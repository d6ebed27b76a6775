package pluginserver_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/Kong/go-pdk/server/kong_plugin_protocol"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"phantomtoken/kong-plugin/pluginserver"
)

// testTimeout bounds every wait of a test for the other side.
const testTimeout = 30 * time.Second

// handler is an instance made of a function.
type handler struct {
	access func(ctx context.Context, e *pluginserver.Event)
	closed func()
}

func (h handler) Access(ctx context.Context, e *pluginserver.Event) { h.access(ctx, e) }
func (h handler) Close() {
	if h.closed != nil {
		h.closed()
	}
}

func startWith(access func(context.Context, *pluginserver.Event)) func([]byte) pluginserver.Instance {
	return func([]byte) pluginserver.Instance { return handler{access: access} }
}

func passThrough(_ context.Context, e *pluginserver.Event) { _ = e.Continue() }

// clock is a clock that tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Unix(1_795_229_887, 0)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// serve runs a server on a socket of its own until the test ends. stop ends it earlier
// and waits.
func serve(t testing.TB, cfg pluginserver.Config) (socket string, server *pluginserver.Server, stop func()) {
	t.Helper()
	if cfg.Socket == "" {
		cfg.Socket = filepath.Join(t.TempDir(), "plugin.socket")
	}
	server, err := pluginserver.Listen(cfg)
	if err != nil {
		t.Fatalf("Listen: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve = %v, want nil", err)
		}
	})
	t.Cleanup(stop)
	return cfg.Socket, server, stop
}

// kong is one connection of a Kong worker.
type kong struct {
	t        testing.TB
	conn     net.Conn
	r        *bufio.Reader
	sequence int64
}

func dial(t testing.TB, socket string) *kong {
	t.Helper()
	conn, err := net.DialTimeout("unix", socket, testTimeout)
	if err != nil {
		t.Fatalf("connecting: %v", err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return newKong(t, conn)
}

func newKong(t testing.TB, conn net.Conn) *kong {
	return &kong{t: t, conn: conn, r: bufio.NewReader(conn)}
}

func (k *kong) write(payload []byte) {
	k.t.Helper()
	_ = k.conn.SetWriteDeadline(time.Now().Add(testTimeout))
	// Kong sends length and payload apart.
	frame := pluginserver.AppendFrame(nil, string(payload))
	if _, err := k.conn.Write(frame[:4]); err != nil {
		k.t.Fatalf("kong: writing: %v", err)
	}
	if len(payload) == 0 {
		return
	}
	if _, err := k.conn.Write(frame[4:]); err != nil {
		k.t.Fatalf("kong: writing: %v", err)
	}
}

func (k *kong) send(m proto.Message) {
	k.t.Helper()
	payload, err := proto.Marshal(m)
	if err != nil {
		k.t.Fatalf("kong: encoding: %v", err)
	}
	k.write(payload)
}

func (k *kong) read() []byte {
	k.t.Helper()
	_ = k.conn.SetReadDeadline(time.Now().Add(testTimeout))
	payload, err := pluginserver.ReadFrame(k.r)
	if err != nil {
		k.t.Fatalf("kong: reading: %v", err)
	}
	return payload
}

// readEnd waits until the plugin has closed.
func (k *kong) readEnd() {
	k.t.Helper()
	_ = k.conn.SetReadDeadline(time.Now().Add(testTimeout))
	if b, err := k.r.ReadByte(); !errors.Is(err, io.EOF) {
		k.t.Fatalf("kong: got byte %#x and error %v, want the plugin to close", b, err)
	}
}

func (k *kong) readReturn() *kong_plugin_protocol.RpcReturn {
	k.t.Helper()
	var ret kong_plugin_protocol.RpcReturn
	if err := proto.Unmarshal(k.read(), &ret); err != nil {
		k.t.Fatalf("kong: decoding RpcReturn: %v", err)
	}
	if ret.Sequence != k.sequence {
		k.t.Fatalf("kong: sequence is %d, want %d", ret.Sequence, k.sequence)
	}
	return &ret
}

// start starts an instance and returns its id.
func (k *kong) start(config string) int32 {
	k.t.Helper()
	k.sequence++
	k.send(&kong_plugin_protocol.RpcCall{
		Sequence: k.sequence,
		Call: &kong_plugin_protocol.RpcCall_CmdStartInstance{
			CmdStartInstance: &kong_plugin_protocol.CmdStartInstance{Name: "plugin", Config: []byte(config)},
		},
	})
	return k.readReturn().GetInstanceStatus().GetInstanceId()
}

func (k *kong) close(id int32) {
	k.t.Helper()
	k.sequence++
	k.send(&kong_plugin_protocol.RpcCall{
		Sequence: k.sequence,
		Call: &kong_plugin_protocol.RpcCall_CmdCloseInstance{
			CmdCloseInstance: &kong_plugin_protocol.CmdCloseInstance{InstanceId: id},
		},
	})
	k.readReturn()
}

func (k *kong) startEvent(id int32, phase string) {
	k.t.Helper()
	k.sequence++
	k.send(&kong_plugin_protocol.RpcCall{
		Sequence: k.sequence,
		Call: &kong_plugin_protocol.RpcCall_CmdHandleEvent{
			CmdHandleEvent: &kong_plugin_protocol.CmdHandleEvent{InstanceId: id, EventName: phase},
		},
	})
}

// outcome is what became of an event: the changes of a request that goes on, or the exit.
type outcome struct {
	calls []string
	exit  *kong_plugin_protocol.ExitArgs
}

// event runs one event and answers its questions by answer, which may be nil.
func (k *kong) event(id int32, answer func(method string, args []byte) proto.Message) outcome {
	k.t.Helper()
	k.startEvent(id, "access")
	return k.finishEvent(answer)
}

func (k *kong) finishEvent(answer func(method string, args []byte) proto.Message) outcome {
	k.t.Helper()
	var out outcome
	for {
		method := string(k.read())
		if method == "" {
			k.readReturn()
			return out
		}
		args := k.read()
		out.calls = append(out.calls, method)
		if method == "kong.response.exit" {
			out.exit = new(kong_plugin_protocol.ExitArgs)
			if err := proto.Unmarshal(args, out.exit); err != nil {
				k.t.Fatalf("kong: decoding ExitArgs: %v", err)
			}
			_ = k.conn.Close() // as Kong does when the request is done
			return out
		}
		var reply proto.Message = &structpb.Struct{}
		if answer != nil {
			if m := answer(method, args); m != nil {
				reply = m
			}
		}
		k.send(reply)
	}
}
