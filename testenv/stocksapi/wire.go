package stocksapi

// The JSON of requests and answers, for the API and for Go programs that call it.

// Stock is a stock and its price. The prices are made up.
type Stock struct {
	Symbol   string  `json:"symbol"`
	Name     string  `json:"name"`
	Region   string  `json:"region"`
	Currency string  `json:"currency"`
	Price    float64 `json:"price"`
}

// StockList answers GET /stocks: the stocks of one region.
type StockList struct {
	Region string  `json:"region"`
	Stocks []Stock `json:"stocks"`
}

// Holding is one position of a portfolio.
type Holding struct {
	Symbol   string  `json:"symbol"`
	Quantity int     `json:"quantity"`
	Value    float64 `json:"value"`
	Currency string  `json:"currency"`
}

// Portfolio answers GET /portfolio.
type Portfolio struct {
	Owner    string    `json:"owner"`
	Holdings []Holding `json:"holdings"`
}

// OrderRequest is the body of POST /orders. Side is "buy" or "sell", Quantity 1 to
// MaxQuantity.
type OrderRequest struct {
	Symbol   string `json:"symbol"`
	Side     string `json:"side"`
	Quantity int    `json:"quantity"`
}

// MaxQuantity is the largest order.
const MaxQuantity = 10_000

// Order is an order as it was accepted, with status 201.
type Order struct {
	ID       string  `json:"order_id"`
	Symbol   string  `json:"symbol"`
	Side     string  `json:"side"`
	Quantity int     `json:"quantity"`
	Price    float64 `json:"price"`
	Currency string  `json:"currency"`
}

// Error is the body of every answer that is not 2xx (RFC 6750 §3 in a JSON object).
type Error struct {
	Code        string `json:"error"`
	Description string `json:"error_description"`
	Scope       string `json:"scope,omitempty"` // with insufficient_scope: what the operation needs
}
