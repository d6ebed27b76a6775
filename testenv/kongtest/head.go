package kongtest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// firstHeaderBuffer is nginx's client_header_buffer_size: a small head needs none of the
// large buffers.
const firstHeaderBuffer = 1 << 10

// requestHead is a request line and its header fields as nginx 1.25 understands them.
type requestHead struct {
	line    string // the request line, $request
	method  string
	uri     string // path and query as sent, $request_uri
	minor   int    // HTTP/1.minor
	headers headers

	// host is $host: of an absolute URI or of the Host field, lower case, without port.
	host           string
	contentLength  int64 // -1: none given
	chunked        bool
	keepAlive      bool
	expectContinue bool
}

// args returns the query string as sent, $args.
func (h *requestHead) args() string {
	_, query, _ := strings.Cut(h.uri, "?")
	query, _, _ = strings.Cut(query, "#")
	return query
}

// headError is a request that nginx refuses before any plugin sees it.
type headError struct {
	status int // 494 is nginx's own "Request Header Or Cookie Too Large"
	reason string
}

func (e *headError) Error() string { return e.reason }

func badRequest(reason string) error { return &headError{status: 400, reason: reason} }

// readHead reads one request head. The head returned beside a *headError holds what was
// understood before the refusal; other errors are those of the connection.
func readHead(r *bufio.Reader, buffers HeaderBuffers) (*requestHead, error) {
	head := &requestHead{contentLength: -1}
	budget := headBudget{buffers: buffers, room: firstHeaderBuffer}

	line, err := readRequestLine(r, &budget)
	if err != nil {
		return head, err
	}
	if err := head.parseRequestLine(line); err != nil {
		return head, err
	}
	for {
		line, err := budget.readLine(r, &headError{status: 494, reason: "client sent too long header line"})
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return head, err
		}
		done, err := head.parseHeaderLine(line)
		if err != nil {
			return head, err
		}
		if done {
			return head, head.check()
		}
	}
}

// readRequestLine skips empty lines before the request line.
func readRequestLine(r *bufio.Reader, budget *headBudget) ([]byte, error) {
	tooLong := &headError{status: 414, reason: "client sent too long URI"}
	for {
		c, err := r.ReadByte()
		if err != nil {
			return nil, err
		}
		if c == '\r' || c == '\n' {
			continue
		}
		if err := r.UnreadByte(); err != nil {
			return nil, err
		}
		line, err := budget.readLine(r, tooLong)
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return line, err
	}
}

// headBudget counts the room in nginx's header buffers. A line must fit into one buffer; a
// line that does not fit into the rest of one moves to the next as a whole.
type headBudget struct {
	buffers HeaderBuffers
	room    int // left in the current buffer
	used    int // large buffers taken
}

// readLine reads a line with its line feed, or fails with tooLong when the buffers are
// exhausted.
func (b *headBudget) readLine(r *bufio.Reader, tooLong error) ([]byte, error) {
	var line []byte
	for {
		c, err := r.ReadByte()
		if err != nil {
			return nil, err
		}
		line = append(line, c)
		if len(line) > b.room {
			if b.used == b.buffers.Number || len(line) > b.buffers.Size {
				return nil, tooLong
			}
			b.used++
			b.room = b.buffers.Size
		}
		if c == '\n' {
			b.room -= len(line)
			return line, nil
		}
	}
}

func (h *requestHead) parseRequestLine(line []byte) error {
	invalid := badRequest("client sent invalid request")
	text := string(bytes.TrimSuffix(line, []byte("\n")))
	text = strings.TrimSuffix(text, "\r")
	h.line = text

	method, rest, ok := strings.Cut(text, " ")
	if !ok || !isMethod(method) {
		return badRequest("client sent invalid method")
	}
	h.method = method
	rest = strings.TrimLeft(rest, " ")
	target, version, ok := strings.Cut(rest, " ")
	if !ok {
		return &headError{status: 400, reason: "HTTP/0.9 is not modelled"}
	}
	if err := h.parseVersion(strings.Trim(version, " ")); err != nil {
		return err
	}
	host, uri, ok := splitTarget(target)
	if !ok {
		return invalid
	}
	for i := 0; i < len(uri); i++ {
		if uri[i] < 0x20 || uri[i] == 0x7f {
			return invalid
		}
	}
	path, _, _ := strings.Cut(uri, "?")
	if !validPath(path) {
		return invalid
	}
	h.uri = uri
	if host != "" {
		if h.host, ok = validHost(host); !ok {
			return badRequest("client sent invalid host in request line")
		}
	}
	return nil
}

func isMethod(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; (c < 'A' || c > 'Z') && c != '_' && c != '-' {
			return false
		}
	}
	return s != ""
}

func (h *requestHead) parseVersion(text string) error {
	digits, ok := strings.CutPrefix(text, "HTTP/")
	major, minor, dot := strings.Cut(digits, ".")
	if !ok || major == "" || major[0] < '1' || major[0] > '9' {
		return badRequest("client sent invalid request")
	}
	if major != "1" {
		return &headError{status: 505, reason: "client sent invalid version"}
	}
	n, err := strconv.ParseUint(minor, 10, 16)
	if !dot || err != nil || n > 999 {
		return badRequest("client sent invalid request")
	}
	h.minor = int(n)
	h.keepAlive = n > 0
	return nil
}

// splitTarget takes the host off an absolute URI. The path of an absolute URI without one
// is "/".
func splitTarget(target string) (host, uri string, ok bool) {
	if strings.HasPrefix(target, "/") {
		return "", target, true
	}
	scheme, rest, found := strings.Cut(target, "://")
	if !found || scheme == "" || !isSchemeName(scheme) {
		return "", "", false
	}
	end := strings.IndexAny(rest, "/?")
	if end < 0 {
		return rest, "/", rest != ""
	}
	return rest[:end], rest[end:], end > 0
}

func isSchemeName(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i] | 0x20
		letter := 'a' <= c && c <= 'z'
		if !letter && (i == 0 || strings.IndexByte("0123456789+-.", s[i]) < 0) {
			return false
		}
	}
	return true
}

// validPath reports whether nginx can decode the path: percent signs followed by two
// digits, no %00, and no ".." above the root.
func validPath(path string) bool {
	var decoded []byte
	for i := 0; i < len(path); i++ {
		c := path[i]
		if c == '#' {
			break
		}
		if c == '%' {
			if i+2 >= len(path) {
				return false
			}
			n, err := strconv.ParseUint(path[i+1:i+3], 16, 8)
			if err != nil || n == 0 {
				return false
			}
			c = byte(n)
			i += 2
		}
		decoded = append(decoded, c)
	}
	depth := 0
	for _, segment := range strings.Split(string(decoded), "/") {
		switch segment {
		case "", ".":
		case "..":
			if depth--; depth < 0 {
				return false
			}
		default:
			depth++
		}
	}
	return true
}

// parseHeaderLine takes in one line. done says that it was the empty line at the end.
func (h *requestHead) parseHeaderLine(line []byte) (done bool, err error) {
	invalid := badRequest("client sent invalid header line")
	if line[0] == '\n' {
		return true, nil
	}
	if line[0] == '\r' {
		if len(line) != 2 {
			return false, invalid
		}
		return true, nil
	}

	name, known := line, true
	value := []byte(nil)
	for i, c := range line {
		if isNameByte(c) {
			continue
		}
		if c == ':' && i > 0 {
			name, value = line[:i], line[i+1:]
			break
		}
		if (c == '\r' || c == '\n') && i > 0 {
			// A name without colon is a field without value.
			name, value = line[:i], line[i:]
			break
		}
		if c <= 0x20 || c == 0x7f || c == ':' {
			return false, invalid
		}
		known = false // a name nginx does not like: the field is ignored
	}
	if cr := bytes.IndexByte(value, '\r'); cr >= 0 {
		if len(bytes.Trim(value[cr:], "\r")) != 1 { // only more CR may stand before LF
			return false, invalid
		}
		value = value[:cr]
	} else {
		value = value[:len(value)-1]
	}
	if bytes.IndexByte(value, 0) >= 0 {
		return false, invalid
	}
	if !known {
		return false, nil
	}
	// Only spaces are trimmed: a tab belongs to the value.
	return false, h.addField(string(name), string(bytes.Trim(value, " ")))
}

// isNameByte: letters, digits, dash and (underscores_in_headers on) underscore.
func isNameByte(c byte) bool {
	l := c | 0x20
	return 'a' <= l && l <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_'
}

// uniqueRequestHeaders are the fields of which nginx refuses a second one.
const uniqueRequestHeaders = " host if-modified-since if-unmodified-since if-match if-none-match content-length content-range if-range transfer-encoding expect authorization "

func (h *requestHead) addField(name, value string) error {
	key := lower(name)
	if strings.Contains(uniqueRequestHeaders, " "+key+" ") {
		if _, dup := h.headers.first(name); dup {
			return badRequest("client sent duplicate header line: \"" + name + "\"")
		}
	}
	h.headers = append(h.headers, field{name, value})
	switch key {
	case "host":
		host, ok := validHost(value)
		if !ok {
			return badRequest("client sent invalid host header")
		}
		if h.host == "" {
			h.host = host
		}
	case "connection":
		switch v := lower(value); {
		case strings.Contains(v, "close"):
			h.keepAlive = false
		case strings.Contains(v, "keep-alive"):
			h.keepAlive = true
		}
	case "expect":
		h.expectContinue = lower(value) == "100-continue" && h.minor > 0
	}
	return nil
}

// check is what nginx asks of a head as a whole.
func (h *requestHead) check() error {
	if _, ok := h.headers.first("host"); !ok && h.minor > 0 {
		return badRequest(`client sent HTTP/1.1 request without "Host" header`)
	}
	length, hasLength := h.headers.first("content-length")
	if hasLength {
		n, ok := parseLength(length)
		if !ok {
			return badRequest(`client sent invalid "Content-Length" header`)
		}
		h.contentLength = n
	}
	if encoding, ok := h.headers.first("transfer-encoding"); ok {
		switch {
		case h.minor == 0:
			return badRequest(`client sent HTTP/1.0 request with "Transfer-Encoding" header`)
		case lower(encoding) != "chunked":
			return &headError{status: 501, reason: `client sent unknown "Transfer-Encoding"`}
		case hasLength:
			return badRequest(`client sent "Content-Length" and "Transfer-Encoding" headers at the same time`)
		}
		h.chunked = true
	}
	if h.method == "CONNECT" || h.method == "TRACE" {
		return &headError{status: 405, reason: fmt.Sprintf("client sent %s method", h.method)}
	}
	if h.host == "" {
		h.host = "kong" // server_name
	}
	return nil
}

// parseLength reads a Content-Length: digits only.
func parseLength(s string) (int64, bool) {
	if s == "" {
		return 0, false
	}
	var n int64
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' || n > (math.MaxInt64-9)/10 {
			return 0, false
		}
		n = n*10 + int64(s[i]-'0')
	}
	return n, true
}

// validHost is nginx's check of a host: it returns it in lower case without port and final
// dot.
func validHost(host string) (string, bool) {
	end := len(host)
	dot := -2
	literal, rest := false, false
	for i := 0; i < len(host); i++ {
		switch c := host[i]; {
		case c == '.':
			if dot == i-1 {
				return "", false
			}
			dot = i
		case c == ':' && !literal && !rest:
			end, rest = i, true
		case c == '[' && i == 0:
			literal = true
		case c == ']' && literal:
			end, literal, rest = i+1, false, true
		case c == '/' || c <= 0x20 || c == 0x7f:
			return "", false
		}
	}
	if dot == end-1 {
		end--
	}
	if end <= 0 {
		return "", false
	}
	return lower(host[:end]), true
}
