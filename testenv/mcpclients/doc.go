// Package mcpclients runs MCP clients of others, each with the OAuth code that it has: the
// TypeScript SDK in its versions 1 and 2, the Python SDK, FastMCP, and mcp-remote. Where one
// needs an application around it, there is a small one here (typescript1.mjs, typescript2.mjs,
// client.py, fastmcp_client.py). A client is told the URL of an MCP server and nothing else.
//
// The clients are installed once into the user's cache folder (install.go), with the versions
// and checksums of package-lock.json and requirements.txt, and then called (client.go,
// driver.go, mcpremote.go). They need Node 20 or later with npm and Python 3.11 or later with
// venv.
package mcpclients
