package introspection_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"phantomtoken/internal/introspection"
	"phantomtoken/internal/keyring"
)

// Marked values go through every failure; then every error and every log line is searched
// for them, in the forms in which they travel.
//
// Covers: BT-14
func TestNothingSecretInErrorsAndLogs(t *testing.T) {
	const (
		token  = "CANARY-token/+=&"
		secret = "CANARY-secret:%"
		body   = "CANARY-body"
	)
	p := newProvider(t)
	marked := `{"sub":"` + body + `","aud":"` + body + `","iss":"` + body + `","scope":"` + body + `\"","alg":"ES256"}`
	for _, tt := range []struct {
		name   string
		answer http.HandlerFunc
		jwt    bool
		keys   bool // with a verifier
	}{
		{name: "credentials", answer: answer(401, "application/json", `{"error":"`+body+`"}`)},
		{name: "status", answer: answer(500, "text/"+body, body)},
		{name: "redirect", answer: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "https://"+body+".example/"+url.QueryEscape(token))
			w.WriteHeader(307)
		}},
		{name: "media type", answer: answer(200, "application/"+body, body)},
		{name: "encoding", answer: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", body)
			json200(body)(w, r)
		}},
		{name: "no JSON", answer: json200(body)},
		{name: "repeated member", answer: json200(`{"active":true,"` + body + `":1,"` + body + `":2}`)},
		{name: "member of another type", answer: json200(`{"active":true,"exp":"` + body + `"}`)},
		{name: "scope out of the alphabet", answer: json200(`{"active":true,"scope":"` + body + `\""}`)},
		{name: "too large", answer: json200(strings.Repeat(body, 1<<18))},
		{name: "JWT that is none", jwt: true, answer: curity(body)},
		{name: "JWT of another kind", jwt: true, answer: curity(unsigned(`{"alg":"`+body+`","typ":"`+body+`"}`, marked))},
		{name: "JWT with a bad claim", jwt: true, answer: curity(unsigned(`{"alg":"ES256"}`, marked))},
		{name: "JWT that is none, keys known", jwt: true, keys: true, answer: curity(body)},
		{name: "JWT with a bad signature, keys known", jwt: true, keys: true, answer: curity(tamper(t, p.mint(t, time.Hour, func(t *keyring.Token) { t.Extra["x"] = body })))},
		{name: "JWT member of another type", jwt: true, answer: json200(`{"active":true,"jwt":["` + body + `"]}`)},
		{name: "inactive with members", answer: json200(`{"active":false,"sub":"` + body + `"}`)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := start(t, tt.answer)
			var lines logs
			cfg := introspection.Config{Endpoint: e.URL + "?key=CANARY-query", ClientSecret: secret, Logger: lines.logger(), Now: p.clk.now}
			if tt.jwt {
				cfg.Accept = introspection.AcceptJWT
			}
			if tt.keys {
				cfg.Verifier = p.verifier(t)
			}
			c := newClient(t, cfg)
			got, err := c.Introspect(t.Context(), token)
			if err == nil && got.Introspection.Active {
				t.Fatalf("got %+v, want a failure", got)
			}
			search(t, err, lines.String(), token, secret)
			if err == nil && strings.Contains(fmt.Sprintf("%+v", *got.Introspection), "CANARY") {
				t.Errorf("got %+v, want nothing of an inactive answer kept", *got.Introspection)
			}
		})
	}

	for name, serve := range map[string]func(n int, conn *net.TCPConn, in *bufio.Reader){
		"no HTTP": func(_ int, conn *net.TCPConn, in *bufio.Reader) {
			if readRequest(in) == nil {
				_, _ = io.WriteString(conn, body+"\r\n\r\n")
			}
		},
		"malformed status": func(_ int, conn *net.TCPConn, in *bufio.Reader) {
			if readRequest(in) == nil {
				_, _ = io.WriteString(conn, "HTTP/1.1 "+body+"\r\n\r\n")
			}
		},
		"malformed header": func(_ int, conn *net.TCPConn, in *bufio.Reader) {
			if readRequest(in) == nil {
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n"+body+"\r\n\r\n")
			}
		},
		"malformed length": func(_ int, conn *net.TCPConn, in *bufio.Reader) {
			if readRequest(in) == nil {
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: "+body+"\r\n\r\n")
			}
		},
		"malformed chunk": func(_ int, conn *net.TCPConn, in *bufio.Reader) {
			if readRequest(in) == nil {
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"+body+"\r\n")
			}
		},
		"reset": func(_ int, conn *net.TCPConn, in *bufio.Reader) {
			if readRequest(in) == nil {
				reset(conn)
			}
		},
		"hang": func(_ int, _ *net.TCPConn, in *bufio.Reader) {
			if readRequest(in) == nil {
				_, _ = in.ReadByte()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			endpoint, _ := rawServer(t, serve)
			var lines logs
			c := newClient(t, introspection.Config{Endpoint: endpoint + "/?key=CANARY-query", ClientSecret: secret, Logger: lines.logger(), Timeout: 20 * short})
			for range 7 { // opens the circuit where that is possible
				ctx, cancel := context.WithTimeout(t.Context(), short)
				_, err := c.Introspect(ctx, token)
				cancel()
				if err == nil {
					t.Fatal("got no error, want one")
				}
				search(t, err, lines.String(), token, secret)
			}
		})
	}
}

// search looks for the marks in the texts of the whole chain of err and in the log.
func search(t *testing.T, err error, log, token, secret string) {
	t.Helper()
	texts := []string{log}
	for e := err; e != nil; e = errors.Unwrap(e) {
		texts = append(texts, e.Error(), fmt.Sprintf("%+v", e), fmt.Sprintf("%#v", e))
	}
	marks := []string{
		"CANARY", url.QueryEscape(token), url.QueryEscape(secret),
		base64.StdEncoding.EncodeToString([]byte(clientID + ":" + url.QueryEscape(secret))),
		base64.RawURLEncoding.EncodeToString([]byte("CANARY")),
	}
	for _, text := range texts {
		for _, mark := range marks {
			if strings.Contains(text, mark) {
				t.Errorf("%q is in %q", mark, text)
			}
		}
	}
}
