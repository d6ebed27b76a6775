package egress

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"phantomtoken/internal/oauth"
)

// socketMode lets the owner and the group of the sidecar connect, so that an application with
// another user shares a group with it.
const socketMode = 0o660

// Listen opens the address for applications: host:port of this machine, or unix: and the path
// of a socket. Whoever can connect needs a phantom token still, but the tokens cross this
// connection in the clear: a TCP address that other machines can reach is refused unless
// allowRemote is set. A socket that a process left behind is replaced if nobody answers on
// it; any other file in its place is an error. A file beside the socket with .lock behind its
// name keeps other processes away while the listener is open, and stays.
func Listen(ctx context.Context, address string, allowRemote bool) (net.Listener, error) {
	var (
		listener net.Listener
		err      error
	)
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		listener, err = listenUnix(ctx, path)
	} else {
		listener, err = listenTCP(ctx, address, allowRemote)
	}
	if err != nil {
		return nil, fmt.Errorf("listening for applications on %q: %w", address, err)
	}
	return listener, nil
}

func listenTCP(ctx context.Context, address string, allowRemote bool) (net.Listener, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, errors.New("expected host:port, or unix: and a path")
	}
	if !allowRemote && !oauth.IsLoopbackHost(host) {
		return nil, fmt.Errorf("expected a loopback address like 127.0.0.1:9201, got host %q, which other machines can reach", host)
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	// localhost is a name, and somebody else may say what it means.
	if tcp, ok := listener.Addr().(*net.TCPAddr); !allowRemote && (!ok || !tcp.IP.IsLoopback()) {
		return nil, errors.Join(fmt.Errorf("expected a loopback address, got %s", listener.Addr()), listener.Close())
	}
	return listener, nil
}

func listenUnix(ctx context.Context, path string) (net.Listener, error) {
	// Sockets whose name begins with @ have no file, and so no permissions.
	if path == "" || strings.HasPrefix(path, "@") {
		return nil, errors.New("expected unix: and the path of a socket")
	}
	lock, err := lockFile(path + ".lock")
	if err != nil {
		return nil, err
	}
	s := &socket{addr: &net.UnixAddr{Name: path, Net: "unix"}, lock: lock}
	if err := checkPlace(ctx, path); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	if err := s.bind(ctx); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return s, nil
}

// lockFile makes this process the only one to use a socket, until the file is closed. The file
// stays: if it were removed, two processes could each lock one of the same name.
func lockFile(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the lock of the socket: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("another process has the lock %q: %w", name, err), f.Close())
	}
	return f, nil
}

// checkPlace accepts nothing, and the socket of a process that has ended.
func checkPlace(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return errors.New("expected a socket or nothing there, got another file")
	}
	dialer := net.Dialer{Timeout: time.Second}
	conn, err := dialer.DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		return errors.Join(errors.New("another process answers there"), conn.Close())
	case !errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("finding out whether a process answers there: %w", err)
	}
	return nil
}

// socket listens on a Unix socket.
type socket struct {
	*net.UnixListener
	addr *net.UnixAddr
	file fs.FileInfo // of the socket
	lock *os.File

	once sync.Once
	err  error // of closing
}

// bind makes the socket in a folder that nobody else can enter and moves it to its place when
// it has its mode. Made in its place, it would be open for a moment to whomever the umask
// lets in, and setting the mode would follow a link that somebody put there meanwhile.
func (s *socket) bind(ctx context.Context) error {
	private, err := os.MkdirTemp(filepath.Dir(s.addr.Name), ".s")
	if err != nil {
		return fmt.Errorf("making a folder for the socket: %w", err)
	}
	defer func() { _ = os.Remove(private) }() // empty then
	folder, err := os.OpenRoot(private)
	if err != nil {
		return err
	}
	defer func() { _ = folder.Close() }()

	const name = "s" // short: the path of a socket has about 100 bytes
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "unix", filepath.Join(private, name))
	if err != nil {
		return err
	}
	var ok bool
	if s.UnixListener, ok = listener.(*net.UnixListener); !ok {
		return errors.Join(fmt.Errorf("expected a Unix listener, got %T", listener), listener.Close())
	}
	if err := folder.Chmod(name, socketMode); err != nil {
		return errors.Join(fmt.Errorf("setting the mode of the socket: %w", err), listener.Close())
	}
	if s.file, err = folder.Lstat(name); err != nil {
		return errors.Join(err, listener.Close())
	}
	if err := os.Rename(filepath.Join(private, name), s.addr.Name); err != nil {
		return errors.Join(err, listener.Close())
	}
	s.SetUnlinkOnClose(false)
	return nil
}

// Addr returns the address that applications connect to.
func (s *socket) Addr() net.Addr { return s.addr }

// Close removes the socket if it is still in its place, and lets others listen there.
func (s *socket) Close() error {
	s.once.Do(func() { // a later socket may have the same place and the same inode
		var removed error
		if info, err := os.Lstat(s.addr.Name); err == nil && os.SameFile(info, s.file) {
			removed = os.Remove(s.addr.Name)
		}
		s.err = errors.Join(removed, s.UnixListener.Close(), s.lock.Close())
	})
	return s.err
}

const (
	readHeaderTimeout = 5 * time.Second
	keepAlive         = 2 * time.Minute
	// maxHeader bounds the header of a request: a token, cookies, trace context.
	maxHeader = 64 << 10
)

// NewServer returns an HTTP server with the limits that streams need: a header must come in
// time, bodies and answers may take as long as they take. It speaks HTTP/1.1. logger gets the
// complaints of net/http; nil discards them.
func NewServer(handler http.Handler, logger *slog.Logger) *http.Server {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       keepAlive,
		MaxHeaderBytes:    maxHeader,
		// OPTIONS * would be answered as if there were something here.
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     slog.NewLogLogger(logger.Handler(), slog.LevelWarn),
	}
}
