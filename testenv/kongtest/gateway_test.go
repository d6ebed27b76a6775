package kongtest_test

import "testing"

func TestForwardsWhatThePluginChanged(t *testing.T) {
	g := startProbed(t)
	res := g.script(`[["hdr","X-Script"],["sset","Authorization","Bearer minted"],["report"]]`)
	if res.StatusCode != 200 || res.body != "ok" {
		t.Fatalf("got %d %q, want 200 ok", res.StatusCode, res.body)
	}
	r := g.upstream.got(t)
	if got := r.Header.Get("Authorization"); got != "Bearer minted" {
		t.Errorf("Authorization: got %q, want the plugin's", got)
	}
	t.Log(r.Header, res.Header)
}

func TestAnswersWhatThePluginExitsWith(t *testing.T) {
	g := startProbed(t)
	res := g.script(`[["exit",401,"{}",{"Content-Type":"application/json","WWW-Authenticate":["a","b"]}]]`)
	if res.StatusCode != 401 || res.body != "{}" {
		t.Fatalf("got %d %q, want 401 {}", res.StatusCode, res.body)
	}
	t.Log(res.Header)
}
