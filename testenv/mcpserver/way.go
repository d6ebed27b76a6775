package mcpserver

import (
	"context"
	"net/http"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// way is how calls of the API come by a token of the API. There are two, byLibrary and
// byProxy; the tools do not know which.
type way struct {
	// incoming notes in the context of a tool call what the request had in its header.
	incoming func(context.Context, http.Header) context.Context
	// transport makes the calls of the API. It finds in their context what incoming noted.
	transport http.RoundTripper
}

// middleware has every handler of the server run in a context that knows its request. A
// middleware of the HTTP server would do for this stateless server too; this one is right
// with sessions as well, where the SDK runs a handler in the context of the session.
func (w way) middleware(next mcp.MethodHandler) mcp.MethodHandler {
	return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
		if extra := req.GetExtra(); extra != nil {
			ctx = w.incoming(ctx, extra.Header)
		}
		return next(ctx, method, req)
	}
}
