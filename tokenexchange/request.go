package tokenexchange

import (
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Request is a token exchange request (RFC 8693 §2.1). A Request holds tokens: its String
// and LogValue methods leave them out.
type Request struct {
	// SubjectToken (subject_token) is the token to exchange: it says on whose behalf the
	// request is made. Required.
	SubjectToken string
	// SubjectTokenType (subject_token_type) is the type of SubjectToken. Required on the
	// wire; [Request.Form] sends [TokenTypeAccessToken] when it is empty.
	SubjectTokenType string

	// ActorToken (actor_token) says who acts for the subject. Optional; most services take
	// the authenticated client.
	ActorToken string
	// ActorTokenType (actor_token_type) is required with ActorToken and forbidden without.
	ActorTokenType string

	// Resource (resource, may repeat) holds absolute URIs of the targets, without fragment
	// (RFC 8707 §2). They are never normalised.
	Resource []string
	// Audience (audience, may repeat) holds logical names of the targets, as the service
	// knows them. They are never normalised.
	Audience []string

	// Scope (scope) holds the scope tokens asked for (RFC 6749 §3.3). Empty leaves the choice
	// to the service.
	Scope []string

	// RequestedTokenType (requested_token_type) is the type of token wanted. Optional;
	// [Request.Form] sends [TokenTypeAccessToken] when it is empty.
	RequestedTokenType string
}

// Form encodes the request as the parameters of a POST to the token endpoint, without
// client authentication. A request that ParseRequest would refuse is refused here with the
// same [*Error], but for Status 0 and a Description that quotes no value.
func (r Request) Form() (url.Values, error) {
	if r.SubjectTokenType == "" {
		r.SubjectTokenType = TokenTypeAccessToken
	}
	if r.RequestedTokenType == "" {
		r.RequestedTokenType = TokenTypeAccessToken
	}
	if f := r.check(); f != nil {
		return nil, &Error{Code: f.code, Description: f.expected}
	}
	form := url.Values{
		"grant_type":           {GrantType},
		"subject_token":        {r.SubjectToken},
		"subject_token_type":   {r.SubjectTokenType},
		"requested_token_type": {r.RequestedTokenType},
	}
	if r.ActorToken != "" {
		form.Set("actor_token", r.ActorToken)
		form.Set("actor_token_type", r.ActorTokenType)
	}
	if len(r.Resource) > 0 {
		form["resource"] = slices.Clone(r.Resource)
	}
	if len(r.Audience) > 0 {
		form["audience"] = slices.Clone(r.Audience)
	}
	if len(r.Scope) > 0 {
		form.Set("scope", strings.Join(r.Scope, " "))
	}
	return form, nil
}

// ParseRequest reads the parameters of a token exchange request, the body of a POST as
// [url.ParseQuery] decodes it. Query parameters of the URL must not be among them.
//
// A parameter without value counts as absent and an unknown one is ignored, but only
// resource and audience may occur more than once (RFC 6749 §3.2, RFC 8693 §2.1): two
// readers of a repeated parameter might believe different values. Token types are not
// compared with a list: what is acceptable is the service's policy.
//
// Every error is an [*Error] with Status 400 and a Description fit for the client: a
// missing or repeated parameter is invalid_request, another grant type
// unsupported_grant_type, a resource that is no absolute URI without fragment
// invalid_target, a malformed scope or one of more than 1000 tokens invalid_scope.
func ParseRequest(form url.Values) (Request, error) {
	for name, values := range form {
		if len(values) > 1 && name != "resource" && name != "audience" {
			return Request{}, refuse(ErrorInvalidRequest, "parameter "+quote(name)+": expected once, got it repeatedly")
		}
	}
	switch got := form.Get("grant_type"); got {
	case GrantType:
	case "":
		return Request{}, refuse(ErrorInvalidRequest, "parameter 'grant_type' is missing: expected "+quote(GrantType))
	default:
		return Request{}, refuse(ErrorUnsupportedGrantType, "parameter 'grant_type': expected "+quote(GrantType)+", got "+quote(got))
	}
	scope, ok := fields(form.Get("scope"))
	if !ok {
		return Request{}, refuse(ErrorInvalidScope, tooManyScopes)
	}
	r := Request{
		SubjectToken:       form.Get("subject_token"),
		SubjectTokenType:   form.Get("subject_token_type"),
		ActorToken:         form.Get("actor_token"),
		ActorTokenType:     form.Get("actor_token_type"),
		Resource:           values(form["resource"]),
		Audience:           values(form["audience"]),
		Scope:              scope,
		RequestedTokenType: form.Get("requested_token_type"),
	}
	if f := r.check(); f != nil {
		if f.got != "" {
			f.expected += ", got " + quote(f.got)
		}
		return Request{}, refuse(f.code, f.expected)
	}
	return r, nil
}

// values drops what was sent without a value.
func values(in []string) []string {
	var out []string
	for _, v := range in {
		if v != "" {
			out = append(out, v)
		}
	}
	return out
}

// fields splits a scope value at spaces only: other white space is malformed, not a
// separator. Repeated tokens count once. It is false for more than maxScopes of them.
func fields(scope string) (out []string, ok bool) {
	seen := make(map[string]struct{})
	for token := range strings.SplitSeq(scope, " ") {
		if _, twice := seen[token]; twice || token == "" {
			continue
		}
		if len(out) == maxScopes {
			return nil, false
		}
		seen[token] = struct{}{}
		out = append(out, token)
	}
	return out, true
}

// maxScopes keeps the work that a hostile list causes small: whoever decides about scopes
// compares lists with each other.
const maxScopes = 1000

const tooManyScopes = "parameter 'scope': expected at most 1000 scope tokens"

func refuse(code, description string) *Error {
	return &Error{Code: code, Description: description, Status: http.StatusBadRequest}
}

// flaw is what is wrong with a request. got is told to the sender of a form only: the
// program that filled a Request may log the error, and the value could be a misplaced token.
type flaw struct{ code, expected, got string }

// check holds the rules that both sides obey.
func (r *Request) check() *flaw {
	switch {
	case r.SubjectToken == "":
		return &flaw{ErrorInvalidRequest, "parameter 'subject_token' is missing", ""}
	case r.SubjectTokenType == "":
		return &flaw{ErrorInvalidRequest, "parameter 'subject_token_type' is missing: expected a token type identifier such as " + quote(TokenTypeAccessToken), ""}
	case r.ActorToken != "" && r.ActorTokenType == "":
		return &flaw{ErrorInvalidRequest, "parameter 'actor_token_type' is missing: it is required with actor_token", ""}
	case r.ActorToken == "" && r.ActorTokenType != "":
		return &flaw{ErrorInvalidRequest, "parameter 'actor_token_type': expected only together with actor_token", ""}
	}
	for _, p := range []struct{ name, value string }{
		{"subject_token", r.SubjectToken}, {"subject_token_type", r.SubjectTokenType},
		{"actor_token", r.ActorToken}, {"actor_token_type", r.ActorTokenType},
		{"requested_token_type", r.RequestedTokenType},
	} {
		if !visible(p.value) {
			return &flaw{ErrorInvalidRequest, "parameter " + quote(p.name) + ": expected printable ASCII without spaces", ""}
		}
	}
	for _, resource := range r.Resource {
		if !isResource(resource) {
			return &flaw{ErrorInvalidTarget, "parameter 'resource': expected an absolute URI without fragment", resource}
		}
	}
	if slices.Contains(r.Audience, "") {
		return &flaw{ErrorInvalidTarget, "parameter 'audience': expected a name, got an empty one", ""}
	}
	if len(r.Scope) > maxScopes {
		return &flaw{ErrorInvalidScope, tooManyScopes, ""}
	}
	for _, token := range r.Scope {
		if token == "" || !visible(token) || strings.ContainsAny(token, `"\`) {
			return &flaw{ErrorInvalidScope, "parameter 'scope': expected scope tokens of printable ASCII without quote or backslash", token}
		}
	}
	return nil
}

// isResource reports whether s is an absolute URI without fragment (RFC 8707 §2). A bare
// "#" is a fragment too, although url.Parse drops it.
func isResource(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.IsAbs() && visible(s) && !strings.Contains(s, "#")
}

func visible(s string) bool {
	for i := range len(s) {
		if s[i] <= 0x20 || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// String describes the request without its tokens.
func (r Request) String() string {
	return "token exchange for audience " + strings.Join(r.Audience, " ") +
		", resource " + strings.Join(r.Resource, " ") + ", scope " + strings.Join(r.Scope, " ")
}

// GoString is String, so that no verb of fmt prints the tokens.
func (r Request) GoString() string { return r.String() }

// LogValue describes the request without its tokens.
func (r Request) LogValue() slog.Value {
	return slog.GroupValue(
		slog.Any("audience", r.Audience),
		slog.Any("resource", r.Resource),
		slog.Any("scope", r.Scope),
		slog.String("requested_token_type", r.RequestedTokenType),
	)
}
