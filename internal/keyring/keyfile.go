package keyring

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	// maxNames and maxFolderKeys bound what is read of a key folder. A rotation leaves two
	// to four keys in it.
	maxNames      = 4096
	maxFolderKeys = 64
)

// KeyFile is a file in a key folder.
type KeyFile struct {
	Name string
	// Starts is when the key begins to sign; zero when Name does not say it.
	Starts time.Time
	// Ends is when the next key begins to sign; zero when there is none.
	Ends time.Time
	// PublishedUntil is when the last token of the key is dead and the file may be removed;
	// zero when there is no next key.
	PublishedUntil time.Time
	// Signs says that it is the key that signs now.
	Signs bool
	// Key is nil when the file cannot be used; Err says why.
	Key *Key
	Err error
}

// List reads the key folder dir and says what each key is at now, those that sign first
// first. Of schedule only Lifetime counts. Files that cannot be used are in the list too;
// an error means that the folder cannot be read.
func List(dir string, schedule Schedule, now time.Time) ([]KeyFile, error) {
	files, err := readFolder(dir, false)
	if err != nil {
		return nil, fmt.Errorf("reading key folder: %w", err)
	}
	good, starts := usable(files)
	for i, file := range good {
		if i+1 < len(good) {
			file.Ends, file.PublishedUntil = starts[i+1], schedule.until(starts[i+1])
		}
	}
	if len(good) > 0 {
		good[signing(starts, now)].Signs = true
	}
	return files, nil
}

// usable are the files with a key, and when these begin to sign.
func usable(files []KeyFile) (good []*KeyFile, starts []time.Time) {
	for i := range files {
		if files[i].Key != nil {
			good, starts = append(good, &files[i]), append(starts, files[i].Starts)
		}
	}
	return good, starts
}

// readFolder reads the key files in dir, ascending by start. Names that do not end like one
// are none: temporary files of a creation, the folders of a Kubernetes volume, lost+found.
// A key that is among others already with another algorithm cannot be used.
//
// made says that keys are made in the folder: then nobody else may add files to it, because a
// stranger could take the names of the keys to come.
func readFolder(dir string, made bool, others ...*Key) ([]KeyFile, error) {
	if err := checkPath(dir); err != nil {
		return nil, err
	}
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("expected a readable key folder: %w", err)
	}
	defer f.Close()
	user := os.Geteuid()
	if err := checkFolder(dir, f, made, user); err != nil {
		return nil, err
	}
	entries, err := f.ReadDir(maxNames + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("expected a readable key folder: %w", err)
	}
	if len(entries) > maxNames {
		return nil, fmt.Errorf("expected key folder %s to have at most %d files", dir, maxNames)
	}
	var files []KeyFile
	ours := 0
	for _, entry := range entries {
		name := entry.Name()
		if strings.HasPrefix(name, ".") || !strings.HasSuffix(name, fileSuffix) {
			continue
		}
		// What a stranger adds is refused one by one below, and must not use up the number.
		if info, err := entry.Info(); err != nil || trusted(owner(info), user) {
			ours++
		}
		if ours > maxFolderKeys {
			return nil, fmt.Errorf("expected key folder %s to have at most %d keys", dir, maxFolderKeys)
		}
		file := KeyFile{Name: name}
		if file.Starts, file.Err = parseFileName(name); file.Err == nil {
			file.Key, file.Err = Load(filepath.Join(dir, name), "")
		}
		if errors.Is(file.Err, fs.ErrNotExist) {
			continue // removed since the folder was read
		}
		if file.Err != nil {
			file.Err = fmt.Errorf("%s: %w", name, file.Err)
		}
		files = append(files, file)
	}
	slices.SortFunc(files, func(a, b KeyFile) int {
		if c := a.Starts.Compare(b.Starts); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	seen := slices.Clone(others)
	for i := range files {
		file := &files[i]
		if file.Key == nil {
			continue
		}
		if have, clash := clashing(seen, file.Key); clash {
			file.Err = fmt.Errorf("%s: expected a key with one algorithm, got one that is there for %s and here for %s; remove one of the two", file.Name, have, file.Key.Algorithm())
			file.Key = nil
			continue
		}
		seen = append(seen, file.Key)
	}
	return files, nil
}

// clashing reports whether key is among keys with another algorithm, and with which. One key
// has one algorithm (RFC 8725 §3.1).
func clashing(keys []*Key, key *Key) (alg string, clash bool) {
	for _, have := range keys {
		if have.ID() == key.ID() && have.Algorithm() != key.Algorithm() {
			return have.Algorithm(), true
		}
	}
	return "", false
}

// checkFolder refuses a key folder in which a stranger to user, the one running, could take
// keys away and give old ones another name.
func checkFolder(dir string, f *os.File, made bool, user int) error {
	if err := checkLink(dir, user); err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := checkOwner("key folder", dir, info, user); err != nil {
		return err
	}
	if anybodysFolder(info.Mode(), made) {
		return fmt.Errorf("expected key folder %s not to be writable by everybody, got mode %04o; run chmod o-w %s, or use a folder in it", dir, info.Mode().Perm(), dir)
	}
	return nil
}

// anybodysFolder reports whether anybody may rename and remove what others have in a folder
// of this mode, or take names that are needed where keys are made. With the sticky bit nobody
// may rename and remove, and what a stranger adds is refused by its owner: so Kubernetes mounts
// secrets, for all to write.
func anybodysFolder(mode fs.FileMode, made bool) bool {
	return mode.Perm()&0o002 != 0 && (made || mode&fs.ModeSticky == 0)
}
