package kongtest_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	kpp "github.com/Kong/go-pdk/server/kong_plugin_protocol"
	"google.golang.org/protobuf/proto"

	"phantomtoken/testenv/kongtest"
)

// fakePlugin answers calls of kongtest and keeps what was called.
type fakePlugin struct {
	*player
	// event answers an event; nil ends it at once. False closes the connection.
	event func(conn net.Conn, call *kpp.RpcCall) bool
	// started answers the start of an instance; nil takes __seq__ as its id.
	started func(conn net.Conn, call *kpp.RpcCall) bool

	mu    sync.Mutex
	calls []string
	conns sync.WaitGroup
}

// serve answers until the listener is closed.
func (p *fakePlugin) serve() {
	p.conns.Go(func() {
		for {
			conn, err := p.listener.Accept()
			if err != nil {
				return
			}
			p.conns.Go(func() {
				defer conn.Close()
				for p.answer(conn) {
				}
			})
		}
	})
	p.t.Cleanup(func() {
		p.listener.Close()
		p.conns.Wait()
	})
}

func (p *fakePlugin) answer(conn net.Conn) bool {
	data, err := kongtest.ReadFrame(conn)
	if err != nil {
		return false
	}
	call := new(kpp.RpcCall)
	if err := proto.Unmarshal(data, call); err != nil {
		p.t.Error(err)
		return false
	}
	ret := &kpp.RpcReturn{Sequence: call.Sequence}
	status := func(id int32) {
		ret.Return = &kpp.RpcReturn_InstanceStatus{InstanceStatus: &kpp.InstanceStatus{InstanceId: id}}
	}
	switch c := call.Call.(type) {
	case *kpp.RpcCall_CmdStartInstance:
		var config struct {
			Seq int32  `json:"__seq__"`
			Tag string `json:"tag"`
		}
		if err := json.Unmarshal(c.CmdStartInstance.Config, &config); err != nil {
			p.t.Error(err)
		}
		p.note("start %d %s", config.Seq, config.Tag)
		if p.started != nil && !p.started(conn, call) {
			return false
		}
		status(config.Seq)
	case *kpp.RpcCall_CmdCloseInstance:
		p.note("close %d", c.CmdCloseInstance.InstanceId)
		status(c.CmdCloseInstance.InstanceId)
	case *kpp.RpcCall_CmdHandleEvent:
		p.note("event %d %s", c.CmdHandleEvent.InstanceId, c.CmdHandleEvent.EventName)
		if p.event != nil && !p.event(conn, call) {
			return false
		}
		p.write(conn, nil)
	}
	p.write(conn, marshal(p.t, ret))
	return true
}

func (p *fakePlugin) note(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls = append(p.calls, fmt.Sprintf(format, args...))
}

// called returns the calls since the last time.
func (p *fakePlugin) called() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	calls := p.calls
	p.calls = nil
	return calls
}

// startFake starts a gateway with a fake plugin on the route /p.
func startFake(t *testing.T, p *fakePlugin, workers int, timeout time.Duration) *gateway {
	t.Helper()
	p.player = newPlayer(t)
	p.serve()
	cfg := kongtest.Config{YAML: []byte(recordedConfig("one", "/other")), Workers: workers, PluginTimeout: timeout}
	cfg.SetServer("probe", []byte(probeDump), p.listener.Addr().String())
	return start(t, cfg, newUpstream(t, nil))
}

// TestStartsInstancesLazily: on the first request of each worker, each with a number of its
// own.
func TestStartsInstancesLazily(t *testing.T) {
	p := new(fakePlugin)
	g := startFake(t, p, 2, patience)
	if calls := p.called(); len(calls) > 0 {
		t.Errorf("before the first request: got %q, want nothing", calls)
	}
	for range 4 { // the connections go round the workers
		g.do("GET", "/p", "", nil)
	}
	want := []string{"start 2 one", "event 2 access", "start 3 one", "event 3 access", "event 2 access", "event 3 access"}
	if calls := p.called(); !slices.Equal(calls, want) {
		t.Errorf("got %q, want %q", calls, want)
	}
	g.do("GET", "/other", "", nil)
	if calls := p.called(); len(calls) > 0 {
		t.Errorf("route without the plugin: got %q, want nothing", calls)
	}
}

// TestReloadStartsNewInstanceThenClosesOld: in every worker, on its next request, also when
// only another route has changed.
func TestReloadStartsNewInstanceThenClosesOld(t *testing.T) {
	p := new(fakePlugin)
	g := startFake(t, p, 2, patience)
	for range 2 {
		g.do("GET", "/p", "", nil)
	}
	p.called()
	if err := g.Reload([]byte(recordedConfig("one", "/another"))); err != nil {
		t.Fatal(err)
	}
	if calls := p.called(); len(calls) > 0 {
		t.Errorf("after Reload: got %q, want nothing before a request", calls)
	}
	for range 3 {
		g.do("GET", "/p", "", nil)
	}
	want := []string{"start 4 one", "close 2", "event 4 access", "start 5 one", "close 3", "event 5 access", "event 4 access"}
	if calls := p.called(); !slices.Equal(calls, want) {
		t.Errorf("got %q, want %q", calls, want)
	}
}

// TestOneStartForConcurrentRequests of a worker.
func TestOneStartForConcurrentRequests(t *testing.T) {
	p := new(fakePlugin)
	starting, goOn := make(chan struct{}), make(chan struct{})
	p.started = func(net.Conn, *kpp.RpcCall) bool {
		close(starting)
		<-goOn
		return true
	}
	g := startFake(t, p, 1, patience)
	var requests sync.WaitGroup
	requests.Go(func() { g.do("GET", "/p", "", nil) })
	<-starting
	for range 5 {
		requests.Go(func() { g.do("GET", "/p", "", nil) })
	}
	close(goOn)
	requests.Wait()
	calls := p.called()
	if slices.Index(calls, "start 2 one") != 0 || len(calls) != 7 {
		t.Errorf("got %q, want one start and six events", calls)
	}
}

// TestRepeatsEventWhenPluginCloses: a plugin that closes the connection instead of
// answering is started again, without end in Kong, with a limit here.
func TestRepeatsEventWhenPluginCloses(t *testing.T) {
	p := new(fakePlugin)
	p.event = func(net.Conn, *kpp.RpcCall) bool { return false }
	g := startFake(t, p, 1, patience)
	if res := g.do("GET", "/p", "", nil); res.StatusCode != 500 || !strings.Contains(res.body, "An unexpected error occurred") {
		t.Errorf("got %d %q, want Kong's 500", res.StatusCode, res.body)
	}
	if calls := p.called(); len(calls) != 200 || calls[198] != "start 2 one" || calls[199] != "event 2 access" {
		t.Errorf("got %d calls, want 100 starts and events", len(calls))
	}
	if n := g.log.count("[warn]"); n != 100 {
		t.Errorf("got %d warnings, want one for each repetition", n)
	}
	g.log.await("closed the connection 100 times instead of handling the event", 1)
}

// TestPluginThatClosesOnStart: no repetition, 500 at once.
func TestPluginThatClosesOnStart(t *testing.T) {
	p := new(fakePlugin)
	p.started = func(net.Conn, *kpp.RpcCall) bool { return false }
	g := startFake(t, p, 1, patience)
	if res := g.do("GET", "/p", "", nil); res.StatusCode != 500 {
		t.Errorf("got %d, want 500", res.StatusCode)
	}
	if calls := p.called(); len(calls) != 1 {
		t.Errorf("got %q, want one start", calls)
	}
	g.log.await("starting instance: closed", 1)
}

// TestPluginThatDoesNotAnswer: 500 after the timeout.
func TestPluginThatDoesNotAnswer(t *testing.T) {
	p := new(fakePlugin)
	hang := make(chan struct{})
	p.event = func(net.Conn, *kpp.RpcCall) bool {
		<-hang
		return false
	}
	g := startFake(t, p, 1, 30*time.Millisecond)
	res := g.do("GET", "/p", "", nil)
	close(hang)
	if res.StatusCode != 500 {
		t.Errorf("got %d, want 500", res.StatusCode)
	}
	g.log.await("pluginserver error: timeout", 1)
}

// TestPluginOutOfStep: an answer to another call.
func TestPluginOutOfStep(t *testing.T) {
	p := new(fakePlugin)
	p.event = func(conn net.Conn, call *kpp.RpcCall) bool {
		p.write(conn, nil)
		p.write(conn, marshal(t, &kpp.RpcReturn{Sequence: call.Sequence + 1}))
		return false
	}
	g := startFake(t, p, 1, patience)
	if res := g.do("GET", "/p", "", nil); res.StatusCode != 500 {
		t.Errorf("got %d, want 500", res.StatusCode)
	}
	g.log.await("assertion failed!", 1)
}

// TestPluginWritesSeveralFramesAtOnce: questions and the end of the event in one write.
func TestPluginWritesSeveralFramesAtOnce(t *testing.T) {
	p := new(fakePlugin)
	frame := func(payload []byte) string {
		var b strings.Builder
		if err := kongtest.WriteFrame(&b, payload); err != nil {
			t.Error(err)
		}
		return b.String()
	}
	p.event = func(conn net.Conn, call *kpp.RpcCall) bool {
		all := frame([]byte("kong.request.get_method")) + frame(nil) +
			frame([]byte("kong.service.request.set_header")) + frame(marshal(t, headerKV("X-A", "1"))) +
			frame(nil) + frame(marshal(t, &kpp.RpcReturn{Sequence: call.Sequence}))
		if _, err := io.WriteString(conn, all); err != nil {
			t.Error(err)
		}
		for _, want := range []string{"\n\x03GET", ""} {
			if got, err := kongtest.ReadFrame(conn); string(got) != want || err != nil {
				t.Errorf("reply: got %q, %v, want %q", got, err, want)
			}
		}
		return true // what follows would be a second end
	}
	g := startFake(t, p, 1, patience)
	if res := g.do("GET", "/p", "", nil); res.StatusCode != 200 || g.upstream.got(t).Header.Get("X-A") != "1" {
		t.Errorf("got %d, want 200 with the header", res.StatusCode)
	}
}

func headerKV(name, value string) *kpp.KV {
	kv := new(kpp.KV)
	kv.K = name
	kv.V = structString(value)
	return kv
}

// TestSeveralPluginsRunByPriority, and the one of the route wins over those of the service
// and of everything.
func TestSeveralPluginsRunByPriority(t *testing.T) {
	up := newUpstream(t, nil)
	yaml := `
_format_version: "3.0"
services:
- name: up
  url: http://upstream:80
  routes:
  - name: p
    paths: ["/p"]
    plugins:
    - {name: low, config: {tag: route}}
  - name: q
    paths: ["/q"]
  plugins:
  - {name: low, config: {tag: service}}
plugins:
- {name: low, config: {tag: global}}
- {name: high, config: {tag: global}}
- {name: unused, enabled: false}
- {name: high, route: q, config: {tag: q}}
routes:
- {name: r, paths: ["/r"], service: up}
- {name: alone, paths: ["/alone"]}
`
	g := start(t, kongtest.Config{YAML: []byte(yaml), Plugins: map[string]string{
		"low": plugin(t, "low", definition{Priority: 10}), "high": plugin(t, "high", definition{Priority: 20}), "unused": plugin(t, "unused", definition{Priority: 30}),
	}}, up)
	for path, want := range map[string]string{"/p": "global route", "/q": "q service", "/r": "global service"} {
		g.do("GET", path, "", map[string]string{"X-Script": `[["tags"]]`})
		if got := strings.Join(up.got(t).Header["X-Tag"], " "); got != want {
			t.Errorf("%s: got the plugins %q, want %q", path, got, want)
		}
	}
	if res := g.do("GET", "/alone", "", map[string]string{"X-Script": `[["exit",200,"from the first"]]`}); res.body != "from the first" {
		t.Errorf("route without service: got %d %q, want the plugin's answer", res.StatusCode, res.body)
	}
	if res := g.do("GET", "/alone", "", nil); res.StatusCode != 503 || !strings.Contains(res.body, "no Service found with those values") {
		t.Errorf("route without service and answer: got %d %q, want 503", res.StatusCode, res.body)
	}
}

// TestStockDump: what go-pdk prints by itself is a schema of types.
func TestStockDump(t *testing.T) {
	g := start(t, kongtest.Config{YAML: []byte(probed), Plugins: map[string]string{"probe": plugin(t, "probe", definition{Stock: true})}}, newUpstream(t, nil))
	config, _ := g.report(`[["config"]]`)[0].(map[string]any)
	if config["tag"] != "one" || config["__seq__"] == nil {
		t.Errorf("got %v, want the tag and Kong's own members", config)
	}
}

// TestPluginProcess: its environment, its name, SIGTERM at the end.
func TestPluginProcess(t *testing.T) {
	up := newUpstream(t, nil)
	g := start(t, kongtest.Config{
		YAML: []byte(probed), Plugins: map[string]string{"probe": plugin(t, "probe", definition{})},
		Env: map[string]string{"SECRET": "s", "SHARED": "x"}, MainEnv: []string{"SHARED"},
	}, up)
	got := g.report(`[["env"],["pid"]]`)
	if want := []any{"PWD=/", "SHARED=x"}; !reflect.DeepEqual(got[0], any(want)) {
		t.Errorf("environment: got %v, want %v", got[0], want)
	}
	pid := g.PluginPID("probe")
	if got[1] != float64(pid) {
		t.Errorf("PluginPID: got %d, want %v", pid, got[1])
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, 0); err == nil {
		t.Errorf("process %d is there after Close", pid)
	}
	g.log.await("terminated: signal: terminated", 1)
	if g.PluginPID("probe") != 0 || g.PluginPID("nobody") != 0 {
		t.Error("PluginPID: got a process, want none")
	}
}

// TestPluginThatDies: its request gets 500, requests in the next second too, then it is
// started again, and the new process starts the instance again.
func TestPluginThatDies(t *testing.T) {
	g := startProbed(t)
	if res := g.script("[]"); res.StatusCode != 200 {
		t.Fatalf("got %d, want 200", res.StatusCode)
	}
	first := g.PluginPID("probe")
	if res := g.script(`[["die"]]`); res.StatusCode != 500 {
		t.Errorf("during the death: got %d, want 500", res.StatusCode)
	}
	g.log.await("external pluginserver 'probe' terminated: exit status 3", 1)
	if res := g.script("[]"); res.StatusCode != 500 {
		t.Errorf("after the death: got %d, want 500", res.StatusCode)
	}
	g.log.await("Listening on socket", 2)
	if res := g.script("[]"); res.StatusCode != 200 {
		t.Errorf("after the new start: got %d, want 200", res.StatusCode)
	}
	if again := g.PluginPID("probe"); again == first || again == 0 {
		t.Errorf("process: got %d, want another than %d", again, first)
	}
}

// TestPluginThatCannotStart fails the start instead of answering 500 for ever.
func TestPluginThatCannotStart(t *testing.T) {
	path := plugin(t, "probe", definition{})
	script := "#!/bin/sh\nfor a in \"$@\"; do if [ \"$a\" = -dump ]; then echo '" + strings.ReplaceAll(probeDump, "\n", "") + "'; exit 0; fi; done\necho cannot start >&2\nexit 1\n"
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	g, err := tryStart(t, kongtest.Config{YAML: []byte(probed), Plugins: map[string]string{"probe": path}}, newUpstream(t, nil))
	if err == nil || !strings.Contains(err.Error(), `starting plugin "probe": expected it to listen`) {
		t.Errorf("got %v, want a refusal", err)
	}
	if n := g.log.count("cannot start"); n == 0 {
		t.Error("got nothing of its output in the log")
	}
}

// TestPluginThatIgnoresSIGTERM is killed.
func TestPluginThatIgnoresSIGTERM(t *testing.T) {
	path := plugin(t, "probe", definition{Phases: []string{"access", "preread"}, Version: "9.9.9"})
	g := start(t, kongtest.Config{YAML: []byte(probed), Plugins: map[string]string{"probe": path}}, newUpstream(t, nil))
	g.script(`[["deaf"]]`)
	pid := g.PluginPID("probe")
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, 0); err == nil {
		t.Errorf("process %d is there after Close", pid)
	}
}

// TestCloseLeavesNothingBehind: no goroutine, no directory.
func TestCloseLeavesNothingBehind(t *testing.T) {
	up := newUpstream(t, nil)
	path := plugin(t, "probe", definition{})
	before := runtime.NumGoroutine()
	cfg := kongtest.Config{YAML: []byte(probed), Plugins: map[string]string{"probe": path}}
	g, err := tryStart(t, cfg, up)
	if err != nil {
		t.Fatal(err)
	}
	idle := g.dial()
	defer idle.Close()
	for _, steps := range []string{"[]", `[["exit",401,""]]`, `[["hdrs",1001]]`, `[["body"]]`} {
		g.do("POST", "/p", strings.Repeat("x", 20<<10), map[string]string{"X-Script": steps})
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	if err := g.Close(); err != nil {
		t.Errorf("second Close: got %v, want nothing", err)
	}
	up.CloseClientConnections()
	up.Config.SetKeepAlivesEnabled(false)
	deadline := time.Now().Add(patience)
	for runtime.NumGoroutine() > before {
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<20)
			t.Fatalf("got %d goroutines, want %d:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
		}
		runtime.Gosched()
	}
	if _, err := net.Dial("tcp", strings.TrimPrefix(g.URL(), "http://")); err == nil {
		t.Error("the listener is there after Close")
	}
}
