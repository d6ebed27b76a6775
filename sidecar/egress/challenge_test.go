package egress_test

import (
	"net/http"
	"strings"
	"testing"

	"phantomtoken/sidecar/egress"
)

// Covers: TX-19
func TestTranslatesChallenges(t *testing.T) {
	for _, test := range []struct {
		name   string
		status int
		fields []string
		want   string
	}{
		{name: "insufficient scope", status: 403, fields: []string{`Bearer error="insufficient_scope", scope="stocks/trade stocks/read", resource_metadata="https://api.example.com/.well-known/oauth-protected-resource", error_description="resource_metadata=https://x"`}, want: `Bearer error="insufficient_scope", scope="stocks/trade stocks/read"`},
		{name: "401 with metadata alone", status: 401, fields: []string{`Bearer resource_metadata="https://api.example.com/.well-known/oauth-protected-resource"`}, want: `Bearer realm="egress"`},
		{name: "401 without challenge", status: 401, want: `Bearer realm="egress"`},
		{name: "403 with metadata alone", status: 403, fields: []string{`Bearer resource_metadata="https://x"`}},
		{name: "403 without challenge", status: 403},
		{name: "challenge on another status", status: 200, fields: []string{`Bearer scope="a", resource_metadata="https://x"`}, want: `Bearer scope="a"`},
		{name: "realm is a place for tokens elsewhere", status: 401, fields: []string{`Bearer realm="https://auth.example.com/token",service="x",scope="repository:a:pull"`}, want: `Bearer scope="repository:a:pull"`},
		{name: "Bearer behind other schemes", status: 401, fields: []string{`Negotiate YIIa/+==, Basic realm="x", bearer error=invalid_token , resource_metadata = "https://x"`}, want: `Bearer error="invalid_token"`},
		{name: "Bearer in the second field", status: 401, fields: []string{`Basic realm="x"`, `Bearer scope="a"`}, want: `Bearer scope="a"`},
		{name: "other schemes alone", status: 401, fields: []string{`DPoP algs="ES256", resource_metadata="https://x"`, `Basic realm="x"`}, want: `Bearer realm="egress"`},
		{name: "metadata hidden in a scope", status: 401, fields: []string{`Bearer scope="a\", resource_metadata=\"https://x"`}, want: `Bearer realm="egress"`},
		{name: "metadata hidden in an error", status: 401, fields: []string{`Bearer error="x\", resource_metadata=\"https://x"`}, want: `Bearer realm="egress"`},
		{name: "parameter twice", status: 401, fields: []string{`Bearer scope="a", scope="b"`}, want: `Bearer realm="egress"`},
		{name: "open quotes", status: 401, fields: []string{`Bearer scope="a`}, want: `Bearer realm="egress"`},
		{name: "garbage", status: 401, fields: []string{`"resource_metadata"=https://x`}, want: `Bearer realm="egress"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			upstream := newAPI(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header()["Www-Authenticate"] = test.fields
				w.WriteHeader(test.status)
			})
			w := newWorld(t, to(t, upstream.URL))
			got := w.get(t, "/")
			passed(t, got, test.status)
			if values := got.Header["Www-Authenticate"]; strings.Join(values, "|") != test.want {
				t.Errorf("expected WWW-Authenticate %q, got %q", test.want, values)
			}
		})
	}
}

// FuzzBearerParams checks that no field hangs the reader, and that what it reads came from
// the field.
func FuzzBearerParams(f *testing.F) {
	for _, s := range []string{`Bearer error="a", scope="b"`, `Negotiate abc==, Bearer a=b`, `Bearer`, `Bearer a="\`, `Bearer a = "b" ,, c=d`, `Basic realm="Bearer error=x"`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, field string) {
		params, ok := egress.BearerParams(field)
		if ok && !strings.Contains(strings.ToLower(field), "bearer") {
			t.Errorf("%q: expected no Bearer challenge, got %q", field, params)
		}
		for name, value := range params {
			if ok && (!strings.Contains(strings.ToLower(field), name) || len(value) > len(field)) {
				t.Errorf("%q: expected parameters of the field, got %q=%q", field, name, value)
			}
		}
	})
}
