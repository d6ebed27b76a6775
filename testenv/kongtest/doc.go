// Package kongtest is an embedded gateway that stands in for Kong Gateway 3.9 in tests and
// in the demo: an HTTP listener that routes as a kong.yml says and speaks Kong's external
// plugin protocol to real plugin binaries over Unix sockets.
//
// It is as strict as the real one, because a stand-in that forgives more than Kong hides
// mistakes until they meet Kong. What it refuses, it refuses in Kong's words; what it does
// not model, it refuses too, and says so, instead of doing something else.
//
// # The way of a request
//
//	client → head (nginx's parser and its refusals) → router → plugins → proxy → upstream
//	                                                             ↕
//	                              PDK: questions of the plugin process, over its socket
//
// A request head is read from the connection byte by byte (head.go) rather than by
// net/http, so that header values which are not UTF-8, control bytes and underscores reach
// the plugin as they do in Kong. The declarative configuration is checked by a port of
// Kong's schema language (schema*.go), the plugin's own schema, printed by its -dump,
// included.
//
// # What it is measured by
//
// testdata/transcripts holds conversations recorded between Kong 3.9.3 and a plugin. Every
// one is replayed in the tests: the recorded plugin's bytes are given to kongtest, and what
// kongtest writes must equal what Kong wrote (the table in replay_test.go says how). The
// recorded requests are sent to a plugin on go-pdk's own server as well, and both directions
// compared with the recording (gopdk_test.go).
//
// Where a recording says nothing, Kong 3.9.3 and the nginx 1.25 inside of it are followed.
// Some of that surprises: of several WWW-Authenticate values only the last is sent, YAML's
// yes and off are booleans, a header with an odd name is dropped without a word, trailers
// of an upstream are too, and a request body is read to its end before the upstream hears
// of the request unless the route says request_buffering: false.
//
// # What it does not model
//
// Kong's own plugins, but for two that decide by who is calling: acl, and rate-limiting with
// local counters of minutes, both as Kong's source has them and with no more settings than
// that takes; plugins of one consumer, upstreams with targets, certificates and other
// entities; phases other than access; path_handling v1; regular expressions that are not RE2; HTTP/2,
// gRPC, WebSockets and HTTP/0.9; databases and the Admin API. A configuration or a plugin
// that needs one of them is refused by name.
package kongtest
