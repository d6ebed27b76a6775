package kongtest

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// upstreamRequest is what goes to the upstream, beside the client's header fields: Kong's
// variables upstream_*.
type upstreamRequest struct {
	scheme string
	host   string // where to connect to
	port   int
	uri    string
	// hostHeader is the Host field when something fixes it: preserve_host or a plugin.
	hostHeader string

	connection, te, via                                                               string
	forwardedFor, forwardedProto, forwardedHost, forwardedPort, forwardedPath, prefix string
}

// prepareUpstream fills in what is known before the plugins run; they may change it.
func (x *exchange) prepareUpstream() {
	u := &x.upstream
	if s := x.service; s != nil {
		u.scheme, u.host, u.port = s.Protocol, s.Host, s.Port
	}
	u.uri = escapeURI(x.match.upstreamURI)
	if x.route.PreserveHost {
		u.hostHeader, _ = x.original.value("host")
	}
	u.connection = "keep-alive"

	u.forwardedProto, u.forwardedHost, u.forwardedPort = x.conn.scheme(), x.head.host, strconv.Itoa(x.conn.port)
	u.forwardedPath, _, _ = strings.Cut(x.head.uri, "?")
	if x.match.prefix != "/" {
		u.prefix = x.match.prefix
	}
	if x.trusted() {
		for name, target := range map[string]*string{
			"x_forwarded_proto": &u.forwardedProto, "x_forwarded_host": &u.forwardedHost,
			"x_forwarded_port": &u.forwardedPort, "x_forwarded_path": &u.forwardedPath, "x_forwarded_prefix": &u.prefix,
		} {
			if v, ok := x.original.value(name); ok {
				*target = v
			}
		}
	}
	u.forwardedFor = x.remote.ip
	if v, ok := x.original.value("x_forwarded_for"); ok {
		u.forwardedFor = v + ", " + x.peer.ip
	}
	u.via = luaNumber(x.httpVersion()) + " " + serverToken
	if v, ok := x.original.value("via"); ok {
		u.via = v + ", " + u.via
	}
}

// finishUpstream is what Kong does after the plugins: the query, the Host field, and
// hop-by-hop fields.
func (x *exchange) finishUpstream() {
	u := &x.upstream
	if x.hasArgs || strings.HasSuffix(x.head.uri, "?") {
		u.uri += "?" + x.args
	}
	if u.hostHeader == "" {
		u.hostHeader = u.host
		if (u.port != 80 && u.port != 443) || (u.port == 80 && u.scheme != "http") || (u.port == 443 && u.scheme != "https") {
			u.hostHeader += ":" + strconv.Itoa(u.port)
		}
	}
	connection, _ := x.original.value("connection")
	if connection != "keep-alive" && connection != "close" && connection != "upgrade" {
		for _, name := range csv(connection) {
			x.head.headers.clear(name)
		}
	}
	if te, ok := x.original.value("te"); ok && slices.Contains(csv(te), "trailers") {
		u.te = "trailers"
	}
	x.head.headers.clear("Proxy")
	x.head.headers.clear("Proxy-Connection")
}

// csv splits a comma-separated list of lower-case words.
func csv(s string) []string {
	var words []string
	for word := range strings.SplitSeq(s, ",") {
		if word = lower(strings.TrimSpace(word)); word != "" {
			words = append(words, word)
		}
	}
	return words
}

// replacedByProxy are the client's fields that never reach the upstream as they are. The
// comparison is exact but for case: x_real_ip is another field.
func replacedByProxy() []string {
	return []string{
		"te", "via", "host", "upgrade", "connection", "x-forwarded-for", "x-forwarded-proto",
		"x-forwarded-host", "x-forwarded-port", "x-forwarded-path", "x-forwarded-prefix", "x-real-ip",
		"x-kong-request-id", "content-length", "transfer-encoding", "keep-alive", "expect",
	}
}

// writeRequest writes the request head for the upstream.
func (x *exchange) writeRequest(w io.Writer, body upstreamBody) {
	u := &x.upstream
	fmt.Fprintf(w, "%s %s HTTP/1.1\r\n", x.method, u.uri)
	for _, f := range []field{
		{"TE", u.te}, {"Via", u.via}, {"Host", u.hostHeader}, {"Connection", u.connection},
		{"X-Forwarded-For", u.forwardedFor}, {"X-Forwarded-Proto", u.forwardedProto},
		{"X-Forwarded-Host", u.forwardedHost}, {"X-Forwarded-Port", u.forwardedPort},
		{"X-Forwarded-Path", u.forwardedPath}, {"X-Forwarded-Prefix", u.prefix},
		{"X-Real-IP", x.remote.ip}, {"X-Kong-Request-Id", x.id},
	} {
		if f.value != "" {
			writeField(w, f)
		}
	}
	switch {
	case body.chunked:
		writeField(w, field{"Transfer-Encoding", "chunked"})
	case body.length >= 0:
		writeField(w, field{"Content-Length", strconv.FormatInt(body.length, 10)})
	}
	replaced := replacedByProxy()
	for _, f := range x.head.headers {
		if !slices.Contains(replaced, lower(f.name)) {
			writeField(w, f)
		}
	}
	_, _ = io.WriteString(w, "\r\n")
}

// upstreamBody is the request body on its way to the upstream.
type upstreamBody struct {
	io.ReadCloser
	length  int64 // -1: none, or unknown
	chunked bool
}

// requestBody returns the body to send: read to its end first (request_buffering, the
// default), or as it comes.
func (x *exchange) requestBody() (upstreamBody, error) {
	none := io.NopCloser(strings.NewReader(""))
	switch {
	case !x.body.present():
		return upstreamBody{none, x.head.contentLength, false}, nil
	case !x.body.read && !x.route.RequestBuffering:
		if err := x.sendContinue(); err != nil {
			return upstreamBody{}, err
		}
		return upstreamBody{io.NopCloser(x.body.reader), x.head.contentLength, x.head.chunked}, nil
	}
	if err := x.body.buffer(); err != nil {
		return upstreamBody{}, err
	}
	r, err := x.body.open()
	return upstreamBody{r, x.body.size, false}, err
}
