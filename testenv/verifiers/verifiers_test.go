//go:build verifiers

package verifiers_test

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestVerifiers holds the verifiers in other languages against what the one in Go is held
// against.
func TestVerifiers(t *testing.T) {
	for _, v := range []struct {
		name    string
		command func(t *testing.T) *exec.Cmd
	}{
		{"Node with jose", nodeVerifier},
		{"Python with PyJWT", pythonVerifier},
		{"Java with Spring Security", javaVerifier},
	} {
		t.Run(v.name, func(t *testing.T) { checkVerifier(t, v.command(t)) })
	}
}

func nodeVerifier(t *testing.T) *exec.Cmd {
	// Node looks for packages beside the program.
	dir := beside(t, nodeRuntime().installed(t), "node_modules", "node/verifier.mjs")
	return exec.Command("node", filepath.Join(dir, "verifier.mjs"))
}

func pythonVerifier(t *testing.T) *exec.Cmd {
	return exec.Command(filepath.Join(pythonRuntime().installed(t), "venv/bin/python"), "python/verifier.py")
}

func javaVerifier(t *testing.T) *exec.Cmd {
	libraries := filepath.Join(javaRuntime().installed(t), "lib", "*")
	classes := t.TempDir()
	out, err := exec.CommandContext(t.Context(), "javac", "-parameters", "-Xlint:all", "-Werror", "-cp", libraries, "-d", classes, "java/src/main/java/example/Verifier.java").CombinedOutput()
	if err != nil {
		t.Fatalf("compiling the verifier: %v\n%s", err, out)
	}
	return exec.Command("java", "-XX:TieredStopAtLevel=1", "-cp", classes+string(os.PathListSeparator)+libraries, "example.Verifier")
}

// beside returns a new folder with copies of files and a link to what is installed.
func beside(t *testing.T, installed, link string, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Symlink(filepath.Join(installed, link), filepath.Join(dir, link)); err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		write(t, filepath.Join(dir, filepath.Base(name)), readFile(t, name))
	}
	return dir
}

// TestCallers runs what docs/sidecar.md shows in other languages, with the real sidecar.
func TestCallers(t *testing.T) {
	c := startChain(t)
	typescript := compileTypeScript(t, "callers/egress.ts", "callers/exchange.ts")
	node := func(name string) func(*testing.T) *exec.Cmd {
		return func(*testing.T) *exec.Cmd { return exec.Command("node", filepath.Join(typescript, name)) }
	}
	interpreter := filepath.Join(pythonRuntime().installed(t), "venv/bin/python")
	python := func(name string) func(*testing.T) *exec.Cmd {
		return func(*testing.T) *exec.Cmd { return exec.Command(interpreter, "callers/"+name) }
	}
	const proxy, endpoint = "invalid_token", "invalid_request"
	for _, p := range []caller{
		{"TypeScript, proxy", node("egress.js"), c.egress, proxy},
		{"TypeScript, proxy over its socket", node("egress.js"), "unix:" + c.socket, proxy},
		{"TypeScript, token request", node("exchange.js"), "", endpoint},
		{"Python, proxy", python("egress.py"), c.egress, proxy},
		{"Python, proxy over its socket", python("egress.py"), "unix:" + c.socket, proxy},
		{"Python, token request", python("exchange.py"), "", endpoint},
		{"curl, proxy", shell("egress.sh"), c.egress, proxy},
		{"curl, proxy over its socket", shell("socket.sh"), "", proxy},
	} {
		t.Run(p.name, func(t *testing.T) { c.checkCaller(t, p) })
	}
	t.Run("curl, token request", func(t *testing.T) {
		request := caller{command: shell("exchange.sh")}
		printed, err := c.call(t, request, c.received(t))
		var answer struct {
			Token string `json:"access_token"`
		}
		if err != nil || json.Unmarshal([]byte(printed), &answer) != nil {
			t.Fatalf("got %v, want an answer in JSON", err)
		}
		if status, body := c.get(t, c.api+"/stocks", answer.Token); status != http.StatusOK || !strings.Contains(body, `"acted_by":"mcp-server"`) {
			t.Errorf("got %d %s, want 200 and who acted", status, body)
		}
		if printed, err = c.call(t, request, c.expired(t)); err == nil || !strings.Contains(printed, endpoint) {
			t.Errorf("expired token: got %s, %v; want a failure with %s", printed, err, endpoint)
		}
	})
}

// compileTypeScript checks the types, strictly, and returns a folder with the JavaScript.
func compileTypeScript(t *testing.T, files ...string) string {
	t.Helper()
	dir := beside(t, nodeRuntime().installed(t), "node_modules", append(files, "node/package.json")...)
	args := []string{filepath.Join("node_modules", "typescript", "bin", "tsc"),
		"--strict", "--target", "es2022", "--module", "nodenext", "--types", "node", "--skipLibCheck"}
	for _, name := range files {
		args = append(args, filepath.Base(name))
	}
	cmd := exec.CommandContext(t.Context(), "node", args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("compiling TypeScript: %v\n%s", err, out)
	}
	return dir
}

func shell(name string) func(*testing.T) *exec.Cmd {
	return func(t *testing.T) *exec.Cmd {
		t.Helper()
		if _, err := exec.LookPath("curl"); err != nil {
			t.Fatal("curl is missing; .ci/verifiers installs it")
		}
		return exec.Command("sh", "callers/"+name)
	}
}
