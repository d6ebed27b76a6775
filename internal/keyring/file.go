package keyring

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// maxKeyFile bounds what is read of a key file. The largest key we take needs a tenth
// of it.
const maxKeyFile = 64 << 10

// Load reads the private key file at path as Parse does. It refuses a file that others
// than its owner may read or write.
func Load(path, alg string) (*Key, error) {
	data, err := readKeyFile(path, true)
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
// read that file. One that others than its owner may write is refused: who changes it
// decides whose signatures are good.
func LoadPublic(path string) (PublicKeys, error) {
	data, err := readKeyFile(path, false)
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

func readKeyFile(path string, private bool) ([]byte, error) {
	if path == "" {
		return nil, errors.New("expected the path of a key file, got an empty one")
	}
	if strings.ContainsAny(path, "{\r\n") || strings.Contains(path, "-----") {
		// A setting for a path that holds the key itself must not end in an error text.
		return nil, errors.New("expected the path of a key file, got what looks like a key")
	}
	// Before opening: to open a named pipe would wait for its writer.
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("expected a readable key file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("expected key file %s to be a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("expected a readable key file: %w", err)
	}
	defer f.Close()
	// The open file, not the name: what is checked is what is read.
	if info, err = f.Stat(); err != nil {
		return nil, err
	}
	if perm := info.Mode().Perm(); private && perm&0o077 != 0 {
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
