package testenv_test

import "testing"

// TestPromises says in sentences what the whole chain does, each shown on real processes,
// sockets and clients. The promises run in order and share one stack.
//
// Covers: MCP-01, MCP-02, MCP-03, MCP-04, MCP-05, MCP-08, MCP-11, MCP-15, MCP-17, MCP-20,
// Covers: MCP-24, MCP-33, MCP-36, MCP-37, MCP-38, MCP-39, MCP-44, CH-11, CH-17, CH-18,
// Covers: BT-05, BT-07, BT-14, PR-05, PR-21, BC-13, CO-01, CO-05, CO-06, JW-01, JW-02, JW-03,
// Covers: JW-04, JW-14, JW-17, TX-17, TX-37, TX-40, TX-41, TX-43, PR-16, BC-18, CL-04
func TestPromises(t *testing.T) {
	w := start(t)
	closed := false
	t.Cleanup(func() {
		if !closed { // a promise before the last ended the test
			_ = w.Close()
		}
	})
	for i, p := range []struct {
		name string
		show func(t *testing.T, w *world)
	}{
		{"a client that knows only the URL gets to stock prices (DCR)", registersItself},
		{"a client that knows only the URL gets to stock prices (CIMD)", publishesItsMetadata},
		{"the consent page names the client and says what each scope allows", consentPage},
		{"the access token is opaque, lives 15 minutes and cannot be refreshed", accessToken},
		{"every method without a token gets the same challenge", challenge},
		{"what the MCP server says to a method it does not know comes back unchanged", passedThrough},
		{"the metadata at the path and at the root are the same", metadata},
		{"paths that only look like OAuth get a 404 in JSON", probes},
		{"a web page may read challenges and metadata", crossOrigin},
		{"the phantom token alone goes upstream", phantomAlone},
		{"forged identity headers end at the gateway", forgedHeaders},
		{"any OIDC library finds the keys of phantom tokens", phantomKeys},
		{"each call of the API has a token for that API alone, with the actor named", exchangedToken},
		{"a token for the API is exchanged once, however many calls are made with it", exchangedOnce},
		{"the same tool calls work by the library and by the egress proxy, with tokens that say the same", bothWays},
		{"a server that has no credentials calls the API through the egress proxy", optionWay},
		{"a server that calls another one is named in the chain, and the API is told all of it", chainOfActors},
		{"a server that calls another one has no more scope there than the policy gives it", scopeOnlyNarrows},
		{"a chain of actors that is longer than the policy allows ends, and the answer names the limit", chainTooLong},
		{"a trace of the client arrives at the API, by either way and through both servers", traceContext},
		{"one tool call leaves audit lines that can be joined", auditJoins},
		{"each user sees the stocks of the own region", regions},
		{"a token is introspected once, however many requests come at once", introspectedOnce},
		{"streams are not buffered", streams},
		{"a client that goes away ends the work behind the gateway", disconnect},
		{"a client that speaks no MCP reaches the API at its own route, with a token for it", ordinaryClient},
		{"an order of an MCP client is refused by the API, in the API's words", orderRefused},
		{"a portfolio is refused to a client of low assurance, in the API's words", portfolioRefused},
		{"no tool gets a wider scope than the user allowed", scopeNotWidened},
		{"refused with 401: no token", refusedNoToken},
		{"refused with 401: garbage", refusedGarbage},
		{"refused with 401: an expired token", refusedExpired},
		{"refused with 401: a revoked token", refusedRevoked},
		{"refused with 401: a token for another resource", refusedOtherResource},
		{"refused with 403 that names the scope: a scope too few", refusedScope},
		{"refused with 403 without challenge: a token without a user", refusedWithoutUser},
		{"refused with 401: the phantom token sent from outside", refusedPhantomOutside},
		{"refused with 401: the exchanged token sent to the MCP server", refusedExchangedAtServer},
		{"refused with 401: the phantom token sent to the API", refusedPhantomAtAPI},
		{"refused with 401: the token of one MCP server sent to the other", refusedOtherServer},
		{"with the authorization server down new tokens get 503 and known users go on", serverDown},
		{"a new configuration shows at once, interrupts nobody and forgets no token", reload},
		{"a revoked token is refused at once where no answer is remembered", revocation},
		{"a configuration that cannot work answers 500 and takes no other route down", brokenConfiguration},
		{"no JWT ever reaches the outside", nothingLeaves},
		{"no token and no secret appears in any log line", logsAreClean},
		{"everything stops when asked", func(t *testing.T, w *world) {
			closed = true
			stops(t, w)
		}},
		{"the demonstration ends with stock prices and exit status 0", demonstration},
		{"the demonstration that meets a difference says so and exits with 1", demonstrationFails},
		{"the demonstration stays up for other clients until Ctrl-C", demonstrationServes},
	} {
		const clients = 2 // the first promises connect the clients that the others use
		if !t.Run(p.name, func(t *testing.T) { p.show(t, w) }) && i < clients {
			t.Fatal("without clients nothing else can be shown; the log ends with\n" + tail(w.Log.String(), 20))
		}
	}
}
