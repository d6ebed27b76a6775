package pluginserver

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
)

// SocketPath is where Kong looks for the socket of the plugin called name: in its prefix
// directory.
func SocketPath(prefix, name string) string { return filepath.Join(prefix, name+".socket") }

// maxSocketPath is what fits into a sockaddr_un, less its final zero.
const maxSocketPath = 107

// socket is a listening Unix socket that knows its file.
type socket struct {
	*net.UnixListener
	path string
	file fs.FileInfo
}

// listen opens the socket at path for this user only. Kong starts plugins from a worker
// process, so both are the same user; anybody else who could connect might start an
// instance with a configuration of their own that reads this process's key files.
func listen(path string) (*socket, error) {
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("listening on %s: expected a path of at most %d bytes, got %d: choose a shorter -kong-prefix", path, maxSocketPath, len(path))
	}
	switch info, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("listening on %s: %w", path, err)
	case info.Mode().Type() != fs.ModeSocket:
		return nil, fmt.Errorf("listening on %s: expected no file or an old socket there, got another file", path)
	default:
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("removing the old socket: %w", err)
		}
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %w", path, err)
	}
	l.SetUnlinkOnClose(false)
	s := &socket{UnixListener: l, path: path}
	if err := os.Chmod(path, 0o600); err != nil {
		s.close()
		return nil, fmt.Errorf("restricting %s to this user: %w", path, err)
	}
	if s.file, err = os.Lstat(path); err != nil {
		s.close()
		return nil, fmt.Errorf("listening on %s: %w", path, err)
	}
	return s, nil
}

// close stops listening and removes the socket, unless another process has put its own in
// the same place.
func (s *socket) close() {
	_ = s.Close() // a second close is no error here
	if info, err := os.Lstat(s.path); err == nil && s.file != nil && os.SameFile(info, s.file) {
		_ = os.Remove(s.path) // what stays is removed by the next process
	}
}
