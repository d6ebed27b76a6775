package keyring

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Rotation is what a rotation did, or what it would do.
type Rotation struct {
	Created, Removed []string // names of files
	// Kept are files of keys that look dead and were not removed, because the key that signs
	// began more than two periods ago: either nobody rotated for as long, and the next
	// rotations will remove them, or this clock is ahead and they sign elsewhere.
	Kept []string
	// Next is when something changes next: a key is to be made or removed, or another key
	// begins to sign.
	Next time.Time
}

// Rotate does what schedule says is due at now in the key folder dir, which is made when
// there is none: it makes keys for alg (ES256 when empty) and removes dead ones. With dryRun
// it only says what it would do.
//
// Files appear whole or not at all, and an existing file is never replaced, so any number
// of processes may rotate the same folder at the same time. A file that cannot be used is
// an error and stays; the others are seen to. The result is what was done up to an error.
func Rotate(dir, alg string, schedule Schedule, now time.Time, dryRun bool) (Rotation, error) {
	return rotateOnce(dir, alg, schedule, now, turn{dryRun: dryRun, first: true})
}

// ForceRotate is Rotate for whoever knows that now is right: it keeps nothing that is dead.
func ForceRotate(dir, alg string, schedule Schedule, now time.Time, dryRun bool) (Rotation, error) {
	return rotateOnce(dir, alg, schedule, now, turn{dryRun: dryRun, first: true, force: true})
}

func rotateOnce(dir, alg string, schedule Schedule, now time.Time, t turn) (Rotation, error) {
	done, unusable, err := rotate(dir, alg, schedule, now, t)
	if err = errors.Join(err, unusable); err != nil {
		return done, fmt.Errorf("rotating keys: %w", err)
	}
	return done, nil
}

// turn is what one rotation may do.
type turn struct {
	dryRun bool // change nothing
	first  bool // make the first key of an empty folder
	force  bool // believe the clock
}

// rotate is Rotate. Files that cannot be used are an error of their own.
func rotate(dir, alg string, schedule Schedule, now time.Time, t turn) (done Rotation, unusable, err error) {
	if err := schedule.Check(); err != nil {
		return done, nil, err
	}
	if alg != "" {
		if err := checkAlgorithm(alg); err != nil {
			return done, nil, err
		}
	}
	now = now.Round(0).UTC() // names are of the wall clock
	files, err := readFolder(dir, true)
	if err != nil && !(t.first && errors.Is(err, fs.ErrNotExist)) {
		return done, nil, err
	}
	var errs, broken []error
	for _, file := range files {
		broken = append(broken, file.Err)
	}
	unusable = errors.Join(broken...)
	good, starts := usable(files)
	if len(good) == 0 && (len(files) > 0 || !t.first) {
		// Not the time for a new first key: it would take the place of one that is in use.
		return done, unusable, noUsableKey(dir)
	}

	due, next := schedule.creations(starts, now)
	for _, start := range due {
		made, err := makeKeyFile(filepath.Join(dir, fileName(start)), alg, t.dryRun)
		if err != nil {
			errs = append(errs, err)
		} else if made {
			done.Created = append(done.Created, fileName(start))
		}
	}
	late := !t.force && schedule.late(starts, now)
	for i, file := range good[:max(0, len(good)-1)] {
		if until := schedule.until(starts[i+1]); until.After(now) {
			next = earlier(next, until)
			continue
		}
		if late {
			done.Kept = append(done.Kept, file.Name)
			continue
		}
		if !t.dryRun {
			// Another process may have been faster.
			if err := os.Remove(filepath.Join(dir, file.Name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, fmt.Errorf("removing dead key: %w", err))
				continue
			}
		}
		done.Removed = append(done.Removed, file.Name)
	}
	for _, start := range append(starts, due...) {
		if start.After(now) {
			next = earlier(next, start)
		}
	}
	done.Next = next
	return done, unusable, errors.Join(errs...)
}

func noUsableKey(dir string) error {
	return fmt.Errorf("expected key folder %s to have a usable key, got none", dir)
}

// keptError says why the files of these names were kept; nil without any.
func keptError(names []string) error {
	if len(names) == 0 {
		return nil
	}
	return fmt.Errorf("expected a key that began to sign in the last two periods, got none: nobody rotated for as long, or the clock is ahead; compare the clocks (kept: %s)", strings.Join(names, ", "))
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// makeKeyFile makes the file at path and reports whether it was this process that did: a
// file that another one has made meanwhile will do as well.
func makeKeyFile(path, alg string, dryRun bool) (made bool, err error) {
	if dryRun {
		_, err := os.Lstat(path)
		return errors.Is(err, fs.ErrNotExist), nil
	}
	key, err := Generate(alg)
	if err != nil {
		return false, err
	}
	data, err := key.marshal()
	if err != nil {
		return false, err
	}
	switch err := createKeyFile(path, append(data, '\n')); {
	case errors.Is(err, fs.ErrExist):
		_, err := Load(path, "")
		return false, err
	case err != nil:
		return false, fmt.Errorf("creating signing key: %w", err)
	default:
		return true, nil
	}
}
