package advisor

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

type symbolsInput struct {
	Symbols []string `json:"symbols" jsonschema:"ticker symbols such as ACME"`
}

type price struct {
	Symbol   string  `json:"symbol"`
	Price    float64 `json:"price"`
	Currency string  `json:"currency" jsonschema:"ISO 4217 code"`
}

type comparison struct {
	Cheapest string  `json:"cheapest" jsonschema:"symbol of the stock with the lowest price"`
	Prices   []price `json:"prices" jsonschema:"lowest price first"`
}

type purchase struct {
	OrderID string  `json:"order_id"`
	Symbol  string  `json:"symbol"`
	Price   float64 `json:"price"`
}

// newServer builds the MCP server with its two tools.
func newServer(upstream *stocks, logger *slog.Logger) (*mcp.Server, error) {
	schema, err := jsonschema.For[symbolsInput](nil)
	if err != nil {
		return nil, fmt.Errorf("building input schema: %w", err)
	}
	symbols := schema.Properties["symbols"]
	symbols.Types, symbols.Type = nil, "array"
	symbols.MinItems, symbols.MaxItems = jsonschema.Ptr(2), jsonschema.Ptr(10) // the stocks server takes ten

	server := mcp.NewServer(&mcp.Implementation{Name: "advisor", Title: "Stock advisor", Version: "1.0.0"}, &mcp.ServerOptions{
		Instructions: "Compares stocks of the region of the signed-in user. A refusal of a tool is final for this user and client: do not try again.",
	})
	t := tools{stocks: upstream, log: logger}
	mcp.AddTool(server, &mcp.Tool{
		Name:        "compare_stocks",
		Title:       "Compare stocks",
		Description: "Compares the current prices of two to ten stocks, as the stocks server gives them to the signed-in user. Needs scope stocks/read.",
		InputSchema: schema,
		Annotations: &mcp.ToolAnnotations{
			Title: "Compare stocks", ReadOnlyHint: true, IdempotentHint: true, OpenWorldHint: jsonschema.Ptr(false),
		},
	}, t.compareStocks)
	mcp.AddTool(server, &mcp.Tool{
		Name:        "buy_cheapest",
		Title:       "Buy the cheapest stock",
		Description: "Buys one share of the cheapest of two to ten stocks in the name of the signed-in user. It cannot be undone. Works only where the operator lets the advisor trade at the stocks server. Ask the user before calling it.",
		InputSchema: schema,
		Annotations: &mcp.ToolAnnotations{
			Title: "Buy the cheapest stock", DestructiveHint: jsonschema.Ptr(true), OpenWorldHint: jsonschema.Ptr(false),
		},
	}, t.buyCheapest)
	return server, nil
}

// tools are the handlers. An error that a handler returns becomes the text of a tool error.
type tools struct {
	stocks *stocks
	log    *slog.Logger
}

func (t tools) ask(ctx context.Context, req *mcp.CallToolRequest, tool string, arguments map[string]any, out any) error {
	err := t.stocks.call(ctx, tool, arguments, out)
	if err != nil {
		t.log.InfoContext(ctx, "tool refused", "tool", req.Params.Name, "err", err)
	}
	return err
}

func (t tools) compareStocks(ctx context.Context, req *mcp.CallToolRequest, in symbolsInput) (*mcp.CallToolResult, comparison, error) {
	out := comparison{Prices: []price{}}
	if err := t.ask(ctx, req, "fetch_stock_prices", map[string]any{"symbols": in.Symbols}, &out); err != nil {
		return nil, comparison{}, err
	}
	slices.SortStableFunc(out.Prices, func(a, b price) int { return cmp.Compare(a.Price, b.Price) })
	if len(out.Prices) > 0 {
		out.Cheapest = out.Prices[0].Symbol
	}
	return nil, out, nil
}

func (t tools) buyCheapest(ctx context.Context, req *mcp.CallToolRequest, in symbolsInput) (*mcp.CallToolResult, purchase, error) {
	_, compared, err := t.compareStocks(ctx, req, in)
	if err != nil {
		return nil, purchase{}, err
	}
	var out purchase
	err = t.ask(ctx, req, "place_order", map[string]any{"symbol": compared.Cheapest, "side": "buy", "quantity": 1}, &out)
	return nil, out, err
}
