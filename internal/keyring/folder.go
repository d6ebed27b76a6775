package keyring

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// folderReread is the age at which what was read of a folder is read again by whoever
	// asks for the ring.
	folderReread = time.Minute
	// folderTurn is how often Run does that, so that nobody who asks has to.
	folderTurn = folderReread / 2
)

// FolderConfig says where keys are and how they change.
type FolderConfig struct {
	// Dir is the folder. Each key is a file in it, a JWK of mode 0600 whose name says from
	// when it signs, such as 20261121T101500Z.jwk (UTC). The key with the latest time that
	// is not in the future signs; all are published.
	Dir string
	// Published are further keys that are published.
	Published []*Key
	// Schedule rotates the keys, in OpenFolder and in Run. The zero value only reads: then
	// somebody else rotates them, or nobody.
	Schedule Schedule
	// Algorithm is that of keys that are made here; empty means ES256. Keys that are read
	// have their own.
	Algorithm string

	Now    func() time.Time // nil means time.Now
	Logger *slog.Logger     // nil discards
}

// Folder is the keys in a folder. It is safe for concurrent use.
//
// The folder is read again when it was read a minute ago and somebody asks for the ring;
// there is no goroutine unless Run is called. What is in hand stays in hand while the
// folder cannot be read. A file that cannot be used changes nothing about the other keys and
// is logged by its name, once; the key that was read from it before stays published, and
// signs only where no other can. Only a file that is gone takes its key away, and never the
// last one.
type Folder struct {
	cfg   FolderConfig
	state atomic.Pointer[folderState]

	mu   sync.Mutex        // one reading at a time
	keys []folderKey       // ascending by start; guarded by mu
	said map[string]string // what was logged of a file; guarded by mu
}

// folderKey is a key and where it came from.
type folderKey struct {
	name  string
	start time.Time
	key   *Key
	lost  bool // the file cannot be used any more
}

func (k folderKey) same(other folderKey) bool {
	return k.name == other.name && k.lost == other.lost && k.key.ID() == other.key.ID() && k.key.Algorithm() == other.key.Algorithm()
}

// folderState is what was read of a folder. It has the ring of every time, so that another
// key takes over at its time even while the disk hangs.
type folderState struct {
	read   time.Time
	starts []time.Time // ascending
	rings  []*Ring     // rings[i] is that of the time from starts[i] to starts[i+1]
}

func (s *folderState) ring(now time.Time) *Ring { return s.rings[signing(s.starts, now)] }

// due reports whether the folder has to be read again. A clock that went back says nothing
// about when it was read.
func (s *folderState) due(now time.Time) bool {
	return now.Sub(s.read) >= folderReread || now.Before(s.read)
}

// IsFolder reports whether path is an existing folder, for settings that may name a key
// file or a key folder.
func IsFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// OpenFolder reads the folder and, with a schedule, does first what is due there. It
// refuses a folder without a usable key. Files that cannot be used are logged.
func OpenFolder(cfg FolderConfig) (*Folder, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	cfg.Published = slices.Clone(cfg.Published)
	f := &Folder{cfg: cfg, said: map[string]string{}}
	if cfg.Schedule != (Schedule{}) {
		if err := cfg.Schedule.Check(); err != nil {
			return nil, fmt.Errorf("opening key folder: %w", err)
		}
	}
	if cfg.Algorithm != "" {
		if err := checkAlgorithm(cfg.Algorithm); err != nil {
			return nil, fmt.Errorf("opening key folder: %w", err)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := errors.Join(f.rotate(true), f.read()); f.state.Load() == nil {
		return nil, fmt.Errorf("opening key folder: %w", err)
	}
	return f, nil
}

// Ring is the ring of this moment: an atomic load and a look at the clock. When the folder
// has to be read, one caller does it and the others go on with what is in hand.
func (f *Folder) Ring() *Ring {
	now := f.now()
	if f.state.Load().due(now) && f.mu.TryLock() {
		if f.state.Load().due(now) { // nobody has read it meanwhile
			_ = f.read() // logged
		}
		f.mu.Unlock()
	}
	return f.state.Load().ring(now)
}

// Keys implements KeySource with the keys of this moment. It never fails.
func (f *Folder) Keys(ctx context.Context, kid string) ([]PublicKey, error) {
	return f.Ring().Keys(ctx, kid)
}

// Reload reads the folder now. An error says what cannot be used; it is logged too, unless
// it was before. What is in hand goes on serving.
func (f *Folder) Reload() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.read(); err != nil {
		return fmt.Errorf("reloading key folder: %w", err)
	}
	return nil
}

// Run rotates and reads the folder twice a minute until ctx ends. Without a schedule it is
// needed only where nobody who asks for the ring may wait for a disk.
func (f *Folder) Run(ctx context.Context) {
	ticker := time.NewTicker(folderTurn)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			f.turn()
		}
	}
}

func (f *Folder) turn() {
	f.mu.Lock()
	defer f.mu.Unlock()
	// The first key of a folder is none that this process makes: the folder had keys, so
	// somebody took them away, or its volume is gone.
	_ = errors.Join(f.rotate(false), f.read()) // logged
}

// now is the wall clock: the one that names of files are about.
func (f *Folder) now() time.Time { return f.cfg.Now().Round(0) }

// rotate wants f.mu held.
func (f *Folder) rotate(first bool) error {
	if f.cfg.Schedule == (Schedule{}) {
		return nil
	}
	done, _, err := rotate(f.cfg.Dir, f.cfg.Algorithm, f.cfg.Schedule, f.now(), turn{first: first}) // read says which files cannot be used
	for _, name := range done.Created {
		f.cfg.Logger.Info("signing key created", "folder", f.cfg.Dir, "file", name)
	}
	for _, name := range done.Removed {
		f.cfg.Logger.Info("dead signing key removed", "folder", f.cfg.Dir, "file", name)
	}
	f.say("rotation", "rotating signing keys failed", err)
	f.say("removal", "dead signing keys are not removed", keptError(done.Kept))
	return err
}

// read wants f.mu held. It puts a state in place whenever there is a key.
func (f *Folder) read() error {
	now := f.now()
	files, err := readFolder(f.cfg.Dir, f.cfg.Schedule != (Schedule{}), f.cfg.Published...)
	f.say("folder", "reading the key folder failed", err)
	errs := []error{err}
	keys := f.keys
	if err == nil {
		keys = nil
		for _, file := range files {
			f.say(file.Name, "a file in the key folder cannot be used", file.Err)
			if file.Err != nil {
				errs = append(errs, file.Err)
			} else {
				keys = append(keys, folderKey{name: file.Name, start: file.Starts, key: file.Key})
			}
		}
		keys = append(keys, f.lost(files, keys)...)
		slices.SortStableFunc(keys, func(a, b folderKey) int { return a.start.Compare(b.start) })
		maps.DeleteFunc(f.said, func(about, _ string) bool {
			return strings.HasSuffix(about, fileSuffix) && !slices.ContainsFunc(files, func(file KeyFile) bool { return file.Name == about })
		})
		err = nil
		if len(keys) == 0 {
			keys, err = f.keys, noUsableKey(f.cfg.Dir)
		}
		f.say("keys", "the key folder has no usable key", err)
		errs = append(errs, err)
	}
	err = f.take(keys, now)
	f.say("ring", "publishing the keys in the key folder failed", err)
	return errors.Join(append(errs, err)...)
}

// lost are the keys that were read before from files that cannot be used now, but for those
// that are among the usable ones with another algorithm.
func (f *Folder) lost(files []KeyFile, usable []folderKey) []folderKey {
	others := slices.Clone(f.cfg.Published)
	for _, k := range usable {
		others = append(others, k.key)
	}
	var out []folderKey
	for _, k := range f.keys {
		broken := slices.ContainsFunc(files, func(file KeyFile) bool { return file.Name == k.name && file.Err != nil })
		if _, clash := clashing(others, k.key); broken && !clash {
			k.lost = true
			out = append(out, k)
		}
	}
	return out
}

// take makes the state out of keys; what did not change stays the same pointer. It wants
// f.mu held.
func (f *Folder) take(keys []folderKey, now time.Time) error {
	old := f.state.Load()
	if len(keys) == 0 {
		return nil // there never was one
	}
	if old != nil && slices.EqualFunc(keys, f.keys, folderKey.same) {
		f.state.Store(&folderState{now, old.starts, old.rings})
		return nil
	}
	state := &folderState{read: now}
	all := make([]*Key, 0, len(keys)+len(f.cfg.Published))
	for _, k := range keys {
		all = append(all, k.key)
	}
	all = append(all, f.cfg.Published...)
	none := !slices.ContainsFunc(keys, func(k folderKey) bool { return !k.lost })
	for _, k := range keys {
		if k.lost && !none {
			continue // who replaced its file may have done so because it leaked
		}
		ring, err := NewRing(append([]*Key{k.key}, all...)...)
		if err != nil {
			return err
		}
		state.starts, state.rings = append(state.starts, k.start), append(state.rings, ring)
	}
	f.keys = keys
	f.state.Store(state)
	f.cfg.Logger.Info("signing keys read", "folder", f.cfg.Dir, "kid", state.ring(now).SigningKeyID(), "published", len(keys)+len(f.cfg.Published))
	return nil
}

// say logs a problem when it is new, and forgets it when it is over.
func (f *Folder) say(about, message string, err error) {
	if err == nil {
		delete(f.said, about)
		return
	}
	if f.said[about] != err.Error() {
		f.said[about] = err.Error()
		f.cfg.Logger.Error(message, "folder", f.cfg.Dir, "err", err)
	}
}
