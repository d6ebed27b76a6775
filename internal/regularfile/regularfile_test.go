package regularfile_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"phantomtoken/internal/regularfile"
)

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("12345"), 0o640); err != nil {
		t.Fatal(err)
	}
	link, pipe := filepath.Join(dir, "link"), filepath.Join(dir, "pipe")
	if err := errors.Join(os.Symlink(file, link), syscall.Mkfifo(pipe, 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, path string
		want       error
	}{
		{"file", file, nil},
		{"link to a file", link, nil},
		{"nothing", filepath.Join(dir, "nothing"), fs.ErrNotExist},
		{"RejectsFolder", dir, regularfile.ErrIrregular},
		{"RejectsDevice", os.DevNull, regularfile.ErrIrregular},
		{"RejectsPipeWithoutWaitingForItsWriter", pipe, regularfile.ErrIrregular},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f, info, err := regularfile.Open(tc.path)
			if !errors.Is(err, tc.want) {
				t.Fatalf("got %v, want %v", err, tc.want)
			}
			if err != nil {
				return
			}
			defer f.Close()
			if info.Size() != 5 || info.Mode() != 0o640 {
				t.Errorf("got %d bytes of mode %s, want those of the file", info.Size(), info.Mode())
			}
		})
	}
}

// TestDescribesWhatIsRead: the name leads elsewhere after the opening.
func TestDescribesWhatIsRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("first"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, info, err := regularfile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	other := path + ".other"
	if err := errors.Join(os.WriteFile(other, []byte("another one"), 0o666), os.Rename(other, path)); err != nil {
		t.Fatal(err)
	}
	now, err := f.Stat()
	if err != nil || !os.SameFile(info, now) {
		t.Errorf("got another file, %v", err)
	}
}
