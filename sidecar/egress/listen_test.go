package egress_test

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"phantomtoken/sidecar/egress"
)

func TestListenRefuses(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	busy, err := egress.Listen(t.Context(), "unix:"+filepath.Join(dir, "busy.sock"), false)
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	for _, test := range []struct{ name, address, want string }{
		{"AllInterfaces", ":9201", "loopback"},
		{"UnspecifiedAddress", "0.0.0.0:0", "loopback"},
		{"UnspecifiedIPv6Address", "[::]:0", "loopback"},
		{"AddressOfAnotherInterface", "192.0.2.1:0", "loopback"},
		{"NameThatMayLeadAnywhere", "app.localhost:0", "loopback"},
		{"NoPort", "127.0.0.1", "host:port"},
		{"SocketWithoutFile", "unix:@abstract", "path of a socket"},
		{"NoPath", "unix:", "path of a socket"},
		{"AnotherFile", "unix:" + file, "another file"},
		{"SocketOfARunningProcess", "unix:" + busy.Addr().String(), "another process"},
	} {
		t.Run(test.name, func(t *testing.T) {
			listener, err := egress.Listen(t.Context(), test.address, false)
			if err == nil {
				_ = listener.Close()
				t.Fatalf("expected an error with %q, got none", test.want)
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("expected an error with %q, got %v", test.want, err)
			}
		})
	}
	if _, err := os.Stat(file); err != nil {
		t.Errorf("expected the file to be left alone, got %v", err)
	}
}

// Whoever may write to the folder of the socket puts a link in its place at the moment when
// its mode is set; or connects before it is set.
func TestRejectsLinkAndClientsBeforeTheModeIsSet(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	var open atomic.Bool
	dir, victim := t.TempDir(), filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(victim, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	path, link := filepath.Join(dir, "egress.sock"), filepath.Join(dir, "link")
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if info, err := os.Lstat(path); err == nil && info.Mode().Type() == fs.ModeSocket {
				if info.Mode().Perm()&0o007 != 0 {
					open.Store(true)
				}
				_ = os.Symlink(victim, link)
				_ = os.Rename(link, path)
			}
		}
	}()
	for range 200 {
		if listener, err := egress.Listen(t.Context(), "unix:"+path, false); err == nil {
			_ = listener.Close()
		}
		_ = os.Remove(path)
	}
	close(stop)
	<-stopped
	if open.Load() {
		t.Error("expected the socket to be closed to others at all times, got it open")
	}
	if info, err := os.Stat(victim); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("expected mode 0600 of the other file still, got %v, %v", info.Mode(), err)
	}
}

// Two processes that find the same abandoned socket.
func TestTwoStartersOneListener(t *testing.T) {
	dir := t.TempDir()
	for i := range 50 {
		path := filepath.Join(dir, fmt.Sprint(i))
		abandon(t, path)
		got := make(chan net.Listener, 2)
		for range 2 {
			go func() {
				listener, err := egress.Listen(t.Context(), "unix:"+path, false)
				if err != nil {
					listener = nil
				}
				got <- listener
			}()
		}
		a, b := <-got, <-got
		if (a == nil) == (b == nil) {
			t.Fatalf("expected one listener, got %v and %v", a, b)
		}
		for _, listener := range []net.Listener{a, b} {
			if listener != nil {
				_ = listener.Close()
			}
		}
		next, err := egress.Listen(t.Context(), "unix:"+path, false)
		if err != nil {
			t.Fatalf("expected the place to be free again, got %v", err)
		}
		_ = next.Close()
	}
}

// A process that stops must leave alone what another put in the place of its socket.
func TestCloseLeavesTheSocketOfAnother(t *testing.T) {
	path := filepath.Join(t.TempDir(), "egress.sock")
	listener, err := egress.Listen(t.Context(), "unix:"+path, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	abandon(t, path)
	if err := listener.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("expected the other socket to be left alone, got %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".s*")); len(left) > 0 || err != nil {
		t.Errorf("expected no folder to be left, got %q, %v", left, err)
	}
}

// abandon leaves a socket behind as a process does that was killed.
func abandon(t *testing.T, path string) {
	t.Helper()
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	listener.SetUnlinkOnClose(false)
	_ = listener.Close()
}

func TestListen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "egress.sock")
	abandon(t, path)
	for _, test := range []struct {
		name, address string
		remote        bool
	}{
		{name: "IPv4", address: "127.0.0.1:0"},
		{name: "localhost", address: "localhost:0"},
		{name: "all interfaces, allowed", address: ":0", remote: true},
		{name: "socket that was left behind", address: "unix:" + path},
		{name: "socket", address: "unix:" + path + "2"},
	} {
		t.Run(test.name, func(t *testing.T) {
			upstream := newAPI(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "prices") })
			proxy, err := egress.New(egress.Config{Routes: []egress.Route{to(t, upstream.URL)}, Tokens: new(tokens)})
			if err != nil {
				t.Fatal(err)
			}
			defer proxy.Close()
			listener, err := egress.Listen(t.Context(), test.address, test.remote)
			if err != nil {
				t.Fatal(err)
			}
			addr := listener.Addr()
			if addr.Network() == "unix" {
				info, err := os.Stat(addr.String())
				if err != nil || info.Mode().Perm() != 0o660 {
					t.Errorf("expected mode 0660, got %v, %v", info, err)
				}
			}
			server := egress.NewServer(proxy, nil)
			done := make(chan error, 1)
			go func() { done <- server.Serve(listener) }()
			transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				var d net.Dialer
				return d.DialContext(ctx, addr.Network(), addr.String())
			}}
			defer transport.CloseIdleConnections()
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://api.internal/stocks", nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Authorization", "Bearer "+phantom)
			res, err := transport.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			if got := read(t, res); got.body != "prices" {
				t.Errorf("expected the answer of the API, got %q", got.body)
			}
			_ = server.Close()
			<-done
			if _, err := os.Stat(addr.String()); addr.Network() == "unix" && !os.IsNotExist(err) {
				t.Errorf("expected the socket to be gone, got %v", err)
			}
		})
	}
}
