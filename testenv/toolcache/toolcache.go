// Package toolcache keeps programs of others that tests run, in the user's cache folder and
// outside of the tree: installed once per machine, found again by the checksum of what they
// are made of. Processes that install at the same time wait for each other.
package toolcache

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Folder is the folder for a program: what the environment variable names, otherwise
// phantom-token/name in the user's cache folder. It need not exist.
func Folder(variable, name string) (string, error) {
	if folder := os.Getenv(variable); folder != "" {
		return filepath.Abs(folder)
	}
	folder, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("finding the cache folder: set %s: %w", variable, err)
	}
	return filepath.Join(folder, "phantom-token", name), nil
}

// Lock makes the folder if there is none and waits for its lock, which ends with this process
// at the latest.
func Lock(folder string) (unlock func(), err error) {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return nil, err
	}
	file := filepath.Join(folder, "lock")
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("locking %s: %w", file, err), f.Close())
	}
	return func() { _ = f.Close() }, nil
}

// Kit is a program that is made of files which the project carries and of what they name:
// packages, each with version and checksum. All fields are required.
type Kit struct {
	// Name is what errors call it, and its folder in the user's cache folder.
	Name string
	// Variable names the environment variable with another folder for it.
	Variable string
	// Files are the files that are carried.
	Files fs.FS
	// Install installs what the files name into the folder with the files. log gets what the
	// installing programs print.
	Install func(ctx context.Context, folder string, log io.Writer) error
}

// installedMarker says, in a folder, that everything is there.
const installedMarker = ".installed"

// Find returns the folder of the installed kit, or an error that wraps os.ErrNotExist when
// what is installed, if anything, is not made of these files.
func (k Kit) Find() (string, error) {
	folder, err := k.folder()
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(filepath.Join(folder, installedMarker)); err != nil {
		return "", fmt.Errorf("looking for %s in %s: %w", k.Name, folder, err)
	}
	return folder, nil
}

// Prepare installs the kit, unless that has been done, and returns its folder.
func (k Kit) Prepare(ctx context.Context, log io.Writer) (string, error) {
	folder, err := k.prepare(ctx, log)
	if err != nil {
		return "", fmt.Errorf("preparing %s: %w", k.Name, err)
	}
	return folder, nil
}

func (k Kit) prepare(ctx context.Context, log io.Writer) (string, error) {
	folder, err := k.folder()
	if err != nil {
		return "", err
	}
	unlock, err := Lock(filepath.Dir(folder))
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := k.Find(); err == nil {
		return folder, nil
	}
	// Of an attempt that was interrupted nothing is used.
	if err := os.RemoveAll(folder); err != nil {
		return "", err
	}
	if err := os.CopyFS(folder, k.Files); err != nil {
		return "", err
	}
	if err := k.Install(ctx, folder, log); err != nil {
		return "", err
	}
	return folder, os.WriteFile(filepath.Join(folder, installedMarker), nil, 0o644)
}

// folder is the kit's, with a name that another set of files does not have.
func (k Kit) folder() (string, error) {
	cache, err := Folder(k.Variable, k.Name)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	err = fs.WalkDir(k.Files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(k.Files, name)
		fmt.Fprintf(h, "%s %d\n", name, len(data))
		h.Write(data)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("reading the files of %s: %w", k.Name, err)
	}
	return filepath.Join(cache, hex.EncodeToString(h.Sum(nil)[:6])), nil
}
