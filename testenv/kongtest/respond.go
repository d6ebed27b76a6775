package kongtest

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// sendDelayed sends the answer of Kong or of a plugin: kong.response.exit and
// kong.response.error. No Content-Type is added, a Content-Length only where none was
// given.
func (x *exchange) sendDelayed() {
	r := x.delayed
	for _, c := range r.headers {
		x.setResponseHeader(c.name, c.values)
	}
	if !slices.ContainsFunc(r.headers, func(c headerChange) bool { return lower(responseHeaderName(c.name)) == "content-length" }) {
		x.response.set("Content-Length", []string{strconv.Itoa(len(r.body))}, nil)
	}
	if x.proxied {
		x.addProxyHeaders(headers{})
	} else {
		x.response.set("X-Kong-Response-Latency", []string{x.sinceStart()}, nil)
		x.response.set("Server", []string{serverToken}, nil)
	}
	x.response.set("X-Kong-Request-Id", []string{x.id}, nil)
	x.addDate()
	x.addCharset()

	bodiless := x.method == "HEAD" || hasNoBody(r.status)
	declared, _ := x.response.first("Content-Length")
	length, ok := parseLength(declared)
	x.writeHead(statusLine(r.status), ok || bodiless)
	if bodiless {
		return
	}
	body := r.body
	if ok && length < int64(len(body)) {
		// nginx sends what it has; the client reads as much as it was told, so that
		// nothing after it can be believed.
		x.keepAlive = false
	}
	if _, err := x.conn.w.Write(body); err != nil {
		x.keepAlive = false
	}
}

// sinceStart is the time since the request came, in milliseconds.
func (x *exchange) sinceStart() string {
	return strconv.FormatInt(x.g.cfg.Now().Sub(x.start).Milliseconds(), 10)
}

func (x *exchange) addDate() {
	if _, ok := x.response.first("Date"); !ok {
		x.response = append(headers{{"Date", x.g.cfg.Now().UTC().Format(http.TimeFormat)}}, x.response...)
	}
}

// addCharset is nginx_http_charset = UTF-8: textual types without parameters get one.
func (x *exchange) addCharset() {
	for i, f := range x.response {
		if !strings.EqualFold(f.name, "Content-Type") {
			continue
		}
		switch lower(f.value) {
		case "text/html", "text/xml", "text/plain", "text/vnd.wap.wml", "application/javascript", "application/rss+xml":
			x.response[i].value += "; charset=UTF-8"
		}
	}
}

// writeHead writes the status line and x.response. delimited says that the body's end can
// be told without the end of the connection.
func (x *exchange) writeHead(status string, delimited bool) {
	w := x.conn.w
	if !delimited {
		x.keepAlive = false
	}
	fmt.Fprintf(w, "HTTP/1.1 %s\r\n", status)
	for _, f := range x.response {
		writeField(w, f)
	}
	connection := "close"
	if x.keepAlive {
		connection = "keep-alive"
	}
	writeField(w, field{"Connection", connection})
	_, _ = io.WriteString(w, "\r\n")
}

func writeField(w io.Writer, f field) {
	_, _ = io.WriteString(w, f.name+": "+f.value+"\r\n")
}

func hasNoBody(status int) bool { return status < 200 || status == 204 || status == 304 }

// statusLine is the status with the phrase that nginx knows for it, which is none for many.
func statusLine(status int) string {
	phrase := http.StatusText(status)
	switch status {
	case 302:
		phrase = "Moved Temporarily"
	case 405:
		phrase = "Not Allowed"
	case 408:
		phrase = "Request Time-out"
	case 413:
		phrase = "Request Entity Too Large"
	case 414:
		phrase = "Request-URI Too Large"
	case 416:
		phrase = "Requested Range Not Satisfiable"
	case 503:
		phrase = "Service Temporarily Unavailable"
	case 504:
		phrase = "Gateway Time-out"
	}
	return fmt.Sprintf("%d %s", status, phrase)
}

// nginxPage is nginx's own page for the few errors that Kong has no page for.
func nginxPage(status int) *delayedResponse {
	line := statusLine(status)
	return &delayedResponse{
		status: status,
		body: fmt.Appendf(nil, "<html>\r\n<head><title>%s</title></head>\r\n<body>\r\n"+
			"<center><h1>%s</h1></center>\r\n<hr><center>openresty</center>\r\n</body>\r\n</html>\r\n", line, line),
		headers: []headerChange{{"Content-Type", []string{"text/html"}}},
	}
}

// addProxyHeaders adds what Kong says of a response that came, or should have come, from
// the upstream.
func (x *exchange) addProxyHeaders(upstream headers) {
	now := x.g.cfg.Now()
	x.response.set("X-Kong-Upstream-Latency", []string{strconv.FormatInt(now.Sub(x.accessEnd).Milliseconds(), 10)}, nil)
	x.response.set("X-Kong-Proxy-Latency", []string{strconv.FormatInt(x.accessEnd.Sub(x.start).Milliseconds(), 10)}, nil)
	via := "1.1 " + serverToken
	if v, ok := upstream.variable("via"); ok {
		via = v + ", " + via
	}
	x.response.set("Via", []string{via}, nil)
	if _, ok := x.response.first("Server"); !ok {
		x.response.set("Server", []string{serverToken}, nil)
	}
}

// chunkWriter writes the chunks of a response of unknown length and passes each on at
// once.
type chunkWriter struct{ x *exchange }

func (c chunkWriter) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	w := c.x.conn.w
	fmt.Fprintf(w, "%x\r\n", len(p))
	_, _ = w.Write(p)
	_, _ = io.WriteString(w, "\r\n")
	return len(p), w.Flush()
}

// flushWriter passes every write on at once.
type flushWriter struct{ x *exchange }

func (f flushWriter) Write(p []byte) (int, error) {
	n, err := f.x.conn.w.Write(p)
	if err != nil {
		return n, err
	}
	return n, f.x.conn.w.Flush()
}
