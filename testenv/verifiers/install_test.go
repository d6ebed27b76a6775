//go:build verifiers

package verifiers_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// cacheVariable names the environment variable with the folder in which packages are
// installed. Without it, that is phantom-token/verifiers in the user's cache folder.
const cacheVariable = "VERIFIERS_CACHE"

// installTimeout bounds one installation, network included.
const installTimeout = 3 * time.Minute

// runtime is what the programs of one language need.
type runtime struct {
	name string
	// programs must be on the machine; says what to install.
	programs []string
	says     string
	// files pin the packages; each is copied into the folder that install works in.
	files   []string
	install [][]string // commands, run in that folder
	check   func(t *testing.T, folder string)
}

func nodeRuntime() runtime {
	return runtime{
		name: "node", programs: []string{"node", "npm"}, says: "Node 20 or later with npm",
		files: []string{"node/package.json", "node/package-lock.json"},
		// Exactly what package-lock.json says, checked against its checksums, and no scripts
		// of packages.
		install: [][]string{{"npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"}},
	}
}

func pythonRuntime() runtime {
	return runtime{
		name: "python", programs: []string{"python3"}, says: "Python 3.10 or later with venv",
		files: []string{"python/requirements.txt"},
		install: [][]string{
			{"python3", "-m", "venv", "venv"},
			{"venv/bin/pip", "install", "--quiet", "--require-hashes", "--only-binary=:all:", "--no-deps", "--disable-pip-version-check", "-r", "requirements.txt"},
		},
	}
}

func javaRuntime() runtime {
	return runtime{
		name: "java", programs: []string{"java", "javac", "mvn"}, says: "a JDK of version 17 or later and Maven",
		files: []string{"java/pom.xml", "java/lib.sha256"},
		install: [][]string{{"mvn", "--batch-mode", "--quiet", "--strict-checksums",
			"org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies", "-DoutputDirectory=lib", "-DincludeScope=runtime"}},
		check: checkJars,
	}
}

// checkJars compares the archives with lib.sha256: Maven has no lock file.
func checkJars(t *testing.T, folder string) {
	t.Helper()
	list, err := os.ReadFile(filepath.Join(folder, "lib.sha256"))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for line := range strings.Lines(string(list)) {
		if sum, name, ok := strings.Cut(strings.TrimSpace(line), "  "); ok {
			want[name] = sum
		}
	}
	entries, err := os.ReadDir(filepath.Join(folder, "lib"))
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != len(want) {
		t.Errorf("got %d archives, want the %d of java/lib.sha256", len(entries), len(want))
	}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(folder, "lib", e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if got := sha256.Sum256(data); hex.EncodeToString(got[:]) != want[e.Name()] {
			t.Errorf("%s: got SHA-256 %x, want %q of java/lib.sha256", e.Name(), got, want[e.Name()])
		}
	}
	if t.Failed() {
		t.FailNow()
	}
}

// installed returns a folder with the packages of r, which it installs unless an earlier run
// has done so. A program that is missing fails the test: with this build tag nothing is left
// out silently.
func (r runtime) installed(t *testing.T) string {
	t.Helper()
	for _, program := range r.programs {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("%s is missing: expected %s; .ci/verifiers installs it", program, r.says)
		}
	}
	folder := filepath.Join(cacheFolder(t), r.name+"-"+r.checksum(t))
	marker := filepath.Join(folder, ".installed")
	if _, err := os.Stat(marker); err == nil {
		return folder
	}
	// Of an attempt that was interrupted nothing is used.
	if err := os.RemoveAll(folder); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range r.files {
		write(t, filepath.Join(folder, filepath.Base(name)), readFile(t, name))
	}
	ctx, cancel := context.WithTimeout(t.Context(), installTimeout)
	defer cancel()
	for _, args := range r.install {
		var out bytes.Buffer
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		if strings.Contains(args[0], "/") {
			cmd.Path = filepath.Join(folder, args[0])
		}
		cmd.Dir, cmd.Stdout, cmd.Stderr = folder, &out, &out
		if err := cmd.Run(); err != nil {
			t.Fatalf("%s: expected %s: %v\n%s", strings.Join(args, " "), r.says, err, out.Bytes())
		}
	}
	if r.check != nil {
		r.check(t, folder)
	}
	write(t, marker, nil)
	return folder
}

// checksum tells one set of packages from another: a change means a folder of its own.
func (r runtime) checksum(t *testing.T) string {
	t.Helper()
	h := sha256.New()
	for _, args := range r.install {
		fmt.Fprintln(h, args)
	}
	for _, name := range r.files {
		data := readFile(t, name)
		fmt.Fprintf(h, "%s %d\n%s", name, len(data), data)
	}
	return hex.EncodeToString(h.Sum(nil))[:12]
}

func cacheFolder(t *testing.T) string {
	t.Helper()
	folder := os.Getenv(cacheVariable)
	if folder == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			t.Fatalf("finding the cache folder: set %s: %v", cacheVariable, err)
		}
		folder = filepath.Join(cache, "phantom-token", "verifiers")
	}
	folder, err := filepath.Abs(folder)
	if err != nil {
		t.Fatal(err)
	}
	return folder
}

func write(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
}
