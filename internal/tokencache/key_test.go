package tokencache_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"phantomtoken/internal/tokencache"
)

// Covers: CA-03, IN-13
func TestKeyTellsIntrospectionConfigurationsApart(t *testing.T) {
	idA, idB := sha256.Sum256([]byte("client a")), sha256.Sum256([]byte("client b"))
	const token = "opaque-token"
	if got, want := tokencache.NewKey(token, idA), tokencache.NewKey(token, idA); got != want {
		t.Errorf("same token and configuration: got %x and %x, want equal keys", got, want)
	}
	// No two of these may be equal: other tokens, other configurations, and what a key
	// would be without a domain of its own.
	keys := map[tokencache.Key]string{}
	for name, key := range map[string]tokencache.Key{
		"token under a":                    tokencache.NewKey(token, idA),
		"token under b":                    tokencache.NewKey(token, idB),
		"other token under a":              tokencache.NewKey(token+"x", idA),
		"empty token under a":              tokencache.NewKey("", idA),
		"configuration and token swapped":  tokencache.NewKey(string(idA[:]), idB),
		"plain hash of the token":          sha256.Sum256([]byte(token)),
		"plain hash of both":               sha256.Sum256(append(idA[:], token...)),
		"long token, beyond the stack":     tokencache.NewKey(strings.Repeat("t", 5000), idA),
		"longer token, beyond the stack":   tokencache.NewKey(strings.Repeat("t", 5001), idA),
		"long token under b, beyond stack": tokencache.NewKey(strings.Repeat("t", 5000), idB),
	} {
		if other, twice := keys[key]; twice {
			t.Errorf("%s and %s: got the same key, want two", name, other)
		}
		keys[key] = name
	}
}

// Covers: IN-13
func TestAnswerOfOneClientIsNotFoundByAnother(t *testing.T) {
	c := newCache(t, tokencache.Config{Now: newClock().now})
	idA, idB := sha256.Sum256([]byte("client a")), sha256.Sum256([]byte("client b"))
	calls := map[string]int{}
	ask := func(name string, id [32]byte) {
		_, _, err := c.Do(t.Context(), tokencache.NewKey("token", id), time.Minute, func(context.Context) (*tokencache.Entry, error) {
			calls[name]++
			return active(newClock().now().Add(time.Hour)), nil
		})
		if err != nil {
			t.Fatalf("Do for %s: %v", name, err)
		}
	}
	for range 3 {
		ask("a", idA)
		ask("b", idB)
	}
	if calls["a"] != 1 || calls["b"] != 1 {
		t.Errorf("calls: got %v, want one for each client", calls)
	}
}

// Covers: BT-14
func TestFingerprintIsKeyedAndShort(t *testing.T) {
	const token = "opaque-token"
	got := tokencache.Fingerprint(token)
	if !regexp.MustCompile(`^[0-9a-f]{16}$`).MatchString(got) {
		t.Errorf("Fingerprint = %q, want 16 hex digits", got)
	}
	if again := tokencache.Fingerprint(token); again != got {
		t.Errorf("Fingerprint twice: got %q and %q, want equal", got, again)
	}
	if other := tokencache.Fingerprint(token + "x"); other == got {
		t.Errorf("Fingerprint of another token: got %q for both", got)
	}
	if plain := fmt.Sprintf("%x", sha256.Sum256([]byte(token)))[:16]; plain == got {
		t.Errorf("Fingerprint = %q, the plain hash that anybody can compute; want a keyed one", got)
	}
}

// The cache is filled the way the gateway fills it, then everything that can be reached
// from it is searched for the token.
//
// Covers: CA-03
func TestTokenIsNotInTheCache(t *testing.T) {
	const token = "CANARY-7f3a91"
	now := newClock().now
	c := newCache(t, tokencache.Config{Now: now})
	for i, e := range []*tokencache.Entry{active(now().Add(time.Hour)), inactive(now().Add(time.Hour))} {
		key := tokencache.NewKey(token, [32]byte{byte(i)})
		got, _, err := c.Do(t.Context(), key, time.Minute, func(context.Context) (*tokencache.Entry, error) { return e, nil })
		if err != nil {
			t.Fatalf("Do: %v", err)
		}
		if _, err := got.Minted([32]byte{}, now(), 0, func() (string, time.Time, error) {
			return "phantom", now().Add(time.Minute), nil
		}); err != nil {
			t.Fatalf("Minted: %v", err)
		}
	}
	strings := 0
	walk(reflect.ValueOf(c), map[uintptr]bool{}, func(path string, b []byte) {
		strings++
		if bytes.Contains(b, []byte(token)) {
			t.Errorf("%s holds the token", path)
		}
	}, "cache")
	// The walk must have come as far as the claims, or it proves nothing.
	if strings < 8 {
		t.Errorf("searched %d strings, want at least those of two keys and of the claims", strings)
	}
}

// walk visits every string and byte array that can be reached from v.
func walk(v reflect.Value, seen map[uintptr]bool, visit func(path string, b []byte), path string) {
	switch v.Kind() {
	case reflect.String:
		visit(path, []byte(v.String()))
	case reflect.Pointer:
		if !v.IsNil() && !seen[v.Pointer()] {
			seen[v.Pointer()] = true
			walk(v.Elem(), seen, visit, path)
		}
	case reflect.Interface:
		if !v.IsNil() {
			walk(v.Elem(), seen, visit, path)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			walk(v.Field(i), seen, visit, path+"."+v.Type().Field(i).Name)
		}
	case reflect.Map:
		for iter := v.MapRange(); iter.Next(); {
			walk(iter.Key(), seen, visit, path+" key")
			walk(iter.Value(), seen, visit, path+" value")
		}
	case reflect.Slice, reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			b := make([]byte, v.Len())
			for i := range b {
				b[i] = byte(v.Index(i).Uint())
			}
			visit(path, b)
			return
		}
		for i := range v.Len() {
			walk(v.Index(i), seen, visit, path+"[]")
		}
	}
}
