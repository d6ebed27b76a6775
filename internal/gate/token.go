package gate

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"phantomtoken/internal/oauth"
	"phantomtoken/internal/tokencache"
)

// withoutExpiry bounds the life of a cached answer that has no exp.
const withoutExpiry = 60 * time.Second

// foreignTypes are kinds of JWT that are never access tokens (RFC 8725 §3.11, RFC 9701
// §8): refused before anybody is asked.
var foreignTypes = map[string]bool{
	"token-introspection+jwt": true,
	"dpop+jwt":                true,
	"oauth-id-jag+jwt":        true,
	"txntoken+jwt":            true,
	"statuslist+jwt":          true,
	"secevent+jwt":            true,
	"logout+jwt":              true,
}

// token is what the provider says of an access token: from the cache, or asked once for
// all who wait for the same answer. Claims are cached, never verdicts.
func (g *Gate) token(ctx context.Context, token string, gw Gateway) (*tokencache.Entry, *refusal) {
	key := tokencache.NewKey(token, g.answers)
	if g.cfg.CacheTTL > 0 {
		if entry, ok := g.cfg.Cache.Get(key); ok {
			return entry, nil
		}
	}
	// After the look-up: what is refused here is never asked about, so never cached.
	if foreignTypes[headerType(token)] {
		return nil, invalidToken("a JWT of a kind that is no access token")
	}

	source := ""
	if g.cfg.Failures != nil {
		source = sourceOf(gw)
		if !g.cfg.Failures.Take(source) {
			return nil, &refusal{
				err: &oauth.Error{
					Code: oauth.ErrorTooManyRequests, Status: http.StatusTooManyRequests, RetryAfter: 10 * time.Second,
					Description: "Too many invalid access tokens came from this address",
				},
				cause: "too many inactive tokens from one address (introspection.failures_per_minute)",
			}
		}
	}

	ctx, cancel := context.WithTimeout(ctx, g.cfg.Timeout)
	defer cancel()
	fetch := func(ctx context.Context) (*tokencache.Entry, error) {
		result, err := g.cfg.Introspector.Introspect(ctx, token)
		if err != nil {
			return nil, err
		}
		return &tokencache.Entry{
			Introspection: result.Introspection,
			JWT:           result.JWT,
			Expiry:        g.expiry(result.Introspection),
			Room:          g.cfg.Phantom.room(),
		}, nil
	}
	var entry *tokencache.Entry
	var err error
	if g.cfg.CacheTTL > 0 {
		entry, _, err = g.cfg.Cache.Do(ctx, key, g.cfg.Timeout, fetch)
	} else {
		entry, err = fetch(ctx)
	}
	if err != nil || entry.Introspection.Active {
		g.cfg.Failures.Return(source)
	}
	if err != nil {
		return nil, unavailable("introspecting the access token", err)
	}
	return entry, nil
}

// sourceOf is whom bad tokens are counted for: an IPv4 address or an IPv6 network of 64
// bits, of which one host has all addresses. Without an address all share one budget,
// rather than none having a limit.
func sourceOf(gw Gateway) string {
	address, err := gw.ClientAddress()
	if err != nil {
		return ""
	}
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return ""
	}
	if ip = ip.Unmap(); ip.Is4() {
		return ip.String()
	}
	network, err := ip.WithZone("").Prefix(64)
	if err != nil {
		return ""
	}
	return network.String()
}

// answers tells whose cached answers a configuration may use. How long it remembers is a
// part of that: a route that asks every few seconds must not live on the answer of one
// that asks every hour.
func answers(cfg *Config) [32]byte {
	h := sha256.New()
	h.Write(cfg.IntrospectionID[:])
	_ = binary.Write(h, binary.BigEndian, []time.Duration{cfg.CacheTTL, cfg.NegativeTTL}) // a hash takes everything
	return [32]byte(h.Sum(nil))
}

// expiry is when an answer has to be asked for again: soon when it is no. The cache ends
// it with the token's own exp when that is earlier (RFC 7662 §4).
func (g *Gate) expiry(in *oauth.Introspection) time.Time {
	life := g.cfg.CacheTTL
	switch {
	case !in.Active:
		life = g.cfg.NegativeTTL
	case in.Expiry.IsZero():
		life = min(life, withoutExpiry)
	}
	return g.now().Add(life)
}

// headerType is the typ of a token that looks like a JWT, in lower case and without
// "application/"; "" for every other token. Nothing of it is trusted: it can only refuse.
func headerType(token string) string {
	head, _, ok := strings.Cut(token, ".")
	if !ok || len(head) > 2048 {
		return ""
	}
	data, err := base64.RawURLEncoding.DecodeString(head)
	if err != nil {
		return ""
	}
	var header struct {
		Type string `json:"typ"`
	}
	if json.Unmarshal(data, &header) != nil {
		return ""
	}
	return strings.TrimPrefix(strings.ToLower(header.Type), "application/")
}
