package tokencache_test

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"phantomtoken/internal/tokencache"
)

// mints returns a mint function with tokens of the given life, and its counter.
func mints(clk *clock, life time.Duration) (func() (string, time.Time, error), *int) {
	n := new(int)
	return func() (string, time.Time, error) {
		*n++
		return fmt.Sprint("phantom ", *n), clk.now().Add(life), nil
	}, n
}

// Covers: CA-10
func TestMintedIsReusedWhileFresh(t *testing.T) {
	for _, tt := range []struct {
		name          string
		life, margin  time.Duration
		accessToken   time.Duration // zero: no exp
		after         time.Duration
		profile       byte
		wantMints     int
		wantLastToken string
	}{
		{name: "at once", life: 5 * time.Minute, margin: 30 * time.Second, wantMints: 1, wantLastToken: "phantom 1"},
		{name: "with exactly the margin left", life: 5 * time.Minute, margin: 30 * time.Second, after: 270 * time.Second, wantMints: 1, wantLastToken: "phantom 1"},
		{name: "not with less than the margin left", life: 5 * time.Minute, margin: 30 * time.Second, after: 271 * time.Second, wantMints: 2, wantLastToken: "phantom 2"},
		{name: "not for another profile (key rotated)", life: 5 * time.Minute, margin: 30 * time.Second, profile: 1, wantMints: 2, wantLastToken: "phantom 2"},
		{name: "to the end when the access token ends then too", life: 5 * time.Minute, margin: 30 * time.Second, accessToken: 5 * time.Minute, after: 299 * time.Second, wantMints: 1, wantLastToken: "phantom 1"},
		{name: "never once over", life: 5 * time.Minute, accessToken: 5 * time.Minute, after: 5 * time.Minute, wantMints: 2, wantLastToken: "phantom 2"},
		{name: "not into the margin when the access token lasts longer", life: 5 * time.Minute, margin: 30 * time.Second, accessToken: 301 * time.Second, after: 299 * time.Second, wantMints: 2, wantLastToken: "phantom 2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			clk := newClock()
			e := active(clk.now().Add(time.Hour))
			if tt.accessToken != 0 {
				e.Introspection.Expiry = clk.now().Add(tt.accessToken)
			}
			mint, n := mints(clk, tt.life)
			if _, err := e.Minted([32]byte{}, clk.now(), tt.margin, mint); err != nil {
				t.Fatalf("Minted: %v", err)
			}
			clk.step(tt.after)
			got, err := e.Minted([32]byte{tt.profile}, clk.now(), tt.margin, mint)
			if err != nil || got != tt.wantLastToken || *n != tt.wantMints {
				t.Errorf("got %q, %v after %d mints, want %q after %d", got, err, *n, tt.wantLastToken, tt.wantMints)
			}
		})
	}
}

func TestMintErrorIsNotKept(t *testing.T) {
	clk := newClock()
	e := active(clk.now().Add(time.Hour))
	broken := errors.New("no key")
	if _, err := e.Minted([32]byte{}, clk.now(), 0, func() (string, time.Time, error) { return "x", clk.now().Add(time.Hour), broken }); !errors.Is(err, broken) {
		t.Errorf("got %v, want the error of mint", err)
	}
	mint, _ := mints(clk, time.Hour)
	if got, err := e.Minted([32]byte{}, clk.now(), 0, mint); err != nil || got != "phantom 1" {
		t.Errorf("got %q, %v, want a token", got, err)
	}
}

func TestMintThatPanicsLeavesTheEntryUsable(t *testing.T) {
	clk := newClock()
	e := active(clk.now().Add(time.Hour))
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic of mint is swallowed, want it passed to who called")
			}
		}()
		_, _ = e.Minted([32]byte{}, clk.now(), 0, func() (string, time.Time, error) { panic("bug") })
	}()
	mint, _ := mints(clk, time.Hour)
	if got, err := e.Minted([32]byte{}, clk.now(), 0, mint); err != nil || got != "phantom 1" {
		t.Errorf("got %q, %v, want a token", got, err)
	}
}

func TestConcurrentCallersShareOneMint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := active(time.Now().Add(time.Hour))
		var n atomic.Int32
		var wg sync.WaitGroup
		for range 64 {
			wg.Go(func() {
				got, err := e.Minted([32]byte{}, time.Now(), time.Second, func() (string, time.Time, error) {
					n.Add(1)
					for range 100 {
						runtime.Gosched() // time enough for the others to arrive
					}
					return "phantom", time.Now().Add(time.Minute), nil
				})
				if got != "phantom" || err != nil {
					t.Errorf("got %q, %v, want the token", got, err)
				}
			})
		}
		wg.Wait()
		if n.Load() != 1 {
			t.Errorf("got %d mints, want 1", n.Load())
		}
	})
}

// Covers: CA-07
func TestMintedTokensAreBoundedPerEntry(t *testing.T) {
	for _, tt := range []struct {
		name  string
		size  int
		claim int // bytes of a claim, which widen the allowance
		want  int
	}{
		{name: "small tokens", size: 10, want: 4},
		{name: "tokens that fill the allowance", size: 700, want: 1},
		{name: "large claims make large tokens", size: 700, claim: 2500, want: 4},
		{name: "one token is kept whatever its size", size: 5000, want: 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			clk := newClock()
			e := active(clk.now().Add(time.Hour))
			e.Introspection.Claims["region"] = strings.Repeat("x", tt.claim)
			for i := range 100 {
				profile := [32]byte{byte(i)}
				token := strings.Repeat("t", tt.size)
				mint := func() (string, time.Time, error) { return token, clk.now().Add(time.Hour), nil }
				if _, err := e.Minted(profile, clk.now(), 0, mint); err != nil {
					t.Fatal(err)
				}
				if _, err := e.Minted(profile, clk.now(), 0, func() (string, time.Time, error) {
					t.Errorf("profile %d: minted twice in a row, want the latest kept", i)
					return mint()
				}); err != nil {
					t.Fatal(err)
				}
			}
			if got := e.MintedTokens(); got != tt.want {
				t.Errorf("got %d tokens kept, want %d", got, tt.want)
			}
		})
	}
}

func TestHitWords(t *testing.T) {
	for hit, want := range map[tokencache.Hit]string{tokencache.Miss: "miss", tokencache.Shared: "shared", tokencache.Cached: "cached"} {
		if got := hit.String(); got != want {
			t.Errorf("Hit(%d).String() = %q, want %q", int(hit), got, want)
		}
	}
}
