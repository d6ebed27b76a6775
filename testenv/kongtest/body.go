package kongtest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// bodyBuffer is client_body_buffer_size: a larger request body goes to a file.
const bodyBuffer = 8 << 10

// maxChunkLine bounds the lines between the chunks of a body.
const maxChunkLine = 8 << 10

var errChunked = errors.New("client sent invalid chunked body")

// bodyReader reads a message body from r: length bytes, or chunks, or until the end.
type bodyReader struct {
	r       *bufio.Reader
	chunked bool
	toEnd   bool
	left    int64 // of the body, or of the current chunk
	started bool  // a chunk has been read before
	done    bool
}

func (b *bodyReader) Read(p []byte) (int, error) {
	for {
		switch {
		case b.done:
			return 0, io.EOF
		case b.toEnd:
			return b.r.Read(p)
		case b.left > 0:
			n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
			b.left -= int64(n)
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			if n > 0 {
				err = nil // a lasting error comes again
			}
			return n, err
		case !b.chunked:
			b.done = true
		default:
			if err := b.nextChunk(); err != nil {
				return 0, err
			}
		}
	}
}

// nextChunk reads up to the data of the next chunk, or the trailer after the last. Like
// nginx it throws trailer fields and extensions away.
func (b *bodyReader) nextChunk() error {
	if b.started {
		line, err := b.line()
		if err != nil {
			return err
		}
		if line != "" {
			return errChunked
		}
	}
	b.started = true
	line, err := b.line()
	if err != nil {
		return err
	}
	if end := strings.IndexAny(line, "; \t"); end >= 0 {
		line = line[:end]
	}
	size, err := strconv.ParseUint(line, 16, 63)
	if err != nil {
		return errChunked
	}
	if b.left = int64(size); size > 0 {
		return nil
	}
	for line = "-"; line != ""; {
		if line, err = b.line(); err != nil {
			return err
		}
	}
	b.done = true
	return nil
}

func (b *bodyReader) line() (string, error) {
	var line []byte
	for {
		c, err := b.r.ReadByte()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return "", err
		}
		if c == '\n' {
			return string(bytes.TrimSuffix(line, []byte("\r"))), nil
		}
		if line = append(line, c); len(line) > maxChunkLine {
			return "", errChunked
		}
	}
}

// requestBody is the body of a client's request: not read yet, or read to its end into
// memory or a file.
type requestBody struct {
	reader io.Reader // nil: there is no body
	expect func() error
	dir    string
	next   func() uint64 // numbers the files

	read bool
	data []byte
	file string
	size int64
	err  error
}

// buffer reads the body to its end, the first time it is called.
func (b *requestBody) buffer() error {
	if b.read || b.reader == nil {
		b.read = true
		return b.err
	}
	b.read = true
	b.err = b.fill()
	return b.err
}

func (b *requestBody) fill() error {
	if err := b.expect(); err != nil {
		return err
	}
	data, err := io.ReadAll(io.LimitReader(b.reader, bodyBuffer+1))
	if err != nil {
		return fmt.Errorf("reading the request body: %w", err)
	}
	if len(data) <= bodyBuffer {
		b.data, b.size = data, int64(len(data))
		return nil
	}
	path := filepath.Join(b.dir, fmt.Sprintf("%010d", b.next()))
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("buffering the request body: %w", err)
	}
	b.file = path
	b.size, err = io.Copy(f, io.MultiReader(bytes.NewReader(data), b.reader))
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("buffering the request body: %w", err)
	}
	return nil
}

// replace is ngx.req.set_body_data.
func (b *requestBody) replace(data []byte) {
	b.remove()
	b.data, b.size, b.file = data, int64(len(data)), ""
}

// open returns the buffered body from its beginning.
func (b *requestBody) open() (io.ReadCloser, error) {
	if b.file == "" {
		return io.NopCloser(bytes.NewReader(b.data)), nil
	}
	f, err := os.Open(b.file)
	if err != nil {
		return nil, fmt.Errorf("reading the buffered request body: %w", err)
	}
	return f, nil
}

// remove deletes the file: it lives as long as its request.
func (b *requestBody) remove() {
	if b.file != "" {
		_ = os.Remove(b.file)
	}
}

// present reports whether the client announced a body or a plugin has set one.
func (b *requestBody) present() bool { return b.reader != nil || b.data != nil }
