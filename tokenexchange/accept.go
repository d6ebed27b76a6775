package tokenexchange

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// accept reads a 200 answer and checks that its token is the one that was asked for.
func (c *Client) accept(req *Request, res *http.Response, body []byte) (*Response, error) {
	if !isJSON(res) {
		return nil, errors.New("expected Content-Type application/json")
	}
	out := new(Response)
	if err := json.Unmarshal(body, out); err != nil {
		return nil, fmt.Errorf("reading the answer: %w", cause(err))
	}
	if err := checkType(req, out); err != nil {
		return nil, err
	}
	switch {
	case len(req.Scope) == 0:
	case out.Scope == nil:
		out.Scope = slices.Clone(req.Scope) // RFC 6749 §5.1: absent means as requested
	case slices.ContainsFunc(out.Scope, func(s string) bool { return !slices.Contains(req.Scope, s) }):
		// The caller would hand on more than it means to.
		return nil, errors.New("member \"scope\": expected at most the scopes asked for, got more")
	}
	issued, err := readClaims(out.AccessToken)
	if err != nil {
		return nil, fmt.Errorf("reading the issued token: %w", err)
	}
	if issued == nil {
		return out, nil // opaque: only the target can tell what it is worth
	}
	if err := checkAudience(req, issued); err != nil {
		return nil, err
	}
	// A subject token that cannot be read has nothing to compare with. One that names a user
	// must not become one that names another, or nobody.
	if subject, err := readClaims(req.SubjectToken); err == nil && subject != nil &&
		subject.Subject != "" && issued.Subject != subject.Subject {
		return nil, errors.New("the sub of the issued token is not that of the subject token")
	}
	if !issued.Expiry.IsZero() {
		left := issued.Expiry.Sub(c.cfg.now())
		if left <= 0 {
			return nil, fmt.Errorf("the issued token expired %s ago; compare the clocks of both machines", (-left).Round(time.Second))
		}
		if out.ExpiresIn == 0 || left < out.ExpiresIn {
			out.ExpiresIn = left
		}
	}
	return out, nil
}

// cause drops what encoding/json says around the error of UnmarshalJSON, and for a syntax
// error its own text, which quotes a character of the answer.
func cause(err error) error {
	if syntax := (*json.SyntaxError)(nil); errors.As(err, &syntax) {
		return errors.New("expected one JSON object")
	}
	return err
}

// checkType compares the types asked for and issued (RFC 8693 §2.2.1). An access token
// that is a JWT may be called either; every other type must be the one asked for. Only a
// bearer token can be used like one: DPoP would need a key, N_A is no access token.
func checkType(req *Request, res *Response) error {
	want := req.RequestedTokenType
	if want == "" {
		want = TokenTypeAccessToken
	}
	usable := func(t string) bool { return t == TokenTypeAccessToken || t == TokenTypeJWT }
	if res.IssuedTokenType != want && (!usable(want) || !usable(res.IssuedTokenType)) {
		return fmt.Errorf("member \"issued_token_type\": expected %q, got another type", want)
	}
	if usable(want) && !strings.EqualFold(res.TokenType, Bearer) {
		return fmt.Errorf("member \"token_type\": expected %q, got another", Bearer)
	}
	return nil
}

// checkAudience makes sure that the token is for the targets: a service that ignores
// audience answers with a token for others. Where both names and URIs were asked for, the
// names count, since the service may know one target by both.
func checkAudience(req *Request, claims *claims) error {
	targets := req.Audience
	if len(targets) == 0 {
		targets = req.Resource
	}
	for _, target := range targets {
		if !slices.Contains(claims.Audience, target) {
			return fmt.Errorf("expected the issued token to name audience %q, got one for %d others; does the service support audience and resource as they were sent?", target, len(claims.Audience))
		}
	}
	return nil
}

type claims struct {
	Subject  string
	Audience []string
	Expiry   time.Time
}

// readClaims reads the claims of a signed JWT and verifies nothing. It returns nil for a
// token of another form, and an error for a JWT whose claims cannot be compared: taking
// that for an opaque token would be a way around the checks.
func readClaims(token string) (*claims, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, nil
	}
	header, err := decodePart(parts[0])
	if err != nil {
		if isHeader(parts[0]) {
			return nil, errors.New("expected a JWT with a header of base64url without padding and of one JSON object")
		}
		return nil, nil
	}
	if alg, err := stringMember(header, "alg"); err != nil || alg == "" || strings.EqualFold(alg, "none") || parts[2] == "" {
		return nil, errors.New("expected a signed JWT, got one without signature or algorithm")
	}
	payload, err := decodePart(parts[1])
	if err != nil {
		return nil, fmt.Errorf("claims: %w", err)
	}
	for name := range payload {
		for _, read := range []string{"sub", "aud", "exp"} {
			// Many a reader takes one for the other.
			if name != read && strings.EqualFold(name, read) {
				return nil, fmt.Errorf("expected claim %q in this case only, got it in another", read)
			}
		}
	}
	malformed := errors.New("expected claims with sub, aud and exp as RFC 7519 defines them")
	out := new(claims)
	if out.Subject, err = stringMember(payload, "sub"); err != nil {
		return nil, malformed
	}
	if raw, ok := payload["aud"]; ok {
		if out.Audience, err = parseAudience(raw); err != nil {
			return nil, malformed
		}
	}
	if raw, ok := payload["exp"]; ok {
		var seconds *float64
		if json.Unmarshal(raw, &seconds) != nil || seconds == nil {
			return nil, malformed
		}
		const year9999 = 253402300799
		if *seconds < 0 || *seconds > year9999 {
			return nil, errors.New("claim \"exp\": expected seconds since 1970 up to the year 9999")
		}
		out.Expiry = time.Unix(int64(*seconds), 0)
	}
	return out, nil
}

// decodePart reads a part of a JWT: base64url without padding (RFC 7515 §2) of a JSON
// object, no member of which occurs twice.
func decodePart(part string) (map[string]json.RawMessage, error) {
	data, err := base64.RawURLEncoding.Strict().DecodeString(part)
	if err != nil {
		return nil, errors.New("expected base64url without padding")
	}
	return objectMembers(data)
}

// isHeader reports whether a part that decodePart refuses may pass for the header of a JWT
// where reading is less strict: with padding, the other alphabet of base64, a member twice.
func isHeader(part string) bool {
	if strings.HasPrefix(part, "eyJ") { // {"
		return true
	}
	part = strings.NewReplacer("+", "-", "/", "_", "=", "").Replace(part)
	data, err := base64.RawURLEncoding.DecodeString(part)
	return err == nil && bytes.HasPrefix(bytes.TrimSpace(data), []byte("{"))
}

// parseAudience reads the aud of RFC 7519 §4.1.3: one string or an array of them.
func parseAudience(raw json.RawMessage) ([]string, error) {
	var one *string
	if json.Unmarshal(raw, &one) == nil && one != nil {
		return []string{*one}, nil
	}
	var many []*string
	if err := json.Unmarshal(raw, &many); err != nil {
		return nil, err
	}
	out := make([]string, len(many))
	for i, v := range many {
		if v == nil {
			return nil, errors.New("expected a string or an array of strings")
		}
		out[i] = *v
	}
	return out, nil
}
