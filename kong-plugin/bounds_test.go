package main

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"phantomtoken/internal/oauth"
	"phantomtoken/internal/tokencache"
)

// The bounds that an operator sets are those of the cache, also when they are smaller than
// the defaults.
func TestSmallCacheStaysSmall(t *testing.T) {
	shared, err := newParts(time.Now, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	shared.cache.Bounds(10, 1<<20)
	for i := range 100 {
		key := tokencache.NewKey(fmt.Sprint(i), [32]byte{})
		if _, _, err := shared.cache.Do(t.Context(), key, time.Second, func(context.Context) (*tokencache.Entry, error) {
			return &tokencache.Entry{Introspection: &oauth.Introspection{Active: true}, Expiry: time.Now().Add(time.Hour)}, nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	if n := shared.cache.Len(); n != 10 {
		t.Errorf("cache holds %d entries, want 10", n)
	}
}
