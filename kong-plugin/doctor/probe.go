package doctor

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	maxBody   = 256 << 10
	maxHeader = 64 << 10
	userAgent = "phantom-token-doctor"
)

// newClient makes a client that follows no redirect, keeps no cookie and uses no proxy.
func newClient(cfg Config, insecure bool) *http.Client {
	return &http.Client{
		Timeout: cfg.Timeout,
		Transport: &http.Transport{
			DialContext:            (&net.Dialer{Timeout: cfg.Timeout}).DialContext,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: cfg.CAs, InsecureSkipVerify: insecure},
			TLSHandshakeTimeout:    cfg.Timeout,
			ForceAttemptHTTP2:      true,
			MaxResponseHeaderBytes: maxHeader,
			DisableKeepAlives:      true, // what one answer leaves behind must not disturb the next
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// answer is what came back. err says that nothing did.
type answer struct {
	status int
	header http.Header
	body   []byte // at most maxBody
	err    error
}

// dated is a Date field with the time at which it came.
type dated struct {
	whose     string // host
	gateway   bool
	said, was time.Time
}

// ask sends one request. Fields are names and values in turn.
func (v *visit) ask(ctx context.Context, client *http.Client, method, target, body string, fields ...string) answer {
	ctx, cancel := context.WithTimeout(ctx, v.cfg.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, target, strings.NewReader(body))
	if err != nil {
		return answer{err: errors.New("no URL that can be asked")}
	}
	if body == "" {
		req.Body, req.ContentLength = http.NoBody, 0
	}
	req.Header.Set("User-Agent", userAgent)
	for i := 0; i+1 < len(fields); i += 2 {
		req.Header.Set(fields[i], fields[i+1])
	}
	before := v.cfg.Now()
	res, err := client.Do(req)
	if err != nil {
		return answer{err: explain(err)}
	}
	defer res.Body.Close()
	if said, err := http.ParseTime(res.Header.Get("Date")); err == nil {
		now := v.cfg.Now()
		v.dates = append(v.dates, dated{req.URL.Host, client == v.gateway, said, before.Add(now.Sub(before) / 2)})
	}
	a := answer{status: res.StatusCode, header: res.Header}
	if kind := a.mediaType(); kind != "text/event-stream" { // which has no end
		a.body, _ = io.ReadAll(io.LimitReader(res.Body, maxBody)) // what came before an error counts
	}
	return a
}

// get asks the gateway or another host for a document.
func (v *visit) get(ctx context.Context, target string) answer {
	client := v.others
	if u, err := url.Parse(target); err == nil && strings.EqualFold(u.Host, v.url.Host) && u.Scheme == v.url.Scheme {
		client = v.gateway
	}
	return v.ask(ctx, client, http.MethodGet, target, "", "Accept", "application/json", "MCP-Protocol-Version", protocolVersion, "Origin", v.cfg.Origin)
}

// explain says what kept an answer from coming, in words that name no more than hosts.
func explain(err error) error {
	var certificate *tls.CertificateVerificationError
	var dns *net.DNSError
	var timeout interface{ Timeout() bool }
	var wrapped *url.Error
	switch {
	case errors.As(err, &certificate):
		return fmt.Errorf("the certificate is not accepted: %w", certificate.Err)
	case errors.As(err, &dns):
		return fmt.Errorf("the name %s has no address", dns.Name)
	case errors.As(err, &timeout) && timeout.Timeout():
		return errors.New("no answer in time")
	case errors.As(err, &wrapped):
		return wrapped.Err
	}
	return err
}

func (a answer) mediaType() string {
	kind, _, _ := mime.ParseMediaType(a.header.Get("Content-Type"))
	return kind
}

// String is the answer in a few words.
func (a answer) String() string {
	if a.err != nil {
		return "no answer: " + a.err.Error()
	}
	text := fmt.Sprint(a.status)
	if location := a.header.Get("Location"); a.redirect() && location != "" {
		return text + " to " + location
	}
	if kind := a.mediaType(); kind != "" {
		text += " " + kind
	}
	return text
}

func (a answer) redirect() bool { return a.err == nil && a.status >= 300 && a.status < 400 }

// object is the body as a JSON object, nil if it is none.
func (a answer) object() map[string]any {
	if a.err != nil || a.mediaType() != "application/json" {
		return nil
	}
	var object map[string]any
	if json.Unmarshal(a.body, &object) != nil {
		return nil
	}
	return object
}

// errorOf is the OAuth error code and description of a JSON body.
func (a answer) errorOf() string {
	object := a.object()
	code, _ := object["error"].(string)
	if description, _ := object["error_description"].(string); description != "" {
		return code + ": " + description
	}
	return code
}

func text(object map[string]any, name string) string {
	s, _ := object[name].(string)
	return s
}

func texts(object map[string]any, name string) []string {
	list, _ := object[name].([]any)
	var out []string
	for _, e := range list {
		if s, ok := e.(string); ok {
			out = append(out, s)
		}
	}
	return out
}
