package egress_test

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"phantomtoken/sidecar/egress"
)

func TestNewReportsEveryProblem(t *testing.T) {
	noPEM := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(noPEM, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	good := func(change func(*egress.Route)) []egress.Route {
		r := egress.Route{Path: "/stocks", Upstream: parseURL(t, "https://api.example.com/v1"), Audience: audience}
		change(&r)
		return []egress.Route{r}
	}
	upstream := func(s string) []egress.Route {
		return good(func(r *egress.Route) { r.Upstream = parseURL(t, s) })
	}
	prefix := func(s string) []egress.Route { return good(func(r *egress.Route) { r.Path = s }) }
	for _, test := range []struct {
		name   string
		routes []egress.Route
		want   []string
	}{
		{"no routes", nil, []string{"egress.routes: expected at least one"}},
		{"nothing set", []egress.Route{{}}, []string{"[0].host", "[0].audience", "[0].upstream"}},
		{"host with port", good(func(r *egress.Route) { r.Host = "api.internal:80" }), []string{"[0].host"}},
		{"host pattern", good(func(r *egress.Route) { r.Host = "*.internal" }), []string{"[0].host"}},
		{"path without slash", prefix("stocks"), []string{"[0].path"}},
		{"path with dot segments", prefix("/stocks/../x"), []string{"[0].path"}},
		{"path with a query", prefix("/stocks?x"), []string{"[0].path"}},
		{"path with parameters", prefix("/stocks;v=1"), []string{"[0].path"}},
		{"path with an encoded semicolon", prefix("/stocks%3bv=1"), []string{"[0].path"}},
		{"path that is not escaped", prefix("/caf é"), []string{"[0].path"}},
		{"twice the same", append(prefix("/stocks/"), prefix("/%73tocks")...), []string{"egress.routes[1].path", "egress.routes[0]"}},
		{"negative timeout", good(func(r *egress.Route) { r.Timeout = -time.Second }), []string{"[0].timeout"}},
		{"http to another machine", upstream("http://api.example.com"), []string{"[0].upstream", "TOKEN_EXCHANGE_INSECURE_HTTP_HOSTS"}},
		{"upstream with user", upstream("https://user:secret@api.example.com"), []string{"[0].upstream"}},
		{"upstream with query", upstream("https://api.example.com?key=secret"), []string{"[0].upstream"}},
		{"upstream with fragment", upstream("https://api.example.com#secret"), []string{"[0].upstream"}},
		{"upstream with dot segments", upstream("https://api.example.com/a/../b"), []string{"[0].upstream"}},
		{"upstream that is no URL", good(func(r *egress.Route) { r.Upstream = &url.URL{Scheme: "ftp", Host: "a"} }), []string{"[0].upstream"}},
		{"ca_file that is not there", good(func(r *egress.Route) { r.CAFile = noPEM + "x" }), []string{"[0].ca_file"}},
		{"ca_file without certificates", good(func(r *egress.Route) { r.CAFile = noPEM }), []string{"[0].ca_file"}},
		{"ca_file that is a folder", good(func(r *egress.Route) { r.CAFile = filepath.Dir(noPEM) }), []string{"[0].ca_file"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := egress.New(egress.Config{Routes: test.routes})
			if err == nil {
				t.Fatal("expected an error, got none")
			}
			for _, want := range append(test.want, "Tokens") {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("expected an error with %q, got %v", want, err)
				}
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("expected no secret in the error, got %v", err)
			}
		})
	}
}
