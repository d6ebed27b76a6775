package authserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"time"

	"phantomtoken/internal/oauth"
)

// Grant describes a token for [Server.IssueToken].
type Grant struct {
	User      string         // empty: the first configured user, unless NoUser
	NoUser    bool           // a token as of the client credentials grant
	ClientID  string         // empty: "mcp-client"; an id that is not configured counts as registered dynamically
	Scope     string         // separated by spaces; empty: none
	Resource  string         // audience, taken as it is; empty: no aud
	Resources []string       // more audiences
	Lifetime  time.Duration  // 0: Config.TokenLifetime; negative: expired already
	Claims    map[string]any // put into the introspection answer, also in place of its own; a nil value takes a member away
}

// IssueToken makes an opaque access token without the pages, for tests. It checks
// nothing: user, client, scope and resource need not be configured.
func (s *Server) IssueToken(g Grant) string {
	if g.ClientID == "" {
		g.ClientID = "mcp-client"
	}
	if g.User == "" && len(s.cfg.Users) > 0 {
		g.User = s.cfg.Users[0].Name
	}
	if g.Lifetime == 0 {
		g.Lifetime = s.cfg.tokenLifetime()
	}
	cl, ok := s.store.client(g.ClientID)
	if !ok {
		cl = &client{id: g.ClientID, claims: dynamicClaims()}
	}
	t := &accessToken{clientID: g.ClientID, audience: g.Resources, override: g.Claims}
	if g.Resource != "" {
		t.audience = append([]string{g.Resource}, g.Resources...)
	}
	if t.scopes, _ = oauth.ParseScopes(g.Scope); t.scopes == nil {
		t.scopes = oauth.Scopes{}
	}
	if g.NoUser {
		t.subject, t.username = g.ClientID, "service-account-"+g.ClientID
		t.claims = grantedClaims(User{}, cl)
	} else {
		t.subject, t.username = g.User, g.User
		t.authTime = s.now()
		t.session = newSecret()
		t.claims = grantedClaims(s.users[g.User], cl)
	}
	value, _ := s.store.addToken(s.complete(t, g.Lifetime), "") // fails for a replayed code only
	return value
}

// Revoke ends an access token; an unknown one is ignored.
func (s *Server) Revoke(token string) { s.store.revoke(token) }

// Introspections is the number of introspection requests so far, whatever they got.
func (s *Server) Introspections() int { return int(s.introspections.Load()) }

const maxControlBytes = 8 << 20 // a body for Trouble may be large

// listenLoopback listens on a loopback address and refuses every other.
func listenLoopback(addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	if tcp, ok := l.Addr().(*net.TCPAddr); !ok || !tcp.IP.IsLoopback() {
		l.Close()
		return nil, fmt.Errorf("expected a loopback address such as 127.0.0.1:8181, got %q", addr)
	}
	return l, nil
}

// controlHandler is the control port:
//
//	POST   /tokens          a Grant as JSON; answers {"access_token": …}
//	POST   /revoke          {"token": …}
//	GET    /introspections  {"count": …}
//	POST   /trouble         a Trouble as JSON
//	DELETE /trouble         heals
//
// It knows no password: whoever can connect may use it. Web pages are kept out: their
// requests carry an Origin, or a Host that is not loopback (DNS rebinding), or cannot be
// of type application/json without asking first.
func (s *Server) controlHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /tokens", s.controlTokens)
	mux.HandleFunc("POST /revoke", s.controlRevoke)
	mux.HandleFunc("GET /introspections", func(w http.ResponseWriter, _ *http.Request) {
		writeControl(w, map[string]any{"count": s.Introspections()})
	})
	mux.HandleFunc("POST /trouble", s.controlTrouble)
	mux.HandleFunc("DELETE /trouble", func(w http.ResponseWriter, _ *http.Request) {
		s.Trouble(Trouble{})
		w.WriteHeader(http.StatusNoContent)
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = r.Host
		}
		if r.Header.Get("Origin") != "" || !oauth.IsLoopbackHost(host) {
			writeError(w, r, &oauth.Error{Code: oauth.ErrorAccessDenied, Description: "the control port is not for web pages", Status: http.StatusForbidden})
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func (s *Server) controlTokens(w http.ResponseWriter, r *http.Request) {
	var in struct {
		User      string         `json:"user"`
		NoUser    bool           `json:"no_user"`
		ClientID  string         `json:"client_id"`
		Scope     string         `json:"scope"`
		Resource  string         `json:"resource"`
		Resources []string       `json:"resources"`
		Lifetime  jsonDuration   `json:"lifetime"`
		Claims    map[string]any `json:"claims"`
	}
	if !readControl(w, r, &in) {
		return
	}
	writeControl(w, map[string]any{"access_token": s.IssueToken(Grant{
		User: in.User, NoUser: in.NoUser, ClientID: in.ClientID, Scope: in.Scope,
		Resource: in.Resource, Resources: in.Resources, Lifetime: time.Duration(in.Lifetime), Claims: in.Claims,
	})})
}

func (s *Server) controlRevoke(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Token string `json:"token"`
	}
	if !readControl(w, r, &in) {
		return
	}
	s.Revoke(in.Token)
	w.WriteHeader(http.StatusNoContent)
}

func (s *Server) controlTrouble(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Down        bool           `json:"down"`
		Delay       jsonDuration   `json:"delay"`
		Redirect    string         `json:"redirect"`
		Status      int            `json:"status"`
		Body        *string        `json:"body"`
		ContentType string         `json:"content_type"`
		PadTo       int            `json:"pad_to"`
		Drip        jsonDuration   `json:"drip"`
		Set         map[string]any `json:"set"`    // members put into the answer
		Remove      []string       `json:"remove"` // members taken from it
	}
	if !readControl(w, r, &in) {
		return
	}
	if in.Status != 0 && (in.Status < 200 || in.Status > 599) {
		writeError(w, r, badRequest(oauth.ErrorInvalidRequest, "status: expected 200 to 599"))
		return
	}
	t := Trouble{
		Down: in.Down, Delay: time.Duration(in.Delay), Redirect: in.Redirect, Status: in.Status,
		ContentType: in.ContentType, PadTo: in.PadTo, Drip: time.Duration(in.Drip),
	}
	if in.Body != nil {
		t.Body = []byte(*in.Body)
	}
	if in.Set != nil || in.Remove != nil {
		t.Rewrite = func(claims map[string]any) {
			for name, v := range in.Set {
				claims[name] = v
			}
			for _, name := range in.Remove {
				delete(claims, name)
			}
		}
	}
	s.Trouble(t)
	w.WriteHeader(http.StatusNoContent)
}

// jsonDuration is a duration as Go writes it: "1.5s", "15m".
type jsonDuration time.Duration

// UnmarshalText implements [encoding.TextUnmarshaler].
func (d *jsonDuration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	if err != nil {
		return errors.New(`expected a duration such as "1.5s"`)
	}
	*d = jsonDuration(parsed)
	return nil
}

// readControl decodes a request; unknown members are mistakes.
func readControl(w http.ResponseWriter, r *http.Request, into any) bool {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		writeError(w, r, &oauth.Error{Code: oauth.ErrorInvalidRequest, Description: "expected content type application/json", Status: http.StatusUnsupportedMediaType})
		return false
	}
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxControlBytes))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		writeError(w, r, badRequest(oauth.ErrorInvalidRequest, err.Error()))
		return false
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		writeError(w, r, badRequest(oauth.ErrorInvalidRequest, "expected one JSON object"))
		return false
	}
	return true
}

func writeControl(w http.ResponseWriter, answer map[string]any) {
	body, err := json.Marshal(answer)
	if err != nil {
		body = []byte(`{}`)
	}
	writeJSON(w, http.StatusOK, body)
}
