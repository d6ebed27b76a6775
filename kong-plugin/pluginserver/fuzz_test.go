package pluginserver_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/Kong/go-pdk/server/kong_plugin_protocol"

	"phantomtoken/kong-plugin/pluginserver"
)

func FuzzFrame(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0})
	f.Add([]byte{3, 0, 0, 0, 'a', 'b', 'c', 1})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, stream []byte) {
		r := bufio.NewReader(bytes.NewReader(stream))
		rest := stream
		for {
			payload, err := pluginserver.ReadFrame(r)
			if err != nil {
				return
			}
			if len(payload) > pluginserver.MaxFrame {
				t.Fatalf("frame of %d bytes", len(payload))
			}
			frame := pluginserver.AppendFrame(nil, string(payload))
			if !bytes.HasPrefix(rest, frame) {
				t.Fatalf("frame is %x, want a prefix of %x", frame, rest)
			}
			rest = rest[len(frame):]
		}
	})
}

// FuzzEvent plays any bytes to the server in Kong's place, with the plugin's own handler
// at work behind it. Whatever comes, the conversation ends when the bytes do.
func FuzzEvent(f *testing.F) {
	files, err := filepath.Glob(filepath.Join(transcripts, "*.json"))
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		var records []record
		if err := json.Unmarshal(data, &records); err != nil {
			f.Fatal(err)
		}
		stream := startCall(f, 2)
		stream = append(stream, startCall(f, 4)...)
		for _, r := range records {
			if frame, err := hex.DecodeString(r.Hex); err == nil && r.fromKong() {
				stream = append(stream, frame...)
			}
		}
		f.Add(stream)
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		client, plugin := net.Pipe()
		server := pluginserver.NewDetached(pluginserver.Config{Start: startWith(func(_ context.Context, e *pluginserver.Event) {
			replies, err := e.Ask(pluginserver.GetHeaders(pluginserver.MaxHeaders), pluginserver.GetPathWithQuery())
			if err != nil {
				return
			}
			headers, err := replies[0].Headers()
			if err != nil {
				return
			}
			path, err := replies[1].Text()
			if err != nil {
				return
			}
			if len(headers) == 0 {
				_ = e.Exit(401, []pluginserver.Header{{Name: "X-Path", Value: path}}, nil)
				return
			}
			_ = e.Continue(pluginserver.ClearServiceHeader(headers[0].Name), pluginserver.SetServiceHeader("Authorization", headers[0].Value))
		})})
		done := make(chan struct{})
		go func() {
			server.ServeConn(context.Background(), plugin)
			_ = plugin.Close()
			close(done)
		}()
		go func() {
			_, _ = client.Write(stream)
			_ = client.Close()
		}()
		go func() { _, _ = bufio.NewReader(client).WriteTo(discard{}) }()
		select {
		case <-done:
		case <-time.After(testTimeout):
			t.Fatal("the conversation did not end")
		}
	})
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

func startCall(tb testing.TB, seq int) []byte {
	payload := mustMarshal(tb, &kong_plugin_protocol.RpcCall{Call: &kong_plugin_protocol.RpcCall_CmdStartInstance{
		CmdStartInstance: &kong_plugin_protocol.CmdStartInstance{Config: []byte(`{"__seq__":` + string(rune('0'+seq)) + `}`)},
	}})
	return pluginserver.AppendFrame(nil, string(payload))
}
