package introspection_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"phantomtoken/internal/introspection"
	"phantomtoken/internal/oauth"
)

// Covers: IN-06, IN-07, IN-11, IN-12
func TestJSONAnswer(t *testing.T) {
	for _, tt := range []struct {
		name, body string
		want       oauth.Introspection // Claims are compared only where given
	}{
		{name: "active and nothing else", body: `{"active":true}`, want: oauth.Introspection{Active: true}},
		{name: "audience as a string, scope as a list of words", body: `{"active":true,"aud":"https://gw.example/mcp","scope":"stocks/read  openid"}`,
			want: oauth.Introspection{Active: true, Audience: []string{"https://gw.example/mcp"}, Scope: oauth.Scopes{"stocks/read", "openid"}}},
		{name: "audience as an array, no scope", body: `{"active":true,"aud":["a","b"]}`, want: oauth.Introspection{Active: true, Audience: []string{"a", "b"}}},
		{name: "unknown members are kept as claims", body: `{"active":true,"region":"USA","n":1}`,
			want: oauth.Introspection{Active: true, Claims: map[string]any{"active": true, "region": "USA", "n": "1"}}},
		{name: "RejectsJWTNotAskedFor", body: `{"active":true,"jwt":"a.b.c"}`, want: oauth.Introspection{Active: true, Claims: map[string]any{"active": true}}},
		{name: "expiry", body: `{"active":true,"exp":1785240000}`, want: oauth.Introspection{Active: true, Expiry: time.Unix(1785240000, 0)}},
		{name: "inactive", body: `{"active":false}`},
		{name: "RejectsMembersOfInactive", body: `{"active":false,"sub":"john.doe","scope":"admin","exp":"x"}`},
		{name: "RejectsActiveAsString", body: `{"active":"true","sub":"john.doe"}`},
		{name: "RejectsActiveAsNumber", body: `{"active":1,"sub":"john.doe"}`},
		{name: "RejectsActiveAsNull", body: `{"active":null}`},
		{name: "RejectsActiveAsArray", body: `{"active":[true]}`},
		{name: "RejectsActiveOfOtherCase", body: `{"Active":true}`},
		{name: "RejectsMissingActive", body: `{"sub":"john.doe"}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := start(t, json200(tt.body))
			c := newClient(t, introspection.Config{Endpoint: e.URL})
			got, err := c.Introspect(t.Context(), "token")
			if err != nil {
				t.Fatalf("Introspect: %v", err)
			}
			in := *got.Introspection
			if tt.want.Claims == nil && in.Active {
				in.Claims = nil
			}
			for name, v := range in.Claims {
				if n, ok := v.(fmt.Stringer); ok {
					in.Claims[name] = n.String()
				}
			}
			if !reflect.DeepEqual(in, tt.want) || got.JWT != "" {
				t.Errorf("got %+v, JWT %q, want %+v and no JWT", in, got.JWT, tt.want)
			}
		})
	}
}

// Every row is a response that says nothing about the token. None may count as inactive:
// the client would throw a good token away.
//
// Covers: IN-08, IN-09, BC-15
func TestResponsesThatSayNothing(t *testing.T) {
	bomb := gzipBomb(t)
	huge := `{"active":true,"x":"` + strings.Repeat("x", 5<<20) + `"}`
	for _, tt := range []struct {
		name   string
		answer http.HandlerFunc
		kind   introspection.Kind
		status int
		hint   string // what the operator should look at
	}{
		{name: "400", answer: answer(400, "application/json", `{"error":"invalid_request"}`), kind: introspection.KindCredentials, status: 400, hint: "client_secret"},
		{name: "401", answer: answer(401, "application/json", `{"error":"invalid_client"}`), kind: introspection.KindCredentials, status: 401, hint: "client_secret"},
		{name: "403", answer: answer(403, "", ""), kind: introspection.KindCredentials, status: 403, hint: "client_id"},
		{name: "RejectsInactiveWith401", answer: answer(401, "application/json", `{"active":false}`), kind: introspection.KindCredentials, status: 401, hint: "introspection.auth_method"},
		{name: "404", answer: answer(404, "text/plain", "x"), kind: introspection.KindStatus, status: 404, hint: "introspection_endpoint"},
		{name: "429", answer: answer(429, "application/json", `{"active":true}`), kind: introspection.KindStatus, status: 429},
		{name: "500", answer: answer(500, "text/html", "<html>"), kind: introspection.KindStatus, status: 500},
		{name: "RejectsActiveWith500", answer: answer(500, "application/json", `{"active":true}`), kind: introspection.KindStatus, status: 500},
		{name: "503", answer: answer(503, "", ""), kind: introspection.KindStatus, status: 503},
		{name: "RejectsActiveWith201", answer: answer(201, "application/json", `{"active":true}`), kind: introspection.KindStatus, status: 201},
		{name: "206", answer: answer(206, "application/json", `{"active":true}`), kind: introspection.KindStatus, status: 206},
		{name: "204 to a question for JSON", answer: answer(204, "", ""), kind: introspection.KindStatus, status: 204},
		{name: "304", answer: answer(304, "", ""), kind: introspection.KindRedirect, status: 304},

		{name: "HTML with 200", answer: answer(200, "text/html", "<html>log in</html>"), kind: introspection.KindMediaType, status: 200, hint: "introspection_endpoint"},
		{name: "HTML that says it is JSON", answer: json200("<html>"), kind: introspection.KindMalformed, status: 200},
		{name: "RejectsJSONOfOtherType", answer: answer(200, "text/plain", `{"active":true}`), kind: introspection.KindMediaType, status: 200},
		{name: "RejectsJSONWithoutType", answer: answer(200, "", `{"active":true}`), kind: introspection.KindMediaType, status: 200},
		{name: "RejectsStructuredSuffix", answer: answer(200, "application/token-introspection+json", `{"active":true}`), kind: introspection.KindMediaType, status: 200},
		{name: "RejectsTypeThatOnlyBeginsAlike", answer: answer(200, "application/json5", `{"active":true}`), kind: introspection.KindMediaType, status: 200},
		{name: "RejectsListOfTypes", answer: answer(200, "application/json, text/html", `{"active":true}`), kind: introspection.KindMediaType, status: 200},
		{name: "RejectsTwoTypes", answer: func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Type"] = []string{"application/json", "text/html"}
			_, _ = io.WriteString(w, `{"active":true}`)
		}, kind: introspection.KindMediaType, status: 200},
		{name: "RejectsJWTNotAskedFor", answer: answer(200, "application/jwt", "a.b.c"), kind: introspection.KindMediaType, status: 200, hint: "phantom_token.mode"},
		{name: "signed answer of RFC 9701", answer: answer(200, "application/token-introspection+jwt", "a.b.c"), kind: introspection.KindMediaType, status: 200},

		{name: "empty body", answer: json200(""), kind: introspection.KindMalformed, status: 200},
		{name: "cut JSON", answer: json200(`{"active":true`), kind: introspection.KindMalformed, status: 200},
		{name: "JSON array", answer: json200(`[{"active":true}]`), kind: introspection.KindMalformed, status: 200, hint: "object"},
		{name: "JSON null", answer: json200(`null`), kind: introspection.KindMalformed, status: 200},
		{name: "RejectsTwoDocuments", answer: json200(`{"active":false}{"active":true}`), kind: introspection.KindMalformed, status: 200},
		{name: "RejectsRepeatedActive", answer: json200(`{"active":false,"active":true}`), kind: introspection.KindMalformed, status: 200, hint: "twice"},
		{name: "RejectsRepeatedAudience", answer: json200(`{"active":true,"aud":"a","aud":"b"}`), kind: introspection.KindMalformed, status: 200},
		{name: "RejectsByteOrderMark", answer: json200("\ufeff" + `{"active":true}`), kind: introspection.KindMalformed, status: 200},
		{name: "RejectsInvalidUTF8", answer: json200("{\"active\":true,\"sub\":\"\xff\"}"), kind: introspection.KindMalformed, status: 200, hint: "UTF-8"},
		{name: "RejectsDeepNesting", answer: json200(`{"active":true,"x":` + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000) + `}`), kind: introspection.KindMalformed, status: 200},
		{name: "expiry as a string", answer: json200(`{"active":true,"exp":"1785240000"}`), kind: introspection.KindMalformed, status: 200, hint: `"exp"`},
		{name: "expiry beyond all calendars", answer: json200(`{"active":true,"exp":1e300}`), kind: introspection.KindMalformed, status: 200, hint: `"exp"`},
		{name: "audience of numbers", answer: json200(`{"active":true,"aud":[1]}`), kind: introspection.KindMalformed, status: 200, hint: `"aud"`},
		{name: "scope with a quote", answer: json200(`{"active":true,"scope":"a\"b"}`), kind: introspection.KindMalformed, status: 200, hint: `"scope"`},

		{name: "5 MB with its length", answer: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(huge)))
			json200(huge)(w, r)
		}, kind: introspection.KindTooLarge, status: 200, hint: "introspection.max_response_bytes"},
		{name: "5 MB in chunks", answer: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_ = http.NewResponseController(w).Flush()
			_, _ = io.WriteString(w, huge)
		}, kind: introspection.KindTooLarge, status: 200, hint: "introspection.max_response_bytes"},
		{name: "5 MB announced and never sent", answer: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(huge)))
			w.Header().Set("Content-Type", "application/json")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}, kind: introspection.KindTooLarge, status: 200},
		{name: "body without end", answer: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			for {
				if _, err := io.WriteString(w, huge); err != nil {
					return
				}
			}
		}, kind: introspection.KindTooLarge, status: 200},
		{name: "body shorter than its length", answer: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "100")
			json200(`{"active":true}`)(w, r)
		}, kind: introspection.KindConnection, status: 200},
		{name: "gzip bomb", answer: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = io.WriteString(w, bomb)
		}, kind: introspection.KindMediaType, status: 200, hint: "Content-Encoding"},
		{name: "gzip without saying so", answer: json200(bomb), kind: introspection.KindMalformed, status: 200},
		{name: "unknown encoding", answer: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "identity, zstd")
			json200(`{"active":true}`)(w, r)
		}, kind: introspection.KindMediaType, status: 200},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := start(t, tt.answer)
			c := newClient(t, introspection.Config{Endpoint: e.URL})
			got, err := c.Introspect(t.Context(), "token")
			failed := wantKind(t, got, err, tt.kind)
			if failed.Status != tt.status {
				t.Errorf("Status = %d, want %d", failed.Status, tt.status)
			}
			if !strings.Contains(err.Error(), tt.hint) {
				t.Errorf("got %q, want it to name %q", err, tt.hint)
			}
			if n := len(e.asked()); n != 1 {
				t.Errorf("the endpoint was asked %d times, want once", n)
			}
		})
	}
}

// gzipBomb is 16 MB of spaces around an active answer in 16 KB.
func gzipBomb(t testing.TB) string {
	t.Helper()
	var b strings.Builder
	z := gzip.NewWriter(&b)
	for _, s := range []string{`{"active":true`, strings.Repeat(" ", 16<<20), `}`} {
		if _, err := io.WriteString(z, s); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// Covers: IN-20
func TestMediaTypeIsComparedWithoutCaseAndParameters(t *testing.T) {
	for _, contentType := range []string{
		"application/json", "application/json;charset=UTF-8", "Application/JSON ; Charset=utf-8", "APPLICATION/JSON; a=b; a=c; ;",
	} {
		e := start(t, answer(200, contentType, `{"active":true}`))
		c := newClient(t, introspection.Config{Endpoint: e.URL})
		if got, err := c.Introspect(t.Context(), "token"); err != nil || !got.Introspection.Active {
			t.Errorf("%q: got %v, %v, want active", contentType, got, err)
		}
	}
}

func TestAnswerOfExactlyTheBound(t *testing.T) {
	const body = `{"active":true}`
	e := start(t, json200(body))
	for _, tt := range []struct {
		name  string
		bound int64
		ok    bool
	}{{name: "as large as the bound", bound: int64(len(body)), ok: true}, {name: "one byte larger", bound: int64(len(body)) - 1}} {
		c := newClient(t, introspection.Config{Endpoint: e.URL, MaxResponseBytes: tt.bound})
		got, err := c.Introspect(t.Context(), "token")
		if tt.ok {
			if err != nil || !got.Introspection.Active {
				t.Errorf("%s: got %v, %v, want active", tt.name, got, err)
			}
			continue
		}
		wantKind(t, got, err, introspection.KindTooLarge)
	}
}

// Covers: IN-09, BC-15
func TestRedirectsAreNeverFollowed(t *testing.T) {
	canary := start(t, json200(`{"active":true}`))
	for _, status := range []int{301, 302, 303, 307, 308} {
		e := start(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", canary.URL+"/introspect")
			w.WriteHeader(status)
		})
		c := newClient(t, introspection.Config{Endpoint: e.URL})
		got, err := c.Introspect(t.Context(), "token")
		failed := wantKind(t, got, err, introspection.KindRedirect)
		if failed.Status != status || !strings.Contains(err.Error(), "introspection_endpoint") {
			t.Errorf("got status %d, %q, want %d and the setting named", failed.Status, err, status)
		}
	}
	if n := len(canary.asked()); n != 0 {
		t.Errorf("the target was asked %d times, want never", n)
	}
}

// FuzzAnswer reads arbitrary responses: never a panic, always either a result or an Error
// of ours, and active only where the JSON says so.
func FuzzAnswer(f *testing.F) {
	f.Add(200, "application/json", []byte(`{"active":true,"exp":1}`), false)
	f.Add(200, "application/json;charset=utf-8", []byte(`{"active":true,"jwt":"a.b.c"}`), true)
	f.Add(200, "application/jwt", []byte(`eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln`), true)
	f.Add(204, "", []byte{}, true)
	f.Add(302, "text/html", []byte("<html>"), false)
	f.Add(200, "application/json", []byte(`{"active":true,"scope":"\""}`), false)
	f.Fuzz(func(t *testing.T, status int, contentType string, body []byte, jwt bool) {
		cfg := introspection.Config{Endpoint: "http://127.0.0.1:1/", MaxResponseBytes: 4096}
		if jwt {
			cfg.Accept = introspection.AcceptJWT
		}
		c := newClient(t, cfg)
		resp := &http.Response{
			StatusCode:    status,
			Header:        http.Header{"Content-Type": {contentType}},
			ContentLength: -1,
			Body:          io.NopCloser(bytes.NewReader(body)),
		}
		got, err := c.Read(t.Context(), resp)
		var failed *introspection.Error
		switch {
		case err != nil && (got != nil || !errors.As(err, &failed) || failed.Kind == ""):
			t.Errorf("got %v, %v, want an *Error alone", got, err)
		case err != nil:
		case got == nil || got.Introspection == nil:
			t.Errorf("got %+v, want an introspection", got)
		case got.Introspection.Active && !jwt && !bytes.Contains(body, []byte("true")):
			t.Errorf("active without the word true in %q", body)
		case got.JWT != "" && (!jwt || !got.Introspection.Active):
			t.Errorf("got JWT %q, want none", got.JWT)
		}
	})
}
