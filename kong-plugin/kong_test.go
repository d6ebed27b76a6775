package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Kong/go-pdk/server/kong_plugin_protocol"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"phantomtoken/kong-plugin/pluginserver"
)

const testTimeout = 30 * time.Second

// logBuffer collects a log.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func (b *logBuffer) logger() *slog.Logger { return slog.New(slog.NewTextHandler(b, nil)) }

// clock is a clock that tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Now()} }

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

// plugin is the plugin at work on a socket of its own, as main runs it.
type plugin struct {
	t      testing.TB
	socket string
	clock  *clock
	log    *logBuffer
	shared *parts
}

func startPlugin(t testing.TB) *plugin {
	t.Helper()
	p := &plugin{t: t, clock: newClock(), log: new(logBuffer), socket: filepath.Join(t.TempDir(), "p.socket")}
	var err error
	if p.shared, err = newParts(p.clock.Now, p.log.logger()); err != nil {
		t.Fatal(err)
	}
	server, err := pluginserver.Listen(pluginserver.Config{
		Socket: p.socket,
		Start:  starter(p.shared, p.clock.Now, p.log.logger()),
		Now:    p.clock.Now,
		Logger: p.log.logger(),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context() // ends before the cleanups run
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx) }()
	t.Cleanup(func() {
		if err := <-done; err != nil {
			t.Errorf("Serve = %v, want nil", err)
		}
	})
	return p
}

// instance starts an instance of config, to which it adds what Kong adds.
func (p *plugin) instance(seq int, config map[string]any) *kongRoute {
	p.t.Helper()
	all := map[string]any{
		"__seq__": seq, "__plugin_id": "19505532-9e88-5bc8-b529-d9274487637e", "__ws_id": "ws",
		"__key__": "plugins:phantom-token:", "route_id": "2b6004ea-2d70-53b7-9104-27ab31332590",
	}
	for name, value := range config {
		all[name] = value
	}
	if all["route_id"] == "" {
		delete(all, "route_id")
	}
	b, err := json.Marshal(all)
	if err != nil {
		p.t.Fatal(err)
	}
	c := p.dial()
	defer c.conn.Close()
	c.send(&kong_plugin_protocol.RpcCall{Sequence: 1, Call: &kong_plugin_protocol.RpcCall_CmdStartInstance{
		CmdStartInstance: &kong_plugin_protocol.CmdStartInstance{Name: "phantom-token", Config: b},
	}})
	var ret kong_plugin_protocol.RpcReturn
	if err := proto.Unmarshal(c.read(), &ret); err != nil {
		p.t.Fatal(err)
	}
	return &kongRoute{plugin: p, id: ret.GetInstanceStatus().GetInstanceId()}
}

func (p *plugin) dial() *kongConn {
	p.t.Helper()
	conn, err := net.DialTimeout("unix", p.socket, testTimeout)
	if err != nil {
		p.t.Fatalf("connecting to the plugin: %v", err)
	}
	return &kongConn{t: p.t, conn: conn, r: bufio.NewReader(conn)}
}

// kongRoute is a route of Kong with an instance of the plugin on it.
type kongRoute struct {
	plugin *plugin
	id     int32
}

// httpRequest is a request that Kong has received.
type httpRequest struct {
	method, target string
	headers        []pluginserver.Header
	route          *kong_plugin_protocol.Route
	rawRoute       []byte
	consumers      map[string]*kong_plugin_protocol.Consumer // by what they are asked for
}

// httpResult is what becomes of it: forwarded with these headers, or answered.
type httpResult struct {
	status   int // 0: forwarded
	body     string
	header   map[string]string // of the answer
	upstream map[string]string // request headers that changed; "" for a removed one
	methods  []string          // what the plugin called

	authenticated *kong_plugin_protocol.AuthenticateArgs // who is calling
	shared        map[string]*structpb.Value             // kong.ctx.shared
}

func (r *kongRoute) do(req httpRequest) httpResult {
	t := r.plugin.t
	t.Helper()
	c := r.plugin.dial()
	defer c.conn.Close()
	c.send(&kong_plugin_protocol.RpcCall{Sequence: 7, Call: &kong_plugin_protocol.RpcCall_CmdHandleEvent{
		CmdHandleEvent: &kong_plugin_protocol.CmdHandleEvent{InstanceId: r.id, EventName: "access"},
	}})
	out := httpResult{header: map[string]string{}, upstream: map[string]string{}, shared: map[string]*structpb.Value{}}
	text := func(s string) proto.Message { return &kong_plugin_protocol.String{V: s} }
	for {
		method := string(c.read())
		if method == "" {
			c.read()
			return out
		}
		args := c.read()
		out.methods = append(out.methods, strings.TrimPrefix(method, "kong."))
		switch method {
		case "kong.request.get_headers":
			c.write(encodeHeaders(req.headers))
		case "kong.request.get_path_with_query":
			c.send(text(req.target))
		case "kong.request.get_method":
			c.send(text(req.method))
		case "kong.request.get_host":
			c.send(text("gw.example.com"))
		case "kong.client.get_forwarded_ip":
			c.send(text("192.0.2.7"))
		case "kong.router.get_route":
			if req.rawRoute != nil {
				c.write(req.rawRoute)
				continue
			}
			c.send(req.route)
		case "kong.service.request.set_header", "kong.response.set_header":
			var kv kong_plugin_protocol.KV
			c.decode(args, &kv)
			if strings.HasPrefix(method, "kong.service") {
				out.upstream[kv.K] = kv.V.GetStringValue()
			} else {
				out.header[kv.K] = kv.V.GetStringValue()
			}
			c.write(nil)
		case "kong.service.request.clear_header":
			var name kong_plugin_protocol.String
			c.decode(args, &name)
			out.upstream[name.V] = ""
			c.write(nil)
		case "kong.client.load_consumer":
			var spec kong_plugin_protocol.ConsumerSpec
			c.decode(args, &spec)
			if !spec.ByUsername {
				t.Error("a look-up that is not by username ends the request with a 500 unless the name is a uuid")
			}
			c.send(req.consumers[spec.Id])
		case "kong.client.authenticate":
			out.authenticated = new(kong_plugin_protocol.AuthenticateArgs)
			c.decode(args, out.authenticated)
			c.write(nil)
		case "kong.ctx.shared.set":
			var kv kong_plugin_protocol.KV
			c.decode(args, &kv)
			out.shared[kv.K] = kv.V
			c.write(nil)
		case "kong.response.exit":
			var exit kong_plugin_protocol.ExitArgs
			c.decode(args, &exit)
			out.status, out.body = int(exit.Status), string(exit.Body)
			for name, values := range exit.GetHeaders().GetFields() {
				for _, v := range values.GetListValue().GetValues() {
					out.header[name] = v.GetStringValue() // the last one, as Kong with WWW-Authenticate
				}
			}
			return out
		default:
			t.Fatalf("plugin called %s, which this Kong does not know", method)
		}
	}
}

type kongConn struct {
	t    testing.TB
	conn net.Conn
	r    *bufio.Reader
}

func (c *kongConn) write(payload []byte) {
	c.t.Helper()
	_ = c.conn.SetDeadline(time.Now().Add(testTimeout))
	if _, err := c.conn.Write(append(binary.LittleEndian.AppendUint32(nil, uint32(len(payload))), payload...)); err != nil {
		c.t.Fatalf("kong: writing: %v", err)
	}
}

func (c *kongConn) send(m proto.Message) {
	c.t.Helper()
	payload, err := proto.Marshal(m)
	if err != nil {
		c.t.Fatalf("kong: encoding: %v", err)
	}
	c.write(payload)
}

func (c *kongConn) decode(payload []byte, m proto.Message) {
	c.t.Helper()
	if err := proto.Unmarshal(payload, m); err != nil {
		c.t.Fatalf("kong: decoding: %v", err)
	}
}

func (c *kongConn) read() []byte {
	c.t.Helper()
	payload, err := c.tryRead()
	if err != nil {
		c.t.Fatalf("kong: reading: %v", err)
	}
	return payload
}

func (c *kongConn) tryRead() ([]byte, error) {
	_ = c.conn.SetDeadline(time.Now().Add(testTimeout))
	var size uint32
	if err := binary.Read(c.r, binary.LittleEndian, &size); err != nil {
		return nil, err
	}
	if size > 1<<20 {
		return nil, errors.New("frame too large")
	}
	payload := make([]byte, size)
	_, err := io.ReadFull(c.r, payload)
	return payload, err
}

// encodeHeaders writes headers as Kong does: a google.protobuf.Struct in which values need
// not be UTF-8, with a list for a name that occurs several times.
func encodeHeaders(headers []pluginserver.Header) []byte {
	field := func(num protowire.Number, b []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), b)
	}
	byName := map[string][]string{}
	var names []string
	for _, h := range headers {
		if byName[h.Name] == nil {
			names = append(names, h.Name)
		}
		byName[h.Name] = append(byName[h.Name], h.Value)
	}
	var out []byte
	for _, name := range names {
		value := field(3, []byte(byName[name][0]))
		if values := byName[name]; len(values) > 1 {
			var list []byte
			for _, v := range values {
				list = append(list, field(1, field(3, []byte(v)))...)
			}
			value = field(6, list)
		}
		out = append(out, field(1, append(field(1, []byte(name)), field(2, value)...))...)
	}
	return out
}
