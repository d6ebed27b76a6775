package keyring_test

import (
	"bufio"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"phantomtoken/internal/keyring"
)

// putKey makes a key in a folder under the given name.
func putKey(t testing.TB, dir, name string) *keyring.Key {
	t.Helper()
	k, err := keyring.LoadOrCreate(filepath.Join(dir, name), "")
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func instant(t testing.TB, s string) time.Time {
	t.Helper()
	at, err := time.Parse("20060102T150405Z", s)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func jwks(times ...string) []string {
	for i := range times {
		times[i] += ".jwk"
	}
	return times
}

// The schedule of these tests: each key signs for a day, is made 12 hours before, 6 hours
// before at the latest, and stays for an hour and five minutes.
var daily = keyring.Schedule{Every: 24 * time.Hour, Lead: 6 * time.Hour}

// It is 2026-11-21T12:00:00Z unless a test says otherwise.
func TestRotate(t *testing.T) {
	tests := []struct {
		name     string
		schedule keyring.Schedule // zero: daily
		files    []string
		now      string
		created  []string
		removed  []string
		next     string
	}{
		{name: "empty folder", created: jwks("20261121T000000Z", "20261122T000000Z"), next: "20261122T000000Z"},
		{name: "empty folder, next key not yet due", now: "20261121T115959Z", created: jwks("20261121T000000Z"), next: "20261121T120000Z"},
		{name: "empty folder, too late for the next key", now: "20261121T180001Z", created: jwks("20261121T000000Z", "20261122T010000Z"), next: "20261122T010000Z"},
		{name: "next key is due", files: jwks("20261121T000000Z"), created: jwks("20261122T000000Z"), next: "20261122T000000Z"},
		{name: "next key is there", files: jwks("20261121T000000Z", "20261122T000000Z"), next: "20261122T000000Z"},
		{name: "next key is not due yet", now: "20261121T100000Z", files: jwks("20261121T000000Z"), next: "20261121T120000Z"},
		{name: "last moment for the next key", now: "20261121T180000Z", files: jwks("20261121T000000Z"), created: jwks("20261122T000000Z"), next: "20261122T000000Z"},
		{name: "a second too late for it", now: "20261121T180001Z", files: jwks("20261121T000000Z"), created: jwks("20261122T010000Z"), next: "20261122T010000Z"},
		{name: "nobody rotated for a month", files: jwks("20261020T000000Z"), created: jwks("20261122T000000Z"), next: "20261122T000000Z"},
		{name: "nobody rotated for a month, far from a boundary", schedule: keyring.Schedule{Every: 2400 * time.Hour, Lead: 6 * time.Hour}, files: jwks("20260120T000000Z"),
			created: jwks("20261121T180000Z"), next: "20261121T180000Z"},
		{name: "key besides the schedule", files: jwks("20261121T101500Z"), created: jwks("20261122T000000Z"), next: "20261122T000000Z"},
		{name: "old key lives", now: "20261121T010459Z", files: jwks("20261120T000000Z", "20261121T000000Z"), next: "20261121T010500Z"},
		{name: "old key is dead", now: "20261121T010500Z", files: jwks("20261120T000000Z", "20261121T000000Z"), removed: jwks("20261120T000000Z"), next: "20261121T120000Z"},
		{name: "old key of long tokens lives", schedule: keyring.Schedule{Every: 24 * time.Hour, Lead: 6 * time.Hour, Lifetime: 10 * time.Hour}, now: "20261121T100000Z",
			files: jwks("20261120T000000Z", "20261121T000000Z"), next: "20261121T100500Z"},
		{name: "several old keys are dead", files: jwks("20261118T000000Z", "20261119T000000Z", "20261121T000000Z", "20261122T000000Z"),
			removed: jwks("20261118T000000Z", "20261119T000000Z"), next: "20261122T000000Z"},
		{name: "a lead as long as the period", schedule: keyring.Schedule{Every: 24 * time.Hour, Lead: 24 * time.Hour}, files: jwks("20261121T000000Z", "20261122T000000Z"),
			created: jwks("20261123T000000Z"), next: "20261122T000000Z"},
		{name: "a lead as long as the period, at the boundary", schedule: keyring.Schedule{Every: 24 * time.Hour, Lead: 24 * time.Hour}, files: jwks("20261121T000000Z", "20261122T000000Z"),
			now: "20261122T000000Z", created: jwks("20261124T000000Z", "20261123T000000Z"), next: "20261122T010500Z"},
		{name: "the usual lead", schedule: keyring.Schedule{Every: 720 * time.Hour}, now: "20261121T120000Z", files: jwks("20261119T000000Z"), next: "20261129T000000Z"},
		{name: "the usual lead of a short period", schedule: keyring.Schedule{Every: 2 * time.Hour}, now: "20261121T120000Z", files: jwks("20261121T120000Z", "20261121T140000Z"),
			created: jwks("20261121T160000Z"), next: "20261121T140000Z"},
		{name: "clock before every key", now: "19700101T000000Z", files: jwks("20261121T000000Z", "20261122T000000Z"), next: "20261121T000000Z"},
		{name: "clock went back over a start", now: "20261120T235900Z", files: jwks("20261120T000000Z", "20261121T000000Z"), next: "20261121T000000Z"},
		{name: "a key that a wrong clock made for next year", files: jwks("20261121T000000Z", "20271121T000000Z"), created: jwks("20261122T000000Z"), next: "20261122T000000Z"},
		{name: "other files", files: append(jwks("20261121T000000Z", "20261122T000000Z"), "key.json", ".20261101T000000Z.jwk.17", "20261101T000000Z.jwk~"), next: "20261122T000000Z"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "keys")
			for _, name := range tt.files {
				putKey(t, dir, name)
			}
			schedule, now := daily, start
			if tt.schedule != (keyring.Schedule{}) {
				schedule = tt.schedule
			}
			if tt.now != "" {
				now = instant(t, tt.now)
			}
			slices.Sort(tt.created)
			check := func(got keyring.Rotation, err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(got.Created, tt.created) || !slices.Equal(got.Removed, tt.removed) || !got.Next.Equal(instant(t, tt.next)) {
					t.Errorf("got %+v\nwant created %v, removed %v, next %s", got, tt.created, tt.removed, tt.next)
				}
			}
			check(keyring.Rotate(dir, "", schedule, now, true))
			if _, err := os.Stat(dir); len(tt.files) == 0 && !os.IsNotExist(err) {
				t.Error("a dry run made the folder")
			}
			check(keyring.Rotate(dir, "", schedule, now, false))

			want := slices.Concat(tt.files, tt.created)
			want = slices.DeleteFunc(want, func(name string) bool { return slices.Contains(tt.removed, name) })
			slices.Sort(want)
			if got := names(t, dir); !slices.Equal(got, want) {
				t.Errorf("folder holds %v, want %v", got, want)
			}
			again, err := keyring.Rotate(dir, "", schedule, now, false)
			if err != nil || len(again.Created)+len(again.Removed) > 0 || !again.Next.Equal(instant(t, tt.next)) {
				t.Errorf("a second rotation did %+v, %v", again, err)
			}
		})
	}
}

func TestRotateMakesPrivateFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "var", "keys")
	if _, err := keyring.Rotate(dir, keyring.EdDSA, daily, start, false); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]fs.FileMode{dir: fs.ModeDir | 0o700, filepath.Join(dir, "20261121T000000Z.jwk"): 0o600} {
		info, err := os.Stat(path)
		if err != nil || info.Mode() != want {
			t.Errorf("%s: got %v, %v, want mode %v", path, info, err, want)
		}
	}
	files, err := keyring.List(dir, daily, start)
	if err != nil || len(files) != 2 || files[0].Key.Algorithm() != keyring.EdDSA {
		t.Errorf("got %+v, %v, want two EdDSA keys", files, err)
	}
}

func TestRotateRefuses(t *testing.T) {
	file := writeFile(t, filepath.Join(t.TempDir(), "file"), "", 0o600)
	tests := []struct {
		name     string
		dir      string
		alg      string
		schedule keyring.Schedule
		want     string
	}{
		{name: "NoPeriod", want: "expected a rotation every 2 hours or more"},
		{name: "ShortPeriod", schedule: keyring.Schedule{Every: 2*time.Hour - time.Second}, want: "every 2 hours or more"},
		{name: "FractionOfASecond", schedule: keyring.Schedule{Every: 24*time.Hour + 1}, want: "in whole seconds"},
		{name: "ShortLead", schedule: keyring.Schedule{Every: 24 * time.Hour, Lead: 119 * time.Minute}, want: "expected a lead between 2 hours and the 24h0m0s"},
		{name: "LongLead", schedule: keyring.Schedule{Every: 24 * time.Hour, Lead: 25 * time.Hour}, want: "expected a lead"},
		{name: "NegativeLead", schedule: keyring.Schedule{Every: 24 * time.Hour, Lead: -time.Hour}, want: "expected a lead"},
		{name: "LongLifetime", schedule: keyring.Schedule{Every: 24 * time.Hour, Lifetime: 25 * time.Hour}, want: "expected a token lifetime"},
		{name: "NegativeLifetime", schedule: keyring.Schedule{Every: 24 * time.Hour, Lifetime: -time.Hour}, want: "expected a token lifetime"},
		{name: "OtherAlgorithm", schedule: daily, alg: "HS256", want: "expected algorithm"},
		{name: "FileAsFolder", schedule: daily, dir: file, want: "key folder"},
		{name: "KeyAsFolder", schedule: daily, dir: ecJWK, want: "got what looks like a key"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "keys")
			if tt.dir != "" {
				dir = tt.dir
			}
			got, err := keyring.Rotate(dir, tt.alg, tt.schedule, start, false)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %+v, error %v, want it to say %q", got, err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), `"d"`) {
				t.Errorf("error %q quotes a key", err)
			}
			if _, err := os.Stat(filepath.Join(dir, "20261121T000000Z.jwk")); err == nil {
				t.Error("a key was made")
			}
		})
	}
}

// A rotator whose clock jumps ahead makes keys and deletes none that sign where clocks are
// right; with its clock set right again everything goes on, and nothing was lost.
func TestRotatorWithAClockAheadDeletesNoLivingKey(t *testing.T) {
	dir, now := t.TempDir(), start
	schedule := keyring.Schedule{Every: 720 * time.Hour}
	for range 60 * 24 {
		if _, err := keyring.Rotate(dir, "", schedule, now, false); err != nil {
			t.Fatal(err)
		}
		now = now.Add(time.Hour)
	}
	f := openFolder(t, keyring.FolderConfig{Dir: dir, Now: func() time.Time { return now }})
	living := f.Ring().SigningKeyID()
	var kept []string
	for _, days := range []int{30, 365, 365} {
		done, err := keyring.Rotate(dir, "", schedule, now.AddDate(0, 0, days), false)
		if err != nil || len(done.Removed) > 0 {
			t.Errorf("%d days ahead: removed %v, %v, want nothing", days, done.Removed, err)
		}
		kept = done.Kept
	}
	if len(kept) == 0 {
		t.Error("nothing says that keys look dead")
	}
	if err := f.Reload(); err != nil || f.Ring().SigningKeyID() != living {
		t.Errorf("key %s signs, %v, want %s", f.Ring().SigningKeyID(), err, living)
	}
	done, err := keyring.Rotate(dir, "", schedule, now, false)
	if err != nil || len(done.Created)+len(done.Removed)+len(done.Kept) > 0 {
		t.Errorf("with the right clock: did %+v, %v, want nothing", done, err)
	}
	// Who knows that the time is right removes them.
	if done, err = keyring.ForceRotate(dir, "", schedule, now.AddDate(0, 0, 365), true); err != nil || !slices.Equal(done.Removed, kept) || len(done.Kept) > 0 {
		t.Errorf("by force: did %+v, %v, want %v removed", done, err, kept)
	}
}

// Where nobody rotated for more than two periods, dead keys stay until the next key signs.
func TestRotateAfterALongPause(t *testing.T) {
	dir := t.TempDir()
	for _, name := range jwks("20261101T000000Z", "20261102T000000Z") {
		putKey(t, dir, name)
	}
	log, text := logged()
	c := newClock()
	openFolder(t, keyring.FolderConfig{Dir: dir, Schedule: daily, Now: c.Now, Logger: log})
	if got := names(t, dir); !slices.Equal(got, jwks("20261101T000000Z", "20261102T000000Z", "20261122T000000Z")) {
		t.Errorf("folder holds %v, want all and the next", got)
	}
	if !strings.Contains(text.String(), "dead signing keys are not removed") || !strings.Contains(text.String(), "compare the clocks (kept: 20261101T000000Z.jwk)") {
		t.Errorf("log is\n%s\nwant it to name the clocks and the file", text)
	}
	c.Advance(14 * time.Hour)
	openFolder(t, keyring.FolderConfig{Dir: dir, Schedule: daily, Now: c.Now})
	if got := names(t, dir); !slices.Equal(got, jwks("20261122T000000Z")) {
		t.Errorf("folder holds %v, want the dead ones removed", got)
	}
}

// A file that cannot be used takes no part: it is no successor for which an old key could be
// removed, and no other first key is made beside it.
func TestRotateWithUnusableFiles(t *testing.T) {
	tests := []struct {
		name, file, content string
		mode                fs.FileMode
		want                string
	}{
		{name: "HalfAKey", file: "20261121T000000Z.jwk", content: ecJWK[:40], mode: 0o600, want: "20261121T000000Z.jwk"},
		{name: "GroupReadable", file: "20261121T000000Z.jwk", content: ecJWK, mode: 0o640, want: "chmod 600"},
		{name: "NoTime", file: "key.jwk", content: ecJWK, mode: 0o600, want: "key.jwk: expected a name that says in UTC"},
		{name: "DayThatIsNone", file: "20261131T000000Z.jwk", content: ecJWK, mode: 0o600, want: "expected a name"},
		{name: "FractionOfASecond", file: "20261121T000000.5Z.jwk", content: ecJWK, mode: 0o600, want: "expected a name"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			writeFile(t, filepath.Join(dir, tt.file), tt.content, tt.mode)
			got, err := keyring.Rotate(dir, "", daily, start, false)
			if err == nil || !strings.Contains(err.Error(), tt.want) || len(got.Created) > 0 {
				t.Errorf("alone: got %+v, error %v, want one that says %q", got, err, tt.want)
			}
			putKey(t, dir, "20261120T000000Z.jwk")
			got, err = keyring.Rotate(dir, "", daily, start, false)
			if err == nil || !strings.Contains(err.Error(), tt.want) || len(got.Removed) > 0 {
				t.Errorf("with a good key: got %+v, error %v, want one that says %q", got, err, tt.want)
			}
			if !slices.Equal(got.Created, jwks("20261122T000000Z")) {
				t.Errorf("with a good key: created %v, want the next key all the same", got.Created)
			}
		})
	}
}

func TestList(t *testing.T) {
	dir := t.TempDir()
	old, now, next := putKey(t, dir, "20261120T000000Z.jwk"), putKey(t, dir, "20261121T000000Z.jwk"), putKey(t, dir, "20261122T000000Z.jwk")
	writeFile(t, filepath.Join(dir, "key.jwk"), ecJWK, 0o600)
	files, err := keyring.List(dir, keyring.Schedule{Lifetime: 2 * time.Hour}, start)
	if err != nil || len(files) != 4 {
		t.Fatalf("got %+v, %v, want four files", files, err)
	}
	if files[0].Name != "key.jwk" || files[0].Key != nil || files[0].Err == nil {
		t.Errorf("got %+v first, want the file that cannot be used", files[0])
	}
	for i, want := range []struct {
		id, ends, until string
		signs           bool
	}{
		{id: old.ID(), ends: "20261121T000000Z", until: "20261121T020500Z"},
		{id: now.ID(), ends: "20261122T000000Z", until: "20261122T020500Z", signs: true},
		{id: next.ID()},
	} {
		got := files[i+1]
		var ends, until time.Time
		if want.ends != "" {
			ends, until = instant(t, want.ends), instant(t, want.until)
		}
		if got.Key.ID() != want.id || !got.Ends.Equal(ends) || !got.PublishedUntil.Equal(until) || got.Signs != want.signs || got.Err != nil {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	if files, err := keyring.List(filepath.Join(dir, "missing"), daily, start); err == nil {
		t.Errorf("got %v of a missing folder, want an error", files)
	}
}

// rotatingProcess rotates again and again while time flies, and says so after each time.
func rotatingProcess(dir string) error {
	input := bufio.NewReader(os.Stdin)
	if _, err := input.ReadString('\n'); err != nil {
		return err
	}
	rounds, err := strconv.Atoi(os.Getenv("KEYRING_TEST_ROUNDS"))
	if err != nil {
		return err
	}
	for i := range rounds {
		if _, err := keyring.Rotate(dir, "", daily, start.Add(time.Duration(i)*time.Hour), false); err != nil {
			return err
		}
		if _, err := os.Stdout.WriteString("rotated\n"); err != nil {
			return err
		}
	}
	return nil
}

// startRotating starts a rotatingProcess, which begins when go is called.
func startRotating(t *testing.T, dir string, rounds int) (cmd *exec.Cmd, begin func(), lines *bufio.Reader) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd = exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), "KEYRING_TEST_ROTATE="+dir, "KEYRING_TEST_ROUNDS="+strconv.Itoa(rounds))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, func() {
		if _, err := in.Write([]byte("go\n")); err != nil {
			t.Error(err)
		}
	}, bufio.NewReader(out)
}

// Two processes rotate one folder through ten days at the same time: it ends as if one had
// done it, and neither meets an error.
func TestRotatingProcessesRace(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	const rounds = 240
	var processes []*exec.Cmd
	var begins []func()
	for range 2 {
		cmd, begin, lines := startRotating(t, dir, rounds)
		cmd.Stderr = os.Stderr
		processes, begins = append(processes, cmd), append(begins, begin)
		go func() { _, _ = lines.WriteTo(discard{}) }()
	}
	for _, begin := range begins {
		begin()
	}
	for i, cmd := range processes {
		if err := cmd.Wait(); err != nil {
			t.Errorf("process %d: %v", i, err)
		}
	}
	if got, want := names(t, dir), jwks("20261201T000000Z"); !slices.Equal(got, want) {
		t.Errorf("folder holds %v, want %v", got, want)
	}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// A process that is killed at any moment leaves a folder in which everything can be used.
func TestRotatingProcessKilled(t *testing.T) {
	for _, after := range []int{0, 1, 13, 14, 40, 101} {
		t.Run("after "+strconv.Itoa(after), func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "keys")
			cmd, begin, lines := startRotating(t, dir, 1_000_000)
			begin()
			for range after {
				if _, err := lines.ReadString('\n'); err != nil {
					t.Fatal(err)
				}
			}
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_, _ = lines.WriteTo(discard{})
			_ = cmd.Wait() // killed

			now := start
			if _, err := os.Stat(dir); err == nil {
				files, err := keyring.List(dir, daily, now)
				if err != nil {
					t.Fatal(err)
				}
				for _, file := range files {
					if file.Err != nil {
						t.Errorf("%s: %v", file.Name, file.Err)
					}
					now = file.Starts
				}
			}
			if _, err := keyring.Rotate(dir, "", daily, now, false); err != nil {
				t.Error(err)
			}
			if _, err := keyring.OpenFolder(keyring.FolderConfig{Dir: dir}); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestRotateGoroutinesRace(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	const n = 16
	made := make([]keyring.Rotation, n)
	var wg sync.WaitGroup
	begin := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-begin
			var err error
			if made[i], err = keyring.Rotate(dir, "", daily, start, false); err != nil {
				t.Error(err)
			}
		})
	}
	close(begin)
	wg.Wait()
	var all []string
	for _, m := range made {
		all = append(all, m.Created...)
	}
	slices.Sort(all)
	if want := jwks("20261121T000000Z", "20261122T000000Z"); !slices.Equal(all, want) || !slices.Equal(names(t, dir), want) {
		t.Errorf("made %v, folder holds %v, want %v, each made once", all, names(t, dir), want)
	}
}
