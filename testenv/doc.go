// Package testenv starts the whole chain on loopback: an authorization server, the embedded
// gateway with the real plugin binary, an MCP server, the real token exchange sidecar and a
// stocks API; and a second MCP server that calls the first one.
//
//	MCP client ─→ gateway (kongtest) ─→ MCP server ─→ stocks API
//	     │            │ phantom-token     ↑  │   │      ↑
//	     │            ├──────→ advisor ───┘  ↓   └→ egress proxy
//	     │            ↓           └───→ sidecar (one process with its egress proxy)
//	     └──→ authorization server
//
// The demonstration (testenv/demo) and the end-to-end tests run on it. Nothing in it is
// pretended: processes, sockets, HTTP, keys and tokens are real, and only Kong, the
// authorization server and the stocks API are stand-ins, each in a package of its own.
package testenv
