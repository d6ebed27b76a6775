package testenv_test

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"
)

// stops closes the stack and looks for what it may have left: listeners and goroutines.
// The programs were waited for, or Close would have said so.
func stops(t *testing.T, w *world) {
	for _, a := range []interface{ Close() error }{w.john, w.jane} {
		if err := a.Close(); err != nil {
			t.Errorf("closing a client: %v", err)
		}
	}
	if err := w.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	w.outside.CloseIdleConnections()
	for _, address := range []string{w.MCPURL, w.MCPServerURL, w.APIURL, w.SidecarURL, w.EgressURL, w.AuthServer.Issuer()} {
		host := regexp.MustCompile(`^http://([^/]+)`).FindStringSubmatch(address)[1]
		if conn, err := net.Dial("tcp", host); err == nil {
			_ = conn.Close()
			t.Errorf("%s is still listening", address)
		}
	}
	nothingLeft(t)
}

// ours returns the stacks of goroutines that were started by this module's packages, except
// tests.
func ours() string {
	buf := make([]byte, 4<<20)
	var out []string
	for g := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if i := strings.LastIndex(g, "created by "); i >= 0 &&
			(strings.HasPrefix(g[i:], "created by phantomtoken/") && !strings.Contains(g[i:], "_test") ||
				strings.HasPrefix(g[i:], "created by net/http.")) {
			out = append(out, g)
		}
	}
	return strings.Join(out, "\n\n")
}

// demoBinary builds the demonstration.
func demoBinary(t *testing.T, w *world) string {
	t.Helper()
	path := filepath.Join(w.folder, "demo")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", path, "phantomtoken/testenv/demo").CombinedOutput(); err != nil {
		t.Fatalf("building the demonstration: %v\n%s", err, out)
	}
	return path
}

func demonstration(t *testing.T, w *world) {
	cmd := exec.CommandContext(t.Context(), demoBinary(t, w), "-bin", w.folder, "-keys", filepath.Join(w.folder, "keys"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("got %v, want exit status 0; the output ends with\n%s", err, tail(string(out), 25))
	}
	text := string(out)
	if strings.Contains(text, "\x1b[") {
		t.Error("colours in an output that is no terminal")
	}
	last := tail(text, 4)
	if !regexp.MustCompile(`^Stock prices for jane\.roe@demo\.example \(Europe\)\n(\s+[A-Z]+ .* \d+\.\d\d EUR\n?){3}$`).MatchString(last) {
		t.Errorf("last lines: got\n%s\nwant stock prices", last)
	}
	if regexp.MustCompile(`eyJ[\w-]{10,}\.`).MatchString(text) {
		t.Error("a JWT on the screen")
	}
	for _, want := range []string{
		"WWW-Authenticate: Bearer resource_metadata=", "POST http://127.0.0.1", "at+jwt #", "opaque token #",
		"introspected 1 time", "expected 503, got 503", "UNEXPECTED",
		"MCP server → egress proxy", "advisor → MCP server", "act mcp-server, called by advisor, called by dyn-", "the bound is limits.actors",
	} {
		if got := strings.Contains(text, want); got != (want != "UNEXPECTED") {
			t.Errorf("%q in the output: got %t", want, got)
		}
	}
	for _, file := range []string{"phantom-token.jwk", "sidecar.jwk"} {
		info, err := os.Stat(filepath.Join(w.folder, "keys", file))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("key file %s: got %v, %v; want mode 0600", file, info, err)
		}
	}
}

func demonstrationFails(t *testing.T, w *world) {
	cmd := exec.CommandContext(t.Context(), demoBinary(t, w), "-bin", filepath.Join(w.folder, "nothing-here"), "-keys", filepath.Join(w.folder, "keys"))
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("got %v, want exit status 1", err)
	}
	if !strings.Contains(tail(string(out), 3), "demo: starting test environment") {
		t.Errorf("the output ends with\n%s\nwant what went wrong", tail(string(out), 3))
	}
}

func demonstrationServes(t *testing.T, w *world) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, demoBinary(t, w), "-serve", "-bin", w.folder, "-keys", filepath.Join(w.folder, "keys"))
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var seen strings.Builder
	var address string
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		seen.WriteString(lines.Text() + "\n")
		if m := regexp.MustCompile(`^MCP URL\s+(\S+)$`).FindStringSubmatch(lines.Text()); m != nil {
			address = m[1]
		}
		if strings.Contains(lines.Text(), "Ctrl-C") {
			break
		}
	}
	for _, want := range []string{"/advisor/mcp", "john.doe@demo.example", "password", "Inspector", "claude mcp add", "/trouble"} {
		if !strings.Contains(seen.String(), want) {
			t.Errorf("%q is not among what was printed:\n%s", want, seen.String())
		}
	}
	if a := w.do(t, http.MethodPost, address, ""); a.status != http.StatusUnauthorized {
		t.Errorf("%s: got status %d, want 401", address, a.status)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	last := ""
	for lines.Scan() {
		last = lines.Text()
	}
	if err := cmd.Wait(); err != nil || last != "stopped" {
		t.Errorf("after Ctrl-C: got %v, last line %q; want exit status 0 and \"stopped\"", err, last)
	}
}
