package keyring_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"phantomtoken/internal/keyring"
)

// TestMain lets the test binary be another process, for what has to be tried in one.
func TestMain(m *testing.M) {
	var err error
	if path := os.Getenv("KEYRING_TEST_LOAD_OR_CREATE"); path != "" {
		err = loadOrCreateProcess(path)
	} else if url := os.Getenv("KEYRING_TEST_FETCH"); url != "" {
		err = fetchProcess(url)
	} else if dir := os.Getenv("KEYRING_TEST_ROTATE"); dir != "" {
		err = rotatingProcess(dir)
	} else {
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// loadOrCreateProcess says that it is ready, waits for a line and prints a key id.
func loadOrCreateProcess(path string) error {
	fmt.Println("ready")
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		return err
	}
	k, err := keyring.LoadOrCreate(path, "")
	if err != nil {
		return err
	}
	fmt.Println(k.ID())
	return nil
}

// fetchProcess fetches a key set once and prints the outcome.
func fetchProcess(url string) error {
	r, err := keyring.NewRemoteKeys(keyring.RemoteConfig{URL: url, InsecureHosts: []string{"keys.localhost"}})
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = r.Keys(context.Background(), "x")
	fmt.Println("fetched:", err)
	return nil
}

func writeFile(t testing.TB, path, content string, mode fs.FileMode) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // WriteFile's mode passes the umask
		t.Fatal(err)
	}
	return path
}

// names lists a folder.
func names(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func TestLoadOrCreate(t *testing.T) {
	for _, alg := range append(algorithms(), "") {
		t.Run("alg "+alg, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "var", "keys")
			path := filepath.Join(dir, "signing.jwk")
			created, err := keyring.LoadOrCreate(path, alg)
			if err != nil {
				t.Fatal(err)
			}
			if want := alg; want != "" && created.Algorithm() != want {
				t.Errorf("Algorithm() = %q, want %q", created.Algorithm(), want)
			}
			for _, tt := range []struct {
				path string
				want fs.FileMode
			}{{path, 0o600}, {dir, fs.ModeDir | 0o700}, {filepath.Dir(dir), fs.ModeDir | 0o700}} {
				info, err := os.Stat(tt.path)
				if err != nil {
					t.Fatal(err)
				}
				if info.Mode() != tt.want {
					t.Errorf("mode of %s = %v, want %v", tt.path, info.Mode(), tt.want)
				}
			}
			if got := names(t, dir); len(got) != 1 {
				t.Errorf("folder holds %v, want the key file alone", got)
			}
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(string(data), "{") || !strings.Contains(string(data), `"kid":"`+created.ID()+`"`) {
				t.Error("the file is not a JWK with the key id")
			}
			for _, load := range []func(string, string) (*keyring.Key, error){keyring.Load, keyring.LoadOrCreate} {
				again, err := load(path, "") // the file knows its algorithm
				if err != nil {
					t.Fatal(err)
				}
				if again.ID() != created.ID() || again.Algorithm() != created.Algorithm() {
					t.Errorf("loaded %v, want %v", again, created)
				}
			}
		})
	}
}

func TestLoadOrCreateRefusesUnknownAlgorithm(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key.jwk")
	if k, err := keyring.LoadOrCreate(path, "HS256"); err == nil {
		t.Errorf("got %v, want an error", k)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file was made: %v", err)
	}
}

func TestLoadOrCreateNeverReplacesAFile(t *testing.T) {
	for _, content := range []string{"", "garbage", ecJWK} {
		path := writeFile(t, filepath.Join(t.TempDir(), "key.jwk"), content, 0o600)
		_, err := keyring.LoadOrCreate(path, keyring.EdDSA)
		if err == nil {
			t.Errorf("file %q: want an error", content)
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != content {
			t.Errorf("file %q was replaced", content)
		}
	}
}

func TestLoadOrCreateFollowsNoDanglingLink(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "key.jwk")
	if err := os.Symlink(filepath.Join(dir, "elsewhere"), path); err != nil {
		t.Fatal(err)
	}
	if k, err := keyring.LoadOrCreate(path, ""); err == nil {
		t.Errorf("got %v, want an error", k)
	}
	if got := names(t, dir); len(got) != 1 {
		t.Errorf("folder holds %v, want the link alone", got)
	}
}

func TestLoadOrCreateGoroutinesRace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys", "signing.jwk")
	const n = 32
	ids := make([]string, n)
	errs := make([]error, n)
	begin := make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			<-begin
			k, err := keyring.LoadOrCreate(path, "")
			if errs[i] = err; err == nil {
				ids[i] = k.ID()
			}
		})
	}
	close(begin)
	wg.Wait()
	for i := range n {
		if errs[i] != nil {
			t.Fatalf("caller %d: %v", i, errs[i])
		}
		if ids[i] != ids[0] {
			t.Errorf("caller %d has key %s, caller 0 has %s", i, ids[i], ids[0])
		}
	}
	if got := names(t, filepath.Dir(path)); len(got) != 1 {
		t.Errorf("folder holds %v, want the key file alone", got)
	}
}

func TestLoadOrCreateProcessesRace(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "keys", "signing.jwk")
	type process struct {
		cmd    *exec.Cmd
		stdin  interface{ Write([]byte) (int, error) }
		stdout *bufio.Reader
	}
	var processes []process
	for range 4 {
		cmd := exec.CommandContext(t.Context(), self)
		cmd.Env = append(os.Environ(), "KEYRING_TEST_LOAD_OR_CREATE="+path)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		p := process{cmd: cmd, stdin: in, stdout: bufio.NewReader(out)}
		if line, err := p.stdout.ReadString('\n'); line != "ready\n" {
			t.Fatalf("process says %q: %v", line, err)
		}
		processes = append(processes, p)
	}
	for _, p := range processes {
		if _, err := p.stdin.Write([]byte("go\n")); err != nil {
			t.Fatal(err)
		}
	}
	k := ""
	for i, p := range processes {
		line, err := p.stdout.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if err := p.cmd.Wait(); err != nil {
			t.Fatalf("process %d: %v: %s", i, err, line)
		}
		if k == "" {
			k = line
		}
		if line != k {
			t.Errorf("process %d has key %q, the first has %q", i, line, k)
		}
	}
}

func TestLoadRefuses(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		path string
		alg  string
		want string
	}{
		{name: "EmptyPath", path: "", want: "got an empty one"},
		{name: "Missing", path: filepath.Join(dir, "missing"), want: "no such file"},
		{name: "Folder", path: dir, want: "regular file"},
		{name: "NamedPipe", path: fifo, want: "regular file"},
		{name: "GroupReadable", path: writeFile(t, filepath.Join(dir, "g"), ecJWK, 0o640), want: "got mode 0640; run chmod 600"},
		{name: "WorldReadable", path: writeFile(t, filepath.Join(dir, "w"), ecJWK, 0o604), want: "got mode 0604; run chmod 600"},
		{name: "GroupWritable", path: writeFile(t, filepath.Join(dir, "gw"), ecJWK, 0o620), want: "got mode 0620; run chmod 600"},
		{name: "Oversize", path: writeFile(t, filepath.Join(dir, "big"), strings.Repeat(" ", 64<<10)+ecJWK, 0o600), want: "at most 65536 bytes"},
		{name: "Garbage", path: writeFile(t, filepath.Join(dir, "garbage"), "x", 0o600), want: "JWK or PEM"},
		{name: "OtherAlgorithm", path: writeFile(t, filepath.Join(dir, "ec"), ecJWK, 0o600), alg: keyring.RS256, want: "expected algorithm ES256"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k, err := keyring.Load(tt.path, tt.alg)
			if err == nil {
				t.Fatalf("got %v, want an error", k)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %q, want it to say %q", err, tt.want)
			}
			if !strings.Contains(err.Error(), tt.path) {
				t.Errorf("error %q, want it to name the file", err)
			}
		})
	}
}

func TestLoadAcceptsReadOnlyFileAndLinks(t *testing.T) {
	dir := t.TempDir()
	path := writeFile(t, filepath.Join(dir, "key"), ecJWK, 0o400)
	link := filepath.Join(dir, "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{path, link} {
		if _, err := keyring.Load(p, ""); err != nil {
			t.Errorf("Load(%s): %v", p, err)
		}
	}
}

func TestLoadPublic(t *testing.T) {
	dir := t.TempDir()
	path := writeFile(t, filepath.Join(dir, "jwks.json"), `{"keys":[`+rsaPublicJWK+`]}`, 0o644)
	keys, err := keyring.LoadPublic(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(keys) != 1 || keys[0].ID != rsaThumbprint {
		t.Errorf("got %v, want the key %s", keys, rsaThumbprint)
	}
	writable := writeFile(t, filepath.Join(dir, "writable"), `{"keys":[`+rsaPublicJWK+`]}`, 0o644)
	if err := os.Chmod(writable, 0o664); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"", dir, filepath.Join(dir, "missing"), writable, writeFile(t, filepath.Join(dir, "bad"), "x", 0o644)} {
		if keys, err := keyring.LoadPublic(p); err == nil {
			t.Errorf("LoadPublic(%q) = %v, want an error", p, keys)
		}
	}
}

// TestPublicHalfOfPrivateKeyHasTheIDThatSigns: Load ignores the kid in the file, so whoever
// verifies by the same file has to ignore it too.
func TestPublicHalfOfPrivateKeyHasTheIDThatSigns(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key.jwk")
	key, err := keyring.LoadOrCreate(path, "")
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, path, strings.Replace(string(data), key.ID(), "another", 1), 0o600)
	keys, err := keyring.LoadPublic(path)
	if err != nil || len(keys) != 1 || keys[0].ID != key.ID() {
		t.Errorf("got %v, error %v, want the id %s", keys, err, key.ID())
	}
}
