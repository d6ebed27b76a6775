package keyring

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	// DocumentMaxAge is the longest that caches may keep the documents of an issuer: a small
	// part of the time that a key is published before it signs.
	DocumentMaxAge = 5 * time.Minute

	// minLead leaves verifiers that keep a key set for an hour and more the time to see the
	// next key.
	minLead     = 2 * time.Hour
	usualLead   = 24 * time.Hour
	usualLife   = time.Hour
	longestLife = 24 * time.Hour

	// rotationLeeway is how much longer than its tokens live an old key stays: for clocks
	// that differ, for nodes that take their time to notice that another key signs, and for
	// the leeway of verifiers.
	rotationLeeway = 5 * time.Minute
)

// Schedule says when the keys of a folder follow each other. The zero value rotates
// nothing.
//
// Keys begin to sign at the boundaries of periods, whole multiples of Every since the
// year 1 in UTC, so that nodes with the same schedule choose the same names without
// talking. The next key is made when it is due in twice Lead, and never later than Lead
// before it signs: who comes too late for a boundary makes a key for a later time. An old
// key is removed when the last token it can have signed is dead: Lifetime and five minutes
// after its successor began to sign. Nothing is removed while the key that signs began more
// than two periods ago, for then the clock may be ahead.
type Schedule struct {
	// Every is how long a key signs, in whole seconds; 0 means that nothing is rotated. It is
	// at least 2 hours.
	Every time.Duration
	// Lead is how long a key is published before it signs: from 2 hours to Every. 0 means
	// 24 hours, or Every where that is less.
	Lead time.Duration
	// Lifetime is the longest life of a token that these keys sign, at most a day; 0 means
	// an hour.
	Lifetime time.Duration
}

// Check reports everything that is wrong with the schedule.
func (s Schedule) Check() error {
	var errs []error
	if s.Every < minLead || s.Every%time.Second != 0 {
		errs = append(errs, fmt.Errorf("expected a rotation every 2 hours or more, in whole seconds, got %s", s.Every))
	} else if lead := s.lead(); lead < minLead || lead > s.Every {
		errs = append(errs, fmt.Errorf("expected a lead between 2 hours and the %s of a rotation, got %s", s.Every, lead))
	}
	if life := s.lifetime(); life < 0 || life > longestLife {
		errs = append(errs, fmt.Errorf("expected a token lifetime of at most 24 hours, got %s", life))
	}
	return errors.Join(errs...)
}

func (s Schedule) lead() time.Duration {
	if s.Lead != 0 {
		return s.Lead
	}
	return min(usualLead, s.Every)
}

func (s Schedule) lifetime() time.Duration {
	if s.Lifetime != 0 {
		return s.Lifetime
	}
	return usualLife
}

// creations are the times for which a key has to be made at now. Starts are those of the
// keys there are, ascending. Next is when this has to be asked again.
func (s Schedule) creations(starts []time.Time, now time.Time) (due []time.Time, next time.Time) {
	if len(starts) == 0 {
		due = append(due, now.Truncate(s.Every)) // signs at once: there is nothing else
		starts = due
	}
	if starts[0].After(now) {
		// The clock is behind what was done already, so nothing can be said of what is due.
		return nil, starts[0]
	}
	early, horizon := now.Add(s.lead()), now.Add(2*s.lead())
	// What lies behind the horizon was made by a clock that was wrong, and counts when its
	// time comes.
	last := starts[0]
	for _, start := range starts {
		if !start.After(horizon) {
			last = start
		}
	}
	boundary := s.after(last)
	for !boundary.After(horizon) {
		if boundary.Before(early) { // nobody came in time
			boundary = ceil(early, s.Every)
			if boundary.After(horizon) {
				boundary = ceil(early, time.Hour)
			}
		}
		if !slices.ContainsFunc(starts, boundary.Equal) {
			due = append(due, boundary)
		}
		boundary = s.after(boundary)
	}
	return due, boundary.Add(-2 * s.lead())
}

// after is the first boundary behind t.
func (s Schedule) after(t time.Time) time.Time { return t.Truncate(s.Every).Add(s.Every) }

// ceil is the first multiple of d that is not before t.
func ceil(t time.Time, d time.Duration) time.Time {
	if floor := t.Truncate(d); floor.Before(t) {
		return floor.Add(d)
	}
	return t
}

// until is when the last token is dead that a key signed whose successor begins at
// successor.
func (s Schedule) until(successor time.Time) time.Time {
	return successor.Add(s.lifetime() + rotationLeeway)
}

// signing is the index of the key that signs at now, the one with the latest start that is
// not in the future. Where all are, which only a wrong clock or the operator can bring
// about, it is the first: to sign too early is better than not at all.
func signing(starts []time.Time, now time.Time) int {
	n := 0
	for i, start := range starts {
		if !start.After(now) {
			n = i
		}
	}
	return n
}

// late reports whether a boundary was missed by more than a period: the key that signs at now
// began more than two periods ago. A clock that is ahead by so much sees the same, and takes
// keys for dead that sign where clocks are right.
func (s Schedule) late(starts []time.Time, now time.Time) bool {
	return len(starts) > 0 && now.Sub(starts[signing(starts, now)]) > 2*s.Every
}

// fileTime is the form of the names of key files: when the key begins to sign, in UTC.
const fileTime = "20060102T150405Z"

const fileSuffix = ".jwk"

func fileName(start time.Time) string { return start.UTC().Format(fileTime) + fileSuffix }

// parseFileName is the inverse of fileName.
func parseFileName(name string) (time.Time, error) {
	start, err := time.Parse(fileTime+fileSuffix, name)
	if err != nil || fileName(start) != name {
		return time.Time{}, errors.New("expected a name that says in UTC from when the key signs, such as 20261121T101500Z.jwk")
	}
	return start, nil
}
