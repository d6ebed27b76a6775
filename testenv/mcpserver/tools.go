package mcpserver

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"phantomtoken/testenv/stocksapi"
)

// Scopes of the API's operations.
const (
	scopeRead  = "stocks/read"
	scopeTrade = "stocks/trade"
)

type noInput struct{}

type pricesInput struct {
	Symbols []string `json:"symbols" jsonschema:"ticker symbols such as ACME, from list_stocks"`
}

// symbolPattern keeps what a model makes up out of the API's paths.
const symbolPattern = "^[A-Z][A-Z0-9.]{0,9}$"

// maxSymbols bounds the calls that one tool call makes.
const maxSymbols = 10

type price struct {
	Symbol   string  `json:"symbol"`
	Price    float64 `json:"price"`
	Currency string  `json:"currency" jsonschema:"ISO 4217 code"`
}

type pricesOutput struct {
	Prices []price `json:"prices"`
}

type orderInput struct {
	Symbol   string `json:"symbol" jsonschema:"ticker symbol such as ACME, from list_stocks"`
	Side     string `json:"side" jsonschema:"buy or sell"`
	Quantity int    `json:"quantity" jsonschema:"number of shares"`
}

// newServer builds the MCP server with its four tools.
func newServer(api *upstream, logger *slog.Logger) (*mcp.Server, error) {
	prices, err := jsonschema.For[pricesInput](nil)
	if err != nil {
		return nil, fmt.Errorf("building input schema of fetch_stock_prices: %w", err)
	}
	symbols := prices.Properties["symbols"]
	symbols.Types, symbols.Type = nil, "array"
	symbols.MinItems, symbols.MaxItems = jsonschema.Ptr(1), jsonschema.Ptr(maxSymbols)
	symbols.Items.Pattern = symbolPattern

	order, err := jsonschema.For[orderInput](nil)
	if err != nil {
		return nil, fmt.Errorf("building input schema of place_order: %w", err)
	}
	order.Properties["symbol"].Pattern = symbolPattern
	order.Properties["side"].Enum = []any{"buy", "sell"}
	order.Properties["quantity"].Minimum = jsonschema.Ptr(1.0)
	order.Properties["quantity"].Maximum = jsonschema.Ptr(float64(stocksapi.MaxQuantity))

	server := mcp.NewServer(&mcp.Implementation{Name: "stocks", Title: "Stocks", Version: "1.0.0"}, &mcp.ServerOptions{
		Instructions: "Stock prices of the region of the signed-in user. Ask list_stocks for the symbols first. A refusal of a tool is final for this user and client: do not try again.",
	})
	readOnly := func(title string) *mcp.ToolAnnotations {
		return &mcp.ToolAnnotations{Title: title, ReadOnlyHint: true, IdempotentHint: true, OpenWorldHint: jsonschema.Ptr(false)}
	}
	t := tools{api: api, log: logger}
	mcp.AddTool(server, &mcp.Tool{
		Name:        "list_stocks",
		Title:       "List stocks",
		Description: "Lists the stocks that the signed-in user may see, those of the user's region, with symbol, name and current price. Needs scope stocks/read.",
		Annotations: readOnly("List stocks"),
	}, t.listStocks)
	mcp.AddTool(server, &mcp.Tool{
		Name:        "fetch_stock_prices",
		Title:       "Fetch stock prices",
		Description: "Fetches the current prices of up to ten stocks by their symbols. Fails as a whole when one symbol is unknown in the user's region. Reports progress after each stock. Needs scope stocks/read.",
		InputSchema: prices,
		Annotations: readOnly("Fetch stock prices"),
	}, t.fetchStockPrices)
	mcp.AddTool(server, &mcp.Tool{
		Name:        "read_portfolio",
		Title:       "Read portfolio",
		Description: "Reads the portfolio of the signed-in user. The API wants a client that is known to be secure (client_assurance_level of 2 or more), which most agents are not. Needs scope stocks/read.",
		Annotations: readOnly("Read portfolio"),
	}, t.readPortfolio)
	mcp.AddTool(server, &mcp.Tool{
		Name:        "place_order",
		Title:       "Place order",
		Description: "Buys or sells a stock in the name of the signed-in user at the current price. It cannot be undone. Ask the user before calling it. Needs scope stocks/trade.",
		InputSchema: order,
		Annotations: &mcp.ToolAnnotations{
			Title: "Place order", DestructiveHint: jsonschema.Ptr(true), OpenWorldHint: jsonschema.Ptr(false),
		},
	}, t.placeOrder)
	return server, nil
}

// tools are the handlers. An error that a handler returns becomes the text of a tool error.
type tools struct {
	api *upstream
	log *slog.Logger
}

// ask makes one call to the API for the user of the tool call.
func (t tools) ask(ctx context.Context, req *mcp.CallToolRequest, c call, out any) error {
	err := t.api.do(ctx, c, out)
	if err != nil {
		t.log.InfoContext(ctx, "tool refused", "tool", req.Params.Name, "err", err)
	}
	return err
}

func (t tools) listStocks(ctx context.Context, req *mcp.CallToolRequest, _ noInput) (*mcp.CallToolResult, stocksapi.StockList, error) {
	var out stocksapi.StockList
	err := t.ask(ctx, req, call{method: http.MethodGet, path: pathStocks}, &out)
	return nil, out, err
}

func (t tools) fetchStockPrices(ctx context.Context, req *mcp.CallToolRequest, in pricesInput) (*mcp.CallToolResult, pricesOutput, error) {
	out := pricesOutput{Prices: []price{}}
	for i, symbol := range in.Symbols {
		var stock stocksapi.Stock
		if err := t.ask(ctx, req, call{method: http.MethodGet, path: pathStocks + "/" + url.PathEscape(symbol)}, &stock); err != nil {
			return nil, pricesOutput{}, err
		}
		out.Prices = append(out.Prices, price{Symbol: stock.Symbol, Price: stock.Price, Currency: stock.Currency})
		t.progress(ctx, req, symbol, i+1, len(in.Symbols))
	}
	return nil, out, nil
}

// progress tells a client that asked for it how far the tool has come.
func (t tools) progress(ctx context.Context, req *mcp.CallToolRequest, symbol string, done, total int) {
	token := req.Params.GetProgressToken()
	if token == nil {
		return
	}
	err := req.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{
		ProgressToken: token, Message: symbol, Progress: float64(done), Total: float64(total),
	})
	if err != nil { // the client is gone; the result will not reach it either
		t.log.DebugContext(ctx, "progress not sent", "err", err)
	}
}

func (t tools) readPortfolio(ctx context.Context, req *mcp.CallToolRequest, _ noInput) (*mcp.CallToolResult, stocksapi.Portfolio, error) {
	var out stocksapi.Portfolio
	err := t.ask(ctx, req, call{method: http.MethodGet, path: pathPortfolio}, &out)
	return nil, out, err
}

func (t tools) placeOrder(ctx context.Context, req *mcp.CallToolRequest, in orderInput) (*mcp.CallToolResult, stocksapi.Order, error) {
	var out stocksapi.Order
	err := t.ask(ctx, req, call{
		method: http.MethodPost, path: pathOrders,
		body: stocksapi.OrderRequest{Symbol: in.Symbol, Side: in.Side, Quantity: in.Quantity},
	}, &out)
	return nil, out, err
}
