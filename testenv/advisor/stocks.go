package advisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"phantomtoken/tokenexchange"
)

// stocks is the stocks MCP server. Its client knows for whom a call is made by the context
// of the tool call.
type stocks struct {
	url  string
	http *http.Client
}

// call calls one tool and decodes its result into out. It opens a session for that, because
// every call may be for another user. The errors are written for the model: they say what
// was refused and quote no token.
func (s *stocks) call(ctx context.Context, tool string, arguments map[string]any, out any) error {
	client := mcp.NewClient(&mcp.Implementation{Name: "advisor", Version: "1.0.0"}, nil)
	session, err := client.Connect(ctx, &mcp.StreamableClientTransport{
		Endpoint:             s.url,
		HTTPClient:           s.http,
		MaxRetries:           -1, // the user's agent decides whether to try again
		DisableStandaloneSSE: true,
	}, nil)
	if err != nil {
		return failed(err)
	}
	defer func() { _ = session.Close() }() // a server without sessions has none to end
	res, err := session.CallTool(ctx, &mcp.CallToolParams{Name: tool, Arguments: arguments})
	if err != nil {
		return failed(err)
	}
	var text strings.Builder
	for _, c := range res.Content {
		if c, ok := c.(*mcp.TextContent); ok {
			text.WriteString(c.Text)
		}
	}
	if res.IsError {
		return fmt.Errorf("%s of the stocks server: %s", tool, text.String())
	}
	if err := json.Unmarshal([]byte(text.String()), out); err != nil {
		return errors.New("the stocks server gave an answer that is not the expected JSON")
	}
	return nil
}

// failed says why there was no answer of the tool.
func failed(err error) error {
	var e *tokenexchange.Error
	switch {
	case errors.Is(err, tokenexchange.ErrUnavailable):
		return errors.New("no token for the stocks server can be had now, try again later")
	case errors.As(err, &e):
		return fmt.Errorf("no token for the stocks server, %s: %s", e.Code, e.Description)
	}
	return errors.New("the stocks server cannot be called now, try again later")
}
