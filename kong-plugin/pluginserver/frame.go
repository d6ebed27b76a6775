package pluginserver

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"google.golang.org/protobuf/proto"
)

const (
	// maxFrame bounds what one frame may hold. Kong's largest are a plugin configuration
	// and the headers of a request; a length beyond this is a peer that speaks something
	// else.
	maxFrame = 16 << 20
	// keptBuffer is the size up to which a connection keeps its buffers between events.
	keptBuffer = 64 << 10

	prefixLen = 4
)

// errFrameTooLarge ends a conversation: what follows the length cannot be trusted.
var errFrameTooLarge = errors.New("frame too large")

// readFrame appends the payload of the next frame to buf. It allocates no more than it
// receives: a length alone costs nothing.
func readFrame(r *bufio.Reader, buf []byte) ([]byte, error) {
	prefix, err := r.Peek(prefixLen)
	if err != nil {
		if errors.Is(err, io.EOF) && len(prefix) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return buf, err
	}
	size := binary.LittleEndian.Uint32(prefix)
	if size > maxFrame {
		return buf, fmt.Errorf("%w: expected at most %d bytes, got %d", errFrameTooLarge, maxFrame, size)
	}
	if _, err := r.Discard(prefixLen); err != nil {
		return buf, err
	}
	const step = 64 << 10
	for left := int(size); left > 0; {
		n := min(left, step)
		start := len(buf)
		buf = append(buf, make([]byte, n)...)
		if _, err := io.ReadFull(r, buf[start:]); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return buf, err
		}
		left -= n
	}
	return buf, nil
}

// appendFrame appends payload as one frame.
func appendFrame(buf []byte, payload string) []byte {
	buf = binary.LittleEndian.AppendUint32(buf, uint32(len(payload)))
	return append(buf, payload...)
}

// appendMessage appends m as one frame; a nil m makes an empty one. On an error, which a
// string outside UTF-8 causes, buf comes back as it was.
func appendMessage(buf []byte, m proto.Message) ([]byte, error) {
	if m == nil {
		return appendFrame(buf, ""), nil
	}
	start := len(buf)
	out, err := proto.MarshalOptions{}.MarshalAppend(append(buf, 0, 0, 0, 0), m)
	if err != nil {
		return buf[:start], err
	}
	size := len(out) - start - prefixLen
	if size > maxFrame {
		return buf[:start], fmt.Errorf("%w: expected at most %d bytes, got %d", errFrameTooLarge, maxFrame, size)
	}
	binary.LittleEndian.PutUint32(out[start:], uint32(size))
	return out, nil
}
