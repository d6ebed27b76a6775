package tokenexchange

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"
)

// Response is a successful token exchange response (RFC 8693 §2.2.1). It holds a token: its
// String and LogValue methods leave it out. A refresh_token is neither read nor written.
type Response struct {
	// AccessToken (access_token) is the issued token, whatever its type. Required.
	AccessToken string
	// IssuedTokenType (issued_token_type) is the type of the issued token. Required.
	IssuedTokenType string
	// TokenType (token_type) says how the token is used: [Bearer], or [NotApplicable] if it
	// is not an access token. Required.
	TokenType string
	// ExpiresIn (expires_in, whole seconds) is the life of the token counted from the
	// answer. 0 when unknown. [Client.Exchange] fills it from the exp of a JWT when the answer
	// does not say, and shortens it when exp comes first.
	ExpiresIn time.Duration
	// Scope (scope) is what the token grants. On the wire an absent member means "as
	// requested"; [Client.Exchange] fills that in, and refuses an answer with more than was
	// asked for. nil means unknown, empty but not nil means
	// that the token grants no scope at all.
	Scope []string
}

type responseJSON struct {
	AccessToken     string  `json:"access_token"`
	IssuedTokenType string  `json:"issued_token_type"`
	TokenType       string  `json:"token_type"`
	ExpiresIn       int64   `json:"expires_in,omitempty"`
	Scope           *string `json:"scope,omitempty"`
}

// MarshalJSON returns the body of the response. Fractions of a second of ExpiresIn are cut.
func (r Response) MarshalJSON() ([]byte, error) {
	out := responseJSON{
		AccessToken:     r.AccessToken,
		IssuedTokenType: r.IssuedTokenType,
		TokenType:       r.TokenType,
		ExpiresIn:       int64(r.ExpiresIn / time.Second),
	}
	if r.Scope != nil {
		scope := strings.Join(r.Scope, " ")
		out.Scope = &scope
	}
	return json.Marshal(out)
}

// UnmarshalJSON reads the body of a response. It fails when a required member is missing
// or empty, when one has the wrong type, when there are more than 1000 scopes, and when any
// member occurs twice. The error names the member and quotes nothing.
func (r *Response) UnmarshalJSON(data []byte) error {
	members, err := objectMembers(data)
	if err != nil {
		return err
	}
	var out Response
	for _, m := range []struct {
		name string
		to   *string
	}{
		{"access_token", &out.AccessToken},
		{"issued_token_type", &out.IssuedTokenType},
		{"token_type", &out.TokenType},
	} {
		if *m.to, err = stringMember(members, m.name); err != nil {
			return err
		}
		if *m.to == "" || !visible(*m.to) {
			return fmt.Errorf("member %q: expected printable ASCII without spaces, got nothing or something else", m.name)
		}
	}
	if out.ExpiresIn, err = secondsMember(members, "expires_in"); err != nil {
		return err
	}
	if raw, ok := members["scope"]; ok && string(raw) != "null" {
		scope, err := stringMember(members, "scope")
		if err != nil {
			return err
		}
		tokens, ok := fields(scope)
		if !ok {
			return fmt.Errorf("member \"scope\": expected at most %d scope tokens", maxScopes)
		}
		out.Scope = append([]string{}, tokens...)
	}
	*r = out
	return nil
}

// String describes the response without its token.
func (r Response) String() string {
	return fmt.Sprintf("%s token for %s, scope %s", r.TokenType, r.ExpiresIn, strings.Join(r.Scope, " "))
}

// GoString is String, so that no verb of fmt prints the token.
func (r Response) GoString() string { return r.String() }

// LogValue describes the response without its token.
func (r Response) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("issued_token_type", r.IssuedTokenType),
		slog.String("token_type", r.TokenType),
		slog.Duration("expires_in", r.ExpiresIn),
		slog.Any("scope", r.Scope),
	)
}

// objectMembers splits one JSON object. Names are compared exactly and may occur once:
// encoding/json would take the last of two, and "Access_Token" for "access_token".
func objectMembers(data []byte) (map[string]json.RawMessage, error) {
	malformed := errors.New("expected one JSON object")
	dec := json.NewDecoder(bytes.NewReader(data))
	if token, err := dec.Token(); err != nil || token != json.Delim('{') {
		return nil, malformed
	}
	members := make(map[string]json.RawMessage)
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return nil, malformed
		}
		name, _ := token.(string)
		if _, twice := members[name]; twice {
			return nil, errors.New("expected each member once, got one twice")
		}
		var raw json.RawMessage
		if dec.Decode(&raw) != nil {
			return nil, malformed
		}
		members[name] = raw
	}
	if _, err := dec.Token(); err != nil {
		return nil, malformed
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, malformed
	}
	return members, nil
}

func stringMember(members map[string]json.RawMessage, name string) (string, error) {
	raw, ok := members[name]
	if !ok {
		return "", nil
	}
	var s *string
	if json.Unmarshal(raw, &s) != nil || s == nil {
		return "", fmt.Errorf("member %q: expected a string", name)
	}
	return *s, nil
}

// secondsMember reads a number of seconds up to ten years; more is no life of a token.
func secondsMember(members map[string]json.RawMessage, name string) (time.Duration, error) {
	raw, ok := members[name]
	if !ok || string(raw) == "null" {
		return 0, nil
	}
	var n float64
	if json.Unmarshal(raw, &n) != nil || n < 0 || n > 10*365*24*3600 {
		return 0, fmt.Errorf("member %q: expected a number of seconds, at most ten years", name)
	}
	return time.Duration(n) * time.Second, nil
}
