package tokenexchange

import (
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
	if out.Scope == nil && len(req.Scope) > 0 {
		out.Scope = slices.Clone(req.Scope) // RFC 6749 §5.1: absent means as requested
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
	// A subject token that cannot be read has nothing to compare with.
	if subject, err := readClaims(req.SubjectToken); err == nil && subject != nil &&
		subject.Subject != "" && issued.Subject != "" && issued.Subject != subject.Subject {
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
	var header struct {
		Algorithm string `json:"alg"`
	}
	if decodePart(parts[0], &header) != nil || header.Algorithm == "" {
		return nil, nil
	}
	var payload struct {
		Subject  string   `json:"sub"`
		Audience audience `json:"aud"`
		Expiry   float64  `json:"exp"`
	}
	if decodePart(parts[1], &payload) != nil {
		return nil, errors.New("expected claims with sub, aud and exp as RFC 7519 defines them")
	}
	out := &claims{Subject: payload.Subject, Audience: payload.Audience}
	if payload.Expiry != 0 {
		const year9999 = 253402300799
		if payload.Expiry < 0 || payload.Expiry > year9999 {
			return nil, errors.New("claim \"exp\": expected seconds since 1970 up to the year 9999")
		}
		out.Expiry = time.Unix(int64(payload.Expiry), 0)
	}
	return out, nil
}

func decodePart(part string, to any) error {
	data, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, to)
}

// audience is the aud of RFC 7519 §4.1.3: one string or an array of them.
type audience []string

func (a *audience) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil {
		*a = audience{one}
		return nil
	}
	var many []string
	if json.Unmarshal(data, &many) != nil {
		return errors.New("expected a string or an array of strings")
	}
	*a = many
	return nil
}
