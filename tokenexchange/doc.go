// Package tokenexchange exchanges one OAuth token for another: RFC 8693, OAuth 2.0 Token
// Exchange. It serves both sides of the call: [Client] for a program that needs a token
// for an API it calls, and [ParseRequest], [Response] and [Error] for a token endpoint.
// It imports the standard library only.
//
// # What it is for
//
// A server that is called with a token must not send that token on: it names this server
// as its audience, and the API behind would have to trust tokens meant for somebody else.
// The server shows the token it received (the subject token) to a security token service
// and gets one for the API instead: same user, narrower audience, scope no wider, life no
// longer. An MCP server does so once in each tool call:
//
//	client, err := tokenexchange.New(tokenexchange.Config{
//		Endpoint:     "https://sts.example/token",
//		ClientID:     "mcp-server",
//		ClientSecret: secret,
//	})
//	...
//	res, err := client.Exchange(ctx, tokenexchange.Request{
//		SubjectToken: received, // without "Bearer "
//		Audience:     []string{"https://api.example"},
//		Scope:        []string{"stocks/read"},
//	})
//	...
//	call.Header.Set("Authorization", "Bearer "+res.AccessToken)
//
// If the exchange fails, fail the call. Never fall back to the token that was received.
//
// # Without code in the handlers
//
// [Middleware] (or [WithHeader], for frameworks that hand on the header only) notes the
// token of the incoming request in the context; a [Transport] takes it from there, exchanges
// it for the API that a request goes to, and sends the request with that. It knows the APIs
// by their URLs. No other place gets a token, whatever redirects say:
//
//	transport, err := tokenexchange.NewTransport(tokenexchange.TransportConfig{
//		Client:  client,
//		Targets: []tokenexchange.Target{{URL: "https://api.example/v1", Audience: []string{"https://api.example"}}},
//	})
//	...
//	upstream := &http.Client{Transport: transport}
//	handler = verify(tokenexchange.Middleware(handler)) // Middleware itself does not verify
//
// # Cache
//
// With Config.Cache, a token is used again for the same request while it lives. Which
// requests are the same, and what ends a token, is said at [CacheConfig]. Set it in a server:
// without it, each call of an API costs one of the token endpoint.
//
// # Proving who the client is
//
// By a secret ([AuthBasic], [AuthPost]), or better without one: by a signed assertion
// ([AuthPrivateKeyJWT]), by a token that the platform keeps in a file ([AuthAssertionFile]),
// or by the certificate of the connection ([AuthTLS]).
//
// # Naming the target
//
// Audience is a logical name that the service knows, Resource the absolute URI of the
// target (RFC 8707). Which of the two a service wants is its choice; both may be given and
// both may be repeated. They are sent byte for byte as they are given here.
//
// Name the scopes too. Some services answer a request without scope with a token that has
// none.
//
// # Errors
//
// Three kinds, told apart by [errors.As] and [errors.Is]:
//
//   - [*Error]: the service refused. Code says why; Description is its own text.
//   - [ErrUnavailable]: the service could not be asked, or said that it cannot answer now
//     (429, 502, 503, 504, temporarily_unavailable). Trying later may help. Such an *Error
//     matches it too, and its RetryAfter says when.
//   - [ErrUnacceptable]: the service answered with something that must not be used, for
//     example a token for another audience. Trying again does not help.
//
// An error whose context was cancelled or ran out matches [context.Canceled] or
// [context.DeadlineExceeded]. No error text contains a token, a secret or a text of the
// service; Error.Description, which is such a text, is left to the caller to show.
//
//	invalid_request         the subject token is bad, expired or not for you, or a parameter is wrong
//	invalid_client          wrong ClientID or AuthMethod, or the secret, key or file of it
//	unauthorized_client     this client may not exchange tokens
//	invalid_target          unknown audience or resource, or not for this client
//	invalid_scope           more scope than the subject token or the service's policy has
//	temporarily_unavailable try again after RetryAfter
//
// # What the client checks
//
// The endpoint is https or on this machine, redirects are not followed, no proxy is taken
// from the environment, the answer is bounded in time and size. The answer must be of the
// type asked for and usable as a bearer token. When it is a JWT, it must name the target as
// its audience and the subject's user as its subject, must have an algorithm and a
// signature, and must not be expired. Its signature is not checked: the target does that, and
// TLS vouches for the answer on the way. What looks like a JWT and cannot be read is refused.
// So is an answer with more scope than was asked for. A refresh token in it is dropped.
//
// Not supported: DPoP.
package tokenexchange
