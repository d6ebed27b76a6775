package mcpclients

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// mcpRemote runs mcp-remote as an application does that speaks MCP over standard streams
// only. Beside its messages there, it prints where the user has to go.
func mcpRemote(ctx context.Context, folder string, call Call) (_ string, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	announced := false
	cmd := exec.Command("node", filepath.Join(folder, "node_modules", "mcp-remote", "dist", "proxy.js"), call.URL)
	cmd.Dir = call.Credentials
	// BROWSER: it opens the page itself where there is a desktop. Here that does nothing.
	cmd.Env = call.environment("MCP_REMOTE_CONFIG_DIR="+call.Credentials, "BROWSER=true")
	cmd.Stderr = &lines{each: func(line []byte) {
		text := string(line)
		_, _ = fmt.Fprintln(call.Log, text)
		if announced && strings.HasPrefix(text, "http") {
			announced = false
			go func() {
				if err := call.Browse(ctx, text); err != nil {
					cancel(fmt.Errorf("sending its user to a browser: %w", err))
				}
			}()
		}
		announced = announced || strings.HasPrefix(text, "Please authorize this client by visiting:")
	}}
	client := mcp.NewClient(&mcp.Implementation{Name: "application-over-stdio", Version: "1.0.0"}, nil)
	session, err := client.Connect(ctx, &mcp.CommandTransport{Command: cmd, TerminateDuration: stopTimeout}, nil)
	if err != nil {
		return "", errors.Join(err, context.Cause(ctx))
	}
	defer func() { err = errors.Join(err, session.Close()) }()
	result, err := session.CallTool(ctx, &mcp.CallToolParams{Name: call.Tool})
	if err != nil {
		return "", errors.Join(err, context.Cause(ctx))
	}
	var text strings.Builder
	for _, c := range result.Content {
		if part, ok := c.(*mcp.TextContent); ok {
			text.WriteString(part.Text)
		}
	}
	if result.IsError {
		return "", fmt.Errorf("the tool failed: %s", text.String())
	}
	return text.String(), nil
}
