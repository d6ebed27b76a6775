package gate

import "strings"

// Header is one header field. Names of request headers are in lower case, with dashes
// and underscores as the client sent them; values are raw bytes, not necessarily UTF-8.
type Header struct{ Name, Value string }

// Request is what every decision needs to know of a request.
type Request struct {
	Headers []Header // every field, several of one name in order
	Target  string   // path and query as the client sent them
}

// first returns the first non-empty value of name, or "". An empty field counts as none.
func (r *Request) first(name string) string {
	for i := range r.Headers {
		if r.Headers[i].Name == name && r.Headers[i].Value != "" {
			return r.Headers[i].Value
		}
	}
	return ""
}

// count returns how many non-empty fields are called name.
func (r *Request) count(name string) int {
	n := 0
	for i := range r.Headers {
		if r.Headers[i].Name == name && r.Headers[i].Value != "" {
			n++
		}
	}
	return n
}

// path splits the target into path and raw query. A target in absolute form (RFC 9112
// §3.2.2) loses its scheme and authority.
func (r *Request) path() (path, query string) {
	path, query, _ = strings.Cut(r.Target, "?")
	if i := strings.Index(path, "://"); i > 0 && path[0] != '/' {
		path = path[i+len("://"):]
		if j := strings.IndexByte(path, '/'); j >= 0 {
			path = path[j:]
		} else {
			path = "/"
		}
	}
	return path, query
}

// Gateway answers what only some requests need. Each call may be a question to Kong, so
// the gate asks from the goroutine that called Decide, and only when it must.
type Gateway interface {
	Method() (string, error)
	Host() (string, error) // lower case, without port
	ClientAddress() (string, error)
	// Route may remember its answer, or its failure, where the route is always the same.
	Route() (Route, error)
	// Consumer finds a consumer by its username, or by its id where the name has the form
	// of one; the zero Consumer says that there is none. It may remember whom it found.
	Consumer(username string) (Consumer, error)
}

// Route is what the gateway's own configuration says of the matched route.
type Route struct{ Hosts, Paths []string }

// Decision is what to do with a request: exactly one of its fields is set.
type Decision struct {
	Answer  *Answer  // answer the client and stop
	Forward *Forward // let the request through, changed
}

// Answer is a complete response to the client.
type Answer struct {
	Status  int
	Headers []Header
	Body    []byte
}

// Forward says how the request goes upstream.
type Forward struct {
	Authorization string   // the new Authorization value, a phantom token
	Clear         []string // request headers to remove, names as received
	Response      []Header // headers to set on the upstream's response
	Caller        *Caller  // for the gateway's own plugins; nil tells them nothing
}
