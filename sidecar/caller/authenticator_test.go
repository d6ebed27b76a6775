package caller_test

import (
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"phantomtoken/sidecar/caller"
)

func loopback() []net.IP { return []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback} }

// TestMethods sends a request by each method, and some that are nobody's.
//
// Covers: TX-07
func TestMethods(t *testing.T) {
	w := newWorld(t, nil)
	for _, tc := range []struct {
		name       string
		request    request
		id, method string // empty: refused
	}{
		{name: "basic", request: request{authorization: []string{basic("mcp-server", mcpSecret)}}, id: "mcp-server", method: "client_secret_basic"},
		{name: "basic with the secret that is being replaced", request: request{authorization: []string{basic("mcp-server", mcpOldSecret)}}, id: "mcp-server", method: "client_secret_basic"},
		{name: "basic with all that is encoded", request: request{authorization: []string{basic(oddID, oddSecret)}}, id: oddID, method: "client_secret_basic"},
		{name: "basic in other case", request: request{authorization: []string{"bASIC " + basic("mcp-server", mcpSecret)[6:]}}, id: "mcp-server", method: "client_secret_basic"},
		{name: "basic with client_id", request: request{authorization: []string{basic("mcp-server", mcpSecret)}, form: url.Values{"client_id": {"mcp-server"}}}, id: "mcp-server", method: "client_secret_basic"},
		{name: "post", request: request{form: url.Values{"client_id": {oddID}, "client_secret": {oddSecret}}}, id: oddID, method: "client_secret_post"},
		{name: "empty parameters beside it", request: request{authorization: []string{basic("mcp-server", mcpSecret)}, form: url.Values{"client_secret": {""}, "client_assertion": {""}, "client_assertion_type": {""}, "client_id": {""}}}, id: "mcp-server", method: "client_secret_basic"},
		{name: "private_key_jwt with keys of a file", request: request{form: asserted(w.signer.sign(t, "", w.claims("signer", nil)))}, id: "signer", method: "private_key_jwt"},
		{name: "private_key_jwt with keys of a URL", request: request{form: asserted(w.remote.sign(t, "JWT", w.claims("remote", nil)))}, id: "remote", method: "private_key_jwt"},
		{name: "Kubernetes", request: request{form: asserted(w.pods.sign(t, "", w.podClaims(nil)))}, id: "pod", method: caller.MethodKubernetes},
		{name: "SPIFFE", request: request{certificate: w.ca.issue(names(nil, spiffeID))}, id: "workload", method: "tls_client_auth"},
		{name: "DNS name", request: request{certificate: w.ca.issue(names([]string{dnsName}))}, id: "mesh", method: "tls_client_auth"},
		// Behind a mesh every connection has a certificate.
		{name: "secret over the certificate of another", request: request{certificate: w.ca.issue(names(nil, spiffeID)), authorization: []string{basic("mcp-server", mcpSecret)}}, id: "mcp-server", method: "client_secret_basic"},
		{name: "nothing", request: request{}},
		{name: "a name alone", request: request{form: url.Values{"client_id": {"mcp-server"}}}},
		{name: "the name of a caller without any method", request: request{form: url.Values{"client_id": {"nobody"}}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w.t = t
			got := w.send(tc.request)
			if tc.id == "" {
				wantRefusal(t, got, 401, caller.ReasonNotAuthenticated, "expected client authentication by client_secret_basic or client_secret_post or private_key_jwt or tls_client_auth, got none")
				return
			}
			if got.Status != 200 || got.ID != tc.id || got.Method != tc.method {
				t.Errorf("got %+v, want %s by %s", got, tc.id, tc.method)
			}
		})
	}
}

// TestRefusesSecrets has what is not the id and secret of a caller.
func TestRefusesSecrets(t *testing.T) {
	w := newWorld(t, nil)
	const wrong = "expected the id and secret of a configured caller (authentication.secret_files or secret_variables in the policy file)"
	raw := func(field string) request { return request{authorization: []string{field}} }
	for _, tc := range []struct {
		name    string
		request request
		text    string
	}{
		{name: "RejectsWrongSecret", request: raw(basic("mcp-server", mcpSecret[1:])), text: wrong},
		{name: "RejectsSecretOfOtherCaller", request: raw(basic("mcp-server", oddSecret)), text: wrong},
		{name: "RejectsUnknownID", request: raw(basic("mcp-serve", mcpSecret)), text: wrong},
		{name: "RejectsIDInOtherCase", request: raw(basic("MCP-server", mcpSecret)), text: wrong},
		{name: "RejectsSecretWithTrailingNewline", request: raw(basic("mcp-server", mcpSecret+"\n")), text: wrong},
		{name: "RejectsSecretWithTrailingNewlineInForm", request: request{form: url.Values{"client_id": {"mcp-server"}, "client_secret": {mcpSecret + "\r\n"}}}, text: wrong},
		{name: "RejectsSecretWithTrailingNUL", request: raw(basic("mcp-server", mcpSecret+"\x00")), text: wrong},
		{name: "RejectsPrefixOfSecret", request: raw(basic("mcp-server", mcpSecret[:len(mcpSecret)-1])), text: wrong},
		{name: "RejectsEmptySecret", request: raw(basic("mcp-server", "")), text: wrong},
		{name: "RejectsEmptyIDAndSecret", request: raw("Basic Og=="), text: wrong},
		{name: "RejectsSecretForCallerWithKeysOnly", request: raw(basic("signer", mcpSecret)), text: wrong},
		{name: "RejectsEmptySecretForCallerWithCertificateOnly", request: raw(basic("workload", "")), text: wrong},
		{name: "RejectsAnySecretForCallerWithoutMethod", request: request{form: url.Values{"client_id": {"nobody"}, "client_secret": {mcpSecret}}}, text: wrong},
		{name: "RejectsSecretWithoutID", request: request{form: url.Values{"client_secret": {mcpSecret}}}, text: wrong},
		{name: "other scheme", request: raw("Bearer MARKED"), text: "expected the Authorization scheme Basic, got another"},
		{name: "scheme alone", request: raw("Basic"), text: "expected Basic credentials as base64 of id:secret"},
		{name: "not base64", request: raw("Basic MARKED!"), text: "expected Basic credentials as base64 of id:secret"},
		{name: "RejectsLooseBase64", request: raw("Basic " + strings.TrimRight(basic(oddID, oddSecret)[6:], "=")), text: "expected Basic credentials as base64 of id:secret"},
		{name: "no colon", request: raw("Basic TUFSS0VE"), text: "expected Basic credentials as base64 of id:secret"},
		{name: "bad percent sign", request: raw("Basic YTolenpNQVJLRUQ="), text: "form-encoded before base64"},
		{name: "RejectsHugeField", request: raw("Basic " + strings.Repeat("QUFB", 6<<10)), text: "expected Basic credentials of at most 20480 bytes"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w.t = t
			wantRefusal(t, w.send(tc.request), 401, caller.ReasonNotAuthenticated, tc.text)
		})
	}
}

// TestUnknownIDTakesThePathOfAWrongSecret: whoever guesses learns nothing of who is
// registered, neither from the answer nor from the work that is done for it.
func TestUnknownIDTakesThePathOfAWrongSecret(t *testing.T) {
	w := newWorld(t, nil)
	want := w.send(request{authorization: []string{basic("mcp-server", "MARKED and wrong")}})
	for _, id := range []string{"unknown", "signer", "workload", "pod", "nobody", oddID} {
		if got := w.send(request{authorization: []string{basic(id, "MARKED and wrong")}}); got != want {
			t.Errorf("%s: got %+v, want %+v", id, got, want)
		}
		if got := w.auth.Comparisons(id); got != 2 {
			t.Errorf("%s: compared with %d digests, want as many as for a caller with two secrets", id, got)
		}
	}
}

// TestOneMethodOnly: with two, whoever reads the request next might believe the other one
// (RFC 6749 §2.3).
func TestOneMethodOnly(t *testing.T) {
	w := newWorld(t, nil)
	good := []string{basic("mcp-server", mcpSecret)}
	assertion := func(more url.Values) url.Values {
		form := asserted(w.signer.sign(t, "", w.claims("signer", nil)))
		for name, values := range more {
			form[name] = append(form[name], values...)
		}
		return form
	}
	for _, tc := range []struct {
		name    string
		request request
		reason  string
		text    string
	}{
		{name: "RejectsBasicAndPost", request: request{authorization: good, form: url.Values{"client_id": {"mcp-server"}, "client_secret": {mcpSecret}}}, text: "expected one method of client authentication, got several"},
		{name: "RejectsBasicAndAssertion", request: request{authorization: good, form: assertion(nil)}, text: "expected one method"},
		{name: "RejectsBasicAndAssertionType", request: request{authorization: good, form: url.Values{"client_assertion_type": {assertionType}}}, text: "expected one method"},
		{name: "RejectsPostAndAssertion", request: request{form: assertion(url.Values{"client_secret": {mcpSecret}})}, text: "expected one method"},
		{name: "RejectsTwoAuthorizationFields", request: request{authorization: append(good, basic(oddID, oddSecret))}, text: "expected one method"},
		{name: "RejectsBasicAndBearer", request: request{authorization: append(good, "Bearer MARKED")}, text: "expected one method"},
		{name: "RejectsTwoAssertions", request: request{form: assertion(url.Values{"client_assertion": {"x"}})}, text: "parameter 'client_assertion': expected once, got it repeatedly"},
		{name: "RejectsTwoAssertionTypes", request: request{form: assertion(url.Values{"client_assertion_type": {""}})}, text: "parameter 'client_assertion_type': expected once"},
		{name: "RejectsTwoSecrets", request: request{form: url.Values{"client_id": {"mcp-server"}, "client_secret": {mcpSecret, mcpOldSecret}}}, text: "parameter 'client_secret': expected once"},
		{name: "RejectsTwoIDs", request: request{form: url.Values{"client_id": {"mcp-server", "mcp-server"}, "client_secret": {mcpSecret}}}, text: "parameter 'client_id': expected once"},
		{name: "RejectsOtherIDBesideBasic", request: request{authorization: good, form: url.Values{"client_id": {oddID}}}, text: "parameter 'client_id': expected the id of the Authorization field, got another"},
		{name: "RejectsOtherIDBesideAssertion", request: request{form: assertion(url.Values{"client_id": {"mcp-server"}})}, text: "parameter 'client_id': expected the caller of the client_assertion, got another"},
		{name: "RejectsOtherIDBesideServiceAccount", request: request{form: func() url.Values {
			form := asserted(w.pods.sign(t, "", w.podClaims(nil)))
			form.Set("client_id", "mcp-server")
			return form
		}()}, text: "parameter 'client_id': expected the caller of the client_assertion, got another"},
		{name: "assertion without type", request: request{form: url.Values{"client_assertion": {"MARKED"}}}, reason: caller.ReasonNotAuthenticated, text: "expected client_assertion and client_assertion_type, got one of them"},
		{name: "type without assertion", request: request{form: url.Values{"client_assertion_type": {assertionType}}}, reason: caller.ReasonNotAuthenticated, text: "got one of them"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w.t = t
			if tc.reason == "" {
				tc.reason = caller.ReasonSeveral
			}
			wantRefusal(t, w.send(tc.request), 400, tc.reason, tc.text)
		})
	}
}

// TestChallenge: every 401 has the same one, and the scheme is Basic (RFC 6749 §5.2).
func TestChallenge(t *testing.T) {
	w := newWorld(t, nil)
	for _, r := range []request{{}, {authorization: []string{basic("mcp-server", "x")}}, {form: asserted("x")}} {
		if got := w.send(r); got.Challenge != `Basic realm="token-exchange", charset="UTF-8"` {
			t.Errorf("WWW-Authenticate: %q", got.Challenge)
		}
	}
}

// TestMethodsOfMetadata has only what a caller is registered for.
func TestMethodsOfMetadata(t *testing.T) {
	all := []string{"ES256", "RS256", "PS256", "EdDSA"}
	for _, tc := range []struct {
		name       string
		keep       []string
		methods    []string
		algorithms []string
	}{
		{name: "none", keep: []string{"nobody"}},
		{name: "secret", keep: []string{"mcp-server"}, methods: []string{"client_secret_basic", "client_secret_post"}},
		{name: "key", keep: []string{"signer"}, methods: []string{"private_key_jwt"}, algorithms: all},
		{name: "Kubernetes", keep: []string{"pod"}, methods: []string{"private_key_jwt"}, algorithms: all},
		{name: "certificate", keep: []string{"mesh"}, methods: []string{"tls_client_auth"}},
		{name: "all", keep: []string{"workload", "mcp-server", "remote", "pod"}, methods: []string{"client_secret_basic", "client_secret_post", "private_key_jwt", "tls_client_auth"}, algorithms: all},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t, func(w *world) {
				w.known = slices.DeleteFunc(w.known, func(c caller.Caller) bool { return !slices.Contains(tc.keep, c.ID) })
			})
			if got := w.auth.Methods(); !slices.Equal(got, tc.methods) {
				t.Errorf("methods %q, want %q", got, tc.methods)
			}
			if got := w.auth.Algorithms(); !slices.Equal(got, tc.algorithms) {
				t.Errorf("algorithms %q, want %q", got, tc.algorithms)
			}
			if len(tc.methods) == 0 {
				wantRefusal(t, w.send(request{authorization: []string{basic("", "")}}), 401, caller.ReasonNotAuthenticated, "expected the id and secret")
				wantRefusal(t, w.send(request{}), http.StatusUnauthorized, caller.ReasonNotAuthenticated, "expected client authentication by a method that the policy file has for this caller, got none")
			}
		})
	}
}
