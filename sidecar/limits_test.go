package main

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestLimits: the program as it is released is one static file of less than 20 MB without
// symbols, and has less than 30 MiB of memory in use after a first exchange.
func TestLimits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token-exchange-sidecar")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags=-s -w", "-o", path, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("size: %.1f MB", float64(info.Size())/1e6)
	if info.Size() >= 20_000_000 {
		t.Errorf("got %d bytes, want less than 20 MB", info.Size())
	}
	file, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, p := range file.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("got a program with %s, want a static one", p.Type)
		}
	}
	if file.Section(".symtab") != nil || file.Section(".debug_info") != nil {
		t.Error("got symbols, want none")
	}

	p := startProgram(t, path, environment(t, usual, map[string]string{
		"TOKEN_EXCHANGE_EGRESS_LISTEN": "127.0.0.1:0", "TOKEN_EXCHANGE_METRICS_LISTEN": "127.0.0.1:0",
	}))
	p.exchange(t, mint(t, p.environ, nil), api)
	resident := residentMemory(t, p.cmd.Process.Pid)
	t.Logf("resident memory: %.1f MiB", float64(resident)/(1<<20))
	if resident >= 30<<20 {
		t.Errorf("got %d bytes of resident memory, want less than 30 MiB", resident)
	}
	p.stop(t)
}

func residentMemory(t testing.TB, pid int) int {
	t.Helper()
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		t.Fatal(err)
	}
	for text := range strings.Lines(string(data)) {
		if rest, found := strings.CutPrefix(text, "VmRSS:"); found {
			kilobytes, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")))
			if err != nil {
				t.Fatal(err)
			}
			return kilobytes << 10
		}
	}
	t.Fatal("no VmRSS")
	return 0
}
