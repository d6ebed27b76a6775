package introspection

import (
	"context"
	"net/http"
)

// NewRequest is the request that Introspect sends.
func (c *Client) NewRequest(token string) (*http.Request, error) {
	return c.newRequest(context.Background(), token)
}

// Read is what Introspect does with a response.
func (c *Client) Read(ctx context.Context, resp *http.Response) (*Result, error) {
	a, failed := c.readAnswer(ctx, ctx, resp)
	if failed != nil {
		return nil, failed
	}
	result, failed := c.judge(ctx, a)
	if failed != nil {
		return nil, failed
	}
	return result, nil
}
