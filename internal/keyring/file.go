package keyring

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"phantomtoken/internal/regularfile"
)

// maxKeyFile bounds what is read of a key file. The largest key we take needs a tenth
// of it.
const maxKeyFile = 64 << 10

// Load reads the private key file at path as Parse does. It refuses a file, or a link to
// one, that belongs to another than the user running or root, and a file that others than
// its owner may read or write, but for a group that may read a file of root's, as Kubernetes
// hands out secrets.
func Load(path, alg string) (*Key, error) {
	data, err := readKeyFile(path, true, os.Geteuid())
	if err != nil {
		return nil, fmt.Errorf("loading signing key: %w", err)
	}
	key, err := Parse(data, alg)
	if err != nil {
		return nil, fmt.Errorf("loading signing key file %s: %w", path, err)
	}
	return key, nil
}

// LoadPublic reads the public keys in the file at path as ParsePublic does. Anybody may
// read that file. One that belongs to another than the user running or root, or that others
// than its owner may write, is refused: who changes it decides whose signatures are good.
func LoadPublic(path string) (PublicKeys, error) {
	data, err := readKeyFile(path, false, os.Geteuid())
	if err != nil {
		return nil, fmt.Errorf("loading public keys: %w", err)
	}
	keys, err := ParsePublic(data)
	if err != nil {
		return nil, fmt.Errorf("loading public key file %s: %w", path, err)
	}
	return keys, nil
}

// LoadOrCreate is Load, but makes the file first when there is none: a new key for alg
// (ES256 when empty) as a JWK, mode 0600, in a folder that is created with mode 0700.
//
// The file appears whole or not at all, and an existing file is never replaced:
// processes that start together all end with the same key.
func LoadOrCreate(path, alg string) (*Key, error) {
	key, err := Load(path, alg)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if key, err = Generate(alg); err != nil {
		return nil, err
	}
	data, err := key.marshal()
	if err != nil {
		return nil, err
	}
	if err := createKeyFile(path, append(data, '\n')); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("creating signing key: %w", err)
	}
	// The key in the file counts, not the one just made: another process may have been
	// faster.
	return Load(path, alg)
}

// readKeyFile reads a key file for user, the one running.
func readKeyFile(path string, private bool, user int) ([]byte, error) {
	if err := checkPath(path); err != nil {
		return nil, err
	}
	if err := checkLink(path, user); err != nil {
		return nil, err
	}
	f, info, err := regularfile.Open(path)
	switch {
	case errors.Is(err, regularfile.ErrIrregular):
		return nil, fmt.Errorf("expected key file %s to be a regular file", path)
	case err != nil:
		return nil, fmt.Errorf("expected a readable key file: %w", err)
	}
	defer f.Close()
	if err := checkOwner("key file", path, info, user); err != nil {
		return nil, err
	}
	if perm := info.Mode().Perm(); private && exposed(perm, owner(info), user) {
		return nil, fmt.Errorf("expected key file %s to be readable by its owner only, got mode %04o; run chmod 600 %s", path, perm, path)
	}
	if perm := info.Mode().Perm(); perm&0o022 != 0 {
		return nil, fmt.Errorf("expected key file %s to be writable by its owner only, got mode %04o; run chmod go-w %s", path, perm, path)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxKeyFile {
		return nil, fmt.Errorf("expected key file %s to have at most %d bytes", path, maxKeyFile)
	}
	return data, nil
}

// exposed reports whether a private key file of this mode and owner can be read by more than
// who needs it, the user running. A file of root's that a group may read is fine for anybody
// but root: that is how Kubernetes hands a secret to a process with a user of its own
// (fsGroup), and who is in that group was decided with it.
func exposed(perm fs.FileMode, owner, user int) bool {
	if owner == 0 && user != 0 {
		return perm&0o037 != 0
	}
	return perm&0o077 != 0
}

// checkLink refuses a name that is a link of a stranger: who made a link chooses what is
// read, for example a key of ours that was put aside.
func checkLink(path string, user int) error {
	info, err := os.Lstat(filepath.Clean(path)) // a slash at the end would lead behind the link
	if err != nil {
		return fmt.Errorf("expected a readable key file: %w", err)
	}
	if info.Mode().Type() != fs.ModeSymlink {
		return nil
	}
	return checkOwner("link", path, info, user)
}

func checkOwner(what, path string, info fs.FileInfo, user int) error {
	if owner := owner(info); !trusted(owner, user) {
		return fmt.Errorf("expected %s %s to belong to user %d, who reads it, or to root, got user %d; if you trust it, change its owner with chown", what, path, user, owner)
	}
	return nil
}

// trusted reports whether user may rely on what belongs to owner: to nobody but himself and
// root. Who owns a key file decides what is signed with or trusted, whatever its mode, so
// root relies on no other user either.
func trusted(owner, user int) bool { return owner == user || owner == 0 }

// owner is the id of the user who owns the file, -1 when that is unknown.
func owner(info fs.FileInfo) int {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(stat.Uid)
	}
	return -1
}

// checkPath refuses what is no path.
func checkPath(path string) error {
	if path == "" {
		return errors.New("expected the path of a key file, got an empty one")
	}
	if strings.ContainsAny(path, "{\r\n") || strings.Contains(path, "-----") {
		// A setting for a path that holds the key itself must not end in an error text.
		return errors.New("expected the path of a key file, got what looks like a key")
	}
	return nil
}

// createKeyFile writes data to a file that must not exist yet; it returns an
// fs.ErrExist if it does. The content is on disk before the name is: a hard link, unlike
// a rename, fails when the name is taken.
func createKeyFile(path string, data []byte) (err error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*") // O_EXCL, mode 0600
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(tmp.Name())) }()
	_, err = tmp.Write(data)
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	if err := os.Link(tmp.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
