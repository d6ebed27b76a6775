package pluginserver_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Kong/go-pdk/server/kong_plugin_protocol"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"phantomtoken/kong-plugin/pluginserver"
)

// syncBuffer collects a log.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func TestHandlerWithoutADecisionIsAnswered500(t *testing.T) {
	const secret = "Bearer marked-token"
	tests := []struct {
		name    string
		access  func(context.Context, *pluginserver.Event)
		wantLog string
	}{
		{
			name:   "ReturnsWithoutDecision",
			access: func(context.Context, *pluginserver.Event) {},
		},
		{
			name:    "Panics",
			access:  func(context.Context, *pluginserver.Event) { panic(errors.New(secret)) },
			wantLog: "*errors.errorString",
		},
		{
			name:    "PanicsInTheRuntime",
			access:  func(context.Context, *pluginserver.Event) { _ = []byte(secret)[:len(secret)+len(t.Name())] },
			wantLog: "slice bounds out of range",
		},
		{
			name: "PanicsAfterQuestions",
			access: func(_ context.Context, e *pluginserver.Event) {
				if _, err := e.Ask(pluginserver.GetMethod(), pluginserver.GetHost()); err != nil {
					return
				}
				panic(secret)
			},
			wantLog: "string",
		},
		{
			name: "ContinuesWithAHeaderOutsideUTF8",
			access: func(_ context.Context, e *pluginserver.Event) {
				if e.Continue(pluginserver.SetServiceHeader("x", "\xff")) == nil {
					t.Error("Continue = nil, want an error")
				}
			},
		},
		{
			name: "ExitsWithAHeaderOutsideUTF8",
			access: func(_ context.Context, e *pluginserver.Event) {
				if e.Exit(401, []pluginserver.Header{{Name: "x", Value: "\xff"}}, nil) == nil {
					t.Error("Exit = nil, want an error")
				}
			},
		},
		{
			name: "ContinuesAfterAFailedQuestion",
			access: func(_ context.Context, e *pluginserver.Event) {
				if _, err := e.Ask(pluginserver.ClearServiceHeader("\xff")); err == nil {
					t.Error("Ask = nil, want an error")
				}
				if e.Continue() == nil {
					t.Error("Continue after a failed Ask = nil, want an error")
				}
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var log syncBuffer
			socket, _, _ := serve(t, pluginserver.Config{
				Start:  startWith(tt.access),
				Logger: slog.New(slog.NewTextHandler(&log, nil)),
			})
			k := dial(t, socket)
			out := k.event(k.start(`{"__seq__":1}`), nil)
			if out.exit.GetStatus() != 500 || string(out.exit.GetBody()) != `{"error":"server_error"}` {
				t.Errorf("exit = %v, want 500 server_error", out.exit)
			}
			if got := out.exit.GetHeaders().GetFields()["Cache-Control"].GetListValue().GetValues(); len(got) != 1 || got[0].GetStringValue() != "no-store" {
				t.Errorf("Cache-Control = %v, want no-store", got)
			}
			// The next request is served as if nothing had happened.
			k = dial(t, socket)
			k.event(1, nil)
			if !strings.Contains(log.String(), tt.wantLog) {
				t.Errorf("log is %q, want %q in it", log.String(), tt.wantLog)
			}
			if strings.Contains(log.String(), "marked-token") {
				t.Errorf("log holds the payload of the panic: %q", log.String())
			}
		})
	}
}

func TestInstanceThatPanicsAtStartAnswers500(t *testing.T) {
	socket, _, _ := serve(t, pluginserver.Config{
		Start: func([]byte) pluginserver.Instance { panic("no") },
	})
	k := dial(t, socket)
	if out := k.event(k.start(`{"__seq__":7}`), nil); out.exit.GetStatus() != 500 {
		t.Errorf("exit = %v, want 500", out.exit)
	}
}

func TestUnhandledPhaseIsAnswered(t *testing.T) {
	socket, _, _ := serve(t, pluginserver.Config{Start: startWith(func(context.Context, *pluginserver.Event) {
		t.Error("access was called")
	})})
	k := dial(t, socket)
	id := k.start(`{}`)
	for _, phase := range []string{"log", "certificate", ""} {
		k.startEvent(id, phase)
		if out := k.finishEvent(nil); out.calls != nil {
			t.Errorf("phase %q: calls = %v, want none", phase, out.calls)
		}
	}
}

func TestEventOfUnknownInstanceClosesTheConnection(t *testing.T) {
	socket, _, _ := serve(t, pluginserver.Config{Start: startWith(passThrough)})
	k := dial(t, socket)
	k.startEvent(99, "access")
	k.readEnd()
}

func TestUnknownCallClosesTheConnection(t *testing.T) {
	tests := []struct {
		name    string
		payload []byte
	}{
		{"PluginNames", mustMarshal(t, &kong_plugin_protocol.RpcCall{Call: &kong_plugin_protocol.RpcCall_CmdGetPluginNames{
			CmdGetPluginNames: &kong_plugin_protocol.CmdGetPluginNames{},
		}})},
		{"Empty", nil},
		{"NoProtobuf", []byte("\xff\xff\xff")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			socket, _, _ := serve(t, pluginserver.Config{Start: startWith(passThrough)})
			k := dial(t, socket)
			k.write(tt.payload)
			k.readEnd()
		})
	}
}

func TestOversizedFrameClosesTheConnection(t *testing.T) {
	socket, _, _ := serve(t, pluginserver.Config{Start: startWith(passThrough)})
	k := dial(t, socket)
	if _, err := k.conn.Write([]byte{0xff, 0xff, 0xff, 0xff}); err != nil {
		t.Fatal(err)
	}
	k.readEnd()
}

func TestWorkersShareTheInstanceOfOneConfiguration(t *testing.T) {
	var starts atomic.Int32
	socket, server, _ := serve(t, pluginserver.Config{Start: func([]byte) pluginserver.Instance {
		starts.Add(1)
		return handler{access: passThrough}
	}})
	var workers sync.WaitGroup
	for range 8 {
		k := dial(t, socket)
		workers.Go(func() {
			// Lua tables have no order: each worker may write the members differently.
			if id := k.start(`{"__seq__":5,"a":1,"b":[1,2]}`); id != 5 {
				t.Errorf("instance id is %d, want 5", id)
			}
			if id := k.start(`{"b":[1,2],"a":1,"__seq__":5}`); id != 5 {
				t.Errorf("instance id is %d, want 5", id)
			}
			for range 50 {
				k.event(5, nil)
			}
		})
	}
	workers.Wait()
	if starts.Load() != 1 || server.Instances() != 1 {
		t.Errorf("%d starts and %d instances, want 1 and 1", starts.Load(), server.Instances())
	}
}

func TestInstancesWithoutAUniqueNumberGetOne(t *testing.T) {
	socket, server, _ := serve(t, pluginserver.Config{Start: startWith(passThrough)})
	k := dial(t, socket)
	ids := map[int32]bool{}
	for _, config := range []string{
		`{"__seq__":5}`,
		`{"__seq__":5,"client_secret":"another"}`, // a secret changed between two workers
		`{}`, `{}`,
		`{"__seq__":0}`, `{"__seq__":-3}`, `{"__seq__":99999999999}`, `{"__seq__":"x"}`, `no JSON`,
	} {
		id := k.start(config)
		if id <= 0 || ids[id] {
			t.Errorf("start(%s) = %d, want a positive id of its own", config, id)
		}
		ids[id] = true
		k.event(id, nil)
	}
	if server.Instances() != len(ids) {
		t.Errorf("%d instances, want %d", server.Instances(), len(ids))
	}
}

func TestClosedInstanceStaysUsableForItsGrace(t *testing.T) {
	clock := newClock()
	var closed atomic.Int32
	socket, server, _ := serve(t, pluginserver.Config{
		Now: clock.Now,
		Start: func([]byte) pluginserver.Instance {
			return handler{access: passThrough, closed: func() { closed.Add(1) }}
		},
	})
	first, second := dial(t, socket), dial(t, socket)
	first.start(`{"__seq__":1}`)
	second.start(`{"__seq__":1}`)

	// A reload: both workers start the new one and close the old one, the second while it
	// still has requests for it.
	first.start(`{"__seq__":2}`)
	first.close(1)
	clock.Advance(50 * time.Second)
	second.event(1, nil)
	clock.Advance(50 * time.Second) // 100 s after the close, 50 s after the last event
	second.start(`{"__seq__":2}`)
	second.event(1, nil)
	second.close(1)
	if closed.Load() != 0 || server.Instances() != 2 {
		t.Fatalf("%d closed, %d kept, want 0 and 2", closed.Load(), server.Instances())
	}

	clock.Advance(60 * time.Second)
	first.start(`{"__seq__":3}`)
	if closed.Load() != 1 || server.Instances() != 2 {
		t.Errorf("after the grace: %d closed, %d kept, want 1 and 2", closed.Load(), server.Instances())
	}
	first.close(1) // of a third worker
	second.startEvent(1, "access")
	second.readEnd()
}

func TestInstanceThatNobodyClosesEndsWhenIdle(t *testing.T) {
	clock := newClock()
	socket, server, _ := serve(t, pluginserver.Config{Now: clock.Now, Start: startWith(passThrough)})
	k := dial(t, socket)
	k.start(`{"__seq__":1}`)
	k.start(`{"__seq__":2}`)
	clock.Advance(23 * time.Hour)
	k.event(2, nil)
	clock.Advance(time.Hour)
	k.start(`{"__seq__":3}`)
	if server.Instances() != 2 {
		t.Errorf("%d instances, want 2: the idle one ends", server.Instances())
	}
	k.event(2, nil)
}

func TestInstancesAreBounded(t *testing.T) {
	const limit = 4096
	var closed atomic.Int32
	clock := newClock()
	socket, server, _ := serve(t, pluginserver.Config{
		Now: clock.Now,
		Start: func([]byte) pluginserver.Instance {
			return handler{access: passThrough, closed: func() { closed.Add(1) }}
		},
	})
	k := dial(t, socket)
	for i := range limit {
		k.start(fmt.Sprintf(`{"__seq__":%d}`, i+1))
		clock.Advance(time.Millisecond)
	}
	k.close(limit) // the youngest, but of no more use
	k.start(`{"__seq__":5000}`)
	k.start(`{"__seq__":5001}`)
	if server.Instances() != limit || closed.Load() != 2 {
		t.Errorf("%d instances, %d closed, want %d and 2", server.Instances(), closed.Load(), limit)
	}
	k.event(2, nil)
	k.startEvent(limit, "access")
	k.readEnd()
}

func TestInstanceIsNotClosedUnderARunningEvent(t *testing.T) {
	clock := newClock()
	entered, proceed, closed := make(chan struct{}), make(chan struct{}), make(chan struct{})
	socket, server, _ := serve(t, pluginserver.Config{
		Now: clock.Now,
		Start: func([]byte) pluginserver.Instance {
			return handler{
				access: func(_ context.Context, e *pluginserver.Event) {
					close(entered)
					<-proceed
					select {
					case <-closed:
						t.Error("instance was closed under a running event")
					default:
					}
					_ = e.Continue()
				},
				closed: func() { close(closed) },
			}
		},
	})
	worker, other := dial(t, socket), dial(t, socket)
	worker.start(`{"__seq__":1}`)
	worker.startEvent(1, "access")
	<-entered
	other.close(1)
	clock.Advance(2 * time.Minute)
	other.start(`{"__seq__":2,"x":1}`)
	if server.Instances() != 2 {
		t.Errorf("%d instances, want 2", server.Instances())
	}
	close(proceed)
	worker.finishEvent(nil)
}

func TestQuestionsAndChangesLeaveInOneWriteEach(t *testing.T) {
	client, plugin := net.Pipe()
	counted := &countingConn{Conn: plugin}
	server := pluginserver.NewDetached(pluginserver.Config{Start: startWith(func(_ context.Context, e *pluginserver.Event) {
		replies, err := e.Ask(pluginserver.GetHeaders(pluginserver.MaxHeaders), pluginserver.GetPathWithQuery())
		if err != nil {
			t.Errorf("Ask: %v", err)
			return
		}
		headers, err := replies[0].Headers()
		if err != nil || len(headers) != 1 || headers[0] != (pluginserver.Header{Name: "accept", Value: "*/*"}) {
			t.Errorf("Headers = %v, %v", headers, err)
		}
		if path, err := replies[1].Text(); err != nil || path != "/a?b" {
			t.Errorf("Text = %q, %v", path, err)
		}
		if err := e.Continue(pluginserver.ClearServiceHeader("x_user"), pluginserver.SetServiceHeader("Authorization", "Bearer x"), pluginserver.SetResponseHeader("Vary", "Origin")); err != nil {
			t.Errorf("Continue: %v", err)
		}
	})})
	go server.ServeConn(t.Context(), counted)
	k := newKong(t, client)
	defer client.Close()
	id := k.start(`{}`)
	counted.writes.Store(0)
	out := k.event(id, func(method string, _ []byte) proto.Message {
		switch method {
		case "kong.request.get_headers":
			return &structpb.Struct{Fields: map[string]*structpb.Value{"accept": structpb.NewStringValue("*/*")}}
		case "kong.request.get_path_with_query":
			return &kong_plugin_protocol.String{V: "/a?b"}
		}
		return nil
	})
	want := "kong.request.get_headers kong.request.get_path_with_query kong.service.request.clear_header kong.service.request.set_header kong.response.set_header"
	if got := strings.Join(out.calls, " "); got != want {
		t.Errorf("calls are %s\nwant %s", got, want)
	}
	if got := counted.writes.Load(); got != 2 {
		t.Errorf("%d writes, want 2", got)
	}
}

type countingConn struct {
	net.Conn
	writes atomic.Int32
}

func (c *countingConn) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

func TestEventEndsQuietlyWhenKongCloses(t *testing.T) {
	var log syncBuffer
	returned := make(chan error, 1)
	socket, _, stop := serve(t, pluginserver.Config{
		Logger: slog.New(slog.NewTextHandler(&log, nil)),
		Start: startWith(func(_ context.Context, e *pluginserver.Event) {
			_, err := e.Ask(pluginserver.GetRoute())
			returned <- err
		}),
	})
	k := dial(t, socket)
	k.startEvent(k.start(`{}`), "access")
	k.read()
	k.read()
	_ = k.conn.Close()
	if err := <-returned; !errors.Is(err, pluginserver.ErrGone) {
		t.Errorf("Ask = %v, want ErrGone", err)
	}
	stop()
	if log.String() != "" {
		t.Errorf("log is %q, want nothing", log.String())
	}
}

// A Kong that stops talking must not hold a handler: each wait has its end, and the sum
// stays below the 60 seconds after which Kong gives up.
func TestEventHasADeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, plugin := net.Pipe()
		defer client.Close()
		began := time.Now()
		var asked, ctxEnded time.Duration
		server := pluginserver.NewDetached(pluginserver.Config{
			EventTimeout: 20 * time.Second,
			Start: startWith(func(ctx context.Context, e *pluginserver.Event) {
				_, err := e.Ask(pluginserver.GetMethod())
				asked = time.Since(began)
				if !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("Ask = %v, want os.ErrDeadlineExceeded", err)
				}
				<-ctx.Done()
				ctxEnded = time.Since(began)
			}),
		})
		done := make(chan struct{})
		go func() {
			server.ServeConn(t.Context(), plugin)
			_ = plugin.Close()
			close(done)
		}()
		k := newKong(t, client)
		k.startEvent(k.start(`{}`), "access")
		k.read() // the question, which gets no reply
		k.read()
		_ = client.SetReadDeadline(time.Time{})
		method, err := pluginserver.ReadFrame(k.r)
		if err != nil || string(method) != "kong.response.exit" {
			t.Fatalf("after the deadline: %q, %v, want kong.response.exit", method, err)
		}
		var exit kong_plugin_protocol.ExitArgs
		if err := proto.Unmarshal(k.read(), &exit); err != nil || exit.Status != 500 {
			t.Errorf("exit = %v, %v, want 500", &exit, err)
		}
		<-done // though Kong never closes
		if asked != 20*time.Second || ctxEnded != 20*time.Second {
			t.Errorf("Ask ended after %v and the context after %v, want 20s", asked, ctxEnded)
		}
		if total := time.Since(began); total > 40*time.Second {
			t.Errorf("the event took %v, want at most 40s", total)
		}
	})
}

func TestExitDoesNotWaitForeverForKong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, plugin := net.Pipe()
		defer client.Close()
		server := pluginserver.NewDetached(pluginserver.Config{
			Start: startWith(func(_ context.Context, e *pluginserver.Event) { _ = e.Exit(401, nil, nil) }),
		})
		done := make(chan struct{})
		go func() {
			server.ServeConn(t.Context(), plugin)
			close(done)
		}()
		k := newKong(t, client)
		k.startEvent(k.start(`{}`), "access")
		k.read()
		k.read()
		began := time.Now()
		<-done
		if waited := time.Since(began); waited != 10*time.Second {
			t.Errorf("Exit waited %v for Kong's close, want 10s", waited)
		}
	})
}

func TestStopLetsRunningEventsFinish(t *testing.T) {
	entered, proceed := make(chan struct{}), make(chan struct{})
	var closed atomic.Bool
	socket, _, stop := serve(t, pluginserver.Config{Start: func([]byte) pluginserver.Instance {
		return handler{
			access: func(_ context.Context, e *pluginserver.Event) {
				close(entered)
				<-proceed
				_ = e.Continue()
			},
			closed: func() { closed.Store(true) },
		}
	}})
	idle, busy := dial(t, socket), dial(t, socket)
	idle.start(`{"__seq__":1}`)
	busy.startEvent(1, "access")
	<-entered
	stopped := make(chan struct{})
	go func() {
		stop()
		close(stopped)
	}()
	idle.readEnd() // closed at once
	close(proceed)
	busy.finishEvent(nil)
	busy.readEnd()
	<-stopped
	if _, err := os.Stat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("socket after stop: %v, want it removed", err)
	}
	if !closed.Load() {
		t.Error("instance was not closed")
	}
	noGoroutines(t)
}

func TestStopDoesNotWaitForeverForAnEvent(t *testing.T) {
	entered := make(chan struct{})
	socket, _, stop := serve(t, pluginserver.Config{
		StopTimeout: 10 * time.Millisecond,
		Start: startWith(func(ctx context.Context, _ *pluginserver.Event) {
			close(entered)
			<-ctx.Done()
		}),
	})
	k := dial(t, socket)
	k.startEvent(k.start(`{}`), "access")
	<-entered
	stop()
	noGoroutines(t)
}

// noGoroutines fails while goroutines of the server are left.
func noGoroutines(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(testTimeout)
	for {
		var b bytes.Buffer
		_ = pprof.Lookup("goroutine").WriteTo(&b, 2)
		if !strings.Contains(b.String(), "pluginserver.(*Server)") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("goroutines of the server are left:\n%s", b.String())
		}
	}
}

func TestListenReplacesAnOldSocketAndNothingElse(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "plugin.socket")
	old, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	old.SetUnlinkOnClose(false)
	_ = old.Close() // leaves its file behind, as a killed process does

	_, _, stop := serve(t, pluginserver.Config{Socket: path, Start: startWith(passThrough)})
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket is %v, %v, want mode 0600", info, err)
	}
	// A successor takes the place over; the predecessor's end must not take it away.
	serve(t, pluginserver.Config{Socket: path, Start: startWith(passThrough)})
	stop()
	k := dial(t, path)
	k.start(`{}`)

	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{file, filepath.Join(dir, "missing", "s"), filepath.Join(dir, strings.Repeat("x", 200))} {
		if _, err := pluginserver.Listen(pluginserver.Config{Socket: bad}); err == nil {
			t.Errorf("Listen(%s) = nil, want an error", bad)
		}
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "x" {
		t.Errorf("file is %q, %v, want it untouched", b, err)
	}
}

func TestDumpHasTheShapeThatKongReads(t *testing.T) {
	var b bytes.Buffer
	err := pluginserver.Dump(&b, pluginserver.SocketPath("/usr/local/kong", "phantom-token"), pluginserver.PluginInfo{
		Name: "phantom-token", Version: "1.2.3", Priority: 1000,
		Schema: pluginserver.Schema{Name: "phantom-token", Fields: []map[string]any{{"config": map[string]any{"type": "record"}}}},
	})
	want := `{"Protocol":"ProtoBuf:1","SocketPath":"/usr/local/kong/phantom-token.socket","Plugins":[{"Name":"phantom-token","Phases":["access"],"Version":"1.2.3","Priority":1000,"Schema":{"name":"phantom-token","fields":[{"config":{"type":"record"}}]}}]}` + "\n"
	if err != nil || b.String() != want {
		t.Errorf("Dump = %v\n%s\nwant\n%s", err, b.String(), want)
	}
}

func mustMarshal(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
