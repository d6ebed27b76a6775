package tokenexchange

import (
	"context"
	"net/http"
	"strings"
)

// incoming is what a [Transport] needs to know of the request that a program is serving.
// It is kept as a pointer to a type that prints nothing: a context prints its values.
type incoming struct {
	token string
	trace trace
}

// String says that there is something, not what.
func (*incoming) String() string { return "incoming request" }

// GoString is String.
func (i *incoming) GoString() string { return i.String() }

type incomingKey struct{}

func incomingOf(ctx context.Context) *incoming {
	in, _ := ctx.Value(incomingKey{}).(*incoming)
	return in
}

// Middleware makes the bearer token and the trace context (W3C traceparent, tracestate) of
// each request known to the [Transport] behind the handlers, see [WithHeader].
//
// It does NOT verify the token and refuses no request. Put it behind what verifies: the
// middleware of the server that answers 401. Transport sends an unverified token to the
// token endpoint only, which verifies it as well; but a handler that runs for a caller
// nobody has checked is a hole of its own.
func Middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(WithHeader(r.Context(), r.Header)))
	})
}

// WithHeader returns a context for work on behalf of a request with header h: a [Transport]
// takes the token from it. Without exactly one well-formed bearer token in h the context has
// none, whatever ctx had before, and Transport fails. See [Middleware] for who verifies it.
//
// It is for frameworks that do not hand the context of the HTTP request to the handler, but
// its header. The official MCP SDK is one of them where it keeps sessions: there the context
// of every call is that of the request that began the session, and has the token of then.
func WithHeader(ctx context.Context, h http.Header) context.Context {
	return context.WithValue(ctx, incomingKey{}, &incoming{token: bearerToken(h), trace: traceOf(h)})
}

// WithToken returns a context for work on behalf of the user of token, which is without
// "Bearer ". The trace context of ctx stays. The token must have been verified, see
// [Middleware].
func WithToken(ctx context.Context, token string) context.Context {
	in := &incoming{token: token}
	if before := incomingOf(ctx); before != nil {
		in.trace = before.trace
	}
	return context.WithValue(ctx, incomingKey{}, in)
}

// bearerToken is the credential of RFC 6750 §2.1, or "". Of two Authorization fields
// nobody can say which one was verified.
func bearerToken(h http.Header) string {
	fields := h.Values("Authorization")
	if len(fields) != 1 {
		return ""
	}
	scheme, token, _ := strings.Cut(fields[0], " ")
	token = strings.Trim(token, " ")
	if !strings.EqualFold(scheme, Bearer) || !visible(token) {
		return ""
	}
	return token
}
