package keycloak

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// unpack writes the files of a zip archive below folder.
func unpack(file, folder string) error {
	z, err := zip.OpenReader(file)
	if err != nil {
		return fmt.Errorf("unpacking %s: %w", file, err)
	}
	defer z.Close()
	for _, entry := range z.File {
		if err := unpackEntry(entry, folder); err != nil {
			return fmt.Errorf("unpacking %s: %w", file, err)
		}
	}
	return nil
}

func unpackEntry(entry *zip.File, folder string) (err error) {
	if !filepath.IsLocal(entry.Name) {
		return fmt.Errorf("expected a path inside of the folder, got %q", entry.Name)
	}
	to := filepath.Join(folder, filepath.FromSlash(entry.Name))
	mode := entry.Mode()
	switch {
	case mode.IsDir():
		return os.MkdirAll(to, 0o755)
	case !mode.IsRegular():
		return fmt.Errorf("expected files and folders, got %q with mode %s", entry.Name, mode)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	in, err := entry.Open()
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode.Perm()|0o600)
	if err != nil {
		return err
	}
	// The checksum of the archive is known, so its sizes are believed.
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
