// Package egress is the proxy by which an application calls other APIs without OAuth code.
// The application sends plain HTTP to the sidecar on this machine, with the phantom token
// that it received. The proxy finds the route, has the token exchanged for one that the API
// accepts, puts that one in place and streams both ways.
//
// One request flows through the package in this order; each step has a file:
//
//	path.go        the request target is read; what could be understood in two ways is refused
//	route.go       the route, by host and path; nothing else can be reached
//	credential.go  the phantom token, and the tool that the call is made for
//	proxy.go       the flow itself: token exchange, then the call
//	forward.go     the call to the API, and once more after a 401
//	header.go      what of the header fields goes to the API, and what comes back
//	body.go        bodies while they stream: recorded for a second attempt, trailers
//	dial.go        which addresses a connection may go to
//	answer.go      refusals of the proxy itself
//
// # What the application sends
//
// Authorization: Bearer with the phantom token it received, on every request. A request that
// is made for an MCP tool may name it in Phantom-Tool, so that the policy for this tool
// decides. Without that field, Mcp-Method: tools/call with Mcp-Name names it, as an
// application has them that hands on the fields it received. What could hide a tool is refused:
// one of the two fields more than once, and Mcp-Name without a readable Mcp-Method. Fields that
// named the tool do not reach the API. With Phantom-Tool, Mcp-Method and Mcp-Name say something about the call
// to the API, an MCP server then, which insists on them, and they pass.
//
// The phantom token never reaches an API. Where it stands in another header field, the
// method, the path, the query or a trailer, as it is or percent-encoded, the request is
// refused. Bodies are not searched: they stream.
//
// Fields that say who is calling end here, because the API would believe them: other
// credentials (X-Access-Token, Txn-Token, DPoP), what gateways and proxies say about a user
// (X-User, Remote-User, X-Authenticated-…, X-Consumer-…, Client-Cert) or about the way of a
// request (Forwarded, X-Forwarded-…, X-Real-IP), with dashes or underscores.
//
// # What the application gets
//
// The answer of the API as it is, with these exceptions. WWW-Authenticate is made anew of
// error and scope of the API's Bearer challenge. The rest, resource_metadata above all, is
// meant for the client of the API, and that is the proxy: an application that handed it on
// would send its own clients to a foreign authorization server. Alt-Svc is removed, so that
// nobody goes round the proxy. Neither field passes in interim answers and trailers. Redirects are passed, never followed: Location is what the
// API wrote.
//
// Every byte goes out when it comes. The header goes out at once, too; it waits for the first
// byte of a body for at most 10 milliseconds, and only where the length is known. An answer
// that begins before the request has ended has Connection: close.
//
// A refusal of the proxy itself has the field Phantom-Error with the error code, which no
// answer of an API has, and a JSON body with error and error_description:
//
//	400  invalid_request          the request is malformed or could be understood in two ways
//	401  unauthorized             no bearer token
//	401  invalid_token            the phantom token was refused
//	403  invalid_target, invalid_scope, unauthorized_client  the policy refuses
//	404  not_found                no route for host and path
//	500  server_error             the operator has to mend something; see the log
//	502  upstream_unreachable     no connection, no HTTP, or a certificate that is not accepted
//	502  upstream_forbidden       the API's name leads to an address that the policy does not allow
//	502  exchange_failed          the identity provider's answer to the exchange could not be used
//	503  temporarily_unavailable  no token now; with Retry-After
//	504  upstream_timeout         no connection or no answer in time, or the API stopped reading
//
// # Limits
//
// The application speaks HTTP/1.1 to the proxy; the API gets HTTP/2 where it offers it.
// The only protocol that a connection can be upgraded to is websocket: others are ignored,
// as RFC 9110 §7.8 allows, because what flows after an upgrade has no token exchanged, and
// an upgrade to HTTP/2 in the clear would carry requests past every check here. Encoded
// slashes and empty segments in paths are refused, also where an API has a meaning for them,
// and so are path parameters (/a;v=1/b) where the path without them has another route.
package egress
