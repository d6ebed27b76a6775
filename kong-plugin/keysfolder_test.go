package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"phantomtoken/internal/keyring"
)

// keysNow is the time of the commands in these tests.
var keysNow = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func putKey(t testing.TB, dir, name string) *keyring.Key {
	t.Helper()
	key, err := keyring.LoadOrCreate(filepath.Join(dir, name), "")
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestRotateKeysCommand(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	steps := []struct {
		name string
		args []string
		at   time.Time
		want string
	}{
		{name: "dry run", args: []string{"-n"}, at: keysNow, want: "would create 20261121T000000Z.jwk\nwould create 20261122T000000Z.jwk\nnext change 2026-11-22T00:00:00Z\n"},
		{name: "first", at: keysNow, want: "created 20261121T000000Z.jwk\ncreated 20261122T000000Z.jwk\nnext change 2026-11-22T00:00:00Z\n"},
		{name: "again", at: keysNow, want: "nothing is due\nnext change 2026-11-22T00:00:00Z\n"},
		{name: "dry run of a removal", args: []string{"-n"}, at: keysNow.Add(14 * time.Hour), want: "would remove 20261121T000000Z.jwk\nnext change 2026-11-22T12:00:00Z\n"},
		{name: "removal later for longer tokens", args: []string{"-lifetime", "2h"}, at: keysNow.Add(14 * time.Hour), want: "nothing is due\nnext change 2026-11-22T02:05:00Z\n"},
		{name: "removal", at: keysNow.Add(14 * time.Hour), want: "removed 20261121T000000Z.jwk\nnext change 2026-11-22T12:00:00Z\n"},
	}
	for _, tt := range steps {
		var out, log bytes.Buffer
		args := append([]string{"-dir", dir, "-every", "24h", "-lead", "6h"}, tt.args...)
		if err := rotateKeysCommand(args, &out, &log, tt.at); err != nil || log.Len() > 0 {
			t.Fatalf("%s: %v, stderr %q", tt.name, err, &log)
		}
		if out.String() != tt.want {
			t.Errorf("%s: printed\n%s\nwant\n%s", tt.name, &out, tt.want)
		}
	}
}

// A clock that is ahead by more than two periods removes nothing unless it is told to.
func TestRotateKeysCommandWithAClockAhead(t *testing.T) {
	dir := t.TempDir()
	putKey(t, dir, "20261119T000000Z.jwk")
	putKey(t, dir, "20261120T000000Z.jwk")
	at := keysNow.AddDate(0, 0, 30)
	for _, tt := range []struct{ name, want string }{
		{name: "-n", want: "would create 20261222T000000Z.jwk\nnot removed, though it looks dead: 20261119T000000Z.jwk\n" +
			"nobody rotated for two periods, or this clock is ahead; a later rotation removes it, -force does so now\nnext change 2026-12-22T00:00:00Z\n"},
		{name: "-force", want: "created 20261222T000000Z.jwk\nremoved 20261119T000000Z.jwk\nnext change 2026-12-22T00:00:00Z\n"},
	} {
		var out, log bytes.Buffer
		args := []string{"-dir", dir, "-every", "24h", "-lead", "6h", tt.name}
		if err := rotateKeysCommand(args, &out, &log, at); err != nil || out.String() != tt.want {
			t.Errorf("%s: %v, printed\n%s\nwant\n%s", tt.name, err, &out, tt.want)
		}
	}
}

func TestRotateKeysCommandSaysWhatItDidBeforeAnError(t *testing.T) {
	dir := t.TempDir()
	putKey(t, dir, "20261121T000000Z.jwk")
	if err := os.WriteFile(filepath.Join(dir, "key.jwk"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var out, log bytes.Buffer
	err := rotateKeysCommand([]string{"-dir", dir, "-every", "24h"}, &out, &log, keysNow)
	if err == nil || !strings.Contains(err.Error(), "key.jwk: expected a name") || !strings.HasPrefix(out.String(), "created 20261123T000000Z.jwk\n") {
		t.Errorf("error %v, printed\n%s\nwant both", err, &out)
	}
}

func TestListKeysCommand(t *testing.T) {
	dir := t.TempDir()
	old, now, next := putKey(t, dir, "20261120T000000Z.jwk"), putKey(t, dir, "20261121T113000Z.jwk"), putKey(t, dir, "20261122T000000Z.jwk")
	list := func(at time.Time) (string, error) {
		var out, log bytes.Buffer
		err := listKeysCommand([]string{"-dir", dir}, &out, &log, at)
		return out.String(), err
	}
	got, err := list(keysNow)
	want := "20261120T000000Z.jwk  ES256  " + old.ID() + "  signed until 2026-11-21T11:30:00Z, published until 2026-11-21T12:35:00Z\n" +
		"20261121T113000Z.jwk  ES256  " + now.ID() + "  signs now until 2026-11-22T00:00:00Z, published until 2026-11-22T01:05:00Z\n" +
		"20261122T000000Z.jwk  ES256  " + next.ID() + "  published, signs from 2026-11-22T00:00:00Z, has no successor yet\n"
	if err != nil || got != want {
		t.Errorf("%v, printed\n%s\nwant\n%s", err, got, want)
	}
	if got, err := list(keysNow.Add(time.Hour)); err != nil || !strings.Contains(got, "11:30:00Z, may be removed\n") {
		t.Errorf("%v, printed\n%s\nwant the old key removable", err, got)
	}
	if err := os.WriteFile(filepath.Join(dir, "20261123T000000Z.jwk"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	var status exitStatus
	if got, err := list(keysNow); !errors.As(err, &status) || status != 1 || !strings.Contains(got, "20261123T000000Z.jwk  cannot be used: ") {
		t.Errorf("%v, printed\n%s\nwant status 1 and the file", err, got)
	}
	dir = t.TempDir()
	if got, err := list(keysNow); !errors.As(err, &status) || got != "there is no key that signs\n" {
		t.Errorf("%v, printed\n%s\nwant status 1", err, got)
	}
	dir = filepath.Join(dir, "missing")
	if got, err := list(keysNow); err == nil || errors.As(err, &status) || got != "" {
		t.Errorf("%v, printed\n%s\nwant an error", err, got)
	}
}

func TestKeysCommandLineErrors(t *testing.T) {
	for name, args := range map[string][]string{
		"RotateWithoutFolder": {"rotate", "-every", "24h"},
		"RotateWithoutPeriod": {"rotate", "-dir", "keys"},
		"RotateTooOften":      {"rotate", "-dir", "keys", "-every", "1h"},
		"RotateWithMore":      {"rotate", "-dir", "keys", "-every", "24h", "x"},
		"ListWithoutFolder":   {"list"},
		"ListWithMore":        {"list", "-dir", "keys", "x"},
		"OtherCommand":        {"revoke"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			var out, log bytes.Buffer
			if err := run(append([]string{"phantom-token", "keys"}, args...), &out, &log); !errors.Is(err, errUsage) {
				t.Errorf("got %v, want a usage error", err)
			}
			if _, err := os.Stat("keys"); err == nil {
				t.Error("a folder was made")
			}
		})
	}
}

// keyID is the kid of a token.
func keyID(t testing.TB, token string) string {
	t.Helper()
	head, _, _ := strings.Cut(token, ".")
	data, err := base64.RawURLEncoding.DecodeString(head)
	if err != nil {
		t.Fatal(err)
	}
	var header struct {
		ID string `json:"kid"`
	}
	if err := json.Unmarshal(data, &header); err != nil {
		t.Fatal(err)
	}
	return header.ID
}

// A plugin whose setting names a folder signs with the key of the moment and publishes all,
// without a reload.
//
// Covers: JW-15
func TestKeyFolderIsFollowed(t *testing.T) {
	idp := startIDP(t)
	idp.says(goodClaims(idp))
	p := startPlugin(t)
	dir := filepath.Join(t.TempDir(), "keys")
	first := putKey(t, dir, "20200101T000000Z.jwk")
	config := patch(mintConfig(t, idp), map[string]any{"phantom_token": map[string]any{"signing_key_file": dir}})
	route := p.instance(1, config)
	kid := func() string {
		t.Helper()
		got := route.do(bearer(testToken))
		token, ok := strings.CutPrefix(got.upstream["Authorization"], "Bearer ")
		if !ok {
			t.Fatalf("answered %d %s, want it forwarded; log:\n%s", got.status, got.body, p.log)
		}
		return keyID(t, token)
	}
	published := func() string { return route.do(httpRequest{method: http.MethodGet, target: "/phantom/jwks.json"}).body }
	if got := kid(); got != first.ID() {
		t.Errorf("key %s signs, want %s", got, first.ID())
	}

	at := p.clock.Now().UTC().Add(2 * time.Minute).Truncate(time.Second)
	second := putKey(t, dir, at.Format("20060102T150405Z")+".jwk")
	p.clock.Advance(time.Minute)
	if got := kid(); got != first.ID() || !strings.Contains(published(), second.ID()) {
		t.Errorf("key %s signs, %s is published; want the first to sign and both published", got, published())
	}
	p.clock.Advance(time.Minute)
	if got := kid(); got != second.ID() || !strings.Contains(published(), first.ID()) {
		t.Errorf("key %s signs, %s is published; want the second to sign and both published", got, published())
	}
	if err := os.WriteFile(filepath.Join(dir, "20200102T000000Z.jwk"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "20200101T000000Z.jwk")); err != nil {
		t.Fatal(err)
	}
	p.clock.Advance(time.Minute)
	if got := kid(); got != second.ID() || strings.Contains(published(), first.ID()) {
		t.Errorf("key %s signs, %s is published; want the second alone", got, published())
	}
	if !strings.Contains(p.log.String(), "20200102T000000Z.jwk") {
		t.Errorf("log does not name the file that cannot be used:\n%s", p.log)
	}
}

func TestKeyFolderProblems(t *testing.T) {
	keys, further := t.TempDir(), filepath.Join(t.TempDir(), "further.jwk")
	key := putKey(t, keys, "20200101T000000Z.jwk")
	other := putKey(t, filepath.Dir(further), "further.jwk")
	tests := []struct {
		name    string
		changes map[string]any
		want    string // empty: it works
	}{
		{name: "Empty", changes: map[string]any{"signing_key_file": t.TempDir()}, want: "phantom_token.signing_key_file: opening key folder: expected key folder"},
		{name: "Algorithm", changes: map[string]any{"algorithm": "ES256"}, want: "phantom_token.algorithm: has a meaning only for a single key"},
		{name: "PublishedKeyMissing", changes: map[string]any{"published_key_files": []string{"/missing"}}, want: "phantom_token.published_key_files: "},
		{name: "PublishedKey", changes: map[string]any{"published_key_files": []string{further}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			config := patch(completeConfig(t), map[string]any{"phantom_token": map[string]any{"signing_key_file": keys}})
			got, err := buildJSON(t, patch(config, map[string]any{"phantom_token": tt.changes}), nil)
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("error %v, want it to say %q", err, tt.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			body, _ := got.Issuers[0].Document("/phantom/jwks.json")
			if !bytes.Contains(body, []byte(key.ID())) || !bytes.Contains(body, []byte(other.ID())) {
				t.Errorf("published are %s, want both keys", body)
			}
		})
	}
}
