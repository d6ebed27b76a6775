package gate

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"phantomtoken/internal/keyring"
)

// Mint signs the phantom token here, an RFC 9068 token of the claims that it names. It
// works with every provider.
type Mint struct {
	Keys     keyring.Keys // sign; the ring of the moment is asked for with every token
	Issuer   string
	Audience string
	Lifetime time.Duration // less where the access token ends earlier
	// SubjectClaim is the member of the answer that becomes sub; empty means sub, or the
	// client id for a token without a user.
	SubjectClaim string
	// Claims maps names in the phantom token to paths in the answer.
	Claims map[string]string
}

// loginClaims are copied into the phantom token when the answer has them (RFC 9068
// §2.2.1), and with them who acts for whom and who may (RFC 8693 §4.1, §4.4).
var loginClaims = []string{"auth_time", "acr", "amr", "act", "may_act"}

func (m *Mint) check() error {
	if m.Keys == nil || m.Keys.Ring() == nil || m.Issuer == "" || m.Audience == "" || m.Lifetime <= 0 {
		return errors.New("expected key, issuer, audience and lifetime of the phantom token, got none")
	}
	return nil
}

func (m *Mint) profile() func() [32]byte {
	type known struct {
		ring    *keyring.Ring
		profile [32]byte
	}
	var last atomic.Pointer[known]
	return func() [32]byte {
		ring := m.Keys.Ring()
		if have := last.Load(); have != nil && have.ring == ring {
			return have.profile
		}
		// Another key signs from now on: tokens of the last one are not used again.
		fresh := &known{ring, profileOf(struct {
			Key, Algorithm, Issuer, Audience, Subject string
			Lifetime                                  time.Duration
			Claims                                    map[string]string
		}{ring.SigningKeyID(), ring.Algorithms()[0], m.Issuer, m.Audience, m.SubjectClaim, m.Lifetime, m.Claims})}
		last.Store(fresh)
		return fresh.profile
	}
}

func (m *Mint) room() int { return 0 }

func (m *Mint) issue(_ context.Context, a *admitted) (string, *refusal) {
	if a.entry.Introspection.ClientID == "" {
		return "", misconfigured("introspection answer has neither client_id nor azp, which a phantom token must carry (RFC 9068 section 2.2)")
	}
	token, err := a.entry.Minted(a.profile, a.now, min(reuseMargin, m.Lifetime/2), func() (string, time.Time, error) {
		return m.mint(a)
	})
	if err != nil {
		return "", misconfigured("minting the phantom token: " + err.Error())
	}
	return token, nil
}

// mint makes a token of the claims that policy names. It never outlives the access token
// and never carries its cnf: no proof of the client's key goes upstream.
func (m *Mint) mint(a *admitted) (string, time.Time, error) {
	in := a.entry.Introspection
	expiry := a.now.Add(m.Lifetime)
	if !in.Expiry.IsZero() && in.Expiry.Before(expiry) {
		expiry = in.Expiry
	}
	subject := in.Subject
	if m.SubjectClaim != "" {
		subject, _ = lookup(in.Claims, m.SubjectClaim).(string)
	}
	if subject == "" && !in.HasUser() {
		subject = in.ClientID // RFC 9068 §2.2: the client itself where no user takes part
	}
	extra := make(map[string]any, len(m.Claims)+len(loginClaims))
	for _, name := range loginClaims {
		if v := in.Claims[name]; v != nil {
			extra[name] = v
		}
	}
	for name, path := range m.Claims {
		if v := lookup(in.Claims, path); v != nil {
			extra[name] = v
		}
	}
	token, err := m.Keys.Ring().Mint(keyring.Token{
		Issuer:   m.Issuer,
		Subject:  subject,
		Audience: []string{m.Audience},
		ClientID: in.ClientID,
		IssuedAt: a.now,
		Expiry:   expiry,
		Scope:    in.Scope,
		Extra:    extra,
	})
	return token, expiry, err
}
