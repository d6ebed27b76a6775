// Package regularfile opens the files that a configuration names: keys, secrets, certificates,
// policies.
package regularfile

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// ErrIrregular says that a path leads to a folder, a pipe, a device or the like.
var ErrIrregular = errors.New("expected a regular file")

// Open opens the file at path for reading and describes it. What is said of it is true of the
// file that will be read, whatever path leads to by then: who checks mode or owner looks at
// this description, not at the name. It never waits: to open a named pipe otherwise would wait
// for its writer. Errors are ErrIrregular or of package os, with the path in them.
func Open(path string) (*os.File, fs.FileInfo, error) {
	// O_NONBLOCK changes nothing for a regular file.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = ErrIrregular
	}
	if err != nil {
		_ = f.Close() // nothing was written
		return nil, nil, err
	}
	return f, info, nil
}
