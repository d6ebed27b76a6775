package mcpserver

import "phantomtoken/tokenexchange"

// byLibrary has the token of each tool call exchanged on the way to the API, by package
// tokenexchange. This is all the code that it takes.
func byLibrary(cfg Config) (way, error) {
	client, err := tokenexchange.New(tokenexchange.Config{
		Endpoint: cfg.TokenEndpoint, ClientID: cfg.ClientID, ClientSecret: cfg.ClientSecret,
		Cache:     &tokenexchange.CacheConfig{}, // one exchange per user and scope, not per call
		Transport: cfg.Transport, InsecureAllowHTTP: cfg.InsecureAllowHTTP, Now: cfg.Now,
	})
	if err != nil {
		return way{}, err
	}
	target := func(path, scope string) tokenexchange.Target {
		return tokenexchange.Target{URL: cfg.APIURL + path, Audience: []string{cfg.APIAudience}, Scope: []string{scope}}
	}
	transport, err := tokenexchange.NewTransport(tokenexchange.TransportConfig{
		Client: client,
		// No token gets more than its call.
		Targets:           []tokenexchange.Target{target(pathStocks, scopeRead), target(pathPortfolio, scopeRead), target(pathOrders, scopeTrade)},
		Base:              cfg.Transport,
		InsecureAllowHTTP: cfg.InsecureAllowHTTP,
	})
	if err != nil {
		return way{}, err
	}
	return way{incoming: tokenexchange.WithHeader, transport: transport}, nil
}
