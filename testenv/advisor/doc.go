// Package advisor is a second sample MCP server. It has no API behind it but another MCP
// server: it answers questions about stocks by calling the tools of package mcpserver, as a
// real MCP client, on behalf of the user who asked.
//
// Requests come from the gateway with a phantom token for this server. That token opens
// nothing else. The advisor has it exchanged for a token of the stocks server, which has it
// exchanged for one of the API, and each of them says who acts, and for whom (RFC 8693 §4.1):
//
//	MCP client → gateway → advisor → stocks server → stocks API
//	                          └ act: advisor,          └ act: mcp-server, advisor,
//	                            MCP client               MCP client
//
// Scope only narrows on the way: what the policy of the sidecar does not give the advisor at
// the stocks server, no tool of the advisor can do there, whatever the user granted.
package advisor
