package bearer_test

import (
	"errors"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/auth"

	"phantomtoken/internal/keyring"
	"phantomtoken/internal/oauth"
	"phantomtoken/testenv/issuertest"
	"phantomtoken/testenv/mcpserver/bearer"
)

const audience = "https://mcp.example"

func TestVerifier(t *testing.T) {
	first, second := issuertest.Start(t), issuertest.Start(t)
	verify, err := bearer.New(bearer.Config{Issuers: []string{first.URL(), "", second.URL()}, Audience: audience})
	if err != nil {
		t.Fatal(err)
	}
	mine := keyring.Token{Audience: []string{audience}, Scope: oauth.Scopes{"stocks/read"}}
	for _, tt := range []struct {
		name, token string
		want        error
	}{
		{"OfTheFirst", first.Token(t, mine), nil},
		{"OfTheSecond", second.Token(t, mine), nil},
		{"RejectsOtherAudience", second.Token(t, keyring.Token{Audience: []string{"https://api.example"}}), auth.ErrInvalidToken},
		{"RejectsIssuerByNameAlone", first.Token(t, keyring.Token{Issuer: second.URL(), Audience: []string{audience}}), auth.ErrInvalidToken},
		{"RejectsStranger", issuertest.Start(t).Token(t, mine), auth.ErrInvalidToken},
		{"RejectsGarbage", "garbage", auth.ErrInvalidToken},
	} {
		t.Run(tt.name, func(t *testing.T) {
			info, err := verify(t.Context(), tt.token, nil)
			if !errors.Is(err, tt.want) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
			if err == nil && (info.UserID != "john" || len(info.Scopes) != 1 || info.Expiration.IsZero()) {
				t.Errorf("got %+v, want user, scope and expiry of the token", info)
			}
		})
	}
	// One that cannot say anything is no reason to call a token bad.
	third := issuertest.Start(t)
	third.Down(true)
	verify, err = bearer.New(bearer.Config{Issuers: []string{third.URL()}, Audience: audience})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := verify(t.Context(), third.Token(t, mine), nil); err == nil || errors.Is(err, auth.ErrInvalidToken) {
		t.Errorf("issuer down: got %v, want an error that is not about the token", err)
	}
}

func TestNewNeedsIssuerAndAudience(t *testing.T) {
	for name, cfg := range map[string]bearer.Config{
		"no issuer":   {Issuers: []string{""}, Audience: audience},
		"no audience": {Issuers: []string{"https://gw.example"}},
	} {
		if _, err := bearer.New(cfg); err == nil {
			t.Errorf("%s: got nil, want an error", name)
		}
	}
}
