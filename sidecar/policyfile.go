package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"phantomtoken/internal/policy"
)

// maxPolicyFile bounds what is read of a policy file.
const maxPolicyFile = 1 << 20

// readPolicy reads and checks a policy file.
func readPolicy(path string) (*policy.Policy, error) {
	data, err := readPolicyFile(path)
	if err != nil {
		return nil, inFile(path, fmt.Errorf("expected a readable policy file: %w", err))
	}
	p, err := policy.Parse(data)
	if err != nil {
		return nil, inFile(path, err)
	}
	return p, nil
}

func readPolicyFile(path string) ([]byte, error) {
	data, err := readRegular(path, maxPolicyFile)
	if err != nil {
		return nil, err
	}
	// Whoever changes it decides who may what.
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if perm := info.Mode().Perm(); perm&0o002 != 0 {
		return nil, fmt.Errorf("expected a file that not everybody may write, got mode %04o of %s; run chmod o-w", perm, path)
	}
	return data, nil
}

// readRegular reads a regular file of at most limit bytes.
func readRegular(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path) // before opening: to open a named pipe would wait for its writer
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("expected %s to be a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("expected %s to have at most %d bytes, got more", path, limit)
	}
	return data, nil
}

// inFile puts the name of the file before each problem, as compilers do, so that editors find
// the line. Every line of err is a problem; one about a variable stays as it is. It is nil for
// nil.
func inFile(path string, err error) error {
	if err == nil {
		return nil
	}
	var out []error
	for problem := range strings.SplitSeq(err.Error(), "\n") {
		at, found := strings.CutPrefix(problem, "line ")
		switch {
		case strings.HasPrefix(problem, envPrefix):
			out = append(out, errors.New(problem))
		case found || problem != "" && '0' <= problem[0] && problem[0] <= '9':
			out = append(out, errors.New(path+":"+at))
		default:
			out = append(out, errors.New(path+": "+problem))
		}
	}
	return errors.Join(out...)
}

// policyWatch notices that the policy file has changed. Looking, and not being told by the
// kernel, also notices what Kubernetes does: it replaces a link in a folder above.
type policyWatch struct {
	path string
	seen fs.FileInfo // by the last look; nil for none
	used fs.FileInfo // what was read last, whether it was good or not
}

// read notes that the file is read now.
func (w *policyWatch) read() {
	w.seen = w.stat()
	w.used = w.seen
}

// changed reports whether the file is another one than that which was read, and has been for
// two looks: one that is being written in place is not taken half-written. A file that is gone
// is another one too.
func (w *policyWatch) changed() bool {
	before := w.seen
	w.seen = w.stat()
	return sameFile(w.seen, before) && !sameFile(w.seen, w.used)
}

func (w *policyWatch) stat() fs.FileInfo {
	info, err := os.Stat(w.path)
	if err != nil {
		return nil // why it cannot be read is said by who reads it
	}
	return info
}

func sameFile(a, b fs.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}
