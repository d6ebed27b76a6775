package kongtest_test

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	kpp "github.com/Kong/go-pdk/server/kong_plugin_protocol"
	"google.golang.org/protobuf/proto"
)

// The recordings in testdata/transcripts, replayed against kongtest: a scripted plugin
// sends the frames that the recorded plugin sent, and every frame that kongtest sends must
// be the one that Kong sent, as a message (the order of fields is not fixed).
//
//	file       how
//	01         whole, from the start of the instance on
//	02 … 18    after a request that starts the instance and is not compared
//	19         the same; the plugin drops the connection, kongtest starts the instance again
//	20, 21     with Reload between that request and the recorded one
//	22         with Reload to a configuration without the plugin; nothing may be sent
//	23         30 events on 10 connections at a time, as one worker took all of them in the
//	           recording; compared event by event, because their order is chance
//	24         the client goes away between two questions
//
// Compared as they are: instance ids, __seq__, __plugin_id, __key__, route and workspace
// ids. Normalised: sequence numbers (by a constant), the listener's address and port, the
// request id, the number of a body's file.

// recordedEvent is an event of a recording.
type recordedEvent struct {
	Dir     string `json:"dir"`
	Conn    int    `json:"conn"`
	Kind    string `json:"kind"`
	Hex     string `json:"hex"`
	Decoded string `json:"decoded"`
}

func (e *recordedEvent) fromKong() bool { return e.Dir == "kong>plugin" }

// payload is the frame without its length.
func (e *recordedEvent) payload(t testing.TB) []byte {
	t.Helper()
	data, err := hex.DecodeString(e.Hex)
	if err != nil || len(data) < 4 || int(binary.LittleEndian.Uint32(data)) != len(data)-4 {
		t.Fatalf("recorded frame %q: want its length and as many bytes", e.Hex)
	}
	return data[4:]
}

// recording is a file of testdata/transcripts.
func recording(t testing.TB, file string) []recordedEvent {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "transcripts", file))
	if err != nil {
		t.Fatal(err)
	}
	var events []recordedEvent
	if err := json.Unmarshal(data, &events); err != nil {
		t.Fatal(err)
	}
	return events
}

// recordedConfig is the configuration of the recorded Kong.
func recordedConfig(tag, otherPath string) string {
	return fmt.Sprintf(`
_format_version: "3.0"
services:
- name: up
  url: http://upstream:80
routes:
- name: p
  service: up
  paths: ["/p"]
  strip_path: false
  plugins:
  - name: probe
    config: {tag: %s}
- name: other
  service: up
  paths: ["%s"]
`, tag, otherPath)
}

const probeDump = `{"Protocol":"ProtoBuf:1","Plugins":[{"Name":"probe","Version":"0.1","Priority":1000,"Phases":["access"],
	"Schema":{"name":"probe","fields":[{"config":{"type":"record","fields":[{"tag":{"type":"string"}}]}}]}}]}`

// replayed says how a file is replayed.
type replayed struct {
	file       string
	method     string
	path       string
	header     map[string][]string
	body       string
	tag        string // of the configuration at first; "one" unless given
	reload     string // the configuration between the request before and the recorded one
	abort      bool   // the client goes away after the second question
	wantStatus int
}

func replayTable() []replayed {
	return []replayed{
		{file: "01_start_instance_and_first_event.json"},
		{file: "02_get_header_set_header.json", header: map[string][]string{"Authorization": {"Bearer opaque"}}},
		{file: "03_exit_401_with_headers.json", wantStatus: 401},
		{file: "04_event_after_exit_new_connection.json"},
		{file: "05_request_getters_and_headers.json", method: "POST", path: "/p/sub?a=1&b=%20", body: "hello", header: map[string][]string{
			"Accept": {"*/*"}, "Content-Type": {"application/x-www-form-urlencoded"}, "Cookie": {"a=1"},
			"User-Agent": {"curl/7.88.1"}, "X-Dup": {"1", "2"}, "X-Empty": {""},
		}},
		{file: "06_raw_body_in_memory.json", method: "POST", body: "hello"},
		{file: "07_raw_body_absent.json"},
		{file: "08_raw_body_in_file.json", method: "POST", body: strings.Repeat("x", 8<<10+1)},
		{file: "09_nginx_get_var.json"},
		{file: "10_ctx_shared.json"},
		{file: "11_service_request_headers.json", header: map[string][]string{"X-Del": {"gone"}}},
		{file: "12_client_authenticate.json"},
		{file: "13_log.json"},
		{file: "14_response_headers.json", wantStatus: 500},
		{file: "15_exit_status_only.json", wantStatus: 403},
		{file: "16_non_utf8_header_value.json", header: map[string][]string{"X-Lat": {"\xe9"}}},
		{file: "17_pdk_lua_error_500.json", wantStatus: 500},
		{file: "18_exit_bad_status_500.json", wantStatus: 500},
		{file: "19_unknown_instance_after_plugin_restart.json"},
		{file: "20_reload_changed_config.json", reload: recordedConfig("two", "/other")},
		{file: "21_reload_same_plugin_config_other_route_changed.json", tag: "two", reload: recordedConfig("two", "/another")},
		{file: "24_client_abort_during_event.json", abort: true},
	}
}

// TestReplaysRecordings gives kongtest what the recorded plugin said and compares what it
// says with what Kong said.
func TestReplaysRecordings(t *testing.T) {
	for _, tt := range replayTable() {
		t.Run(tt.file, func(t *testing.T) { replay(t, tt) })
	}
}

func replay(t *testing.T, tt replayed) {
	events := recording(t, tt.file)
	p := newPlayer(t)
	g := p.start(t, recordedConfig(firstNonEmpty(tt.tag, "one"), "/other"))
	p.port = strings.TrimPrefix(g.URL(), "http://127.0.0.1:")
	if tt.tag == "two" { // the second loading of the recorded Kong
		if err := g.Reload([]byte(recordedConfig("two", "/other"))); err != nil {
			t.Fatal(err)
		}
	}
	if !strings.Contains(events[1].Decoded, "cmd_start_instance") || tt.reload != "" {
		p.warmUp(g, firstInstance(t, events))
	}
	if tt.reload != "" {
		if err := g.Reload([]byte(tt.reload)); err != nil {
			t.Fatal(err)
		}
	}

	conn := g.dial()
	defer conn.Close()
	if _, err := io.WriteString(conn, tt.request(t, events)); err != nil {
		t.Fatal(err)
	}
	answered := make(chan int, 1)
	if !tt.abort {
		go func() {
			res, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				answered <- 0
				return
			}
			answered <- res.StatusCode
		}()
	}
	for i := range events {
		p.play(&events[i])
		if tt.abort && i == 5 {
			conn.Close()
		}
	}
	if tt.abort {
		return
	}
	want := tt.wantStatus
	if want == 0 {
		want = 200
	}
	if got := <-answered; got != want {
		t.Errorf("status: got %d, want %d", got, want)
	}
}

func firstNonEmpty(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// request is the request that the recorded client must have sent.
func (tt *replayed) request(t testing.TB, events []recordedEvent) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: 127.0.0.1:28000\r\n", firstNonEmpty(tt.method, "GET"), firstNonEmpty(tt.path, "/p"))
	if script := recordedScript(t, events); script != "" {
		fmt.Fprintf(&b, "X-Script: %s\r\n", script)
	}
	for name, values := range tt.header {
		for _, v := range values {
			fmt.Fprintf(&b, "%s: %s\r\n", name, v)
		}
	}
	if tt.body != "" {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(tt.body))
	}
	return b.String() + "\r\n" + tt.body
}

// recordedScript is the value of X-Script that Kong gave to the recorded plugin.
func recordedScript(t testing.TB, events []recordedEvent) string {
	t.Helper()
	for i, e := range events {
		if e.Decoded == `args of kong.request.get_header: v:"X-Script"` {
			var reply kpp.String
			if err := proto.Unmarshal(events[i+1].payload(t), &reply); err != nil {
				t.Fatal(err)
			}
			return reply.V
		}
	}
	return ""
}

// firstInstance is the instance that is there when a recording begins.
func firstInstance(t testing.TB, events []recordedEvent) int32 {
	t.Helper()
	id := int32(0)
	for _, e := range events {
		if !e.fromKong() || !strings.HasPrefix(e.Decoded, "RpcCall") {
			continue
		}
		var call kpp.RpcCall
		if err := proto.Unmarshal(e.payload(t), &call); err != nil {
			t.Fatal(err)
		}
		if c := call.GetCmdCloseInstance(); c != nil {
			return c.InstanceId
		}
		if c := call.GetCmdHandleEvent(); c != nil && id == 0 {
			id = c.InstanceId
		}
	}
	return id
}

// TestReplaysPluginRemoved is the empty recording 22: a plugin that is taken out of the
// configuration hears nothing of it.
func TestReplaysPluginRemoved(t *testing.T) {
	if events := recording(t, "22_plugin_removed_no_close.json"); len(events) != 0 {
		t.Fatalf("got %d events, want none", len(events))
	}
	p := newPlayer(t)
	g := p.start(t, recordedConfig("one", "/other"))
	p.warmUp(g, 2)
	without := strings.ReplaceAll(recordedConfig("one", "/other"), "  plugins:\n  - name: probe\n    config: {tag: one}\n", "")
	if err := g.Reload([]byte(without)); err != nil {
		t.Fatal(err)
	}
	if res := g.do("GET", "/p", "", nil); res.StatusCode != 200 {
		t.Errorf("status: got %d, want 200", res.StatusCode)
	}
	g.Close()
	if rest, err := io.ReadAll(p.warm); len(rest) > 0 || err != nil {
		t.Errorf("got %x, %v, want nothing but the end of the connection", rest, err)
	}
}

// TestReplaysConcurrentEvents is recording 23: many events at a time.
func TestReplaysConcurrentEvents(t *testing.T) {
	events := recording(t, "23_two_workers_concurrent.json")
	var calls []*kpp.RpcCall
	conns := map[int]bool{}
	for _, e := range events {
		conns[e.Conn] = true
		if e.fromKong() && strings.HasPrefix(e.Decoded, "RpcCall") {
			call := new(kpp.RpcCall)
			if err := proto.Unmarshal(e.payload(t), call); err != nil {
				t.Fatal(err)
			}
			calls = append(calls, call)
		}
	}
	script := recordedScript(t, events)

	p := newPlayer(t)
	g := p.start(t, recordedConfig("one", "/other"))
	instance := calls[0].GetCmdHandleEvent().InstanceId
	p.warmUp(g, instance)

	// A round of requests is answered when all of them are with the plugin.
	var mu sync.Mutex
	var sequences []int64
	var opened int
	waiting, release := 0, make(chan struct{})
	serve := func(conn net.Conn) {
		for {
			var length [4]byte
			if _, err := io.ReadFull(conn, length[:]); err != nil {
				return
			}
			data := make([]byte, binary.LittleEndian.Uint32(length[:]))
			if _, err := io.ReadFull(conn, data); err != nil {
				return
			}
			var call kpp.RpcCall
			if err := proto.Unmarshal(data, &call); err != nil {
				t.Error(err)
				return
			}
			want := &kpp.RpcCall{Sequence: call.Sequence, Call: calls[0].Call}
			if !proto.Equal(&call, want) {
				t.Errorf("got %v, want %v", &call, want)
			}
			p.write(conn, []byte("kong.request.get_header"))
			p.write(conn, marshal(t, &kpp.String{V: "X-Script"}))
			var reply kpp.String
			if err := proto.Unmarshal(p.read(conn), &reply); err != nil || reply.V != script {
				t.Errorf("X-Script: got %q, %v, want %q", reply.V, err, script)
			}
			mu.Lock()
			sequences = append(sequences, call.Sequence)
			waiting++
			if waiting == len(conns) {
				waiting = 0
				close(release)
				release = make(chan struct{})
				mu.Unlock()
			} else {
				wait := release
				mu.Unlock()
				<-wait
			}
			p.write(conn, nil)
			p.write(conn, marshal(t, &kpp.RpcReturn{Sequence: call.Sequence}))
		}
	}
	var serving sync.WaitGroup
	serving.Go(func() { serve(p.warm) })
	serving.Go(func() {
		for {
			conn, err := p.listener.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			opened++
			mu.Unlock()
			serving.Go(func() {
				defer conn.Close()
				serve(conn)
			})
		}
	})
	for range len(calls) / len(conns) {
		var round sync.WaitGroup
		for range len(conns) {
			round.Go(func() { g.script(script) })
		}
		round.Wait()
	}
	g.Close()
	p.listener.Close()
	serving.Wait()

	slices.Sort(sequences)
	if len(sequences) != len(calls) {
		t.Errorf("got %d events, want %d", len(sequences), len(calls))
	}
	if unique := slices.Compact(slices.Clone(sequences)); len(unique) != len(sequences) {
		t.Errorf("got %d sequence numbers for %d events, want one each", len(unique), len(sequences))
	}
	if opened+1 != len(conns) {
		t.Errorf("got %d connections, want %d: those that are idle are used again", opened+1, len(conns))
	}
}
