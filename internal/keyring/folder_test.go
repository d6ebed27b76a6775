package keyring_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"phantomtoken/internal/keyring"
	"phantomtoken/internal/oauth"
)

// logged is a logger and what it wrote.
func logged() (*slog.Logger, *safeBuffer) {
	out := new(safeBuffer)
	return slog.New(slog.NewTextHandler(out, nil)), out
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func openFolder(t testing.TB, cfg keyring.FolderConfig) *keyring.Folder {
	t.Helper()
	f, err := keyring.OpenFolder(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// published are the ids of the keys that a folder publishes.
func published(t testing.TB, keys keyring.Keys) []string {
	t.Helper()
	set, err := keyring.ParsePublic(keys.Ring().JWKS())
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, k := range set {
		ids = append(ids, k.ID)
	}
	return ids
}

func hasKeys(t testing.TB, keys keyring.Keys, signs *keyring.Key, further ...*keyring.Key) {
	t.Helper()
	ids := published(t, keys)
	if got := keys.Ring().SigningKeyID(); got != signs.ID() || ids[0] != got {
		t.Errorf("key %s signs, want %s", got, signs.ID())
	}
	if len(ids) != 1+len(further) {
		t.Errorf("%d keys are published, want %d", len(ids), 1+len(further))
	}
	for _, k := range append(further, signs) {
		if found, err := keys.Keys(context.Background(), k.ID()); err != nil || len(found) != 1 {
			t.Errorf("key %s: got %v, %v, want it published", k.ID(), found, err)
		}
	}
}

// A key is published when it is there, signs when its time has come, and is forgotten when
// its file is gone. All of it happens without a goroutine.
//
// Covers: JW-15
func TestFolderFollowsItsFiles(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	first := putKey(t, dir, "20261101T000000Z.jwk")
	f := openFolder(t, keyring.FolderConfig{Dir: dir, Now: c.Now})
	hasKeys(t, f, first)

	second := putKey(t, dir, "20261121T123000Z.jwk")
	ring := f.Ring()
	c.Advance(59 * time.Second)
	if f.Ring() != ring {
		t.Error("the folder was read again within a minute")
	}
	c.Advance(time.Second)
	hasKeys(t, f, first, second)

	c.Advance(29*time.Minute - time.Nanosecond)
	hasKeys(t, f, first, second)
	c.Advance(time.Nanosecond)
	hasKeys(t, f, second, first)
	if again := f.Ring(); again != f.Ring() {
		t.Error("an unchanged ring is another pointer")
	}
	c.Advance(time.Hour) // reads it again: nothing is new
	if again := f.Ring(); again != f.Ring() {
		t.Error("an unchanged ring is another pointer after reading")
	}

	c.Advance(-2 * time.Hour) // the clock goes back
	hasKeys(t, f, first, second)
	c.Advance(2 * time.Hour)
	hasKeys(t, f, second, first)

	if err := os.Remove(filepath.Join(dir, "20261101T000000Z.jwk")); err != nil {
		t.Fatal(err)
	}
	if err := f.Reload(); err != nil {
		t.Fatal(err)
	}
	hasKeys(t, f, second)
	c.Advance(-24 * time.Hour) // before the only key there is
	hasKeys(t, f, second)
}

func TestFolderPublishesFurtherKeys(t *testing.T) {
	dir := t.TempDir()
	own, further := putKey(t, dir, "20261101T000000Z.jwk"), generate(t, keyring.EdDSA)
	hasKeys(t, openFolder(t, keyring.FolderConfig{Dir: dir, Published: []*keyring.Key{further, own}}), own, further)
}

// Nothing that happens to the files takes a working ring away.
func TestFolderKeepsWhatItHas(t *testing.T) {
	tests := []struct {
		name   string
		happen func(t *testing.T, dir string)
		want   []string // in the log
	}{
		{name: "BrokenNewFile", want: []string{"a file in the key folder cannot be used", "20261122T000000Z.jwk"}, happen: func(t *testing.T, dir string) {
			writeFile(t, filepath.Join(dir, "20261122T000000Z.jwk"), ecJWK[:30], 0o600)
		}},
		{name: "BrokenNewFileThatShouldSign", want: []string{"20261121T110000Z.jwk"}, happen: func(t *testing.T, dir string) {
			writeFile(t, filepath.Join(dir, "20261121T110000Z.jwk"), "", 0o600)
		}},
		{name: "RejectsKeyThatOthersCanRead", want: []string{"20261121T110000Z.jwk", "chmod 600"}, happen: func(t *testing.T, dir string) {
			writeFile(t, filepath.Join(dir, "20261121T110000Z.jwk"), ecJWK, 0o644)
		}},
		{name: "RejectsFolderAsKey", want: []string{"20261121T110000Z.jwk", "regular file"}, happen: func(t *testing.T, dir string) {
			if err := os.Mkdir(filepath.Join(dir, "20261121T110000Z.jwk"), 0o700); err != nil {
				t.Fatal(err)
			}
		}},
		{name: "NameWithoutTime", want: []string{"signing.jwk: expected a name that says in UTC"}, happen: func(t *testing.T, dir string) {
			writeFile(t, filepath.Join(dir, "signing.jwk"), ecJWK, 0o600)
		}},
		{name: "ItsOwnFilesBroken", want: []string{"20261101T000000Z.jwk", "20261121T000000Z.jwk"}, happen: func(t *testing.T, dir string) {
			writeFile(t, filepath.Join(dir, "20261101T000000Z.jwk"), "x", 0o600)
			writeFile(t, filepath.Join(dir, "20261121T000000Z.jwk"), ecJWK, 0o666)
		}},
		{name: "EveryFileGone", want: []string{"the key folder has no usable key"}, happen: func(t *testing.T, dir string) {
			for _, name := range names(t, dir) {
				if err := os.Remove(filepath.Join(dir, name)); err != nil {
					t.Fatal(err)
				}
			}
		}},
		{name: "FolderGone", want: []string{"reading the key folder failed"}, happen: func(t *testing.T, dir string) {
			if err := os.Rename(dir, dir+".gone"); err != nil {
				t.Fatal(err)
			}
		}},
		{name: "RejectsFolderThatAllMayWrite", want: []string{"reading the key folder failed", "chmod o-w"}, happen: func(t *testing.T, dir string) {
			putKey(t, dir, "20261121T110000Z.jwk")
			if err := os.Chmod(dir, 0o777); err != nil {
				t.Fatal(err)
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir, c := filepath.Join(t.TempDir(), "keys"), newClock()
			old, now := putKey(t, dir, "20261101T000000Z.jwk"), putKey(t, dir, "20261121T000000Z.jwk")
			log, text := logged()
			f := openFolder(t, keyring.FolderConfig{Dir: dir, Now: c.Now, Logger: log})
			tt.happen(t, dir)
			if err := f.Reload(); err == nil {
				t.Error("Reload says nothing of it")
			}
			for range 3 {
				c.Advance(time.Hour)
				hasKeys(t, f, now, old)
			}
			for _, want := range tt.want {
				if !strings.Contains(text.String(), want) {
					t.Errorf("log is\n%s\nwant %q in it", text, want)
				}
			}
			if n := strings.Count(text.String(), "level=ERROR"); n > 2 {
				t.Errorf("log has %d errors of the same:\n%s", n, text)
			}
			for _, secret := range []string{ecJWK[:30], `"d"`} {
				if strings.Contains(text.String(), secret) {
					t.Errorf("log quotes a key:\n%s", text)
				}
			}
		})
	}
}

// A folder whose file is mended is as good as new, and says the next fault again.
func TestFolderRecovers(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	old := putKey(t, dir, "20261101T000000Z.jwk")
	log, text := logged()
	f := openFolder(t, keyring.FolderConfig{Dir: dir, Now: c.Now, Logger: log})
	path := filepath.Join(dir, "20261121T000000Z.jwk")
	for n := 1; n <= 2; n++ {
		writeFile(t, path, "x", 0o600)
		c.Advance(time.Minute)
		hasKeys(t, f, old)
		if got := strings.Count(text.String(), "cannot be used"); got != n {
			t.Errorf("log has the fault %d times, want %d:\n%s", got, n, text)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		c.Advance(time.Minute)
		hasKeys(t, f, old)
	}
	now := putKey(t, dir, "20261121T000000Z.jwk")
	c.Advance(time.Minute)
	hasKeys(t, f, now, old)
}

func TestOpenFolderRefuses(t *testing.T) {
	empty, broken := t.TempDir(), t.TempDir()
	writeFile(t, filepath.Join(broken, "20261121T000000Z.jwk"), "x", 0o600)
	tests := []struct {
		name string
		cfg  keyring.FolderConfig
		want string
	}{
		{name: "NoFolder", cfg: keyring.FolderConfig{}, want: "got an empty one"},
		{name: "Missing", cfg: keyring.FolderConfig{Dir: filepath.Join(empty, "missing")}, want: "no such file"},
		{name: "Empty", cfg: keyring.FolderConfig{Dir: empty}, want: "usable key, got none"},
		{name: "Broken", cfg: keyring.FolderConfig{Dir: broken}, want: "20261121T000000Z.jwk"},
		{name: "BrokenAndRotating", cfg: keyring.FolderConfig{Dir: broken, Schedule: daily}, want: "20261121T000000Z.jwk"},
		{name: "BadSchedule", cfg: keyring.FolderConfig{Dir: empty, Schedule: keyring.Schedule{Lead: time.Hour}}, want: "every 2 hours or more"},
		{name: "BadAlgorithm", cfg: keyring.FolderConfig{Dir: empty, Algorithm: "none"}, want: "expected algorithm"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if f, err := keyring.OpenFolder(tt.cfg); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, error %v, want it to say %q", f, err, tt.want)
			}
		})
	}
	if got := names(t, empty); len(got) > 0 {
		t.Errorf("files were made: %v", got)
	}
}

func TestOpenFolderMakesTheFirstKey(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	log, text := logged()
	f := openFolder(t, keyring.FolderConfig{Dir: dir, Schedule: daily, Algorithm: keyring.EdDSA, Now: newClock().Now, Logger: log})
	if got := names(t, dir); len(got) != 2 || len(published(t, f)) != 2 || f.Ring().Algorithms()[0] != keyring.EdDSA {
		t.Errorf("folder holds %v", got)
	}
	if !strings.Contains(text.String(), `msg="signing key created"`) {
		t.Errorf("log says nothing of it:\n%s", text)
	}
}

// A Secret that Kubernetes mounts: every name is a link through ..data, which is itself a
// link to a folder of the version, and swapped in one go.
func TestFolderOfKubernetesSecret(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	version := func(name string, keys ...string) []*keyring.Key {
		t.Helper()
		var out []*keyring.Key
		for _, key := range keys {
			path := filepath.Join(dir, name, key)
			if old, err := os.ReadFile(filepath.Join(dir, key)); err == nil {
				if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
					t.Fatal(err)
				}
				writeFile(t, path, string(old), 0o400)
			}
			out = append(out, putKey(t, filepath.Join(dir, name), key))
			if err := os.Chmod(path, 0o400); err != nil {
				t.Fatal(err)
			}
		}
		link := filepath.Join(dir, "..data_tmp")
		if err := errors.Join(os.Symlink(name, link), os.Rename(link, filepath.Join(dir, "..data"))); err != nil {
			t.Fatal(err)
		}
		for _, key := range keys {
			if err := os.Symlink(filepath.Join("..data", key), filepath.Join(dir, key)); err != nil && !errors.Is(err, fs.ErrExist) {
				t.Fatal(err)
			}
		}
		return out
	}
	one := version("..2026_11_01", "20261101T000000Z.jwk")
	log, text := logged()
	f := openFolder(t, keyring.FolderConfig{Dir: dir, Now: c.Now, Logger: log})
	hasKeys(t, f, one[0])
	two := version("..2026_11_20", "20261101T000000Z.jwk", "20261121T000000Z.jwk")
	c.Advance(time.Minute)
	hasKeys(t, f, two[1], one[0])
	// The link of a name that is gone is removed a little later.
	version("..2026_11_21", "20261121T000000Z.jwk")
	c.Advance(time.Minute)
	hasKeys(t, f, two[1])
	if strings.Contains(text.String(), "level=ERROR") {
		t.Errorf("log has errors:\n%s", text)
	}
}

// Several nodes rotate and read one folder with clocks of their own; at any time all of them
// sign with the same key and publish the same set, and so does one that only reads.
//
// Covers: JW-15
func TestNodesOfAFolderAgree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "keys")
		fast := keyring.Schedule{Every: 3 * time.Hour, Lead: 2 * time.Hour}
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		var nodes []*keyring.Folder
		for _, schedule := range []keyring.Schedule{fast, fast, {}} {
			f := openFolder(t, keyring.FolderConfig{Dir: dir, Schedule: schedule})
			nodes = append(nodes, f)
			if schedule.Every > 0 {
				running.Go(func() { f.Run(ctx) })
			}
		}
		signed := map[string]bool{}
		for range 12 * 4 {
			<-time.After(15*time.Minute + time.Second)
			synctest.Wait()
			first := nodes[0].Ring()
			signed[first.SigningKeyID()] = true
			for i, node := range nodes {
				if !bytes.Equal(node.Ring().JWKS(), first.JWKS()) {
					t.Fatalf("node %d publishes\n%s\nthe first\n%s", i, node.Ring().JWKS(), first.JWKS())
				}
			}
			if n := len(published(t, nodes[0])); n < 1 || n > 4 {
				t.Errorf("%d keys are published, want 1 to 4", n)
			}
		}
		if len(signed) < 4 {
			t.Errorf("%d keys signed in half a day, want one in three hours", len(signed))
		}
		stop()
		running.Wait()
	})
}

// A process that has keys makes no first key when they vanish: it would be the only one who
// knows it.
func TestRunMakesNoFirstKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "keys")
		log, text := logged()
		f := openFolder(t, keyring.FolderConfig{Dir: dir, Schedule: daily, Logger: log})
		ring := f.Ring()
		for _, name := range names(t, dir) {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { f.Run(ctx) })
		<-time.After(10 * time.Minute)
		if got := names(t, dir); len(got) > 0 || f.Ring() != ring {
			t.Errorf("folder holds %v, want it empty and the old ring in use", got)
		}
		if n := strings.Count(text.String(), "level=ERROR"); n != 2 {
			t.Errorf("log has %d errors, want one of rotating and one of reading:\n%s", n, text)
		}
		// keys rotate by hand ends it.
		if _, err := keyring.Rotate(dir, "", daily, time.Now(), false); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Minute)
		if f.Ring() == ring {
			t.Error("the new key is not used")
		}
		stop()
		running.Wait()
	})
}

// After a leak the operator removes the file: what is left signs, at once, also when its
// time has not come, and the leaked key is published no more.
func TestRemovingALeakedKey(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	leaked, next := putKey(t, dir, "20261121T000000Z.jwk"), putKey(t, dir, "20261122T000000Z.jwk")
	f := openFolder(t, keyring.FolderConfig{Dir: dir, Now: c.Now})
	hasKeys(t, f, leaked, next)
	if err := os.Remove(filepath.Join(dir, "20261121T000000Z.jwk")); err != nil {
		t.Fatal(err)
	}
	c.Advance(time.Minute)
	hasKeys(t, f, next)
	// With nothing left, a rotation makes a key that signs at once.
	if err := os.Remove(filepath.Join(dir, "20261122T000000Z.jwk")); err != nil {
		t.Fatal(err)
	}
	if _, err := keyring.Rotate(dir, "", daily, c.Now(), false); err != nil {
		t.Fatal(err)
	}
	c.Advance(time.Minute)
	if ids := published(t, f); len(ids) != 2 || ids[0] == leaked.ID() || ids[1] == leaked.ID() || ids[0] == next.ID() {
		t.Errorf("published are %v, want new keys alone", ids)
	}
}

// The documents of an issuer follow its keys.
//
// Covers: JW-14, JW-15
func TestIssuerFollowsAFolder(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	putKey(t, dir, "20261101T000000Z.jwk")
	further := newRing(t, generate(t, keyring.EdDSA))
	f := openFolder(t, keyring.FolderConfig{Dir: dir, Now: c.Now})
	i := newIssuer(t, oauth.IssuerMetadata{Issuer: "https://gw.example.com"}, f, further)
	count := func(want int) {
		t.Helper()
		body, ok := i.Document("/jwks.json")
		keys, err := keyring.ParsePublic(body)
		if err != nil || !ok || len(keys) != want || keys[0].ID != f.Ring().SigningKeyID() || keys[want-1].ID != further.SigningKeyID() {
			t.Errorf("got %s, %v, want %d keys, the signing one first", body, err, want)
		}
	}
	count(2)
	if _, err := keyring.LoadOrCreate(filepath.Join(dir, "20261121T120500Z.jwk"), keyring.RS256); err != nil {
		t.Fatal(err)
	}
	c.Advance(time.Minute)
	count(3)
	before := f.Ring().SigningKeyID()
	c.Advance(time.Hour)
	count(3)
	if f.Ring().SigningKeyID() == before {
		t.Error("the second key does not sign")
	}
	metadata, _ := i.Document("/.well-known/openid-configuration")
	if !bytes.Contains(metadata, []byte(`["RS256","ES256","EdDSA"]`)) {
		t.Errorf("metadata is %s, want the algorithms of all keys", metadata)
	}
	// A key that does not go together with the others leaves the documents as they are.
	ours := newRing(t, testKey(t, keyring.PS256))
	i = newIssuer(t, oauth.IssuerMetadata{Issuer: "https://gw.example.com"}, f, ours)
	writeFile(t, filepath.Join(dir, "20261121T120600Z.jwk"), string(pkcs8(t, rawKey(t, keyring.RS256))), 0o600)
	c.Advance(time.Hour)
	if body, ok := i.Document("/jwks.json"); !ok || bytes.Count(body, []byte(`"kid"`)) != 3 {
		t.Errorf("got %s, want the documents of before", body)
	}
}

func putRSA(t *testing.T, dir, name string) *keyring.Key {
	t.Helper()
	k, err := keyring.LoadOrCreate(filepath.Join(dir, name), keyring.RS256)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// putOther puts the RSA key of one file into another one for the other algorithm.
func putOther(t *testing.T, dir, from, to string) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, from))
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, to), strings.Replace(string(data), keyring.RS256, keyring.PS256, 1), 0o600)
}

// A copy of a key with another algorithm is left out, and freezes nothing: a leaked key that
// is removed meanwhile signs no more, the new one does, and a new process starts.
func TestKeyOfTwoAlgorithmsKeepsNoLeakedKey(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	old := putRSA(t, dir, "20261001T000000Z.jwk")
	leaked := putKey(t, dir, "20261101T000000Z.jwk")
	log, text := logged()
	f := openFolder(t, keyring.FolderConfig{Dir: dir, Now: c.Now, Logger: log})
	hasKeys(t, f, leaked, old)

	putOther(t, dir, "20261001T000000Z.jwk", "20261231T000000Z.jwk")
	if err := os.Remove(filepath.Join(dir, "20261101T000000Z.jwk")); err != nil {
		t.Fatal(err)
	}
	now := putKey(t, dir, "20261121T000000Z.jwk")
	c.Advance(time.Minute)
	hasKeys(t, f, now, old)
	hasKeys(t, openFolder(t, keyring.FolderConfig{Dir: dir, Now: c.Now}), now, old)
	if !strings.Contains(text.String(), "20261231T000000Z.jwk: expected a key with one algorithm, got one that is there for RS256 and here for PS256") {
		t.Errorf("log is\n%s\nwant the file in it", text)
	}
	if _, err := keyring.Rotate(dir, "", daily, c.Now(), false); err == nil || !strings.Contains(err.Error(), "20261231T000000Z.jwk") {
		t.Errorf("got %v, want an error that names the file", err)
	}
	if got := names(t, dir); !slices.Contains(got, "20261122T000000Z.jwk") || slices.Contains(got, "20261001T000000Z.jwk") {
		t.Errorf("folder holds %v, want it rotated all the same", got)
	}
}

// Of two files the later one is left out, also where it was read before: all nodes see the
// same, whenever they started.
func TestKeyOfTwoAlgorithmsIsTheEarlierOne(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	putRSA(t, dir, "20261120T000000Z.jwk")
	f := openFolder(t, keyring.FolderConfig{Dir: dir, Now: c.Now})
	putOther(t, dir, "20261120T000000Z.jwk", "20261119T000000Z.jwk")
	c.Advance(time.Minute)
	again := openFolder(t, keyring.FolderConfig{Dir: dir, Now: c.Now})
	if got := f.Ring(); !bytes.Equal(got.JWKS(), again.Ring().JWKS()) || got.Algorithms()[0] != keyring.PS256 {
		t.Errorf("publishes\n%s\nwant\n%s", got.JWKS(), again.Ring().JWKS())
	}
}

// The further keys that are published come first.
func TestKeyOfTwoAlgorithmsAmongFurtherKeys(t *testing.T) {
	dir := t.TempDir()
	own, further := putKey(t, dir, "20261101T000000Z.jwk"), testKey(t, keyring.PS256)
	writeFile(t, filepath.Join(dir, "20261121T000000Z.jwk"), string(pkcs8(t, rawKey(t, keyring.RS256))), 0o600)
	hasKeys(t, openFolder(t, keyring.FolderConfig{Dir: dir, Published: []*keyring.Key{further}, Now: newClock().Now}), own, further)
}

// Who replaces a leaked key under its name by a file that cannot be used is rid of its
// signatures all the same, as soon as there is another key. Its tokens can still be verified.
func TestLeakedKeyReplacedByUnusableFileSignsNoMore(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	leaked := putKey(t, dir, "20261101T000000Z.jwk")
	f := openFolder(t, keyring.FolderConfig{Dir: dir, Now: c.Now})
	path := filepath.Join(dir, "20261101T000000Z.jwk")
	writeFile(t, path, ecJWK, 0o644)
	c.Advance(time.Minute)
	hasKeys(t, f, leaked) // there is no other

	next := putKey(t, dir, "20261122T000000Z.jwk")
	c.Advance(time.Minute)
	hasKeys(t, f, next, leaked)

	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	c.Advance(time.Minute)
	hasKeys(t, f, next)
}

// A folder that Kubernetes mounts may be written by all, with the sticky bit.
func TestFolderWithStickyBit(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	key := putKey(t, dir, "20261101T000000Z.jwk")
	if err := os.Chmod(dir, 0o777|fs.ModeSticky); err != nil {
		t.Fatal(err)
	}
	hasKeys(t, openFolder(t, keyring.FolderConfig{Dir: dir}), key)
	if _, err := keyring.OpenFolder(keyring.FolderConfig{Dir: dir, Schedule: keyring.Schedule{Every: 24 * time.Hour}}); err == nil {
		t.Error("keys are made in a folder in which strangers could take their names")
	}
}

// Many ask while the folder changes.
func TestFolderConcurrently(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	putKey(t, dir, "20261101T000000Z.jwk")
	f := openFolder(t, keyring.FolderConfig{Dir: dir, Now: c.Now})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				c.Advance(30 * time.Second)
				if tok, err := f.Ring().Mint(plainToken()); err != nil || tok == "" {
					t.Error(err)
				}
				_ = f.Reload()
			}
		})
	}
	for _, name := range []string{"20261121T120500Z.jwk", "20261121T121500Z.jwk"} {
		putKey(t, dir, name)
	}
	wg.Wait()
	if err := f.Reload(); err != nil || len(published(t, f)) != 3 {
		t.Errorf("%d keys are published, %v, want 3", len(published(t, f)), err)
	}
}
