package stocksapi

import "slices"

func market() []Stock {
	return []Stock{
		{"ACME", "Acme Corporation", "USA", "USD", 412.5},
		{"GLBX", "Globex Industries", "USA", "USD", 88.21},
		{"INIT", "Initech Software", "USA", "USD", 19.99},
		{"DUFF", "Duff Breweries", "Europe", "EUR", 57.3},
		{"SPCE", "Spacely Sprockets", "Europe", "EUR", 143.06},
		{"VNDL", "Vandelay Imports", "Europe", "EUR", 31.4},
	}
}

// inRegion returns the stocks of one region. An empty region has none: a token without the
// claim sees nothing, not everything.
func inRegion(stocks []Stock, region string) []Stock {
	out := []Stock{}
	for _, s := range stocks {
		if region != "" && s.Region == region {
			out = append(out, s)
		}
	}
	return out
}

func bySymbol(stocks []Stock, symbol string) (Stock, bool) {
	i := slices.IndexFunc(stocks, func(s Stock) bool { return s.Symbol == symbol })
	if i < 0 {
		return Stock{}, false
	}
	return stocks[i], true
}

// holdings is the portfolio of everybody in a region: ten of each stock.
func holdings(stocks []Stock) []Holding {
	out := make([]Holding, len(stocks))
	for i, s := range stocks {
		out[i] = Holding{Symbol: s.Symbol, Quantity: 10, Value: 10 * s.Price, Currency: s.Currency}
	}
	return out
}
