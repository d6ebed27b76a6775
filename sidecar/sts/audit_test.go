package sts_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"testing"

	"phantomtoken/internal/keyring"
	"phantomtoken/sidecar/exchange"
)

// TestAuditLine compares the lines of a grant and of a refusal with golden ones.
//
// Covers: TX-43
func TestAuditLine(t *testing.T) {
	w := newWorld(t, nil)
	minted := func(f url.Values) {
		f.Set("subject_token", w.mint(func(k *keyring.Token) { k.Extra["txn"] = "txn-7" }))
	}
	granted := claimsOf(t, w.post(w.form(minted)).ok.AccessToken)
	w.post(w.form(func(f url.Values) {
		minted(f)
		f.Add("audience", "https://unknown.example")
		f.Set("scope", "stocks/trade admin")
	}))
	lines := w.lines()
	if len(lines) != 2 {
		t.Fatalf("got %d lines, want one per decision", len(lines))
	}
	for _, line := range lines {
		for _, name := range []string{"time", "duration_microseconds"} {
			if line[name] == nil {
				t.Errorf("line has no %s: %v", name, line)
			}
			delete(line, name)
		}
		for _, name := range []string{"subject_token_fingerprint", "subject_fingerprint"} {
			if fp, _ := line[name].(string); len(fp) != 16 {
				t.Errorf("%s: got %q, want 16 hexadecimal digits", name, fp)
			}
			delete(line, name)
		}
	}
	common := map[string]any{
		"msg": "token exchange decided", "level": "INFO", "via": "token_endpoint", "caller": mcpServer,
		"caller_authentication": "client_secret_basic", "policy": parsePolicy(t, usual).Version(),
		"subject_jti": "phantom-1", "subject_client_id": "dyn-123", "txn": "txn-7",
	}
	with := func(further map[string]any) map[string]any {
		for k, v := range common {
			further[k] = v
		}
		return further
	}
	want := []map[string]any{
		with(map[string]any{
			"outcome": "granted", "audience": []any{apiAudience}, "scope_asked": []any{"stocks/read"}, "scope": []any{"stocks/read"},
			"issue": "mint", "cached": false, "jti": granted["jti"], "expires_in_seconds": 240.0, "act": granted["act"],
		}),
		with(map[string]any{
			"outcome": "refused", "audience": []any{apiAudience, "unknown"}, "scope_asked": []any{"stocks/trade", "unknown"},
			"reason": "target", "error": "invalid_target", "status": 400.0,
		}),
	}
	if !reflect.DeepEqual(lines, want) {
		t.Errorf("got  %v\nwant %v", lines, want)
	}
}

// TestAuditLineOfMalformedRequest: what this package refuses itself has a line with as much as
// is known by then.
//
// Covers: TX-43
func TestAuditLineOfMalformedRequest(t *testing.T) {
	w := newWorld(t, nil)
	w.post(w.form(func(f url.Values) { f.Set("subject_token_type", "MARKED") }))
	r := w.request(w.form(nil).Encode())
	setBasic(r, mcpServer, "guess")
	w.do(r)
	lines := w.lines()
	for _, line := range lines {
		for _, name := range []string{"time", "duration_microseconds", "remote_address", "subject_token_fingerprint"} {
			delete(line, name)
		}
	}
	want := []map[string]any{
		{
			"level": "INFO", "msg": "token exchange decided", "outcome": "refused", "via": "token_endpoint", "caller": mcpServer,
			"caller_authentication": "client_secret_basic", "reason": "subject_token_type", "error": "invalid_request", "status": 400.0,
		},
		{
			"level": "INFO", "msg": "token exchange decided", "outcome": "refused", "via": "token_endpoint", "caller": "unknown",
			"reason": "client_authentication", "error": "invalid_client", "status": 401.0,
		},
	}
	if !reflect.DeepEqual(lines, want) {
		t.Errorf("got  %v\nwant %v", lines, want)
	}
}

// TestFingerprintsJoinLines: one user has one fingerprint, another user another.
func TestFingerprintsJoinLines(t *testing.T) {
	w := newWorld(t, nil)
	for _, sub := range []string{"john", "john", "jane"} {
		w.post(w.form(func(f url.Values) { f.Set("subject_token", w.mint(func(k *keyring.Token) { k.Subject = sub })) }))
	}
	lines := w.lines()
	john, again, jane := lines[0], lines[1], lines[2]
	if john["subject_fingerprint"] != again["subject_fingerprint"] || john["subject_fingerprint"] == jane["subject_fingerprint"] {
		t.Errorf("got %v, %v, %v, want the first two equal and the third another", john["subject_fingerprint"], again["subject_fingerprint"], jane["subject_fingerprint"])
	}
	if john["subject_token_fingerprint"] == again["subject_token_fingerprint"] {
		t.Error("two tokens have one fingerprint")
	}
}

// TestLogsHoldNoSecret sends tokens and secrets through every success and failure, each
// also in the places where a hurried developer might put it, and searches the log and the
// answers.
//
// Covers: TX-43
func TestLogsHoldNoSecret(t *testing.T) {
	var (
		mu       sync.Mutex
		observed strings.Builder // metrics are made of it
	)
	w := newWorld(t, func(_ *world, p *parts) {
		p.policy = strings.Replace(usual, "https://api.demo.example: {scopes: [stocks/read, stocks/trade]}", "https://api.demo.example: {scopes: [stocks/read]}", 1)
		p.exchange.Observe = func(o exchange.Observation) {
			mu.Lock()
			defer mu.Unlock()
			fmt.Fprintf(&observed, "%+v\n", o)
		}
	})
	var secrets []string // whole values, and what shows of them when they are cut
	keep := func(token string) string {
		secrets = append(secrets, token)
		if parts := strings.Split(token, "."); len(parts) == 3 {
			secrets = append(secrets, parts[1][:40], parts[2])
		}
		return token
	}
	const marked = "MARKED-OPAQUE-TOKEN-0123456789"
	secrets = append(secrets, "MARKED", base64.StdEncoding.EncodeToString([]byte(mcpServer+":"+mcpSecret)), base64.StdEncoding.EncodeToString([]byte("MARKED"))[:7])

	names := []string{"grant_type", "subject_token", "subject_token_type", "actor_token", "actor_token_type", "audience", "resource", "scope",
		"requested_token_type", "client_id", "client_secret", "client_assertion", "client_assertion_type", "tool", "foo", marked}
	for _, value := range []string{marked, "https://x.example/?" + marked} {
		for _, name := range names {
			for _, how := range []func(url.Values){
				func(f url.Values) { f.Set(name, value) },
				func(f url.Values) { f.Add(name, value) },
				func(f url.Values) { f.Set(name, value); f.Set("audience", apiAudience) },
			} {
				form := w.form(how)
				keep(form.Get("subject_token"))
				w.post(form)
				r := w.request(form.Encode())
				r.Header.Del("Authorization")
				w.do(r)
			}
		}
	}
	// A token where a name belongs.
	for _, name := range []string{"audience", "resource", "scope", "client_id", "actor_token", "foo"} {
		token := keep(w.mint(nil))
		w.post(w.form(func(f url.Values) { f.Set(name, token) }))
	}
	// Credentials.
	for _, authorization := range []string{"Bearer " + marked, "Basic " + marked, "Basic " + base64.StdEncoding.EncodeToString([]byte(marked+":"+marked)), marked} {
		r := w.request(w.form(nil).Encode())
		r.Header.Set("Authorization", authorization)
		w.do(r)
	}
	// Paths, query and method.
	for _, target := range []string{"/token?subject_token=" + marked, "/" + marked} {
		r := w.request(w.form(nil).Encode())
		u, err := url.Parse(w.url + target)
		if err != nil {
			t.Fatal(err)
		}
		r.URL = u
		w.do(r)
	}
	// A body that is none.
	w.do(w.request("subject_token=" + marked + "&%zz" + marked))
	// Success.
	a := w.post(w.form(func(f url.Values) { keep(f.Get("subject_token")) }))
	if a.status != http.StatusOK {
		t.Fatalf("got %d %s", a.status, a.body)
	}
	keep(a.ok.AccessToken)

	log := w.log.String() + observed.String()
	if n := strings.Count(log, "\n"); n < 100 {
		t.Fatalf("only %d log lines", n)
	}
	for _, secret := range secrets {
		if i := strings.Index(log, secret); i >= 0 {
			t.Fatalf("the log has %q: …%s…", secret, log[max(0, i-200):min(len(log), i+200)])
		}
	}
}
