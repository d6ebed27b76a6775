package kongtest

import (
	"strconv"
	"strings"

	kpp "github.com/Kong/go-pdk/server/kong_plugin_protocol"

	"phantomtoken/internal/kongconfig"
)

const (
	// maxHeaders is how many fields a plugin may ask for, and how many of a response.
	maxHeaders = 1000
	// luaHeaders is lua_max_req_headers and lua_max_uri_args: what Kong itself looks at.
	luaHeaders = 100
)

// requestPath is the client's path, normalised, whatever strip_path says.
func requestPath(x *exchange) string {
	path := x.head.uri
	if i := strings.IndexByte(path, '?'); i > 0 {
		path = path[:i]
	}
	return kongconfig.NormalizePath(path)
}

// header is Kong's get_header(name): dashes and underscores are the same; of several
// fields, or of one with ", " in it, it looks into the table of the first hundred.
func (x *exchange) header(name string) (string, bool) {
	value, ok := x.head.headers.variable(name)
	if !ok || !strings.Contains(value, ", ") {
		return value, ok
	}
	return x.head.headers.table(luaHeaders).value(name)
}

func requestForwardedScheme(x *exchange) string {
	if x.trusted() {
		if scheme, ok := x.header("X-Forwarded-Proto"); ok {
			return lower(scheme)
		}
	}
	return x.conn.scheme()
}

func requestForwardedHost(x *exchange) string {
	if x.trusted() {
		if host, ok := x.header("X-Forwarded-Host"); ok {
			if _, after, found := strings.Cut(host, "@"); found {
				host = after
			}
			host, _, _ = strings.Cut(host, ":")
			return lower(host)
		}
	}
	return x.head.host
}

func requestForwardedPort(x *exchange) int {
	if x.trusted() {
		text, _ := x.header("X-Forwarded-Port")
		if port, ok := parsePort(text); ok {
			return port
		}
		if host, ok := x.header("X-Forwarded-Host"); ok {
			if _, after, found := strings.Cut(host, "@"); found {
				host = after
			}
			if _, text, found := strings.Cut(host, ":"); found {
				if port, ok := parsePort(text); ok {
					return port
				}
			}
		}
	}
	return x.conn.port
}

func parsePort(text string) (int, bool) {
	port, err := strconv.Atoi(text)
	return port, err == nil && port >= 1 && port <= 65535
}

func requestGetHeader(x *exchange, name *kpp.String) ([]byte, error) {
	value, _ := x.header(name.GetV())
	return encodeString(value), nil
}

func requestGetHeaders(x *exchange, limit *kpp.Int) ([]byte, error) {
	if err := checkLimit("max_headers", limit.GetV(), maxHeaders); err != nil {
		return nil, err
	}
	return tableStruct(x.head.headers.table(int(limit.GetV()))), nil
}

func checkLimit(name string, n int32, limit int) error {
	switch {
	case n < 1:
		return luaErrorf("%s must be >= 1", name)
	case int(n) > limit:
		return luaErrorf("%s must be <= %d", name, limit)
	}
	return nil
}

// requestGetQuery is a table of strings, true for arguments without "=", and lists.
func requestGetQuery(x *exchange, limit *kpp.Int) ([]byte, error) {
	if err := checkLimit("max_args", limit.GetV(), maxHeaders); err != nil {
		return nil, err
	}
	return encodeStruct(x.query(int(limit.GetV()))), nil
}

func requestGetQueryArg(x *exchange, name *kpp.String) ([]byte, error) {
	value := x.query(luaHeaders)[name.GetV()]
	if list, ok := value.([]any); ok {
		value = list[0]
	}
	switch v := value.(type) {
	case nil:
		return nil, nil
	case string:
		return encodeString(v), nil
	default:
		return nil, luaErrorf("string expected for field 'v', got boolean")
	}
}

func (x *exchange) query(limit int) map[string]any {
	args := map[string]any{}
	for _, a := range parseQuery(x.args, limit) {
		var value any = a.value
		if a.flag {
			value = true
		}
		switch old := args[a.key].(type) {
		case nil:
			args[a.key] = value
		case []any:
			args[a.key] = append(old, value)
		default:
			args[a.key] = []any{old, value}
		}
	}
	return args
}

// requestGetRawBody gives a small body itself and a large one as the name of a file, which
// lives as long as the request.
func requestGetRawBody(x *exchange, _ []byte) ([]byte, error) {
	if err := x.body.buffer(); err != nil {
		return nil, luaErrorf("%v", err)
	}
	const content, bodyFilepath = 1, 2
	if x.body.file != "" {
		return appendMessage(nil, bodyFilepath, []byte(x.body.file)), nil
	}
	return appendMessage(nil, content, x.body.data), nil
}

func requestGetURICaptures(x *exchange) []byte {
	const unnamed, named = 1, 2
	var b []byte
	for _, capture := range x.match.captures {
		b = appendMessage(b, unnamed, []byte(capture))
	}
	for name, capture := range x.match.named {
		b = appendMessage(b, named, appendMessage(appendString(nil, 1, name), 2, []byte(capture)))
	}
	return b
}
