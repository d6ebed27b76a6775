// Package mcpserver is a sample MCP server behind the gateway: the official Go SDK,
// streamable HTTP, stateless. It is what a team writes that wants to give agents access to
// an existing API.
//
// Requests come from the gateway with a phantom token. The server verifies it as any
// resource server does, with an OpenID Connect library and the gateway's issuer URL
// (authenticate.go). A tool never sends that token on: it exchanges it at the sidecar for
// one of the stocks API (upstream.go), and tells the model in the API's own words what the
// API refused (tools.go).
package mcpserver
