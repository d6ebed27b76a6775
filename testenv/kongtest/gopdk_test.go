package kongtest_test

import (
	"bytes"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	kpp "github.com/Kong/go-pdk/server/kong_plugin_protocol"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"phantomtoken/testenv/kongtest"
)

// relay stands between kongtest and a plugin and keeps the frames, as the relay of the
// recordings did.
type relay struct {
	t        *testing.T
	listener net.Listener
	plugin   string // its socket

	mu     sync.Mutex
	kong   [][]byte // frames of kongtest
	plug   [][]byte // frames of the plugin
	copies sync.WaitGroup
}

// newRelay starts the probe plugin on go-pdk's own server, and a relay to it.
func newRelay(t *testing.T) *relay {
	t.Helper()
	dir, err := os.MkdirTemp("", "kt")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	cmd := exec.Command(plugin(t, "probe", definition{}), "-kong-prefix", dir)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	listening := make(chan struct{})
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		line := make([]byte, 1<<10)
		n, _ := stderr.Read(line)
		if bytes.Contains(line[:n], []byte("Listening")) {
			close(listening)
		}
		_, _ = io.Copy(io.Discard, stderr)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-drained
		_ = cmd.Wait()
	})
	select {
	case <-listening:
	case <-time.After(patience):
		t.Fatal("the plugin does not listen")
	}
	l, err := net.Listen("unix", filepath.Join(dir, "relay"))
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{t: t, listener: l, plugin: filepath.Join(dir, "probe.socket")}
	r.copies.Go(r.accept)
	t.Cleanup(func() {
		l.Close()
		r.copies.Wait()
	})
	return r
}

func (r *relay) accept() {
	for {
		kong, err := r.listener.Accept()
		if err != nil {
			return
		}
		plug, err := net.Dial("unix", r.plugin)
		if err != nil {
			r.t.Error(err)
			return
		}
		r.copies.Go(func() { r.copy(plug, kong, &r.kong) })
		r.copies.Go(func() { r.copy(kong, plug, &r.plug) })
	}
}

// copy passes frames on until either side closes.
func (r *relay) copy(to, from net.Conn, frames *[][]byte) {
	defer to.Close()
	defer from.Close()
	for {
		frame, err := kongtest.ReadFrame(from)
		if err != nil {
			return
		}
		r.mu.Lock()
		*frames = append(*frames, frame)
		r.mu.Unlock()
		if kongtest.WriteFrame(to, frame) != nil {
			return
		}
	}
}

// taken returns the frames since the last time.
func (r *relay) taken() (kong, plug [][]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	kong, plug = r.kong, r.plug
	r.kong, r.plug = nil, nil
	return kong, plug
}

// TestRecordingsThroughGoPDK sends the recorded requests to the real go-pdk, which asks
// what the recorded one asked, and compares both directions with the recording. It shows
// that kongtest and the stock plugin server meet as Kong and it did. Files 19 to 24 are
// about instances and order, and only replayed.
func TestRecordingsThroughGoPDK(t *testing.T) {
	for _, tt := range replayTable() {
		if tt.reload != "" || tt.abort || strings.HasPrefix(tt.file, "01_") || strings.HasPrefix(tt.file, "19_") {
			continue
		}
		t.Run(tt.file, func(t *testing.T) {
			events := recording(t, tt.file)
			r := newRelay(t)
			cfg := kongtest.Config{YAML: []byte(recordedConfig("one", "/other")), Workers: 1}
			cfg.SetServer("probe", []byte(probeDump), r.listener.Addr().String())
			g := start(t, cfg, newUpstream(t, nil))
			g.do("GET", "/p", "", nil)
			r.taken()

			if res := g.raw(firstNonEmpty(tt.method, "GET"), tt.request(t, events)); tt.wantStatus != 0 && res.StatusCode != tt.wantStatus {
				t.Errorf("status: got %d, want %d", res.StatusCode, tt.wantStatus)
			}
			_ = g.Close() // so that every frame is through
			kong, plug := r.taken()
			p := &player{t: t, port: strings.TrimPrefix(g.URL(), "http://127.0.0.1:"), sequence: map[int]int64{}, question: map[int]string{}}
			compareTraffic(t, p, events, kong, plug)
		})
	}
}

// compareTraffic compares the frames of both directions with a recording.
func compareTraffic(t *testing.T, p *player, events []recordedEvent, kong, plug [][]byte) {
	t.Helper()
	next := func(frames *[][]byte, e *recordedEvent) ([]byte, bool) {
		if len(*frames) == 0 {
			t.Errorf("got no more frames, want %s", e.Decoded)
			return nil, false
		}
		frame := (*frames)[0]
		*frames = (*frames)[1:]
		return frame, true
	}
	for i := range events {
		e := &events[i]
		if e.Kind != "frame" || strings.HasPrefix(e.Decoded, "??") {
			continue
		}
		if e.fromKong() {
			if frame, ok := next(&kong, e); ok {
				if strings.HasPrefix(e.Decoded, "RpcCall") {
					var call kpp.RpcCall
					unmarshal(t, frame, &call) // the instance is another
					p.sequence[e.Conn] = call.Sequence
				} else {
					p.compare(e, frame)
				}
			}
			continue
		}
		frame, ok := next(&plug, e)
		if !ok {
			continue
		}
		if method, found := strings.CutPrefix(e.Decoded, "method name: "); found {
			p.question[e.Conn] = method
		}
		comparePluginFrame(t, p, e, frame)
	}
	if len(kong) > 0 {
		t.Errorf("got %d more frames of kongtest", len(kong))
	}
}

func comparePluginFrame(t *testing.T, p *player, e *recordedEvent, got []byte) {
	t.Helper()
	want := e.payload(t)
	var gotMessage, wantMessage proto.Message
	switch {
	case strings.HasPrefix(e.Decoded, "RpcReturn"):
		var ret kpp.RpcReturn
		unmarshal(t, got, &ret)
		if ret.Sequence != p.sequence[e.Conn] {
			t.Errorf("RpcReturn: got the sequence %d, want %d", ret.Sequence, p.sequence[e.Conn])
		}
		return
	case strings.HasPrefix(e.Decoded, "args of kong.response.exit"):
		gotMessage, wantMessage = new(kpp.ExitArgs), new(kpp.ExitArgs)
	case strings.HasPrefix(e.Decoded, "args of") && strings.Contains(e.Decoded, "set_headers"):
		gotMessage, wantMessage = new(structpb.Struct), new(structpb.Struct)
	case strings.HasPrefix(e.Decoded, "args of kong.ctx.shared.set"):
		gotMessage, wantMessage = new(kpp.KV), new(kpp.KV)
	default:
		if !slices.Equal(got, want) {
			t.Errorf("plugin: got %q, want %q (%s)", got, want, e.Decoded)
		}
		return
	}
	unmarshal(t, got, gotMessage)
	unmarshal(t, want, wantMessage)
	if !proto.Equal(gotMessage, wantMessage) {
		t.Errorf("plugin: got %v, want %v", gotMessage, wantMessage)
	}
}
