package kongtest

import (
	"encoding/binary"
	"fmt"
	"io"
)

// maxFrame bounds a frame of the plugin protocol. Kong has no bound of its own; a plugin
// that announces more than this has lost its place in the stream.
const maxFrame = 64 << 20

// readFrame reads one frame: a little-endian uint32 and as many bytes. Zero bytes are a
// frame too.
func readFrame(r io.Reader) ([]byte, error) {
	var length [4]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint32(length[:])
	if n > maxFrame {
		return nil, fmt.Errorf("expected a frame of at most %d bytes, got one of %d", maxFrame, n)
	}
	// The frame grows with what arrives, not with what its length promises.
	data, err := io.ReadAll(io.LimitReader(r, int64(n)))
	if err != nil {
		return nil, err
	}
	if len(data) < int(n) {
		return nil, io.ErrUnexpectedEOF
	}
	return data, nil
}

// writeFrame writes one frame, in two writes as Kong does: a plugin must not expect the
// length and the payload in one read.
func writeFrame(w io.Writer, data []byte) error {
	if _, err := w.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(data)))); err != nil {
		return err
	}
	if len(data) == 0 {
		return nil
	}
	_, err := w.Write(data)
	return err
}
