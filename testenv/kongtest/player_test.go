package kongtest_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	kpp "github.com/Kong/go-pdk/server/kong_plugin_protocol"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"phantomtoken/testenv/kongtest"
)

// player is the scripted plugin.
type player struct {
	t        *testing.T
	listener net.Listener
	warm     net.Conn // of the request before, taken for the first recorded one
	conns    map[int]net.Conn
	port     string
	offset   int64 // of sequence numbers
	sequence map[int]int64
	question map[int]string // the method asked last
}

func newPlayer(t *testing.T) *player {
	t.Helper()
	dir, err := os.MkdirTemp("", "kt") // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return &player{t: t, listener: l, conns: map[int]net.Conn{}, sequence: map[int]int64{}, question: map[int]string{}}
}

func (p *player) start(t *testing.T, yaml string) *gateway {
	t.Helper()
	cfg := kongtest.Config{YAML: []byte(yaml), Workers: 1, PluginTimeout: patience}
	cfg.SetServer("probe", []byte(probeDump), p.listener.Addr().String())
	return start(t, cfg, newUpstream(t, nil))
}

// warmUp serves one request that starts the instance.
func (p *player) warmUp(g *gateway, instance int32) {
	p.t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		g.do("GET", "/p", "", nil)
	}()
	p.warm = p.accept()
	start := p.readCall(p.warm)
	if start.GetCmdStartInstance() == nil {
		p.t.Fatalf("got %v, want the start of the instance", start)
	}
	p.write(p.warm, marshal(p.t, &kpp.RpcReturn{Sequence: start.Sequence, Return: &kpp.RpcReturn_InstanceStatus{
		InstanceStatus: &kpp.InstanceStatus{Name: "probe", InstanceId: instance, StartedAt: 1},
	}}))
	event := p.readCall(p.warm)
	p.write(p.warm, nil)
	p.write(p.warm, marshal(p.t, &kpp.RpcReturn{Sequence: event.Sequence}))
	<-done
}

func (p *player) accept() net.Conn {
	p.t.Helper()
	if err := p.listener.(*net.UnixListener).SetDeadline(time.Now().Add(patience)); err != nil {
		p.t.Fatal(err)
	}
	conn, err := p.listener.Accept()
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		p.t.Fatal(err)
	}
	return conn
}

// conn returns the connection that stands for a recorded one.
func (p *player) conn(number int) net.Conn {
	if p.conns[number] == nil {
		if p.warm != nil {
			p.conns[number], p.warm = p.warm, nil
		} else {
			p.conns[number] = p.accept()
		}
	}
	return p.conns[number]
}

func (p *player) read(conn net.Conn) []byte {
	p.t.Helper()
	var length [4]byte
	if _, err := io.ReadFull(conn, length[:]); err != nil {
		p.t.Fatalf("reading a frame from kongtest: %v", err)
	}
	data := make([]byte, binary.LittleEndian.Uint32(length[:]))
	if _, err := io.ReadFull(conn, data); err != nil {
		p.t.Fatalf("reading a frame from kongtest: %v", err)
	}
	return data
}

func (p *player) readCall(conn net.Conn) *kpp.RpcCall {
	p.t.Helper()
	call := new(kpp.RpcCall)
	if err := proto.Unmarshal(p.read(conn), call); err != nil {
		p.t.Fatal(err)
	}
	return call
}

func (p *player) write(conn net.Conn, payload []byte) {
	frame := append(binary.LittleEndian.AppendUint32(nil, uint32(len(payload))), payload...)
	_, _ = conn.Write(frame) // kongtest may have closed it, as Kong had
}

func marshal(t testing.TB, m proto.Message) []byte {
	t.Helper()
	data, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// play plays one recorded event.
func (p *player) play(e *recordedEvent) {
	p.t.Helper()
	switch {
	case e.Kind == "open":
		p.conn(e.Conn)
	case e.Kind == "close" && e.fromKong():
		if strings.Contains(e.Decoded, "use of closed") {
			return // the relay's own doing
		}
		rest, err := io.ReadAll(p.conn(e.Conn))
		if len(rest) > 0 || err != nil && !errors.Is(err, net.ErrClosed) {
			p.t.Errorf("conn %d: got %x, %v, want its end", e.Conn, rest, err)
		}
	case e.Kind == "close":
		p.conn(e.Conn).Close()
	case e.fromKong():
		p.compare(e, p.read(p.conn(e.Conn)))
	default:
		p.say(e)
	}
}

// say sends a frame of the recorded plugin, with the sequence number of this run.
func (p *player) say(e *recordedEvent) {
	payload := e.payload(p.t)
	if method, ok := strings.CutPrefix(e.Decoded, "method name: "); ok {
		p.question[e.Conn] = method
	}
	if strings.HasPrefix(e.Decoded, "RpcReturn") {
		var ret kpp.RpcReturn
		if err := proto.Unmarshal(payload, &ret); err != nil {
			p.t.Fatal(err)
		}
		ret.Sequence = p.sequence[e.Conn]
		payload = marshal(p.t, &ret)
	}
	p.write(p.conn(e.Conn), payload)
}

// compare compares a frame of kongtest with Kong's.
func (p *player) compare(e *recordedEvent, got []byte) {
	p.t.Helper()
	want := e.payload(p.t)
	if strings.HasPrefix(e.Decoded, "RpcCall") {
		p.compareCall(e, got, want)
		return
	}
	if strings.Contains(e.Decoded, "UNDECODABLE") {
		if !bytes.Equal(got, want) {
			p.t.Errorf("reply to %s: got %x, want %x", p.question[e.Conn], got, want)
		}
		return
	}
	gotReply, wantReply := replyMessage(p.question[e.Conn]), replyMessage(p.question[e.Conn])
	if gotReply == nil {
		p.t.Fatalf("no message for the reply to %s", p.question[e.Conn])
	}
	if err := errors.Join(proto.Unmarshal(got, gotReply), proto.Unmarshal(want, wantReply)); err != nil {
		p.t.Fatal(err)
	}
	p.normalise(gotReply)
	p.normalise(wantReply)
	if !proto.Equal(gotReply, wantReply) {
		p.t.Errorf("reply to %s: got %v, want %v", p.question[e.Conn], gotReply, wantReply)
	}
}

func (p *player) compareCall(e *recordedEvent, gotData, wantData []byte) {
	p.t.Helper()
	var got, want kpp.RpcCall
	if err := errors.Join(proto.Unmarshal(gotData, &got), proto.Unmarshal(wantData, &want)); err != nil {
		p.t.Fatal(err)
	}
	p.sequence[e.Conn] = got.Sequence
	if p.offset == 0 {
		p.offset = want.Sequence - got.Sequence
	}
	got.Sequence += p.offset
	if start := got.GetCmdStartInstance(); start != nil {
		if recorded := want.GetCmdStartInstance(); recorded != nil {
			if g, w := canonical(p.t, start.Config), canonical(p.t, recorded.Config); g != w {
				p.t.Errorf("configuration: got %s, want %s", g, w)
			}
			start.Config, recorded.Config = nil, nil
		}
	}
	if !proto.Equal(&got, &want) {
		p.t.Errorf("got %v, want %v", &got, &want)
	}
}

// canonical is JSON with its members in order.
func canonical(t testing.TB, data []byte) string {
	t.Helper()
	var v any
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// replyMessage is the message that answers a question: a string, or nothing at all, unless
// it is one of these.
func replyMessage(method string) proto.Message {
	switch method {
	case "kong.client.get_credential":
		return new(kpp.AuthenticatedCredential)
	case "kong.client.get_consumer":
		return new(kpp.Consumer)
	case "kong.ctx.shared.get":
		return new(structpb.Value)
	case "kong.request.get_http_version":
		return new(kpp.Number)
	case "kong.request.get_port", "kong.request.get_forwarded_port":
		return new(kpp.Int)
	case "kong.request.get_headers":
		return new(structpb.Struct)
	case "kong.request.get_raw_body":
		return new(kpp.RawBodyResult)
	}
	return new(kpp.String)
}

// normalise replaces what cannot be the same in two runs.
func (p *player) normalise(m proto.Message) {
	switch m := m.(type) {
	case *kpp.Int:
		if v := strconv.Itoa(int(m.V)); v == p.port || v == "28000" {
			m.V = 1
		}
	case *kpp.String:
		if regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(m.V) {
			m.V = "request id"
		}
	case *kpp.RawBodyResult:
		if k, ok := m.Kind.(*kpp.RawBodyResult_BodyFilepath); ok {
			k.BodyFilepath = regexp.MustCompile(`^.*/client_body_temp/\d{10}$`).ReplaceAllString(k.BodyFilepath, "file")
		}
	}
}
