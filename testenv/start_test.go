package testenv_test

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"phantomtoken/testenv"
)

// A stack that cannot start says why and leaves nothing behind.
func TestStartFails(t *testing.T) {
	folder := t.TempDir()
	var log bytes.Buffer
	s, err := testenv.Start(t.Context(), testenv.Options{
		Binaries: testenv.BinariesIn(filepath.Join(folder, "nothing-here")),
		Folder:   filepath.Join(folder, "keys"),
		Log:      &log,
	})
	if err == nil {
		_ = s.Close()
		t.Fatal("got a stack without programs, want an error")
	}
	for _, want := range []string{"starting test environment", "sidecar", "no such file"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
	if !strings.Contains(log.String(), testenv.AuthServer) {
		t.Error("the log was not copied")
	}
	nothingLeft(t)
}

// nothingLeft waits until no goroutine of this module's packages is left. Connections end
// when both sides have noticed, so that may take a moment.
func nothingLeft(t *testing.T) {
	t.Helper()
	left := ""
	defer func() {
		if left != "" {
			t.Logf("goroutines left behind:\n%s", left)
		}
	}()
	eventually(t, "no goroutine is left behind", func() bool {
		left = ours()
		return left == ""
	})
}

// eventually waits for what other goroutines and processes bring about.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("expected within 10 s: %s", what)
		}
	}
}

// receive takes one value from a channel.
func receive[T any](t *testing.T, from <-chan T, what string) T {
	t.Helper()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	select {
	case v := <-from:
		return v
	case <-deadline.C:
		t.Fatalf("expected within 10 s: %s", what)
	}
	var none T
	return none
}
