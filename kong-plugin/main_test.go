package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"phantomtoken/internal/keyring"
)

// The test binary plays the plugin, and the Kong worker that starts it, when this variable
// says so.
const roleVariable = "PHANTOM_TOKEN_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case "plugin":
		main()
	case "worker":
		if err := playWorker(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	default:
		os.Exit(m.Run())
	}
}

// playWorker starts the plugin and waits until it is killed.
func playWorker(args []string) error {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), roleVariable+"=plugin")
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	return cmd.Wait()
}

// process starts the test binary in a role, in a directory for its socket, and waits until
// the plugin listens.
func process(t *testing.T, role string) (cmd *exec.Cmd, stderr *bufio.Reader, socket string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "pt") // short: a socket's path has little room
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	cmd = exec.Command(os.Args[0], "-kong-prefix", dir)
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	pipe, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pipe.Close() })
	cmd.Stderr = write
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = write.Close()
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	_ = pipe.SetReadDeadline(time.Now().Add(testTimeout))
	stderr = bufio.NewReader(pipe)
	line, err := stderr.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "level=INFO msg=listening socket=") {
		t.Fatalf("first line is %q, %v, want the plugin to listen", line, err)
	}
	return cmd, stderr, filepath.Join(dir, filepath.Base(os.Args[0])+".socket")
}

// waitEnd reads until all processes that write to stderr have ended.
func waitEnd(t *testing.T, stderr *bufio.Reader) string {
	t.Helper()
	var b bytes.Buffer
	if _, err := b.ReadFrom(stderr); err != nil {
		t.Fatalf("plugin did not end: %v", err)
	}
	return b.String()
}

func TestSignalStopsThePluginCleanly(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		cmd, stderr, socket := process(t, "plugin")
		conn, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		waitEnd(t, stderr)
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v: plugin ended with %v, want exit code 0", signal, err)
		}
		if _, err := os.Stat(socket); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%v: socket: %v, want it removed", signal, err)
		}
	}
}

// Kong's worker can die without a word; its plugin must not stay behind.
func TestPluginEndsWithItsParent(t *testing.T) {
	cmd, stderr, socket := process(t, "worker")
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	waitEnd(t, stderr)
	if _, err := os.Stat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("socket: %v, want it removed", err)
	}
}

func TestParentThatStaysIsNotGone(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	asked := 0
	parent := func() int {
		if asked++; asked == 5 {
			cancel()
		}
		return 42
	}
	watchParent(ctx, func() { t.Error("parent is gone") }, 42, parent, time.Millisecond)
}

func TestDumpIsWhatKongReads(t *testing.T) {
	var out bytes.Buffer
	if err := run([]string{"phantom-token", "-kong-prefix", "/kong", "-dump"}, &out, os.Stderr); err != nil {
		t.Fatal(err)
	}
	var info struct {
		Protocol, SocketPath string
		Plugins              []struct {
			Name, Version string
			Phases        []string
			Priority      int
			Schema        struct {
				Name   string           `json:"name"`
				Fields []map[string]any `json:"fields"`
			}
		}
	}
	dec := json.NewDecoder(&out)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&info); err != nil {
		t.Fatal(err)
	}
	name := filepath.Base(os.Args[0]) // Kong takes it from the file, and so do we
	if info.Protocol != "ProtoBuf:1" || info.SocketPath != "/kong/"+name+".socket" || len(info.Plugins) != 1 {
		t.Fatalf("dump = %+v", info)
	}
	plugin := info.Plugins[0]
	if plugin.Name != name || plugin.Schema.Name != name || plugin.Priority != 1000 || plugin.Version == "" ||
		len(plugin.Phases) != 1 || plugin.Phases[0] != "access" || len(plugin.Schema.Fields) != 3 {
		t.Errorf("plugin = %+v", plugin)
	}
}

func TestKeysCommandMakesAKeyOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keys", "signing.jwk")
	var first, second, log bytes.Buffer
	if err := run([]string{"phantom-token", "keys", "-out", file, "-alg", "EdDSA"}, &first, &log); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key file is %v, %v, want mode 0600", info, err)
	}
	if err := run([]string{"phantom-token", "keys", "-out", file}, &second, &log); err != nil {
		t.Fatal(err)
	}
	if first.String() != second.String() {
		t.Errorf("second run prints\n%s\nwant the same key as\n%s", &second, &first)
	}
	key, err := keyring.Load(file, "")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(first.String()), "\n")
	if len(lines) != 3 || lines[0] != "kid "+key.ID() || lines[1] != "alg EdDSA" {
		t.Fatalf("output is\n%s", &first)
	}
	var set struct {
		Keys []map[string]any `json:"keys"`
	}
	if err := json.Unmarshal([]byte(lines[2]), &set); err != nil || len(set.Keys) != 1 || set.Keys[0]["d"] != nil {
		t.Errorf("JWK Set is %s, want one public key", lines[2])
	}
}

func TestCommandLineErrors(t *testing.T) {
	tests := []struct {
		name string
		args []string
		want error
	}{
		{"UnknownFlag", []string{"-x"}, errUsage},
		{"UnknownCommand", []string{"check"}, errUsage},
		{"UnknownLevel", []string{"-log-level", "loud"}, errUsage},
		{"KeysWithoutFile", []string{"keys"}, errUsage},
		{"KeysWithMore", []string{"keys", "-out", "a", "b"}, errUsage},
		{"Help", []string{"-help"}, flag.ErrHelp},
		{"KeysHelp", []string{"keys", "-help"}, flag.ErrHelp},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out, log bytes.Buffer
			err := run(append([]string{"phantom-token"}, tt.args...), &out, &log)
			if !errors.Is(err, tt.want) {
				t.Errorf("run = %v, want %v", err, tt.want)
			}
			if (log.Len() > 0) != (tt.want == flag.ErrHelp) {
				t.Errorf("stderr is %q", &log)
			}
		})
	}
	if err := run([]string{"phantom-token", "-kong-prefix", filepath.Join(t.TempDir(), "missing")}, os.Stdout, os.Stderr); err == nil {
		t.Error("run in a missing prefix = nil, want an error")
	}
}
