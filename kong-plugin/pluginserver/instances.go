package pluginserver

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"math"
	"math/rand/v2"
	"sync"
	"time"
)

// Instances that nobody closes are dropped when they were not used for idleLife: Kong
// closes none of a plugin that was taken out of the configuration, nor any that only an
// idle worker has started. A dropped one is started again when Kong asks for it.
const (
	idleLife     = 24 * time.Hour
	maxInstances = 4096
)

// instances are the plugin configurations at work. Safe for concurrent use.
type instances struct {
	start func(config []byte) Instance
	grace time.Duration
	now   func() time.Time

	mu     sync.Mutex
	byID   map[int32]*instance
	nextID int32 // for configurations that do not bring a number of their own
}

type instance struct {
	id      int32
	config  [32]byte // digest of the configuration
	started time.Time
	ready   chan struct{} // closed once Instance is set
	Instance

	// Guarded by instances.mu.
	used    time.Time
	running int  // events
	closed  bool // Kong said so; usable until grace has passed since used
	dropped bool // out of byID; closed when running is 0
}

// firstOwnID keeps the numbers given out here apart from Kong's, which count from 1.
const firstOwnID = 1 << 30

func newInstances(start func([]byte) Instance, grace time.Duration, now func() time.Time) *instances {
	// Not from the same number after each restart: Kong may still name an instance of the
	// process before.
	first := firstOwnID + rand.Int32N(firstOwnID/2)
	return &instances{start: start, grace: grace, now: now, byID: map[int32]*instance{}, nextID: first}
}

// open starts an instance for config. Workers of one Kong start the same configuration
// each on its own, under the same number (__seq__): they share one instance. The same
// number with another configuration is another instance, for example when a secret has
// changed between two workers' look-ups.
func (s *instances) open(config []byte) *instance {
	seq, digest := identify(config)

	s.mu.Lock()
	if inst := s.byID[seq]; inst != nil && inst.config == digest {
		inst.closed = false
		inst.used = s.now()
		s.mu.Unlock()
		<-inst.ready
		return inst
	}
	id := seq
	for id <= 0 || s.byID[id] != nil {
		id = s.nextID
		if s.nextID++; s.nextID < firstOwnID {
			s.nextID = firstOwnID
		}
	}
	now := s.now()
	inst := &instance{id: id, config: digest, started: now, used: now, ready: make(chan struct{})}
	s.byID[id] = inst
	unused := s.sweep(inst)
	s.mu.Unlock()

	inst.Instance = s.start(config)
	close(inst.ready)
	for _, inst := range unused {
		inst.Close()
	}
	return inst
}

// close notes that Kong no longer needs the instance. Events of other workers, and those
// under way, may still name it. ok is false when there is no such instance (any more).
func (s *instances) close(id int32) (started time.Time, ok bool) {
	s.mu.Lock()
	inst := s.byID[id]
	if inst == nil {
		s.mu.Unlock()
		return time.Time{}, false
	}
	inst.closed = true
	inst.used = s.now()
	unused := s.sweep(nil)
	s.mu.Unlock()
	for _, inst := range unused {
		inst.Close()
	}
	return inst.started, true
}

// acquire returns the instance for an event; release gives it back.
func (s *instances) acquire(id int32) *instance {
	s.mu.Lock()
	inst := s.byID[id]
	if inst == nil {
		s.mu.Unlock()
		return nil
	}
	inst.running++
	inst.used = s.now()
	s.mu.Unlock()
	<-inst.ready
	return inst
}

func (s *instances) release(inst *instance) {
	s.mu.Lock()
	inst.running--
	unused := inst.dropped && inst.running == 0
	s.mu.Unlock()
	if unused {
		inst.Close()
	}
}

// closeAll drops everything.
func (s *instances) closeAll() {
	s.mu.Lock()
	var unused []*instance
	for _, inst := range s.byID {
		unused = s.drop(unused, inst)
	}
	s.mu.Unlock()
	for _, inst := range unused {
		inst.Close()
	}
}

// sweep drops what is no longer needed, and the longest unused beyond maxInstances, and
// returns what has no event running. keep stays.
func (s *instances) sweep(keep *instance) (unused []*instance) {
	now := s.now()
	for _, inst := range s.byID {
		age := now.Sub(inst.used)
		if inst != keep && inst.running == 0 && (inst.closed && age >= s.grace || age >= idleLife) {
			unused = s.drop(unused, inst)
		}
	}
	for len(s.byID) > maxInstances {
		var oldest *instance
		for _, inst := range s.byID {
			if inst != keep && (oldest == nil || inst.lessWorth(oldest)) {
				oldest = inst
			}
		}
		unused = s.drop(unused, oldest)
	}
	return unused
}

// lessWorth reports whether i is dropped before other: closed ones first, then the longest
// unused.
func (i *instance) lessWorth(other *instance) bool {
	if i.closed != other.closed {
		return i.closed
	}
	return i.used.Before(other.used)
}

func (s *instances) drop(unused []*instance, inst *instance) []*instance {
	delete(s.byID, inst.id)
	inst.dropped = true
	if inst.running == 0 {
		unused = append(unused, inst)
	}
	return unused
}

// Close waits for the start of the instance and closes it.
func (i *instance) Close() {
	<-i.ready
	i.Instance.Close()
}

// identify returns the number that Kong gave this loading of the configuration, or 0, and
// a digest that does not depend on the order of its members.
func identify(config []byte) (seq int32, digest [32]byte) {
	var meta struct {
		Seq json.Number `json:"__seq__"`
	}
	if json.Unmarshal(config, &meta) == nil {
		if n, err := meta.Seq.Int64(); err == nil && 0 < n && n < math.MaxInt32 {
			seq = int32(n)
		}
	}
	canonical := config
	dec := json.NewDecoder(bytes.NewReader(config))
	dec.UseNumber()
	var value any
	if dec.Decode(&value) == nil {
		if b, err := json.Marshal(value); err == nil {
			canonical = b
		}
	}
	return seq, sha256.Sum256(canonical)
}
