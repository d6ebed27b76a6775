// Package mcpserver is a sample MCP server behind the gateway: the official Go SDK,
// streamable HTTP, stateless. It is what a team writes that wants to give agents access to
// an existing API.
//
// Requests come from the gateway with a phantom token, or from another MCP server with a
// token that it got for this one. The server verifies either as any resource server does,
// with an OpenID Connect library and the issuers' URLs (package bearer). A tool never sends
// that token to the API. It is exchanged for one of the API, in one of two ways (way.go):
//
//	library.go  by this program, with package tokenexchange
//	proxy.go    by the egress proxy of the sidecar, with no OAuth code in this program
//
// What the API refused, a tool tells the model in the API's own words (upstream.go, tools.go).
package mcpserver
