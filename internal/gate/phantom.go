package gate

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"time"

	"phantomtoken/internal/oauth"
	"phantomtoken/internal/tokencache"
)

// Phantom is one way to a phantom token, the token that goes upstream: [Mint] signs it
// here, [Relay] passes on what came with the introspection answer, [Exchange] has the
// provider swap the access token for it. There are no others.
//
// Whatever the way, the token is made when an access token needs one and kept with its
// cached claims, so that most requests find it there. It is never the access token itself,
// whatever fails.
type Phantom interface {
	// check says what makes every token of this way wrong.
	check() error
	// profile stands for all that tokens of this way depend on beside the access token:
	// routes that share the cached claims do not share phantom tokens of other profiles. It
	// is asked for once; what it returns is asked with every request, since keys change.
	profile() func() [32]byte
	// room is how many bytes a token takes beside what a minted one takes.
	room() int
	// issue makes the token for an access token that was let through.
	issue(ctx context.Context, a *admitted) (string, *refusal)
}

// admitted is an access token that was let through.
type admitted struct {
	token   string
	entry   *tokencache.Entry
	profile [32]byte // of the phantom token it needs
	now     time.Time
	timeout time.Duration // for a call to the provider
	// opens reports whether a token for this audience would be accepted here from outside.
	opens func(audience []string) bool
}

// reuseMargin is the remaining life under which a phantom token is replaced, so that it
// does not die on its way through the servers behind us.
const reuseMargin = 30 * time.Second

// phantom is the token that goes upstream in place of token.
func (g *Gate) phantom(ctx context.Context, token string, entry *tokencache.Entry, res *resource) (string, *refusal) {
	now, profile := g.now(), g.profile()
	if kept, ok := entry.Phantom(profile, now); ok {
		return kept, nil
	}
	phantom, refusal := g.cfg.Phantom.issue(ctx, &admitted{
		token: token, entry: entry, profile: profile, now: now, timeout: g.cfg.Timeout,
		opens: func(audience []string) bool { return named(audience, &g.cfg.Token, res) },
	})
	if refusal != nil && refusal.err.Code == oauth.ErrorInvalidToken && !repeated(refusal) {
		// The provider takes back what it said of the token: the next request asks anew, once.
		g.cfg.Cache.Remove(tokencache.NewKey(token, g.answers))
	}
	if phantom == token && refusal == nil {
		return "", misconfigured("phantom_token.mode: the provider gave the access token itself for the upstream, which must never get it")
	}
	return phantom, refusal
}

// profileOf is the hash of settings, which encoding/json can encode.
func profileOf(settings any) [32]byte {
	b, err := json.Marshal(settings)
	if err != nil { // strings, lists of them and numbers: cannot fail
		return [32]byte{}
	}
	return sha256.Sum256(b)
}
