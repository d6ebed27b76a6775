package keyring

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTrusted: on whose files a user may rely.
func TestTrusted(t *testing.T) {
	const root, app, other = 0, 1000, 65534
	for _, tc := range []struct {
		name        string
		owner, user int
		want        bool
	}{
		{"own file", app, app, true},
		{"secret of Kubernetes, which belongs to root", root, app, true},
		{"file of root, read by root", root, root, true},
		{"RejectsFileOfSomebodyElse", other, app, false},
		{"RejectsFileOfSomebodyElseWhereRootRuns", app, root, false},
		{"RejectsFileOfUnknownOwner", -1, app, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := trusted(tc.owner, tc.user); got != tc.want {
				t.Errorf("file of user %d, read by %d: got trusted %t, want %t", tc.owner, tc.user, got, tc.want)
			}
		})
	}
}

// TestAnybodysFolder: in which folders strangers could move keys about.
func TestAnybodysFolder(t *testing.T) {
	for _, tc := range []struct {
		name string
		mode fs.FileMode
		made bool // keys are made in it
		want bool
	}{
		{"own folder", 0o700, true, false},
		{"secret of Kubernetes", 0o777 | fs.ModeSticky, false, false},
		{"volume with fsGroup", 0o775 | fs.ModeSetgid, true, false},
		{"RejectsFolderThatAllMayWrite", 0o777, false, true},
		{"RejectsFolderThatOthersThanTheGroupMayWrite", 0o702 | fs.ModeSetgid, false, true},
		{"RejectsNamesOfComingKeysTakenByAStranger", 0o777 | fs.ModeSticky, true, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := anybodysFolder(fs.ModeDir|tc.mode, tc.made); got != tc.want {
				t.Errorf("mode %s: got %t, want %t", tc.mode, got, tc.want)
			}
		})
	}
}

// strangerTo is a user to whom nothing of paths belongs. What root has made is given away
// first, since everybody relies on root.
func strangerTo(t *testing.T, paths ...string) int {
	t.Helper()
	user := os.Geteuid()
	if user == 0 {
		user = 1000
		for _, path := range paths {
			if err := os.Lchown(path, user, -1); err != nil {
				t.Fatal(err)
			}
		}
	}
	return user + 1
}

// TestRejectsKeysOfStrangers: a file, a link or a folder of another user decides nothing here,
// whatever its mode.
func TestRejectsKeysOfStrangers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	path, link := filepath.Join(dir, "key.jwk"), filepath.Join(t.TempDir(), "link.jwk")
	if _, err := LoadOrCreate(path, ""); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	folder, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = folder.Close() })
	user := strangerTo(t, dir, path, link)
	for _, tc := range []struct {
		name  string
		check func() error
		want  string
	}{
		{"RejectsSigningKeyOfSomebodyElse", func() error { _, err := readKeyFile(path, true, user); return err }, "expected key file " + path + " to belong to user"},
		{"RejectsPublicKeyFileOfSomebodyElse", func() error { _, err := readKeyFile(path, false, user); return err }, "expected key file " + path + " to belong to user"},
		{"RejectsLinkOfSomebodyElseToALeakedKey", func() error { _, err := readKeyFile(link, true, user); return err }, "expected link " + link + " to belong to user"},
		{"RejectsFolderOfSomebodyElse", func() error { return checkFolder(dir, folder, false, user) }, "expected key folder " + dir + " to belong to user"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if err := tc.check(); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want it to say %q", err, tc.want)
			}
		})
	}
}
