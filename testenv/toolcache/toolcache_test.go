package toolcache_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"

	"phantomtoken/testenv/toolcache"
)

const variable = "TOOLCACHE_TEST_FOLDER"

func kit(files fs.FS, install func(folder string) error) toolcache.Kit {
	return toolcache.Kit{Name: "tool", Variable: variable, Files: files, Install: func(_ context.Context, folder string, _ io.Writer) error {
		return install(folder)
	}}
}

func TestPrepareInstallsOnce(t *testing.T) {
	t.Setenv(variable, t.TempDir())
	var installed atomic.Int32
	files := fstest.MapFS{"a.txt": {Data: []byte("a")}, "sub/b.txt": {Data: []byte("b")}}
	k := kit(files, func(folder string) error {
		installed.Add(1)
		data, err := os.ReadFile(filepath.Join(folder, "sub", "b.txt"))
		if string(data) != "b" {
			t.Errorf("the carried file: got %q, want b", data)
		}
		return err
	})
	if _, err := k.Find(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Find before: got %v, want that it does not exist", err)
	}
	var folders [8]string
	var all sync.WaitGroup
	for i := range folders {
		all.Go(func() {
			var err error
			if folders[i], err = k.Prepare(t.Context(), io.Discard); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	found, err := k.Find()
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range folders {
		if folder != found {
			t.Errorf("folder: got %s, want %s", folder, found)
		}
	}
	if installed.Load() != 1 {
		t.Errorf("installed %d times, want once", installed.Load())
	}

	files["a.txt"] = &fstest.MapFile{Data: []byte("another")}
	if _, err := k.Find(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Find for other files: got %v, want that it does not exist", err)
	}
}

func TestInterruptedInstallationIsNotUsed(t *testing.T) {
	t.Setenv(variable, t.TempDir())
	trouble := errors.New("no network")
	files := fstest.MapFS{"a.txt": {Data: []byte("a")}}
	broken := kit(files, func(folder string) error {
		return errors.Join(trouble, os.WriteFile(filepath.Join(folder, "half"), nil, 0o644))
	})
	if _, err := broken.Prepare(t.Context(), io.Discard); !errors.Is(err, trouble) {
		t.Errorf("got %v, want %v", err, trouble)
	}
	if _, err := broken.Find(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Find: got %v, want that it does not exist", err)
	}
	folder, err := kit(files, func(string) error { return nil }).Prepare(t.Context(), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(folder, "half")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what was left of the first attempt: got %v, want nothing", err)
	}
}

func TestFolder(t *testing.T) {
	t.Setenv(variable, "")
	t.Setenv("XDG_CACHE_HOME", "/of/the/user")
	if got, err := toolcache.Folder(variable, "tool"); err != nil || got != "/of/the/user/phantom-token/tool" {
		t.Errorf("got %s, %v; want /of/the/user/phantom-token/tool", got, err)
	}
	t.Setenv(variable, "/elsewhere")
	if got, err := toolcache.Folder(variable, "tool"); err != nil || got != "/elsewhere" {
		t.Errorf("got %s, %v; want /elsewhere", got, err)
	}
}

func TestNPMPackages(t *testing.T) {
	lock := func(packages string) fs.FS {
		return fstest.MapFS{"package-lock.json": {Data: []byte(`{"packages": {"": {"name": "kit"}, ` + packages + `}}`)}}
	}
	got, err := toolcache.NPMPackages(lock(`"node_modules/@a/b": {"version": "1.2.3", "integrity": "sha512-x"}, "node_modules/@a/b/node_modules/c": {"version": "4.5.6", "integrity": "sha512-y"}`))
	if err != nil || len(got) != 1 || got["@a/b"] != "1.2.3" {
		t.Errorf("got %v, %v; want @a/b 1.2.3 alone", got, err)
	}
	for name, files := range map[string]fs.FS{
		"NoChecksum":   lock(`"node_modules/a": {"version": "1.0.0"}`),
		"WeakChecksum": lock(`"node_modules/a": {"version": "1.0.0", "integrity": "sha1-x"}`),
		"Address":      lock(`"node_modules/a": {"version": "1.0.0", "integrity": "sha512-x", "resolved": "https://packages.example.com/a.tgz"}`),
		"NoJSON":       fstest.MapFS{"package-lock.json": {Data: []byte("{")}},
		"NoFile":       fstest.MapFS{},
	} {
		if got, err := toolcache.NPMPackages(files); err == nil {
			t.Errorf("%s: got %v, want an error", name, got)
		}
	}
}
