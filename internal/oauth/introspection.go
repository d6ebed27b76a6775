package oauth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode/utf8"
)

// Introspection is an introspection response (RFC 7662 §2.2). All members but active
// are optional. It is immutable once parsed and safe for concurrent use.
type Introspection struct {
	Active    bool
	Scope     Scopes
	ClientID  string // client_id, else azp
	Username  string
	TokenType string
	Expiry    time.Time // exp; zero when absent
	IssuedAt  time.Time // iat
	NotBefore time.Time // nbf
	Subject   string
	Audience  []string
	Issuer    string
	ID        string // jti

	// Claims holds every member of the answer, numbers as json.Number. Callers must not
	// change it.
	Claims map[string]any
}

// ErrMalformedIntrospection is wrapped by every error of ParseIntrospection and
// ClaimsIntrospection. The text of those errors names a member and never quotes it; it says
// claims, for they may be of an answer or of a JWT.
var ErrMalformedIntrospection = errors.New("malformed claims")

// ParseIntrospection reads the JSON object of RFC 7662 §2.2. It is strict where leniency
// could let a token in: active must be the boolean true, a member may occur once at any
// depth, dates must be numbers within reach, aud a string or an array of strings. An
// inactive answer yields Active == false and nothing else (§2.3).
func ParseIntrospection(data []byte) (*Introspection, error) {
	claims, err := parseObject(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformedIntrospection, err)
	}
	if active, ok := claims["active"].(bool); !ok || !active {
		return &Introspection{}, nil
	}
	in, err := ClaimsIntrospection(claims)
	if err != nil {
		return nil, err
	}
	in.Active = true
	return in, nil
}

// ClaimsIntrospection reads the members of an introspection response from claims that
// were decoded already, for example of a verified JWT. Active is left false.
func ClaimsIntrospection(claims map[string]any) (*Introspection, error) {
	r := claimReader{claims: claims}
	in := &Introspection{
		ClientID:  r.text("client_id"),
		Username:  r.text("username"),
		TokenType: r.text("token_type"),
		Expiry:    r.date("exp"),
		IssuedAt:  r.date("iat"),
		NotBefore: r.date("nbf"),
		Subject:   r.text("sub"),
		Audience:  r.texts("aud"),
		Issuer:    r.text("iss"),
		ID:        r.text("jti"),
		Claims:    claims,
	}
	if in.ClientID == "" {
		in.ClientID = r.text("azp")
	}
	scope, err := ParseScopes(r.text("scope"))
	if err != nil {
		r.fail("scope", "scope tokens (RFC 6749 §3.3)", "other characters") // err quotes them
	}
	in.Scope = scope
	if r.err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformedIntrospection, r.err)
	}
	return in, nil
}

// HasUser reports whether the answer speaks of a person: it names a subject that is
// neither the client itself nor a service account. Providers tell client-credentials
// tokens in different ways; any one sign is enough to say no.
func (in *Introspection) HasUser() bool {
	if in.Subject == "" {
		return false
	}
	for _, client := range []string{in.ClientID, in.text("client_id"), in.text("azp"), in.text("appid")} {
		if client != "" && strings.TrimSuffix(in.Subject, "@clients") == client {
			return false
		}
	}
	for _, name := range []string{in.Username, in.text("preferred_username")} {
		if strings.HasPrefix(strings.ToLower(name), "service-account-") {
			return false
		}
	}
	if in.text("idtyp") == "app" {
		return false
	}
	return !in.grantedToClient("gty") && !in.grantedToClient("grant_type")
}

// grantedToClient reports whether the member name, a string or an array of strings, names
// the client credentials grant.
func (in *Introspection) grantedToClient(name string) bool {
	grants, ok := in.Claims[name].([]any)
	if !ok {
		grants = []any{in.Claims[name]}
	}
	for _, g := range grants {
		if s, _ := g.(string); strings.ReplaceAll(s, "_", "-") == "client-credentials" {
			return true
		}
	}
	return false
}

// text is a member that is a string, or "".
func (in *Introspection) text(name string) string {
	s, _ := in.Claims[name].(string)
	return s
}

type claimReader struct {
	claims map[string]any
	err    error
}

func (r *claimReader) fail(name, want, got string) {
	if r.err == nil {
		r.err = fmt.Errorf("member %q: expected %s, got %s", name, want, got)
	}
}

func (r *claimReader) text(name string) string {
	v, ok := r.claims[name]
	if !ok || v == nil {
		return ""
	}
	s, ok := v.(string)
	if !ok {
		r.fail(name, "a string", jsonType(v))
	}
	return s
}

func (r *claimReader) texts(name string) []string {
	switch v := r.claims[name].(type) {
	case nil:
		return nil
	case string:
		if v == "" {
			return nil
		}
		return []string{v}
	case []any:
		out := make([]string, 0, len(v))
		for _, e := range v {
			s, ok := e.(string)
			if !ok {
				r.fail(name, "an array of strings", jsonType(e))
				return nil
			}
			out = append(out, s)
		}
		return out
	default:
		r.fail(name, "a string or an array of strings", jsonType(v))
		return nil
	}
}

// date reads a NumericDate (RFC 7519 §2). Fractions are cut; values beyond the year 9999
// are refused, they would overflow what follows.
func (r *claimReader) date(name string) time.Time {
	v, ok := r.claims[name]
	if !ok || v == nil {
		return time.Time{}
	}
	n, ok := v.(json.Number)
	if !ok {
		r.fail(name, "a number", jsonType(v))
		return time.Time{}
	}
	f, err := n.Float64()
	if err != nil || math.IsNaN(f) || f < 0 || f > 253402300799 {
		r.fail(name, "seconds since 1970 up to the year 9999", "a number out of range")
		return time.Time{}
	}
	return time.Unix(int64(f), 0)
}

func jsonType(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case string:
		return "a string"
	case bool:
		return "a boolean"
	case json.Number, float64:
		return "a number"
	case []any:
		return "an array"
	default:
		return "an object"
	}
}

const maxDepth = 32

// ParseClaims reads one JSON object and refuses what RFC 8725 §3.7 warns of and
// encoding/json lets through: repeated members, trailing data, deep nesting, text that is
// not UTF-8.
func ParseClaims(data []byte) (map[string]any, error) { return parseObject(data) }

func parseObject(data []byte) (map[string]any, error) {
	// encoding/json would replace bytes that are not UTF-8, and two names could become one.
	if !utf8.Valid(data) || !json.Valid(data) {
		return nil, errors.New("expected a JSON object in UTF-8, got something else")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	v, err := parseValue(dec, 0)
	if err != nil {
		return nil, err
	}
	obj, ok := v.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("expected a JSON object, got %s", jsonType(v))
	}
	return obj, nil
}

func parseValue(dec *json.Decoder, depth int) (any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("expected at most %d levels of nesting", maxDepth)
	}
	tok, err := dec.Token()
	if err != nil {
		return nil, errors.New("expected JSON, got something else")
	}
	delim, ok := tok.(json.Delim)
	if !ok {
		return tok, nil
	}
	if delim == '[' {
		out := []any{}
		for dec.More() {
			v, err := parseValue(dec, depth+1)
			if err != nil {
				return nil, err
			}
			out = append(out, v)
		}
		_, err := dec.Token()
		return out, err
	}
	out := map[string]any{}
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return nil, errors.New("expected JSON, got something else")
		}
		name, _ := tok.(string)
		if _, twice := out[name]; twice {
			return nil, errors.New("a member occurs twice")
		}
		if out[name], err = parseValue(dec, depth+1); err != nil {
			return nil, err
		}
	}
	_, err = dec.Token()
	return out, err
}
