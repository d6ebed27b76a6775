package keycloak_test

import (
	"archive/zip"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"phantomtoken/testenv/keycloak"
)

type entry struct {
	name string
	mode os.FileMode
}

func archiveOf(t *testing.T, entries ...entry) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "archive.zip")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	z := zip.NewWriter(f)
	for _, e := range entries {
		h := &zip.FileHeader{Name: e.name}
		h.SetMode(e.mode)
		w, err := z.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		if e.mode.IsDir() {
			continue
		}
		if _, err := w.Write([]byte("content of " + e.name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(z.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestUnpack(t *testing.T) {
	folder := t.TempDir()
	file := archiveOf(t, entry{"kc/", 0o755 | os.ModeDir}, entry{"kc/bin/kc.sh", 0o755}, entry{"kc/conf", 0o644})
	if err := keycloak.Unpack(file, folder); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{"kc/bin/kc.sh": 0o755, "kc/conf": 0o644} {
		info, err := os.Stat(filepath.Join(folder, name))
		if err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: got %v, %v; want mode %s", name, info, err, mode)
		}
		if data, err := os.ReadFile(filepath.Join(folder, name)); err != nil || string(data) != "content of "+name {
			t.Errorf("%s: got %q, %v", name, data, err)
		}
	}
}

func TestUnpackRefuses(t *testing.T) {
	for _, tt := range []struct {
		name  string
		entry entry
	}{
		{"PathOutsideOfTheFolder", entry{"../outside", 0o644}},
		{"AbsolutePath", entry{"/outside", 0o644}},
		{"Link", entry{"link", 0o777 | os.ModeSymlink}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			folder := filepath.Join(t.TempDir(), "inside")
			if err := keycloak.Unpack(archiveOf(t, tt.entry), folder); err == nil {
				t.Error("got no error")
			}
			if left, _ := filepath.Glob(filepath.Join(folder, "..", "*")); len(left) > 0 {
				t.Errorf("got %q, want nothing written", left)
			}
		})
	}
}

func TestVerify(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("abc"), 0o644); err != nil {
		t.Fatal(err)
	}
	const sum = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" // FIPS 180-4
	if err := keycloak.Verify(file, sum); err != nil {
		t.Errorf("got %v, want no error", err)
	}
	other := strings.Repeat("0", 64)
	if err := keycloak.Verify(file, other); err == nil || !strings.Contains(err.Error(), sum) || !strings.Contains(err.Error(), other) {
		t.Errorf("got %v, want both checksums", err)
	}
}
