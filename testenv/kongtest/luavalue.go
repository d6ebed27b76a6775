package kongtest

import (
	"fmt"
	"math"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/structpb"
)

// Values that plugins and Kong exchange are Lua's: nil, bool, float64, string, []any,
// map[string]any. They are encoded by hand, because Kong sends strings as they are, and
// the protobuf library refuses strings that are not UTF-8.

// appendString appends a string or bytes field unless it is empty.
func appendString(b []byte, num protowire.Number, s string) []byte {
	if s == "" {
		return b
	}
	b = protowire.AppendTag(b, num, protowire.BytesType)
	return protowire.AppendString(b, s)
}

// appendMessage appends an embedded message, empty ones too.
func appendMessage(b []byte, num protowire.Number, message []byte) []byte {
	b = protowire.AppendTag(b, num, protowire.BytesType)
	return protowire.AppendBytes(b, message)
}

func appendInt(b []byte, num protowire.Number, n int64) []byte {
	if n == 0 {
		return b
	}
	b = protowire.AppendTag(b, num, protowire.VarintType)
	return protowire.AppendVarint(b, uint64(n))
}

func appendBool(b []byte, num protowire.Number, v bool) []byte {
	if !v {
		return b
	}
	b = protowire.AppendTag(b, num, protowire.VarintType)
	return protowire.AppendVarint(b, 1)
}

// encodeString, encodeInt, encodeNumber and encodeBool are the messages String,
// ByteString, Int, Number and Bool of the protocol. The zero value is an empty message.
func encodeString(s string) []byte { return appendString(nil, 1, s) }
func encodeInt(n int64) []byte     { return appendInt(nil, 1, n) }
func encodeBool(v bool) []byte     { return appendBool(nil, 1, v) }

func encodeNumber(f float64) []byte {
	if f == 0 {
		return nil
	}
	b := protowire.AppendTag(nil, 1, protowire.Fixed64Type)
	return protowire.AppendFixed64(b, math.Float64bits(f))
}

// Field numbers of google.protobuf.Value.
const (
	valueNull   = 1
	valueNumber = 2
	valueString = 3
	valueBool   = 4
	valueStruct = 5
	valueList   = 6
)

// encodeValue is the message google.protobuf.Value. Kong sends nil as null_value 1, not 0,
// and an empty table as a struct.
func encodeValue(v any) []byte {
	switch v := v.(type) {
	case bool:
		b := protowire.AppendTag(nil, valueBool, protowire.VarintType)
		return protowire.AppendVarint(b, protowire.EncodeBool(v))
	case float64:
		b := protowire.AppendTag(nil, valueNumber, protowire.Fixed64Type)
		return protowire.AppendFixed64(b, math.Float64bits(v))
	case string:
		b := protowire.AppendTag(nil, valueString, protowire.BytesType)
		return protowire.AppendString(b, v)
	case []string:
		list := make([]any, len(v))
		for i, s := range v {
			list[i] = s
		}
		return encodeValue(list)
	case []any:
		if len(v) == 0 {
			return appendMessage(nil, valueStruct, nil)
		}
		var list []byte
		for _, e := range v {
			list = appendMessage(list, 1, encodeValue(e))
		}
		return appendMessage(nil, valueList, list)
	case map[string]any:
		return appendMessage(nil, valueStruct, encodeStruct(v))
	default:
		return appendInt(nil, valueNull, 1)
	}
}

// encodeStruct is the message google.protobuf.Struct; as in Kong, in no particular order.
func encodeStruct[V any](m map[string]V) []byte {
	var b []byte
	for k, v := range m {
		entry := appendString(nil, 1, k)
		entry = appendMessage(entry, 2, encodeValue(v))
		b = appendMessage(b, 1, entry)
	}
	return b
}

// tableStruct turns the table of header fields into what Kong sends: a string for one
// value, a list for several.
func tableStruct(t headerTable) []byte {
	m := make(map[string]any, len(t))
	for k, v := range t {
		if len(v) == 1 {
			m[k] = v[0]
		} else {
			m[k] = v
		}
	}
	return encodeStruct(m)
}

// fromValue is the Lua value that Kong makes of a google.protobuf.Value. False becomes
// nil: Kong picks the first true member of the value.
func fromValue(v *structpb.Value) any {
	switch k := v.GetKind().(type) {
	case *structpb.Value_BoolValue:
		if k.BoolValue {
			return true
		}
	case *structpb.Value_NumberValue:
		return k.NumberValue
	case *structpb.Value_StringValue:
		return k.StringValue
	case *structpb.Value_ListValue:
		return fromList(k.ListValue)
	case *structpb.Value_StructValue:
		return fromStruct(k.StructValue)
	}
	return nil
}

func fromList(l *structpb.ListValue) []any {
	out := []any{}
	for _, v := range l.GetValues() {
		out = append(out, fromValue(v))
	}
	return out
}

func fromStruct(s *structpb.Struct) map[string]any {
	out := map[string]any{}
	for k, v := range s.GetFields() {
		if value := fromValue(v); value != nil {
			out[k] = value
		}
	}
	return out
}

// tostring is Lua's tostring.
func tostring(v any) string {
	switch v := v.(type) {
	case nil:
		return "nil"
	case string:
		return v
	case bool:
		return strconv.FormatBool(v)
	case float64:
		return luaNumber(v)
	default:
		return fmt.Sprintf("table: %p", &v)
	}
}

// luaNumber formats a number as Lua does, "%.14g".
func luaNumber(f float64) string { return strconv.FormatFloat(f, 'g', 14, 64) }
