package probe

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// Answer is a response with its body read.
type Answer struct {
	Status int
	Header http.Header
	Body   string
}

// Challenge is the answer's WWW-Authenticate, or "".
func (a Answer) Challenge() string { return a.Header.Get("WWW-Authenticate") }

// Object is the body as a JSON object, or nil.
func (a Answer) Object() map[string]any {
	var out map[string]any
	_ = json.Unmarshal([]byte(a.Body), &out)
	return out
}

// Text is the member name of the body as a string, or "".
func (a Answer) Text(name string) string {
	s, _ := a.Object()[name].(string)
	return s
}

// Caller sends requests and follows no redirect. Create it with NewCaller; it is safe for
// concurrent use.
type Caller struct{ client *http.Client }

// NewCaller returns a caller whose connections end with the test.
func NewCaller(t testing.TB) *Caller {
	t.Helper()
	transport := &http.Transport{Proxy: nil}
	t.Cleanup(transport.CloseIdleConnections)
	return &Caller{&http.Client{
		Transport: transport, Timeout: 30 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Client is the caller's HTTP client, for libraries that want one.
func (c *Caller) Client() *http.Client { return c.client }

// maxBody bounds what is read of an answer.
const maxBody = 1 << 20

// Do sends one request. header holds names and values in turn.
func (c *Caller) Do(t testing.TB, method, address, body string, header ...string) Answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	res, err := c.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(io.LimitReader(res.Body, maxBody))
	if err != nil {
		t.Fatal(err)
	}
	return Answer{res.StatusCode, res.Header, string(data)}
}

// Post sends a form.
func (c *Caller) Post(t testing.TB, address string, form url.Values, header ...string) Answer {
	t.Helper()
	return c.Do(t, http.MethodPost, address, form.Encode(), append(header, "Content-Type", "application/x-www-form-urlencoded")...)
}

// AskMCP sends a request that every MCP server answers, with an access token.
func (c *Caller) AskMCP(t testing.TB, address, token string) Answer {
	t.Helper()
	return c.Do(t, http.MethodPost, address, `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`,
		"Content-Type", "application/json", "Accept", "application/json, text/event-stream",
		"MCP-Protocol-Version", "2025-11-25", "Authorization", "Bearer "+token)
}
