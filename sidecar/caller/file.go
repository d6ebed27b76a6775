package caller

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"phantomtoken/internal/regularfile"
)

// readFile reads at least one and at most the given number of bytes of the file at path,
// which only its owner may write: whoever else does would decide who is let in. No error
// has the path in it: by mistake the setting may hold the secret itself.
func readFile(path, what string, most int64) ([]byte, error) {
	unreadable := func(err error) error {
		if file := (*fs.PathError)(nil); errors.As(err, &file) {
			err = file.Err
		}
		return fmt.Errorf("expected the path of a readable file with %s: %w", what, err)
	}
	f, info, err := regularfile.Open(path)
	switch {
	case errors.Is(err, regularfile.ErrIrregular):
		return nil, fmt.Errorf("expected a regular file with %s", what)
	case err != nil:
		return nil, unreadable(err)
	}
	defer f.Close()
	if perm := info.Mode().Perm(); perm&0o022 != 0 {
		return nil, fmt.Errorf("expected a file that only its owner may write, got mode %04o; run chmod go-w", perm)
	}
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, unreadable(err)
	}
	switch {
	case len(data) == 0:
		return nil, fmt.Errorf("expected a file with %s, got an empty one", what)
	case int64(len(data)) > most:
		return nil, fmt.Errorf("expected a file with %s of at most %d bytes, got more", what, most)
	}
	return data, nil
}
