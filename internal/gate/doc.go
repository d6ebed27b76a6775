// Package gate decides what happens to one request at the gateway. It is the one flow of
// this project, free of Kong: a Request goes in, a Decision comes out.
//
//	request → credential → token → decision → phantom token → upstream
//	   │          │           │        │
//	   │          │           │        ├─ 401 invalid_token, 403 insufficient_scope: with a challenge
//	   │          │           │        └─ 403 access_denied: without one
//	   │          │           └─ 503 the provider is in trouble, 429 too many bad tokens
//	   │          └─ 401 without error, 400 invalid_request
//	   └─ 200 metadata, 204 preflight
//
// The steps stand in files of these names: public.go (what needs no token),
// credential.go, token.go, authorize.go, identity.go (who is calling, for the
// gateway's own plugins), phantom.go, upstream.go; answer.go writes every refusal. There
// are three ways to a phantom token: mint.go, relay.go and exchange.go.
// [Gate.Decide] reads as the flow. The first failure answers, in the order of RFC 6750
// §3.1: causes of 401 win over causes of 403.
package gate
