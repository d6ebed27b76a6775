package keyring_test

import (
	"slices"
	"testing"
	"time"

	"phantomtoken/internal/keyring"
	"phantomtoken/internal/oauth"
)

func FuzzKeyFileName(f *testing.F) {
	for _, name := range []string{"20261121T101500Z.jwk", "20261121T101500.5Z.jwk", "20261131T000000Z.jwk", "00000101T000000Z.jwk", "key.jwk", ".jwk", "20261121T101500Z.jwk\n", "20261121t101500z.jwk"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		at, err := keyring.ParseFileName(name)
		if err != nil {
			if !at.IsZero() {
				t.Errorf("got %s with an error", at)
			}
			return
		}
		if back := keyring.FileName(at); back != name {
			t.Errorf("%q is %s, whose name is %q", name, at, back)
		}
	})
}

// Whatever there is and whatever the clock says: a key that is to be made has its lead
// before it, lies within reach and is not there yet; and the next look is in the future.
func FuzzSchedule(f *testing.F) {
	f.Add(uint16(24), uint16(6), int32(0), int32(24*3600), int32(-24*3600), true)
	f.Add(uint16(2), uint16(2), int32(1), int32(7201), int32(0), true)
	f.Add(uint16(720), uint16(24), int32(-1<<31), int32(1<<31-1), int32(86400), true)
	f.Add(uint16(24), uint16(24), int32(0), int32(0), int32(0), false)
	f.Fuzz(func(t *testing.T, every, lead uint16, a, b, c int32, some bool) {
		s := keyring.Schedule{Every: time.Duration(every) * time.Hour, Lead: time.Duration(lead) * time.Hour}
		if lead == 0 || s.Check() != nil {
			return
		}
		var starts []time.Time
		if some {
			for _, offset := range []int32{a, b, c} {
				starts = append(starts, start.Add(time.Duration(offset)*time.Second))
			}
			slices.SortFunc(starts, time.Time.Compare)
		}
		due, next := s.Creations(starts, start)
		if !next.After(start) {
			t.Errorf("next look at %s, which is over", next)
		}
		if !some {
			if len(due) == 0 || due[0].After(start) || start.Sub(due[0]) >= s.Every {
				t.Fatalf("got %v, want a key that signs now", due)
			}
			due = due[1:]
		}
		if len(due) > 2 {
			t.Errorf("got %v, want two at most", due)
		}
		for i, at := range due {
			switch {
			case at.Sub(start) < s.Lead:
				t.Errorf("key of %s has a lead of %s", at, at.Sub(start))
			case at.Sub(start) > 2*s.Lead:
				t.Errorf("key of %s is made too soon", at)
			case slices.ContainsFunc(starts, at.Equal):
				t.Errorf("key of %s is there", at)
			case i > 0 && !at.After(due[i-1]):
				t.Errorf("got %v, want them ascending", due)
			case at.Nanosecond() != 0:
				t.Errorf("%s has no name", at)
			}
		}
		// What was made is not made again.
		again, _ := s.Creations(slices.SortedFunc(slices.Values(slices.Concat(starts, due)), time.Time.Compare), start)
		if some && len(again) > 0 {
			t.Errorf("after %v, %v would be made", due, again)
		}
	})
}

// What a request pays for keys that rotate.
func TestRingOfAFolderAllocatesNothing(t *testing.T) {
	dir := t.TempDir()
	putKey(t, dir, "20261101T000000Z.jwk")
	f := openFolder(t, keyring.FolderConfig{Dir: dir, Now: func() time.Time { return start }})
	i := newIssuer(t, oauth.IssuerMetadata{Issuer: issuer}, f)
	if n := testing.AllocsPerRun(100, func() {
		_ = f.Ring()
		_, _ = i.Document("/mcp")
	}); n > 0 {
		t.Errorf("%v allocations, want none", n)
	}
}
