// Package introspection asks the provider what an access token is worth (RFC 7662) and
// answers in three ways only: the token is active and this is what it says, the token is
// inactive, or nothing is known. The third is an [Error]; it never means that the token
// is bad, and a gateway answers it with 503 and not with 401, because clients throw good
// tokens away on a 401.
//
// One call reads, from file to file:
//
//	config.go   what the operator chose
//	client.go   slot → circuit → request → answer, under one deadline
//	breaker.go  the circuit: a dead provider is left in peace for moments
//	request.go  POST, form, client authentication, own transport
//	answer.go   status and media type decide how the body is read
//	jwt.go      the JWT of an answer, verified
//	error.go    why nothing is known, in words for the operator
//
// Whatever comes from the provider is bounded and distrusted: redirects are not followed,
// compressed bodies are refused rather than inflated, media types are compared and not
// guessed, JSON is read strictly. Neither the token, nor the secret, nor any byte of the
// provider's answer enters an error or a log line.
//
// Not supported: private_key_jwt and mutual TLS, signed answers of RFC 9701, HTTP/2.
package introspection
