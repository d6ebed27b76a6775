// Package sts is the token endpoint of the sidecar: OAuth 2.0 Token Exchange (RFC 8693) over
// HTTP, with the metadata and the keys that an API needs to verify what is issued.
//
// One request flows through the package in this order; each step has a file:
//
//	form.go     the body is read: bounded, a form, nothing in the query
//	token.go    the flow itself: who calls (package caller), what may be issued (package
//	            exchange)
//	answer.go   the answer
//	service.go  everything else that is served: metadata and keys
package sts
