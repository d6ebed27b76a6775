package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"phantomtoken/internal/keyring"
	"phantomtoken/tokenexchange"
)

// load exchanges tokens until it is ended, cached ones and fresh ones.
type load struct {
	stop chan struct{}
	done sync.WaitGroup

	mu     sync.Mutex
	tokens int
	failed []error
}

func (p *process) load(t testing.TB) *load {
	t.Helper()
	l := &load{stop: make(chan struct{})}
	same := mint(t, p.environ, nil)
	for worker := range 3 {
		client := p.tokens(t, nil)
		l.done.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-l.stop:
					return
				default:
				}
				subject := same
				if i%2 == 0 {
					subject = mint(t, p.environ, func(k *keyring.Token) { k.Subject = fmt.Sprintf("user-%d-%d", worker, i) })
				}
				_, err := client.Exchange(t.Context(), tokenexchange.Request{SubjectToken: subject, Audience: []string{api}})
				l.mu.Lock()
				if err != nil {
					l.failed = append(l.failed, err)
				}
				l.tokens++
				l.mu.Unlock()
			}
		})
	}
	return l
}

// end wants that no request was lost.
func (l *load) end(t testing.TB) {
	t.Helper()
	close(l.stop)
	l.done.Wait()
	if len(l.failed) > 0 {
		t.Errorf("%d of %d requests failed, the first with: %v", len(l.failed), l.tokens, l.failed[0])
	}
	if l.tokens == 0 {
		t.Error("there was no load")
	}
}

// used waits until the policy with this text is in use.
func (p *process) used(t testing.TB, from int, text string) {
	t.Helper()
	want := version(t, text)
	p.await(t, from, "policy "+want+" in use", func(l line) bool { return l.is("policy in use") && l["policy"] == want })
}

// TestPolicyReload: a policy file that is changed, in every way in which files are, is used
// within seconds and loses no request; one that is broken or gone leaves the last good one in
// use and says where it is broken.
func TestPolicyReload(t *testing.T) {
	t.Parallel()
	// As Kubernetes mounts a ConfigMap: file → ..data/file, ..data → the folder of the moment.
	dir := t.TempDir()
	place := func(folder, text string) {
		if err := os.Mkdir(filepath.Join(dir, folder), 0o700); err != nil {
			t.Fatal(err)
		}
		rewrite(t, filepath.Join(dir, folder, "policy.yaml"), text)
		if err := os.Symlink(folder, filepath.Join(dir, "..tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "..tmp"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	place("..1", usual)
	path := filepath.Join(dir, "policy.yaml")
	if err := os.Symlink("..data/policy.yaml", path); err != nil {
		t.Fatal(err)
	}
	p := start(t, environment(t, usual, map[string]string{"TOKEN_EXCHANGE_POLICY_FILE": path}))
	subject := mint(t, p.environ, nil)
	ask := func(audience string) error {
		_, err := p.tokens(t, nil).Exchange(t.Context(), tokenexchange.Request{SubjectToken: subject, Audience: []string{audience}})
		return err
	}
	load := p.load(t)

	for i, step := range []struct {
		name    string
		replace func(text string)
	}{
		{"symlink swap", func(text string) { place("..2", text) }},
		{"in-place write", func(text string) { rewrite(t, path, text) }},
		{"rename", func(text string) {
			rewrite(t, path+".new", text)
			if err := os.Rename(path+".new", path); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		text, granted := withReports()+fmt.Sprintf("# %s\n", step.name), true
		if i%2 == 1 {
			text, granted = usual+fmt.Sprintf("# %s\n", step.name), false
		}
		mark, changed := p.mark(), time.Now()
		step.replace(text)
		p.used(t, mark, text)
		if took := time.Since(changed); took > 30*time.Second {
			t.Errorf("%s: used after %s", step.name, took)
		}
		if err := ask(reports); (err == nil) != granted {
			t.Errorf("%s: the new audience: got error %v, want granted %t", step.name, err, granted)
		}
	}

	refused := func(from int, why string) {
		t.Helper()
		l := p.await(t, from, "a refusal with "+why, func(l line) bool {
			err, _ := l["err"].(string)
			return l.is("policy file refused, the last good one stays in use") && strings.Contains(err, why)
		})
		if l["level"] != "ERROR" {
			t.Errorf("got %v, want an error", l)
		}
		if err := ask(reports); err != nil {
			t.Errorf("the last good policy is not in use: %v", err)
		}
	}
	mark := p.mark()
	rewrite(t, path, strings.Replace(withReports(), "audiences:\n      https://api", "audience:\n      https://api", 1))
	refused(mark, path+":11:5: callers.mcp-server.audience: ")
	mark = p.mark()
	rewrite(t, path, withReports()+"# repaired\n")
	p.used(t, mark, withReports()+"# repaired\n")
	mark = p.mark()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	refused(mark, path+": expected a readable policy file: ")
	mark = p.mark()
	p.signal(t, syscall.SIGHUP)
	refused(mark, path+": expected a readable policy file: ")
	mark = p.mark()
	rewrite(t, path, usual)
	p.signal(t, syscall.SIGHUP)
	p.used(t, mark, usual)
	if ask(reports) == nil {
		t.Error("a token for an audience that is in the policy no more")
	}
	load.end(t)
	p.stop(t)
}

// TestSecretFileThatComesLater: a policy that names a file which is not there yet is tried
// again, and a secret that changed is read at SIGHUP.
func TestSecretFileThatComesLater(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "secret")
	text := strings.Replace(usual, "secret_variables: [MCP_SERVER_SECRET]", "secret_files: ["+file+"]", 1)
	p := start(t, environment(t, usual, nil))
	mark := p.mark()
	rewrite(t, variable(p.environ, "TOKEN_EXCHANGE_POLICY_FILE"), text)
	p.await(t, mark, "the missing secret", func(l line) bool {
		err, _ := l["err"].(string)
		return strings.Contains(err, "file:7: callers.mcp-server.authentication.secret_files[0]: ")
	})
	p.exchange(t, mint(t, p.environ, nil), api) // by the secret of before
	rewrite(t, file, "MARKED-SECRET-of-a-file\n")
	p.used(t, mark, text)
	request := tokenexchange.Request{SubjectToken: mint(t, p.environ, nil), Audience: []string{api}}
	with := func(secret string) error {
		_, err := p.tokens(t, func(c *tokenexchange.Config) { c.ClientSecret = secret }).Exchange(t.Context(), request)
		return err
	}
	if err := with("MARKED-SECRET-of-a-file"); err != nil {
		t.Error(err)
	}
	rewrite(t, file, "MARKED-NEXT-SECRET-of-a-file\n")
	mark = p.mark()
	p.signal(t, syscall.SIGHUP)
	p.used(t, mark, text)
	if err := with("MARKED-NEXT-SECRET-of-a-file"); err != nil {
		t.Error(err)
	}
	if with("MARKED-SECRET-of-a-file") == nil {
		t.Error("the old secret is still good")
	}
	p.stop(t)
	refusals := strings.Count(p.log(), "policy file refused")
	if refusals != 1 {
		t.Errorf("the same refusal was logged %d times, want once", refusals)
	}
	withoutSecrets(t, "log", p.log())
}

// TestPolicyWatch: a change is noticed at the second look, a file that is being written not
// before it rests.
func TestPolicyWatch(t *testing.T) {
	path := write(t, "a")
	w := policyWatch{path: path}
	stamp := time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)
	touch := func() {
		stamp = stamp.Add(time.Second)
		if err := os.Chtimes(path, stamp, stamp); err != nil {
			t.Fatal(err)
		}
	}
	look := func(rests, changed bool, when string) {
		t.Helper()
		if gotRests, gotChanged := w.look(); gotRests != rests || gotChanged != changed {
			t.Errorf("%s: got rests %t and changed %t, want %t and %t", when, gotRests, gotChanged, rests, changed)
		}
	}
	read := func(asked, want bool, when string) {
		t.Helper()
		if _, got, _ := w.read(asked); got != want {
			t.Errorf("%s: got taken %t, want %t", when, got, want)
		}
	}
	look(false, true, "the first look")
	read(true, true, "the start")
	look(true, false, "nothing happened")
	rewrite(t, path, "ab")
	look(false, true, "just written")
	touch()
	look(false, true, "written again")
	look(true, true, "at rest")
	look(true, true, "not read yet")
	touch()
	read(false, false, "written between look and reading")
	look(false, true, "which is a change")
	look(true, true, "at rest again")
	read(false, true, "at rest again")
	look(true, false, "read")
	touch()
	read(true, true, "asked for while it does not rest")
	look(false, false, "read, but not at rest yet")
	look(true, false, "read, at rest")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	look(false, true, "removed")
	look(true, true, "removed for good")
	read(false, true, "a file that is gone")
	look(true, false, "still gone")
	rewrite(t, path, "ab")
	look(false, true, "back")
	look(true, true, "back for good")
}

// TestKeyRotation: a folder is made with its first key at the first start, and a key that is
// put there is published at SIGHUP.
func TestKeyRotation(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "keys")
	environ := environment(t, usual, map[string]string{"TOKEN_EXCHANGE_SIGNING_KEY_FILE": folder, "TOKEN_EXCHANGE_KEY_ROTATION": "720h"})
	p := start(t, environ)
	token := p.exchange(t, mint(t, environ, nil), api).AccessToken
	p.claims(t, token, api)
	files, err := os.ReadDir(folder)
	if err != nil || len(files) == 0 {
		t.Fatalf("got %v, error %v, want a key", files, err)
	}
	_, before := p.get(t, "/jwks.json")
	next := filepath.Join(folder, time.Now().Add(100*24*time.Hour).UTC().Format("20060102T150405Z")+".jwk")
	if _, err := keyring.LoadOrCreate(next, ""); err != nil {
		t.Fatal(err)
	}
	mark := p.mark()
	p.signal(t, syscall.SIGHUP)
	p.used(t, mark, usual)
	if _, after := p.get(t, "/jwks.json"); len(after) <= len(before) {
		t.Errorf("the next key is not published: %s", after)
	}
	p.claims(t, token, api)
	p.stop(t)

	again := start(t, environ)
	again.claims(t, token, api) // the same keys
	again.stop(t)
}
