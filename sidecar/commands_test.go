package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"phantomtoken/internal/policy"
)

const shipped = "../deploy/sidecar/policy.yaml"

// TestCheckCommand: every problem with its place, as compilers write it.
func TestCheckCommand(t *testing.T) {
	broken := write(t, "version: 1\naudiences: {x: {scopes: 3}}\ncallers: {y: {}}\n")
	for _, tc := range []struct {
		name   string
		args   []string
		status int
		stdout string
		stderr []string // beginnings of its lines
	}{
		{name: "good", args: []string{"check", shipped}, status: exitOK, stdout: shipped + " is good: version "},
		{name: "broken", args: []string{"check", broken}, status: exitFailed, stderr: []string{broken + ":2:", broken + ":3:"}},
		{name: "missing", args: []string{"check", filepath.Join(t.TempDir(), "none")}, status: exitFailed, stderr: []string{"/"}},
		{name: "no file", args: []string{"check"}, status: exitUsage, stderr: []string{"check: expected the path"}},
		{name: "flag", args: []string{"check", "-x"}, status: exitUsage, stderr: []string{"check: expected the path"}},
		{name: "schema with arguments", args: []string{"schema", "x"}, status: exitUsage, stderr: []string{"schema: expected no arguments"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			if status := run(tc.args, nil, &stdout, &stderr); status != tc.status || !strings.HasPrefix(stdout.String(), tc.stdout) {
				t.Errorf("got %d, %q, want %d, %q", status, &stdout, tc.status, tc.stdout)
			}
			lines := strings.Split(strings.TrimSpace(stderr.String()), "\n")
			for i, want := range tc.stderr {
				if i >= len(lines) || !strings.HasPrefix(lines[i], want) {
					t.Errorf("line %d: got %q, want it to begin with %q", i, lines, want)
				}
			}
		})
	}
}

// updateFlag writes the golden files anew.
func updateFlag() bool {
	f := flag.Lookup("update")
	return f != nil && f.Value.String() == "true"
}

var _ = flag.Bool("update", false, "write the golden files")

// TestExplainCommand: what the shipped policy decides, in words that were looked at, as JSON,
// and by exit status.
func TestExplainCommand(t *testing.T) {
	for _, tc := range []struct {
		name   string
		args   []string
		status int
	}{
		{name: "granted", args: []string{"-caller", "mcp-server", "-audience", api, "-scope", "stocks/read"}},
		{name: "narrowed", args: []string{"-caller", "mcp-server", "-audience", api, "-granted", "stocks/read profile"}},
		{name: "scope", args: []string{"-caller", "mcp-server", "-audience", api, "-scope", "stocks/trade", "-granted", "stocks/read"}, status: exitFailed},
		{name: "nothing-granted", args: []string{"-caller", "mcp-server", "-audience", api, "-scope", "stocks/read", "-granted", ""}, status: exitFailed},
		{name: "target", args: []string{"-caller", "mcp-server", "-audience", "https://other.example", "-scope", "stocks/read"}, status: exitFailed},
		{name: "caller", args: []string{"-caller", "somebody", "-audience", api}, status: exitFailed},
		{name: "actors", args: []string{"-caller", "mcp-server", "-audience", api, "-scope", "stocks/read", "-actors", "4"}, status: exitFailed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			args := append([]string{"explain", "-policy", shipped}, tc.args...)
			var stdout, stderr bytes.Buffer
			if status := run(args, nil, &stdout, &stderr); status != tc.status || stderr.Len() > 0 {
				t.Errorf("got %d, %q, want %d", status, &stderr, tc.status)
			}
			golden := filepath.Join("testdata", "explain-"+tc.name+".txt")
			if updateFlag() {
				if err := os.WriteFile(golden, stdout.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if stdout.String() != string(want) {
				t.Errorf("got\n%s\nwant\n%s", &stdout, want)
			}

			var asJSON bytes.Buffer
			if status := run(append(args, "-json"), nil, &asJSON, &stderr); status != tc.status {
				t.Errorf("-json: got %d, want %d", status, tc.status)
			}
			var got map[string]any
			if err := json.Unmarshal(asJSON.Bytes(), &got); err != nil || len(got) == 0 {
				t.Errorf("-json: got %s, error %v", &asJSON, err)
			}
		})
	}
}

// TestExplainUsage: what cannot be answered is status 2, help is 0.
func TestExplainUsage(t *testing.T) {
	for _, tc := range []struct {
		name   string
		args   []string
		status int
		stderr string
	}{
		{name: "help", args: []string{"-help"}, status: exitOK, stderr: "-audience"},
		{name: "no caller", args: []string{"-policy", shipped}, status: exitUsage, stderr: "expected -policy and -caller"},
		{name: "unknown flag", args: []string{"-frobnicate"}, status: exitUsage, stderr: "frobnicate"},
		{name: "scope that is none", args: []string{"-policy", shipped, "-caller", "x", "-scope", `a"b`}, status: exitUsage, stderr: "-scope: "},
		{name: "granted scope that is none", args: []string{"-policy", shipped, "-caller", "x", "-granted", `a"b`}, status: exitUsage, stderr: "-granted: "},
		{name: "broken policy", args: []string{"-policy", write(t, "version: 2\n"), "-caller", "x"}, status: exitUsage, stderr: ":1:"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			status := run(append([]string{"explain"}, tc.args...), nil, &stdout, &stderr)
			if status != tc.status || stdout.Len() > 0 || !strings.Contains(stderr.String(), tc.stderr) {
				t.Errorf("got %d, %q, %q, want %d, %q", status, &stdout, &stderr, tc.status, tc.stderr)
			}
		})
	}
}

// TestSchemaCommand prints the schema, and nothing else.
func TestSchemaCommand(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if status := run([]string{"schema"}, nil, &stdout, &stderr); status != exitOK || !bytes.Equal(stdout.Bytes(), policy.Schema()) || stderr.Len() > 0 {
		t.Errorf("got %d, %q", status, &stderr)
	}
}
