package pluginserver_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"io"
	"net"
	"path/filepath"
	"testing"

	pdk "github.com/Kong/go-pdk"
	"github.com/Kong/go-pdk/server/kong_plugin_protocol"
	"google.golang.org/protobuf/proto"

	"phantomtoken/kong-plugin/pluginserver"
)

const benchPhantom = "Bearer eyJ0eXAiOiJhdCtqd3QiLCJhbGciOiJFUzI1NiIsImtpZCI6ImJlbmNoIn0.payload.signature"

// BenchmarkEvent is one request as the plugin handles it: all headers and the path are
// asked for, one header is set. Kong's side is the same in all: length and payload of a
// frame apart, as Kong writes them.
func BenchmarkEvent(b *testing.B) {
	b.Run("pluginserver", func(b *testing.B) {
		socket, _, _ := serve(b, pluginserver.Config{Start: startWith(func(_ context.Context, e *pluginserver.Event) {
			replies, err := e.Ask(pluginserver.GetHeaders(pluginserver.MaxHeaders), pluginserver.GetPathWithQuery())
			if err != nil {
				return
			}
			if _, err := replies[0].Headers(); err != nil {
				return
			}
			if _, err := replies[1].Text(); err != nil {
				return
			}
			_ = e.Continue(pluginserver.SetServiceHeader("Authorization", benchPhantom))
		})})
		events(b, socket)
	})
	// The baseline is go-pdk's own PDK over the loop of its server (server/pbserver.go),
	// which it does not export.
	b.Run("baseline-go-pdk", func(b *testing.B) {
		socket := filepath.Join(b.TempDir(), "stock.socket")
		l, err := net.Listen("unix", socket)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				go serveStock(conn, func(kong *pdk.PDK) {
					if _, err := kong.Request.GetHeaders(1000); err != nil {
						return
					}
					if _, err := kong.Request.GetPathWithQuery(); err != nil {
						return
					}
					_ = kong.ServiceRequest.SetHeader("Authorization", benchPhantom)
				})
			}
		}()
		events(b, socket)
	})
	// What is left when nobody does anything: the calls of Kong's side alone.
	b.Run("baseline-empty-event", func(b *testing.B) {
		socket, _, _ := serve(b, pluginserver.Config{Start: startWith(passThrough)})
		events(b, socket)
	})
}

func events(b *testing.B, socket string) {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	r := bufio.NewReader(conn)

	if err := writeFrame(conn, startCall(b, 1)[4:]); err != nil {
		b.Fatal(err)
	}
	var ret kong_plugin_protocol.RpcReturn
	payload, err := pluginserver.ReadFrame(r)
	if err != nil || proto.Unmarshal(payload, &ret) != nil {
		b.Fatal(err)
	}
	call := mustMarshal(b, &kong_plugin_protocol.RpcCall{
		Sequence: 3,
		Call: &kong_plugin_protocol.RpcCall_CmdHandleEvent{CmdHandleEvent: &kong_plugin_protocol.CmdHandleEvent{
			InstanceId: ret.GetInstanceStatus().GetInstanceId(), EventName: "access",
		}},
	})
	replies := map[string][]byte{
		"kong.request.get_headers": headersReply(
			pluginserver.Header{Name: "host", Value: "gateway.example.com"},
			pluginserver.Header{Name: "user-agent", Value: "bench/1"},
			pluginserver.Header{Name: "accept", Value: "application/json, text/event-stream"},
			pluginserver.Header{Name: "content-type", Value: "application/json"},
			pluginserver.Header{Name: "content-length", Value: "212"},
			pluginserver.Header{Name: "mcp-protocol-version", Value: "2025-11-25"},
			pluginserver.Header{Name: "mcp-session-id", Value: "3f1c9a52-7f70-4b50-9a3b-6f5f4f2f9e10"},
			pluginserver.Header{Name: "authorization", Value: "Bearer 0f7d8c0f-opaque-access-token-of-some-length"},
		),
		"kong.request.get_path_with_query": mustMarshal(b, &kong_plugin_protocol.String{V: "/mcp?a=b"}),
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := writeFrame(conn, call); err != nil {
			b.Fatal(err)
		}
		for {
			method, err := pluginserver.ReadFrame(r)
			if err != nil {
				b.Fatal(err)
			}
			if len(method) == 0 {
				break
			}
			if _, err := pluginserver.ReadFrame(r); err != nil {
				b.Fatal(err)
			}
			if err := writeFrame(conn, replies[string(method)]); err != nil {
				b.Fatal(err)
			}
		}
		if _, err := pluginserver.ReadFrame(r); err != nil {
			b.Fatal(err)
		}
	}
}

func writeFrame(w io.Writer, payload []byte) error {
	if _, err := w.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(payload)))); err != nil {
		return err
	}
	if len(payload) == 0 {
		return nil
	}
	_, err := w.Write(payload)
	return err
}

func readStock(r io.Reader) ([]byte, error) {
	var size uint32
	if err := binary.Read(r, binary.LittleEndian, &size); err != nil {
		return nil, err
	}
	payload := make([]byte, size)
	_, err := io.ReadFull(r, payload)
	return payload, err
}

func writeStock(w io.Writer, payload []byte) error {
	if err := binary.Write(w, binary.LittleEndian, uint32(len(payload))); err != nil {
		return err
	}
	_, err := w.Write(payload)
	return err
}

func serveStock(conn net.Conn, access func(*pdk.PDK)) {
	defer conn.Close()
	for {
		payload, err := readStock(conn)
		if err != nil {
			return
		}
		var call kong_plugin_protocol.RpcCall
		if err := proto.Unmarshal(payload, &call); err != nil {
			return
		}
		ret := &kong_plugin_protocol.RpcReturn{Sequence: call.Sequence}
		switch call.Call.(type) {
		case *kong_plugin_protocol.RpcCall_CmdStartInstance:
			ret.Return = &kong_plugin_protocol.RpcReturn_InstanceStatus{
				InstanceStatus: &kong_plugin_protocol.InstanceStatus{InstanceId: 1},
			}
		case *kong_plugin_protocol.RpcCall_CmdHandleEvent:
			access(pdk.Init(conn))
			if err := writeStock(conn, nil); err != nil {
				return
			}
		}
		payload, err = proto.Marshal(ret)
		if err != nil || writeStock(conn, payload) != nil {
			return
		}
	}
}
