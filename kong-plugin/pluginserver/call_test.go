package pluginserver_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/Kong/go-pdk/server/kong_plugin_protocol"
	"google.golang.org/protobuf/proto"

	"phantomtoken/kong-plugin/pluginserver"
)

// recordedArguments are the argument frames of a method in a recording, without their
// lengths.
func recordedArguments(t *testing.T, file, method string) [][]byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(transcripts, file))
	if err != nil {
		t.Fatal(err)
	}
	var records []record
	if err := json.Unmarshal(data, &records); err != nil {
		t.Fatal(err)
	}
	var out [][]byte
	for i, r := range records {
		if r.Decoded == "method name: "+method {
			out = append(out, records[i+1].payload(t))
		}
	}
	return out
}

// TestCallsOfIdentityAreThoseThatKongTook compares with what a real Kong was told, down to
// the bytes.
func TestCallsOfIdentityAreThoseThatKongTook(t *testing.T) {
	const alice = "22222222-2222-2222-2222-222222222222"
	encode := func(c pluginserver.Call) []byte {
		b, err := proto.MarshalOptions{Deterministic: true}.Marshal(c.Args)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	recorded := recordedArguments(t, "12_client_authenticate.json", "kong.client.authenticate")
	for i, call := range []pluginserver.Call{
		pluginserver.Authenticate(nil, &kong_plugin_protocol.AuthenticatedCredential{Id: "tok-1"}),
		pluginserver.Authenticate(
			&kong_plugin_protocol.Consumer{Id: alice, Username: "alice"},
			&kong_plugin_protocol.AuthenticatedCredential{Id: "tok-1", ConsumerId: alice},
		),
	} {
		if call.Method != "kong.client.authenticate" || i >= len(recorded) || !bytes.Equal(encode(call), recorded[i]) {
			t.Errorf("call %d: got %s %x, want the bytes of the recording", i, call.Method, encode(call))
		}
	}

	recorded = recordedArguments(t, "10_ctx_shared.json", "kong.ctx.shared.set")
	if len(recorded) < 2 {
		t.Fatal("the recording has no list")
	}
	var want kong_plugin_protocol.KV
	if err := proto.Unmarshal(recorded[1], &want); err != nil {
		t.Fatal(err)
	}
	want.K = "authenticated_groups" // under another name there
	call := pluginserver.SetAuthenticatedGroups([]string{"a", "b"})
	if call.Method != "kong.ctx.shared.set" || !proto.Equal(call.Args, &want) {
		t.Errorf("got %s %v, want %v", call.Method, call.Args, &want)
	}
	// No groups are an empty list, which is there, and not nothing.
	if got := hex.EncodeToString(encode(pluginserver.SetAuthenticatedGroups(nil))); got != "0a14"+hex.EncodeToString([]byte("authenticated_groups"))+"12023200" {
		t.Errorf("no groups: got %s, want an empty list", got)
	}
}
