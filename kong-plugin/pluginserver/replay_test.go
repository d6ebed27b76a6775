package pluginserver_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/Kong/go-pdk/server/kong_plugin_protocol"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"phantomtoken/kong-plugin/pluginserver"
)

const transcripts = "../../testenv/kongtest/testdata/transcripts"

// record is one line of a recording of Kong and a plugin.
type record struct {
	Dir     string `json:"dir"`
	Conn    int    `json:"conn"`
	Kind    string `json:"kind"`
	Hex     string `json:"hex"`
	Decoded string `json:"decoded"`
}

func (r record) fromKong() bool { return r.Dir == "kong>plugin" }

func (r record) payload(t *testing.T) []byte {
	t.Helper()
	frame, err := hex.DecodeString(r.Hex)
	if err != nil || len(frame) < 4 {
		t.Fatalf("recording: frame %q: %v", r.Hex, err)
	}
	return frame[4:]
}

// TestServerAnswersRecordedKongAsTheStockServerDid plays Kong's side of every recording
// to this server, with a plugin that does what the recording plugin did, and compares what
// the server says frame by frame.
func TestServerAnswersRecordedKongAsTheStockServerDid(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(transcripts, "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("recordings in %s: %v, %v", transcripts, files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var records []record
			if err := json.Unmarshal(data, &records); err != nil {
				t.Fatal(err)
			}
			replay(t, records, !strings.Contains(file, "unknown_instance"))
		})
	}
}

func replay(t *testing.T, records []record, startEarlierInstances bool) {
	socket, _, _ := serve(t, pluginserver.Config{
		Start: startWith((&recordingPlugin{t: t}).access),
		Now:   newClock().Now,
	})
	if startEarlierInstances {
		startInstancesOfEarlierFiles(t, socket, records)
	}
	conns := map[int]*kong{}
	closedByKong := map[int]bool{}
	method := map[int]string{} // the question whose argument comes next
	conn := func(n int) *kong {
		if conns[n] == nil {
			conns[n] = dial(t, socket)
		}
		return conns[n]
	}
	for i, r := range records {
		switch {
		case r.Kind == "open":
			conn(r.Conn)
		case r.fromKong() && r.Kind == "frame":
			conn(r.Conn).write(r.payload(t))
		case r.fromKong() && r.Kind == "close":
			_ = conn(r.Conn).conn.Close()
			closedByKong[r.Conn] = true
		case closedByKong[r.Conn]:
			// The stock server's words into a closed connection.
		case r.Kind == "close":
			conn(r.Conn).readEnd()
			closedByKong[r.Conn] = true
		default:
			want, got := r.payload(t), conn(r.Conn).read()
			if !sameFrame(method[r.Conn], got, want) {
				t.Fatalf("record %d (%s): frame is\n%x\nwant\n%x", i, r.Decoded, got, want)
			}
			isMethod := method[r.Conn] == "" && bytes.HasPrefix(want, []byte("kong."))
			method[r.Conn] = ""
			if isMethod {
				method[r.Conn] = string(want)
			}
		}
	}
}

// startInstancesOfEarlierFiles starts what a recording uses and does not start: the
// recordings follow each other.
func startInstancesOfEarlierFiles(t *testing.T, socket string, records []record) {
	t.Helper()
	known := map[int32]bool{}
	k := dial(t, socket)
	for _, r := range records {
		var call kong_plugin_protocol.RpcCall
		if !r.fromKong() || r.Kind != "frame" || proto.Unmarshal(r.payload(t), &call) != nil {
			continue
		}
		var needed int32
		switch cmd := call.Call.(type) {
		case *kong_plugin_protocol.RpcCall_CmdStartInstance:
			known[seqOf(cmd.CmdStartInstance.Config)] = true
		case *kong_plugin_protocol.RpcCall_CmdHandleEvent:
			needed = cmd.CmdHandleEvent.InstanceId
		case *kong_plugin_protocol.RpcCall_CmdCloseInstance:
			needed = cmd.CmdCloseInstance.InstanceId
		}
		if needed != 0 && !known[needed] {
			known[needed] = true
			if id := k.start(fmt.Sprintf(`{"__seq__":%d}`, needed)); id != needed {
				t.Fatalf("instance id is %d, want __seq__ %d", id, needed)
			}
		}
	}
}

func seqOf(config []byte) int32 {
	var meta struct {
		Seq int32 `json:"__seq__"`
	}
	_ = json.Unmarshal(config, &meta)
	return meta.Seq
}

// sameFrame compares byte by byte, and where the order of a map or the time of the
// recording show, the decoded messages.
func sameFrame(method string, got, want []byte) bool {
	if bytes.Equal(got, want) {
		return true
	}
	var g, w proto.Message
	switch method {
	case "kong.response.exit":
		g, w = new(kong_plugin_protocol.ExitArgs), new(kong_plugin_protocol.ExitArgs)
	case "kong.service.request.set_headers", "kong.response.set_headers":
		g, w = new(structpb.Struct), new(structpb.Struct)
	case "kong.ctx.shared.set":
		g, w = new(kong_plugin_protocol.KV), new(kong_plugin_protocol.KV)
	case "":
		g, w = new(kong_plugin_protocol.RpcReturn), new(kong_plugin_protocol.RpcReturn)
	default:
		return false
	}
	if proto.Unmarshal(got, g) != nil || proto.Unmarshal(want, w) != nil {
		return false
	}
	if ret, ok := w.(*kong_plugin_protocol.RpcReturn); ok && ret.GetInstanceStatus() != nil {
		if status := g.(*kong_plugin_protocol.RpcReturn).GetInstanceStatus(); status != nil {
			status.StartedAt = ret.GetInstanceStatus().GetStartedAt()
		}
	}
	return proto.Equal(g, w)
}

// recordingPlugin does what the request header X-Script says.
type recordingPlugin struct{ t *testing.T }

func (p *recordingPlugin) access(_ context.Context, e *pluginserver.Event) {
	replies, err := e.Ask(stringCall("kong.request.get_header", "X-Script"))
	if err != nil {
		p.t.Errorf("asking for the script: %v", err)
		return
	}
	text, err := replies[0].Text()
	if err != nil {
		p.t.Errorf("reading the script: %v", err)
		return
	}
	var script [][]any
	if text != "" {
		if err := json.Unmarshal([]byte(text), &script); err != nil {
			p.t.Errorf("script %q: %v", text, err)
			return
		}
	}
	for _, step := range script {
		if step[0] == "exit" || step[0] == "exitstatus" {
			p.exit(e, step)
			return
		}
		for _, call := range p.calls(step) {
			if _, err := e.Ask(call); err != nil {
				return
			}
		}
	}
	if err := e.Continue(); err != nil {
		p.t.Errorf("Continue: %v", err)
	}
}

func (p *recordingPlugin) exit(e *pluginserver.Event, step []any) {
	var body []byte
	var headers []pluginserver.Header
	if len(step) > 2 {
		body = []byte(step[2].(string))
	}
	if len(step) > 3 {
		for name, value := range step[3].(map[string]any) {
			headers = append(headers, pluginserver.Header{Name: name, Value: texts(value)[0]})
		}
	}
	if step[0] == "exit" && headers == nil {
		// The recording plugin sent an empty map where ours sends none.
		call := pluginserver.Call{Method: "kong.response.exit", Args: &kong_plugin_protocol.ExitArgs{
			Status: int32(step[1].(float64)), Body: body, Headers: &structpb.Struct{},
		}}
		_, _ = e.Ask(call) // ends in Kong's close
		return
	}
	if err := e.Exit(int(step[1].(float64)), headers, body); err != nil {
		p.t.Errorf("Exit: %v", err)
	}
}

func (p *recordingPlugin) calls(step []any) []pluginserver.Call {
	text := func(i int) string { return step[i].(string) }
	switch step[0] {
	case "req":
		var calls []pluginserver.Call
		for _, name := range []string{
			"request.get_method", "request.get_path", "request.get_path_with_query", "request.get_raw_query",
			"request.get_host", "request.get_port", "request.get_scheme", "request.get_forwarded_host",
			"request.get_forwarded_port", "request.get_forwarded_scheme", "request.get_http_version",
			"client.get_ip", "client.get_forwarded_ip",
		} {
			calls = append(calls, pluginserver.Call{Method: "kong." + name})
		}
		return calls
	case "hdr":
		return []pluginserver.Call{stringCall("kong.request.get_header", text(1))}
	case "hdrs":
		limit := int(step[1].(float64))
		if limit == -1 {
			limit = 100
		}
		return []pluginserver.Call{pluginserver.GetHeaders(limit)}
	case "body":
		return []pluginserver.Call{{Method: "kong.request.get_raw_body"}}
	case "var":
		return []pluginserver.Call{stringCall("kong.nginx.get_var", text(1))}
	case "ctxset":
		value, err := structpb.NewValue(step[2])
		if err != nil {
			p.t.Errorf("value %v: %v", step[2], err)
		}
		return []pluginserver.Call{{Method: "kong.ctx.shared.set", Args: &kong_plugin_protocol.KV{K: text(1), V: value}}}
	case "ctxget":
		return []pluginserver.Call{stringCall("kong.ctx.shared.get", text(1))}
	case "sset":
		return []pluginserver.Call{pluginserver.SetServiceHeader(text(1), text(2))}
	case "sadd":
		call := pluginserver.SetServiceHeader(text(1), text(2))
		call.Method = "kong.service.request.add_header"
		return []pluginserver.Call{call}
	case "sclr":
		return []pluginserver.Call{pluginserver.ClearServiceHeader(text(1))}
	case "ssets":
		return []pluginserver.Call{{Method: "kong.service.request.set_headers", Args: headerLists(step[1])}}
	case "rset":
		return []pluginserver.Call{pluginserver.SetResponseHeader(text(1), text(2))}
	case "radd":
		call := pluginserver.SetResponseHeader(text(1), text(2))
		call.Method = "kong.response.add_header"
		return []pluginserver.Call{call}
	case "rsets":
		return []pluginserver.Call{{Method: "kong.response.set_headers", Args: headerLists(step[1])}}
	case "rget":
		return []pluginserver.Call{stringCall("kong.response.get_header", text(1))}
	case "log":
		list, err := structpb.NewList(step[2:])
		if err != nil {
			p.t.Errorf("values %v: %v", step[2:], err)
		}
		return []pluginserver.Call{{Method: "kong.log." + text(1), Args: list}}
	case "auth":
		args := &kong_plugin_protocol.AuthenticateArgs{}
		if c, ok := step[1].(map[string]any); ok {
			args.Consumer = &kong_plugin_protocol.Consumer{Id: member(c, "id"), Username: member(c, "username")}
		}
		if c, ok := step[2].(map[string]any); ok {
			args.Credential = &kong_plugin_protocol.AuthenticatedCredential{Id: member(c, "id"), ConsumerId: member(c, "consumer_id")}
		}
		return []pluginserver.Call{{Method: "kong.client.authenticate", Args: args}}
	case "getcred":
		return []pluginserver.Call{{Method: "kong.client.get_credential"}}
	case "getcons":
		return []pluginserver.Call{{Method: "kong.client.get_consumer"}}
	case "sleep":
		return nil // time has no part in the frames
	default:
		p.t.Errorf("unknown step %v", step)
		return nil
	}
}

func member(m map[string]any, name string) string {
	s, _ := m[name].(string)
	return s
}

func stringCall(method, arg string) pluginserver.Call {
	return pluginserver.Call{Method: method, Args: &kong_plugin_protocol.String{V: arg}}
}

func headerLists(v any) *structpb.Struct {
	out := &structpb.Struct{Fields: map[string]*structpb.Value{}}
	for name, value := range v.(map[string]any) {
		list := &structpb.ListValue{}
		for _, text := range texts(value) {
			list.Values = append(list.Values, structpb.NewStringValue(text))
		}
		out.Fields[name] = structpb.NewListValue(list)
	}
	return out
}

func texts(v any) []string {
	list, ok := v.([]any)
	if !ok {
		return []string{v.(string)}
	}
	return slices.Collect(func(yield func(string) bool) {
		for _, e := range list {
			if !yield(e.(string)) {
				return
			}
		}
	})
}
