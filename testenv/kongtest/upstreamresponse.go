package kongtest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// proxyBuffer is nginx's proxy_buffer_size for the head of a response; one of a plugin's
// size must fit as well.
const proxyBuffer = 64 << 10

// upstreamResponse is the response of an upstream.
type upstreamResponse struct {
	status    int
	line      string // status and phrase, as sent
	headers   headers
	body      *bodyReader // nil: there is none
	length    int64       // -1: unknown
	keepAlive bool
}

// readResponseHead reads the head of a response to a request with that method, skipping
// interim responses.
func readResponseHead(r *bufio.Reader, method string) (*upstreamResponse, error) {
	for {
		res, err := readOneResponseHead(r)
		if err != nil {
			return nil, err
		}
		if res.status < 200 && res.status != 101 {
			continue
		}
		return res, res.frame(r, method)
	}
}

func readOneResponseHead(r *bufio.Reader) (*upstreamResponse, error) {
	budget := headBudget{buffers: HeaderBuffers{Number: 1, Size: proxyBuffer}}
	tooLong := errors.New("upstream sent too big header")
	line, err := budget.readLine(r, tooLong)
	if err != nil {
		return nil, upstreamClosed(err)
	}
	proto, rest, _ := strings.Cut(strings.TrimRight(string(line), "\r\n"), " ")
	code, _, _ := strings.Cut(rest, " ")
	status, err := strconv.Atoi(code)
	if !strings.HasPrefix(proto, "HTTP/1.") || err != nil || status < 100 || status > 999 {
		return nil, fmt.Errorf("upstream sent no valid HTTP/1.0 header")
	}
	res := &upstreamResponse{status: status, line: rest, keepAlive: proto != "HTTP/1.0", length: -1}
	for {
		line, err := budget.readLine(r, tooLong)
		if err != nil {
			return nil, upstreamClosed(err)
		}
		text := strings.TrimRight(string(line), "\r\n")
		if text == "" {
			return res, nil
		}
		name, value, ok := strings.Cut(text, ":")
		if !ok || name == "" || strings.ContainsAny(name, " \t") {
			return nil, errors.New("upstream sent invalid header")
		}
		res.headers = append(res.headers, field{name, strings.Trim(value, " ")})
	}
}

func upstreamClosed(err error) error {
	if errors.Is(err, io.EOF) {
		return errors.New("upstream prematurely closed connection")
	}
	return err
}

// frame finds out where the body ends.
func (res *upstreamResponse) frame(r *bufio.Reader, method string) error {
	for _, f := range res.headers {
		switch lower(f.name) {
		case "connection":
			if slices.Contains(csv(f.value), "close") {
				res.keepAlive = false
			}
		case "content-length":
			n, ok := parseLength(f.value)
			if !ok || res.length >= 0 && res.length != n {
				return errors.New(`upstream sent invalid "Content-Length" header`)
			}
			res.length = n
		}
	}
	encoding, chunked := res.headers.first("Transfer-Encoding")
	switch {
	case method == "HEAD" || hasNoBody(res.status):
	case chunked && lower(encoding) == "chunked":
		res.length = -1
		res.body = &bodyReader{r: r, chunked: true}
	case chunked:
		return errors.New(`upstream sent unknown "Transfer-Encoding"`)
	case res.length >= 0:
		res.body = &bodyReader{r: r, left: res.length}
	default:
		res.body = &bodyReader{r: r, toEnd: true}
		res.keepAlive = false
	}
	return nil
}

// notPassedOn are fields of the upstream's response that nginx keeps to itself.
func notPassedOn() []string {
	return []string{
		"connection", "keep-alive", "transfer-encoding", "content-length", "status", "x-pad",
		"x-accel-expires", "x-accel-redirect", "x-accel-limit-rate", "x-accel-buffering", "x-accel-charset",
		"x-kong-upstream-latency", "x-kong-proxy-latency", "x-kong-request-id", "via", "trailer", "upgrade",
	}
}

// sendResponse passes the response on: its head at once, its body as it comes. What
// plugins have set stands before what the upstream sent, which stays as well.
func (x *exchange) sendResponse(res *upstreamResponse) error {
	hidden := notPassedOn()
	if connection, ok := res.headers.variable("connection"); ok {
		for _, name := range csv(connection) {
			if name != "close" && name != "upgrade" && name != "keep-alive" {
				hidden = append(hidden, name)
			}
		}
	}
	x.response.clear("Content-Length")
	if _, ok := res.headers.first("Content-Type"); ok {
		x.response.clear("Content-Type")
	}
	for _, f := range res.headers {
		if !slices.Contains(hidden, lower(f.name)) {
			x.response = append(x.response, f)
		}
	}
	x.addProxyHeaders(res.headers)
	x.response.set("X-Kong-Request-Id", []string{x.id}, nil)
	x.addDate()
	x.addCharset()
	if res.length >= 0 && res.status != 204 {
		x.response = append(x.response, field{"Content-Length", strconv.FormatInt(res.length, 10)})
	}

	var to io.Writer = flushWriter{x}
	delimited := res.body == nil || res.length >= 0
	if !delimited && x.head.minor > 0 {
		x.response = append(x.response, field{"Transfer-Encoding", "chunked"})
		to, delimited = chunkWriter{x}, true
	}
	x.writeHead(res.line, delimited)
	if err := x.conn.w.Flush(); err != nil || res.body == nil {
		return err
	}
	if _, err := io.Copy(to, res.body); err != nil {
		return err
	}
	if _, chunked := to.(chunkWriter); chunked {
		_, _ = io.WriteString(x.conn.w, "0\r\n\r\n")
	}
	return x.conn.w.Flush()
}
