package mcpclients

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

// Client is an MCP client of somebody else's.
type Client struct {
	Name    string
	Package string // where it comes from
	Version string
	run     func(ctx context.Context, folder string, call Call) (text string, err error)
}

// Clients are the clients there are. Versions are those of package-lock.json and
// requirements.txt.
func Clients() []Client {
	return []Client{
		{"TypeScript SDK 1.x", "@modelcontextprotocol/sdk", "1.32.2", node("typescript1.mjs")},
		{"TypeScript SDK 2.x", "@modelcontextprotocol/client", "2.4.0", node("typescript2.mjs")},
		{"Python SDK", "mcp", "2.3.0", python("client.py")},
		{"FastMCP", "fastmcp", "4.1.2", python("fastmcp_client.py")},
		{"mcp-remote", "mcp-remote", "0.15.1", mcpRemote},
	}
}

// Call is one start of a client: it connects, calls a tool and ends. All fields but Log are
// required.
type Call struct {
	// URL is that of the MCP server: all that the client is told.
	URL string
	// Credentials is a folder in which the client finds what it kept there the last time.
	Credentials string
	// Tool is the name of the tool, which is called without arguments.
	Tool string
	// Browse opens the page to which the client sends its user, and returns when the browser
	// has come back to the client.
	Browse func(ctx context.Context, address string) error
	// Log gets what the client prints beside its answer; nil discards it.
	Log io.Writer
}

// Call calls a tool by a new process of the client, found in folder (see Find), and returns
// the text of the answer. ctx bounds all of it; the process ends before Call does.
func (c Client) Call(ctx context.Context, folder string, call Call) (string, error) {
	if call.URL == "" || call.Credentials == "" || call.Tool == "" || call.Browse == nil {
		return "", errors.New("calling a tool: expected URL, Credentials, Tool and Browse in the Call")
	}
	if call.Log == nil {
		call.Log = io.Discard
	}
	text, err := c.run(ctx, folder, call)
	if err != nil {
		return "", fmt.Errorf("calling %s by %s %s: %w", call.Tool, c.Name, c.Version, err)
	}
	return text, nil
}

// environment is all that a client may know of ours, and more that is for it alone. Its home is
// the folder for its credentials: what a person has configured for such clients is not used.
func (c Call) environment(more ...string) []string {
	return append(more, "PATH="+os.Getenv("PATH"), "HOME="+c.Credentials)
}
