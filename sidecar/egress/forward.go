package egress

import (
	"context"
	"net/http"
	"net/http/httputil"
	"net/url"
	"time"
)

// forward is one request on its way to the API. It is the RoundTripper of its reverse proxy.
type forward struct {
	proxy     *Proxy
	route     *route
	target    *url.URL
	toolByMCP bool
	call      Call
	token     string // the exchanged one

	abort   context.CancelFunc // of a request with a body
	request *requestBody
	answer  *answerBody
	refused *refusal // of the call to the API
	status  int      // of the answer that is passed
	retried bool
	done    bool // the answer was written to its end
}

// exchange gets the token for the call.
func (f *forward) exchange(ctx context.Context) *refusal {
	token, err := f.proxy.tokens.Token(ctx, f.call)
	if err != nil {
		return exchangeRefused(ctx, err)
	}
	// Whatever went wrong elsewhere, the phantom token itself goes nowhere.
	if !isB64Token(token) || token == f.call.SubjectToken {
		return misconfigured("token exchange gave no token, or the phantom token itself")
	}
	f.token = token
	return nil
}

// maxHeadDelay is how long the header of an answer waits for the first byte of a body of known
// length: most come together, and then go out together.
const maxHeadDelay = 10 * time.Millisecond

func (f *forward) serve(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength != 0 {
		ctx, abort := context.WithCancel(r.Context())
		defer abort()
		f.abort, r = abort, r.WithContext(ctx)
	}
	proxy := httputil.ReverseProxy{
		Rewrite:        f.rewrite,
		Transport:      f,
		ModifyResponse: f.modify,
		ErrorHandler:   f.fail,
		ErrorLog:       f.proxy.quiet,
		BufferPool:     &f.proxy.buffers,
		FlushInterval:  maxHeadDelay,
	}
	proxy.ServeHTTP(&eagerWriter{w, http.NewResponseController(w), f}, r)
	f.done = true
}

// rewrite makes the request for the API.
func (f *forward) rewrite(r *httputil.ProxyRequest) {
	r.Out.URL = f.target
	r.Out.Host = "" // that of the URL, never the application's
	clean(r.Out.Header, f.toolByMCP)
	r.Out.Header["Authorization"] = []string{"Bearer " + f.token}
	f.request = newRequestBody(r.In, r.Out, f.call.SubjectToken, f.route.timeout, f.abort)
}

// RoundTrip sends the request, and once more with another token when the API answers 401 and
// the body can be sent again.
func (f *forward) RoundTrip(out *http.Request) (*http.Response, error) {
	res, err := f.route.transport.RoundTrip(out)
	if err != nil || res.StatusCode != http.StatusUnauthorized {
		return res, err
	}
	f.proxy.tokens.Evict(f.call, f.token)
	body, ok := f.request.again()
	if !ok {
		return res, nil
	}
	first := f.token
	if refused := f.exchange(out.Context()); refused != nil {
		// The API's 401 is about a token that the application never saw. What is wrong now is
		// that no other can be had, and whether its own token is to blame.
		_ = res.Body.Close()
		return nil, refused
	}
	if f.token == first { // the answer would be the same
		return res, nil
	}
	_ = res.Body.Close()
	f.retried = true
	again := out.Clone(out.Context())
	again.Body = body
	again.Header["Authorization"] = []string{"Bearer " + f.token}
	delete(again.Header, "Expect") // the body is here
	return f.route.transport.RoundTrip(again)
}

// modify makes the answer for the application.
func (f *forward) modify(res *http.Response) error {
	f.status = res.StatusCode
	cleanAnswer(res)
	if res.StatusCode != http.StatusSwitchingProtocols { // whose body is the connection itself
		f.answer = &answerBody{ReadCloser: res.Body, answer: res}
		res.Body = f.answer
	}
	return nil
}

// fail answers when there is no answer of the API.
func (f *forward) fail(w http.ResponseWriter, out *http.Request, err error) {
	if own := f.request.failure(); own != nil {
		f.refused = bodyFailed(own)
	} else {
		f.refused = f.route.failed(out.Context(), err)
	}
	f.status = 0
	f.refused.write(w)
}

// ended says how the call ended: nil when the whole answer was passed.
func (f *forward) ended(ctx context.Context) *refusal {
	switch {
	case f.refused != nil:
		return f.refused
	case f.answer != nil && f.answer.err != nil && ctx.Err() == nil:
		return &refusal{result: ResultUpstreamAborted, cause: "answer of the API broke off"}
	case f.answer != nil && f.answer.err != nil:
		return canceled()
	case f.done:
		return nil
	}
	return canceled()
}

// eagerWriter sends every byte of an answer at once, also where its length is known and
// httputil.ReverseProxy would wait for more. Answers without a length, and event streams, it
// flushes itself, header first. A FlushInterval of -1 would do the same to all answers, and
// cost each a goroutine and a packet for the header alone.
type eagerWriter struct {
	http.ResponseWriter
	control *http.ResponseController
	forward *forward
}

// WriteHeader cleans interim answers. An answer that comes before the request has ended goes
// out at once and is the last of its connection: the application need not end its request
// before it has seen all of the answer, and net/http must not look for the next request behind
// a body that it still has to read.
func (w *eagerWriter) WriteHeader(status int) {
	early := status >= http.StatusOK && !w.forward.request.finished()
	switch {
	case early:
		w.Header()["Connection"] = []string{"close"}
	case status < http.StatusOK && status != http.StatusSwitchingProtocols:
		cleanFields(w.Header())
	}
	w.ResponseWriter.WriteHeader(status)
	if early {
		_ = w.control.Flush() // an error comes back with the body
	}
}

func (w *eagerWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	if err == nil {
		err = w.control.Flush()
	}
	return n, err
}

// Unwrap is for http.ResponseController.
func (w *eagerWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
