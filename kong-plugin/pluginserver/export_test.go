package pluginserver

import (
	"bufio"
	"context"
	"net"
)

// MaxFrame opens the limit to tests.
const MaxFrame = maxFrame

// NewDetached makes a server without a socket, for tests that bring their connections.
func NewDetached(cfg Config) *Server {
	return newServer(cfg)
}

// ServeConn serves one connection until it ends.
func (s *Server) ServeConn(ctx context.Context, nc net.Conn) { s.serve(ctx, newConn(nc)) }

// ReadFrame opens the reader of frames to the fuzzer.
func ReadFrame(r *bufio.Reader) ([]byte, error) { return readFrame(r, nil) }

// AppendFrame opens the writer of frames.
func AppendFrame(buf []byte, payload string) []byte { return appendFrame(buf, payload) }

// Instances counts the instances that are kept.
func (s *Server) Instances() int {
	s.instances.mu.Lock()
	defer s.instances.mu.Unlock()
	return len(s.instances.byID)
}
