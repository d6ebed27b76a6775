package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"phantomtoken/internal/policy"
	"phantomtoken/internal/regularfile"
)

// maxPolicyFile bounds what is read of a policy file.
const maxPolicyFile = 1 << 20

// readPolicy reads and checks a policy file.
func readPolicy(path string) (*policy.Policy, error) {
	data, _, err := readPolicyFile(path)
	if err != nil {
		return nil, err
	}
	return parsePolicy(path, data)
}

func parsePolicy(path string, data []byte) (*policy.Policy, error) {
	p, err := policy.Parse(data)
	if err != nil {
		return nil, inFile(path, err)
	}
	return p, nil
}

// readPolicyFile returns what is in the file at path, and which file that is.
func readPolicyFile(path string) ([]byte, fs.FileInfo, error) {
	data, info, err := readRegular(path, maxPolicyFile)
	// Whoever changes it decides who may what. A group may, and its owner is not looked at: a
	// file of somebody who develops belongs to another user than that of the container into
	// which it is mounted.
	if err == nil && info.Mode().Perm()&0o002 != 0 {
		err = fmt.Errorf("expected a file that not everybody may write, got mode %04o of %s; run chmod o-w", info.Mode().Perm(), path)
	}
	if err != nil {
		return nil, nil, inFile(path, fmt.Errorf("expected a readable policy file: %w", err))
	}
	return data, info, nil
}

// readRegular reads a regular file of at most limit bytes, which nobody changes meanwhile. What
// it says of the file is true of the one that was read, whatever path leads to by now.
func readRegular(path string, limit int64) ([]byte, fs.FileInfo, error) {
	f, info, err := regularfile.Open(path)
	switch {
	case errors.Is(err, regularfile.ErrIrregular):
		return nil, nil, fmt.Errorf("expected %s to be a regular file", path)
	case err != nil:
		return nil, nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, nil, err
	}
	if int64(len(data)) > limit {
		return nil, nil, fmt.Errorf("expected %s to have at most %d bytes, got more", path, limit)
	}
	after, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	if !sameFile(info, after) {
		return nil, nil, fmt.Errorf("expected %s to stay the same while it is read", path)
	}
	return data, info, nil
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
	used fs.FileInfo // what was read last, whether it was good or not; nil if it could not be
}

// look looks at the file. It rests when it was the same at the look before: one that is being
// written in place must not be taken half-written. It has changed when it is another one than
// that which was read. A file that is gone is another one too.
func (w *policyWatch) look() (rests, changed bool) {
	before := w.seen
	w.seen = w.stat()
	return sameFile(w.seen, before), !sameFile(w.seen, w.used)
}

// read reads the file: whatever is there if somebody asked for that, else only what the last
// look has seen. taken is false when that is there no more.
func (w *policyWatch) read(asked bool) (data []byte, taken bool, err error) {
	data, info, err := readPolicyFile(w.path)
	if err == nil && !asked && !sameFile(info, w.seen) {
		return nil, false, nil // somebody began to write; later looks will see how it ends
	}
	w.used = info
	return data, true, err
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
