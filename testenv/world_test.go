package testenv_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"phantomtoken/testenv"
	"phantomtoken/testenv/agent"
	"phantomtoken/testenv/authserver"
	"phantomtoken/testenv/recorder"
)

// world is a running stack with two users at their clients.
type world struct {
	*testenv.Stack
	binaries testenv.Binaries
	folder   string // of the programs
	outside  *http.Client
	john     *agent.Agent // registered dynamically, may read
	jane     *agent.Agent // published its metadata, may read and trade
	progress chan string  // of john's calls

	mu   sync.Mutex
	hold map[string]func(ctx context.Context) bool // path at the API → waits, reports whether to go on
}

// start builds the programs and starts everything. Both clients connect in the first
// promises.
func start(t *testing.T) *world {
	t.Helper()
	w := &world{folder: t.TempDir(), progress: make(chan string, 16), hold: map[string]func(context.Context) bool{}}
	var err error
	if w.binaries, err = testenv.Build(t.Context(), w.folder, buildFlags()...); err != nil {
		t.Fatal(err)
	}
	w.Stack, err = testenv.Start(t.Context(), testenv.Options{Binaries: w.binaries, Wrap: w.wrap})
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{Proxy: nil}
	t.Cleanup(transport.CloseIdleConnections)
	w.outside = &http.Client{
		Transport:     w.Recorder.Transport("outside", transport),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return w
}

// held is a request that the API does not answer until it is released or its caller has
// gone.
type held struct {
	release func()        // may be called more than once
	arrived chan struct{} // closed when the request is here
	gone    chan struct{} // closed when the caller has gone
}

// wrap puts hold in front of the API.
func (w *world) wrap(who string, h http.Handler) http.Handler {
	if who != testenv.StocksAPI {
		return h
	}
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		wait := w.hold[r.URL.Path]
		w.mu.Unlock()
		if wait != nil && !wait(r.Context()) {
			return
		}
		h.ServeHTTP(rw, r)
	})
}

// holdRequest keeps the next request at path waiting.
func (w *world) holdRequest(path string) held {
	released := make(chan struct{})
	h := held{release: sync.OnceFunc(func() { close(released) }), arrived: make(chan struct{}), gone: make(chan struct{})}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hold[path] = func(ctx context.Context) bool {
		w.mu.Lock()
		delete(w.hold, path)
		w.mu.Unlock()
		close(h.arrived)
		select {
		case <-released:
			return true
		case <-ctx.Done():
			close(h.gone)
			return false
		}
	}
	return h
}

func (w *world) origin() string { return strings.TrimSuffix(w.MCPURL, "/mcp") }

// toolsList is a request that every MCP server answers.
const toolsList = `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`

// answer is a response with its body read.
type answer struct {
	status int
	header http.Header
	body   string
}

func (w *world) do(t *testing.T, method, address, body string, header ...string) answer {
	t.Helper()
	a, err := w.send(t.Context(), method, address, body, header...)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// send makes one request from outside; header holds names and values in turn.
func (w *world) send(ctx context.Context, method, address, body string, header ...string) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	res, err := w.outside.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	data, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return answer{}, err
	}
	return answer{res.StatusCode, res.Header, string(data)}, nil
}

// mcpHeader is the header of an MCP request with a token, or without one if it is "".
func mcpHeader(token string) []string {
	header := []string{
		"Content-Type", "application/json", "Accept", "application/json, text/event-stream",
		"MCP-Protocol-Version", "2025-11-25",
	}
	if token != "" {
		header = append(header, "Authorization", "Bearer "+token)
	}
	return header
}

// ask sends an MCP request with a token, further headers after it.
func (w *world) ask(t *testing.T, address, token string, header ...string) answer {
	t.Helper()
	return w.do(t, http.MethodPost, address, toolsList, append(mcpHeader(token), header...)...)
}

// readToken issues a token as john's client has one.
func (w *world) readToken() string {
	return w.AuthServer.IssueToken(authserver.Grant{Scope: testenv.ScopeRead, Resource: w.MCPURL})
}

// take returns what passed since the last take.
func (w *world) take(t *testing.T) []*recorder.Exchange {
	t.Helper()
	out, err := w.Recorder.Take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// between returns the exchanges of two parties whose path is path, or any if it is "".
func between(all []*recorder.Exchange, from, to, path string) []*recorder.Exchange {
	var out []*recorder.Exchange
	for _, e := range all {
		u, err := url.Parse(e.URL)
		if err == nil && e.From == from && e.To == to && (path == "" || u.Path == path) {
			out = append(out, e)
		}
	}
	return out
}

func bearer(e *recorder.Exchange) string {
	token, _ := strings.CutPrefix(e.RequestHeader.Get("Authorization"), "Bearer ")
	return token
}

// decode reads header and payload of a JWT.
func decode(t *testing.T, token string) (header, claims map[string]any) {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("expected a JWT, got a token of %d parts", len(parts))
	}
	for i, into := range []*map[string]any{&header, &claims} {
		data, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(data, into); err != nil {
			t.Fatal(err)
		}
	}
	return header, claims
}

// isJWT reports whether token looks like a signed JWT: three parts, two of them JSON objects.
func isJWT(token string) bool {
	header, rest, _ := strings.Cut(token, ".")
	payload, signature, _ := strings.Cut(rest, ".")
	return strings.HasPrefix(header, "eyJ") && strings.HasPrefix(payload, "eyJ") && signature != ""
}

// secretsSeen are all tokens, codes and secrets that have passed, and those of the stack.
func (w *world) secretsSeen() []string {
	seen := map[string]bool{}
	add := func(values ...string) {
		for _, v := range values {
			if len(v) >= 8 { // shorter ones are words
				seen[v] = true
			}
		}
	}
	add(w.Secrets...)
	for _, e := range w.Recorder.All() {
		add(bearer(e))
		if _, password, ok := (&http.Request{Header: e.RequestHeader}).BasicAuth(); ok {
			add(password)
		}
		for _, body := range [][]byte{e.RequestBody, e.Body} {
			form, _ := url.ParseQuery(string(body)) // of what is no form, nothing is found
			var object map[string]any
			_ = json.Unmarshal(body, &object)
			for _, name := range []string{"access_token", "subject_token", "token", "client_secret", "password", "code", "code_verifier", "csrf"} {
				add(form[name]...)
				if s, ok := object[name].(string); ok {
					add(s)
				}
			}
		}
		if to, err := url.Parse(e.Header.Get("Location")); err == nil {
			add(to.Query().Get("code"))
		}
		for _, c := range e.Header.Values("Set-Cookie") {
			if cookie, err := http.ParseSetCookie(c); err == nil {
				add(cookie.Value)
			}
		}
	}
	// The word that stands for a bad token is no secret.
	delete(seen, "garbage-token")
	out := make([]string, 0, len(seen))
	for s := range seen {
		out = append(out, s)
	}
	slices.Sort(out)
	return out
}

// tail is the end of a text, for failures.
func tail(s string, lines int) string {
	all := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func wantStatus(t *testing.T, a answer, want int) {
	t.Helper()
	if a.status != want {
		t.Errorf("status: got %d, want %d; challenge %q, body %s", a.status, want, a.header.Get("WWW-Authenticate"), tail(a.body, 3))
	}
}
