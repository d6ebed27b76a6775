package delegation_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"phantomtoken/internal/delegation"
	"phantomtoken/internal/keyring"
	"phantomtoken/tokenexchange"
)

// FuzzRefusal: whatever a provider puts into an error, it becomes one of our kinds in our
// words, nobody is made to wait long, and only a definite refusal is remembered.
func FuzzRefusal(f *testing.F) {
	f.Add(400, "invalid_request", "Invalid token", int64(0))
	f.Add(401, "unauthorized_client", "Invalid client or Invalid client credentials", int64(0))
	f.Add(429, "", "", int64(time.Hour))
	f.Add(403, "access_denied", "Client is not within the token audience", int64(-1))
	verifier, err := keyring.NewVerifier(keyring.VerifierConfig{Issuer: issuer, Audiences: []string{audience}, Keys: keyring.PublicKeys{}})
	if err != nil {
		f.Fatal(err)
	}
	known := []delegation.Kind{
		delegation.KindSubject, delegation.KindScope, delegation.KindTarget, delegation.KindPolicy,
		delegation.KindConfiguration, delegation.KindUnavailable,
	}
	f.Fuzz(func(t *testing.T, status int, code, description string, after int64) {
		endpoint, err := delegation.NewEndpoint(delegation.EndpointConfig{
			Now: func() time.Time { return start },
			Exchanger: exchanger(func(context.Context, tokenexchange.Request) (*tokenexchange.Response, error) {
				return nil, &tokenexchange.Error{Status: status, Code: code, Description: description, RetryAfter: time.Duration(after)}
			}),
		})
		if err != nil {
			t.Fatal(err)
		}
		target, err := delegation.NewTarget(delegation.TargetConfig{Endpoint: endpoint, Verifier: verifier, Audience: audience, Settings: settings()})
		if err != nil {
			t.Fatal(err)
		}
		var first, again *delegation.Error
		_, err = target.Exchange(t.Context(), request())
		_, repeated := target.Exchange(t.Context(), request())
		if !errors.As(err, &first) || !errors.As(repeated, &again) || first.Kind != again.Kind {
			t.Fatalf("got %v and %v, want the same refusal twice", err, repeated)
		}
		expected := false
		for _, kind := range known {
			expected = expected || first.Kind == kind
		}
		if !expected || first.RetryAfter > 30*time.Second || first.RetryAfter > 0 && first.Kind != delegation.KindUnavailable {
			t.Errorf("got kind %q to repeat in %v", first.Kind, first.RetryAfter)
		}
		if errors.Is(repeated, delegation.ErrRemembered) == (first.Kind == delegation.KindUnavailable) {
			t.Errorf("kind %s: remembered = %v", first.Kind, errors.Is(repeated, delegation.ErrRemembered))
		}
		if status != 0 && len(description) > 20 && strings.Contains(first.Error(), description) {
			t.Errorf("%q repeats the words of the provider", first)
		}
	})
}
