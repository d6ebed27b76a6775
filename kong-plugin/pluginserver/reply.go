package pluginserver

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// Reply is Kong's answer to one question, a protobuf message. It is valid until the next
// call of a method of its Event; what its methods return stays valid.
type Reply []byte

// Header is one header field: raw bytes, not necessarily UTF-8.
type Header struct{ Name, Value string }

var errMalformedReply = errors.New("malformed reply")

// Text reads a string. Kong gives an absent value and an empty one alike, as "". Unlike
// the protobuf library it accepts bytes outside UTF-8, which a client may well have sent.
func (r Reply) Text() (string, error) {
	var text string
	for m := r.message(); m.more(); {
		num, value, err := m.next()
		if err != nil {
			return "", err
		}
		if num == 1 {
			text = value.text
		}
	}
	return text, nil
}

// Headers reads what GetHeaders asked for: one entry for every field, several of one name
// in order. Kong gives no order between names. Values outside UTF-8 stay as they are; the
// protobuf library would refuse all headers for one of them.
func (r Reply) Headers() ([]Header, error) {
	// google.protobuf.Struct is map<string, Value> fields = 1, a repeated message of key
	// (1) and value (2).
	out := make([]Header, 0, 32)
	for m := r.message(); m.more(); {
		num, entry, err := m.next()
		if err != nil {
			return nil, err
		}
		if num != 1 {
			continue
		}
		var name string
		var value message
		for entry.more() {
			num, v, err := entry.next()
			if err != nil {
				return nil, err
			}
			switch num {
			case 1:
				name = v.text
			case 2:
				value = v
			}
		}
		if out, err = value.appendHeaders(out, name, 0); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Message decodes the reply into m. It fails on a string outside UTF-8.
func (r Reply) Message(m proto.Message) error {
	if err := proto.Unmarshal(r, m); err != nil {
		return fmt.Errorf("%w: %w", errMalformedReply, err)
	}
	return nil
}

// message is a protobuf message that is being walked: two views of the same bytes, so that
// what is handed out shares one string.
type message struct {
	bytes []byte
	text  string
}

func (r Reply) message() message { return message{bytes: r, text: string(r)} }

func (m *message) more() bool { return len(m.bytes) > 0 }

// next returns the next field. Only fields with a length are of interest here; the others
// come back with the number 0, which no field has.
func (m *message) next() (protowire.Number, message, error) {
	num, typ, n := protowire.ConsumeTag(m.bytes)
	if n < 0 {
		return 0, message{}, fmt.Errorf("%w: tag: %w", errMalformedReply, protowire.ParseError(n))
	}
	m.skip(n)
	if typ != protowire.BytesType {
		if n = protowire.ConsumeFieldValue(num, typ, m.bytes); n < 0 {
			return 0, message{}, fmt.Errorf("%w: field %d: %w", errMalformedReply, num, protowire.ParseError(n))
		}
		m.skip(n)
		return 0, message{}, nil
	}
	value, n := protowire.ConsumeBytes(m.bytes)
	if n < 0 {
		return 0, message{}, fmt.Errorf("%w: field %d: %w", errMalformedReply, num, protowire.ParseError(n))
	}
	v := message{bytes: value, text: m.text[n-len(value) : n]}
	m.skip(n)
	return num, v, nil
}

func (m *message) skip(n int) { m.bytes, m.text = m.bytes[n:], m.text[n:] }

// appendHeaders reads a google.protobuf.Value that is a string or a list of strings.
func (m message) appendHeaders(out []Header, name string, depth int) ([]Header, error) {
	const (
		stringValue = 3
		listValue   = 6
	)
	for m.more() {
		num, v, err := m.next()
		if err != nil {
			return nil, err
		}
		switch {
		case num == stringValue:
			out = append(out, Header{name, v.text})
		case num == listValue && depth == 0:
			for v.more() {
				num, element, err := v.next()
				if err != nil {
					return nil, err
				}
				if num != 1 {
					continue
				}
				if out, err = element.appendHeaders(out, name, depth+1); err != nil {
					return nil, err
				}
			}
		}
	}
	return out, nil
}
