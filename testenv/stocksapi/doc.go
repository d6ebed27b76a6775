// Package stocksapi is a sample upstream API: stocks, a portfolio and orders. It stands for
// the APIs a company has had for years. It knows nothing of MCP or of the gateway; it trusts
// JWT access tokens of one issuer that name it as their audience, and decides by their
// claims:
//
//	GET  /stocks            scope stocks/read    the stocks of the caller's region
//	GET  /stocks/{symbol}   scope stocks/read    one of them
//	GET  /portfolio         scope stocks/read    client_assurance_level of 2 or more
//	POST /orders            scope stocks/trade   not for clients of client_type mcp
//
// Where a token says who acts for its user (act, RFC 8693 §4.1), the API logs the whole chain
// and repeats it in a header field of its answer. It may accept orders through one server
// alone; that decision looks at the current actor and at nobody before it.
//
// Errors are those of RFC 6750 §3: a JSON object with error and error_description, and a
// challenge where another token would help. A refusal that no other scope can cure comes
// before the question of scope, so that nobody is sent to ask for more in vain.
package stocksapi
