package gate

import (
	"crypto/sha256"
	"encoding/json"
	"time"

	"phantomtoken/internal/keyring"
	"phantomtoken/internal/tokencache"
)

// reuseMargin is the remaining life under which a minted token is replaced, so that it
// does not die on its way through the servers behind us.
const reuseMargin = 30 * time.Second

// loginClaims are copied into the phantom token when the answer has them (RFC 9068
// §2.2.1), and with them who acts for whom and who may (RFC 8693 §4.1, §4.4).
var loginClaims = []string{"auth_time", "acr", "amr", "act", "may_act"}

// phantom is the token that goes upstream: the JWT that came with the introspection
// answer, or one minted here and kept with the cached claims.
func (g *Gate) phantom(entry *tokencache.Entry) (string, *refusal) {
	if entry.JWT != "" {
		return entry.JWT, nil
	}
	if g.cfg.Phantom.Ring == nil {
		return "", misconfigured("phantom_token.mode: the provider sent no JWT with its introspection answer; switch that on there, or set phantom_token.signing_key_file to mint one")
	}
	if entry.Introspection.ClientID == "" {
		return "", misconfigured("introspection answer has neither client_id nor azp, which a phantom token must carry (RFC 9068 section 2.2)")
	}
	now := g.now()
	token, err := entry.Minted(g.profile, now, min(reuseMargin, g.cfg.Phantom.Lifetime/2), func() (string, time.Time, error) {
		return g.mint(entry, now)
	})
	if err != nil {
		return "", misconfigured("minting the phantom token: " + err.Error())
	}
	return token, nil
}

// mint makes an RFC 9068 token of the claims that policy names. It never outlives the
// access token and never carries its cnf: no proof of the client's key goes upstream.
func (g *Gate) mint(entry *tokencache.Entry, now time.Time) (string, time.Time, error) {
	in, cfg := entry.Introspection, &g.cfg.Phantom
	expiry := now.Add(cfg.Lifetime)
	if !in.Expiry.IsZero() && in.Expiry.Before(expiry) {
		expiry = in.Expiry
	}
	subject := in.Subject
	if cfg.SubjectClaim != "" {
		subject, _ = lookup(in.Claims, cfg.SubjectClaim).(string)
	}
	if subject == "" && !in.HasUser() {
		subject = in.ClientID // RFC 9068 §2.2: the client itself where no user takes part
	}
	extra := make(map[string]any, len(cfg.Claims)+len(loginClaims))
	for _, name := range loginClaims {
		if v := in.Claims[name]; v != nil {
			extra[name] = v
		}
	}
	for name, path := range cfg.Claims {
		if v := lookup(in.Claims, path); v != nil {
			extra[name] = v
		}
	}
	token, err := cfg.Ring.Mint(keyring.Token{
		Issuer:   cfg.Issuer,
		Subject:  subject,
		Audience: []string{cfg.Audience},
		ClientID: in.ClientID,
		IssuedAt: now,
		Expiry:   expiry,
		Scope:    in.Scope,
		Extra:    extra,
	})
	return token, expiry, err
}

// profile tells the phantom tokens of one configuration from another's, so that routes
// which share the cached claims do not share minted tokens.
func profile(p Phantom) [32]byte {
	kid := ""
	if p.Ring != nil {
		kid = p.Ring.SigningKeyID() + " " + p.Ring.Algorithms()[0] // an RSA key has two
	}
	b, err := json.Marshal(struct {
		Key, Issuer, Audience, Subject string
		Lifetime                       time.Duration
		Claims                         map[string]string
	}{kid, p.Issuer, p.Audience, p.SubjectClaim, p.Lifetime, p.Claims})
	if err != nil { // strings and a number: cannot fail
		return [32]byte{}
	}
	return sha256.Sum256(b)
}
