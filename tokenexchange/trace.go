package tokenexchange

import (
	"net/http"
	"strings"
)

// trace is the context of a distributed trace (W3C Trace Context). It is passed on as it
// came: making spans is the business of a tracing library.
type trace struct{ parent, state string }

// traceOf reads the fields of a request. One that is malformed counts as absent, as the
// specification wants (§3.2.2.3), so that nothing hostile is passed on.
func traceOf(h http.Header) trace {
	parents := h.Values("Traceparent")
	if len(parents) != 1 || !isTraceparent(parents[0]) {
		return trace{}
	}
	t := trace{parent: parents[0]}
	if state := strings.Join(h.Values("Tracestate"), ","); len(state) <= maxTracestate && !strings.ContainsFunc(state, isControl) {
		t.state = state
	}
	return t
}

// maxTracestate is what everybody must pass on (§3.3.1.5); more may be dropped.
const maxTracestate = 512

func isControl(r rune) bool { return r < 0x20 && r != '\t' || r > 0x7e }

// isTraceparent reports whether s is version-traceid-parentid-flags in lower case
// hexadecimal (§3.2). Versions to come may append to it.
func isTraceparent(s string) bool {
	const shape = "00-00000000000000000000000000000000-0000000000000000-00"
	if len(s) < len(shape) || len(s) > maxTracestate || s[:2] == "ff" || s[:2] == "00" && len(s) > len(shape) {
		return false
	}
	for i := range len(shape) {
		digit := s[i] >= '0' && s[i] <= '9' || s[i] >= 'a' && s[i] <= 'f'
		if shape[i] == '-' && s[i] != '-' || shape[i] == '0' && !digit {
			return false
		}
	}
	if len(s) > len(shape) && (s[len(shape)] != '-' || !visible(s)) {
		return false
	}
	return strings.Trim(s[3:35], "0") != "" && strings.Trim(s[36:52], "0") != ""
}

// pass adds the trace to an outgoing request that has none.
func (t trace) pass(h http.Header) {
	if t.parent == "" || h["Traceparent"] != nil {
		return
	}
	h["Traceparent"] = []string{t.parent}
	delete(h, "Tracestate") // of another trace
	if t.state != "" {
		h["Tracestate"] = []string{t.state}
	}
}
