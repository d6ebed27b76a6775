package pluginserver_test

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"phantomtoken/kong-plugin/pluginserver"
)

// headersReply encodes headers as Kong does, without the protobuf library's check for
// UTF-8. Several values of a name become a list.
func headersReply(headers ...pluginserver.Header) []byte {
	var out []byte
	byName := map[string][]string{}
	for _, h := range headers {
		byName[h.Name] = append(byName[h.Name], h.Value)
	}
	text := func(v string) []byte {
		return protowire.AppendString(protowire.AppendTag(nil, 3, protowire.BytesType), v)
	}
	for _, h := range headers {
		values := byName[h.Name]
		if values == nil {
			continue
		}
		delete(byName, h.Name)
		value := text(values[0])
		if len(values) > 1 {
			var list []byte
			for _, v := range values {
				list = protowire.AppendBytes(protowire.AppendTag(list, 1, protowire.BytesType), text(v))
			}
			value = protowire.AppendBytes(protowire.AppendTag(nil, 6, protowire.BytesType), list)
		}
		entry := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), h.Name)
		entry = protowire.AppendBytes(protowire.AppendTag(entry, 2, protowire.BytesType), value)
		out = protowire.AppendBytes(protowire.AppendTag(out, 1, protowire.BytesType), entry)
	}
	return out
}

func TestHeadersKeepsWhatIsNotUTF8(t *testing.T) {
	want := []pluginserver.Header{
		{Name: "authorization", Value: "Bearer x"},
		{Name: "x-latin", Value: "caf\xe9"},
		{Name: "x-list", Value: "1"},
		{Name: "x-list", Value: "\xff\x00"},
		{Name: "x-empty", Value: ""},
	}
	payload := headersReply(want...)
	if err := proto.Unmarshal(payload, new(structpb.Struct)); err == nil {
		t.Fatal("the protobuf library decodes this reply: the test has no point")
	}
	got, err := pluginserver.Reply(payload).Headers()
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("Headers = %q, %v, want %q", got, err, want)
	}
	// What is handed out stays when the connection uses its buffer again.
	clear(payload)
	if !slices.Equal(got, want) {
		t.Errorf("Headers changed with the buffer: %q", got)
	}
}

func TestTextKeepsWhatIsNotUTF8(t *testing.T) {
	reply := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "/caf\xe9")
	if got, err := pluginserver.Reply(reply).Text(); err != nil || got != "/caf\xe9" {
		t.Errorf("Text = %q, %v", got, err)
	}
	if got, err := pluginserver.Reply(nil).Text(); err != nil || got != "" {
		t.Errorf("Text of an empty reply = %q, %v, want nothing", got, err)
	}
}

func TestReplyThatIsNoMessageIsAnError(t *testing.T) {
	for _, payload := range []string{"\xff", "\x0a\x05ab", "\x0a\x04\x0a\x7fxx", "\x0a\x04\x12\x02\x1a\x09", "\x08", "\x00\x00"} {
		if got, err := pluginserver.Reply(payload).Headers(); err == nil {
			t.Errorf("Headers(%q) = %q, want an error", payload, got)
		}
	}
}

// TestHeadersReadsRecordedReplies compares with the protobuf library on what Kong really
// sent.
func TestHeadersReadsRecordedReplies(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(transcripts, "05_request_getters_and_headers.json"))
	if err != nil {
		t.Fatal(err)
	}
	var records []record
	if err := json.Unmarshal(data, &records); err != nil {
		t.Fatal(err)
	}
	compared := 0
	for _, r := range records {
		if strings.HasPrefix(r.Decoded, "reply to kong.request.get_headers") {
			compared++
			compareHeaders(t, r.payload(t))
		}
	}
	if compared == 0 {
		t.Error("no reply to get_headers in the recording")
	}
}

// compareHeaders checks Headers against the protobuf library where that can decode.
func compareHeaders(t *testing.T, payload []byte) {
	t.Helper()
	var st structpb.Struct
	if proto.Unmarshal(payload, &st) != nil {
		return
	}
	got, err := pluginserver.Reply(payload).Headers()
	if err != nil {
		t.Fatalf("Headers(%x): %v, which the protobuf library decodes", payload, err)
	}
	byName := map[string][]string{}
	for _, h := range got {
		byName[h.Name] = append(byName[h.Name], h.Value)
	}
	for name, value := range st.Fields {
		var want []string
		switch v := value.GetKind().(type) {
		case *structpb.Value_StringValue:
			want = []string{v.StringValue}
		case *structpb.Value_ListValue:
			for _, e := range v.ListValue.GetValues() {
				if s, ok := e.GetKind().(*structpb.Value_StringValue); ok {
					want = append(want, s.StringValue)
				}
			}
		}
		// A repeated member of a map or of a oneof replaces the earlier one in the library;
		// here all are kept, so that none can hide another.
		for _, w := range want {
			if !slices.Contains(byName[name], w) {
				t.Errorf("Headers(%x)[%q] = %q, want %q in it", payload, name, byName[name], w)
			}
		}
	}
}

func FuzzHeaders(f *testing.F) {
	f.Add([]byte{})
	f.Add(headersReply(pluginserver.Header{Name: "a", Value: "b"}, pluginserver.Header{Name: "a", Value: "\xff"}))
	b, err := hex.DecodeString("0a0b0a0561636365707412021a00")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, payload []byte) {
		got, err := pluginserver.Reply(payload).Headers()
		if err != nil && got != nil {
			t.Errorf("Headers = %q with error %v, want nothing", got, err)
		}
		if len(got) > len(payload) {
			t.Errorf("%d headers out of %d bytes", len(got), len(payload))
		}
		compareHeaders(t, payload)
		if text, err := pluginserver.Reply(payload).Text(); err != nil && text != "" {
			t.Errorf("Text = %q with error %v, want nothing", text, err)
		}
	})
}
