// The command verifier is a small API that checks exchanged tokens with coreos/go-oidc. It is
// here to be copied: docs/upstream-apis.md shows all of it.
package main

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
)

const (
	leeway    = 30 * time.Second // between the clocks of issuer and API
	keysLive  = 10 * time.Minute // a key that the issuer withdraws is trusted no longer
	pause     = time.Second      // after an issuer that did not answer
	maxActors = 8
)

// algorithms are those that this API accepts, whatever a token says of itself.
var algorithms = []jose.SignatureAlgorithm{jose.ES256, jose.RS256, jose.PS256, jose.EdDSA}

var (
	errInvalid     = errors.New("invalid token")      // 401: another token may help
	errUnavailable = errors.New("issuer unavailable") // 503: nothing is known of the token
)

// who is behind a verified token.
type who struct {
	User   string   `json:"user"`     // sub
	Client string   `json:"client"`   // client_id: who had the token issued
	Actor  string   `json:"acted_by"` // who acts for the user: decide by this one
	Chain  []string `json:"chain"`    // everybody who acted, the last one first: for the log

	scopes []string
}

type verifier struct {
	issuer, audience string
	cooldown         time.Duration // between two fetches of keys for unknown key ids
	client           *http.Client

	fetching sync.Mutex // one fetch at a time; who has a known key does not wait for it

	mu      sync.Mutex
	keys    map[string]jose.JSONWebKey
	fetched time.Time // when keys were got
	tried   time.Time // when the issuer was asked last
	failed  error     // what came of that
}

// verify checks an access token (RFC 9068 §4).
func (v *verifier) verify(ctx context.Context, token string) (*who, error) {
	jws, err := jose.ParseSigned(token, algorithms)
	if err != nil || len(jws.Signatures) != 1 {
		return nil, fmt.Errorf("%w: not a JWT with an accepted algorithm", errInvalid)
	}
	header := jws.Signatures[0].Protected
	// Nothing but an access token: an ID token of the same issuer has another type.
	if typ, _ := header.ExtraHeaders[jose.HeaderType].(string); strings.TrimPrefix(strings.ToLower(typ), "application/") != "at+jwt" {
		return nil, fmt.Errorf("%w: typ is not at+jwt", errInvalid)
	}
	key, err := v.key(ctx, header.KeyID)
	if err != nil {
		return nil, err
	}
	// Signature by exactly this key with its own algorithm, then iss and aud, byte by byte.
	verified, err := oidc.NewVerifier(v.issuer, &oidc.StaticKeySet{PublicKeys: []crypto.PublicKey{key.Key}}, &oidc.Config{
		ClientID:             v.audience, // what the library compares aud with
		SupportedSigningAlgs: []string{key.Algorithm},
		SkipExpiryCheck:      true, // below, with a leeway of our own
	}).Verify(ctx, token)
	if err != nil {
		return nil, fmt.Errorf("%w: signature, iss or aud", errInvalid) // the text of err may hold the token's claims
	}
	var claims struct {
		Expiry       float64         `json:"exp"`
		NotBefore    float64         `json:"nbf"`
		IssuedAt     float64         `json:"iat"`
		ClientID     string          `json:"client_id"`
		Scope        string          `json:"scope"`
		Confirmation json.RawMessage `json:"cnf"`
		Actor        json.RawMessage `json:"act"`
	}
	if err := verified.Claims(&claims); err != nil {
		return nil, fmt.Errorf("%w: claims of the wrong type", errInvalid)
	}
	now, margin := float64(time.Now().Unix()), leeway.Seconds()
	switch {
	case claims.Expiry+margin <= now:
		return nil, fmt.Errorf("%w: expired", errInvalid)
	case claims.NotBefore-margin > now, claims.IssuedAt-margin > now:
		return nil, fmt.Errorf("%w: of the future", errInvalid)
	case verified.Subject == "" || claims.ClientID == "":
		return nil, fmt.Errorf("%w: no sub or client_id", errInvalid)
	case claims.Confirmation != nil:
		return nil, fmt.Errorf("%w: bound to a key that nobody proves here", errInvalid)
	}
	chain, err := actors(claims.Actor)
	if err != nil {
		return nil, err
	}
	out := &who{User: verified.Subject, Client: claims.ClientID, Actor: claims.ClientID, Chain: chain, scopes: strings.Fields(claims.Scope)}
	if len(chain) > 0 {
		out.Actor = chain[0]
	}
	return out, nil
}

// actors reads act (RFC 8693 §4.1), the outermost first.
func actors(act json.RawMessage) ([]string, error) {
	chain := []string{}
	for act != nil {
		var actor *struct {
			Subject  string          `json:"sub"`
			ClientID string          `json:"client_id"`
			Before   json.RawMessage `json:"act"`
		}
		if json.Unmarshal(act, &actor) != nil || actor == nil || actor.Subject+actor.ClientID == "" || len(chain) == maxActors {
			return nil, fmt.Errorf("%w: act is not a chain of at most %d actors", errInvalid, maxActors)
		}
		name := actor.Subject
		if name == "" {
			name = actor.ClientID
		}
		chain, act = append(chain, name), actor.Before
	}
	return chain, nil
}

// key finds a public key of the issuer. A key id that is not known is looked for at the
// issuer, so that new keys work at once, but not more often than every cooldown: anybody can
// send a token with an invented key id.
func (v *verifier) key(ctx context.Context, id string) (*jose.JSONWebKey, error) {
	if key, ok, err := v.cached(id); ok {
		return key, err
	}
	v.fetching.Lock()
	defer v.fetching.Unlock()
	if key, ok, err := v.cached(id); ok { // somebody else has fetched
		return key, err
	}
	// The keys are for others too: that this client goes away is no reason to stop.
	keys, err := v.fetchKeys(context.WithoutCancel(ctx))
	v.mu.Lock()
	v.tried, v.failed = time.Now(), err
	if err == nil {
		v.keys, v.fetched = keys, v.tried
	}
	v.mu.Unlock()
	key, _, err := v.cached(id)
	return key, err
}

// cached answers from what is known, and reports false when the issuer should be asked.
func (v *verifier) cached(id string) (key *jose.JSONWebKey, ok bool, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	fresh := v.keys != nil && time.Since(v.fetched) < keysLive
	known, found := v.keys[id]
	wait := v.cooldown
	if !fresh {
		wait = pause
	}
	switch {
	case fresh && found:
		return &known, true, nil
	case v.failed != nil:
		return nil, time.Since(v.tried) < wait, fmt.Errorf("%w: %w", errUnavailable, v.failed)
	default:
		return nil, fresh && time.Since(v.tried) < wait, fmt.Errorf("%w: signed with a key that the issuer does not publish", errInvalid)
	}
}

// fetchKeys asks the issuer's metadata where its keys are, and gets them.
func (v *verifier) fetchKeys(ctx context.Context) (map[string]jose.JSONWebKey, error) {
	ctx = oidc.ClientContext(ctx, v.client)
	provider, err := oidc.NewProvider(ctx, v.issuer) // compares the issuer that the metadata names
	if err != nil {
		return nil, errors.New("no usable metadata")
	}
	var metadata struct {
		KeysURI string `json:"jwks_uri"`
	}
	if err := provider.Claims(&metadata); err != nil {
		return nil, errors.New("no jwks_uri")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, metadata.KeysURI, nil)
	if err != nil {
		return nil, err
	}
	res, err := v.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	var set jose.JSONWebKeySet
	if err := json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(&set); err != nil || res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("expected a key set, got status %d", res.StatusCode)
	}
	keys := make(map[string]jose.JSONWebKey)
	for _, key := range set.Keys {
		if key.IsPublic() && key.KeyID != "" && key.Use != "enc" && slices.Contains(algorithms, jose.SignatureAlgorithm(key.Algorithm)) {
			keys[key.KeyID] = key
		}
	}
	return keys, nil
}

// guard lets a request through to next if its token has the scope of the operation.
func (v *verifier) guard(scope string, next func(http.ResponseWriter, *http.Request, *who)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		if !strings.EqualFold(scheme, "Bearer") || token == "" {
			refuse(w, http.StatusUnauthorized, "Bearer") // RFC 6750 §3.1: no error code without a token
			return
		}
		caller, err := v.verify(r.Context(), token)
		switch {
		case errors.Is(err, errUnavailable):
			slog.ErrorContext(r.Context(), "tokens cannot be verified", "err", err)
			w.Header().Set("Retry-After", "5")
			refuse(w, http.StatusServiceUnavailable, "")
		case err != nil:
			slog.InfoContext(r.Context(), "token refused", "err", err)
			refuse(w, http.StatusUnauthorized, `Bearer error="invalid_token"`)
		case !slices.Contains(caller.scopes, scope):
			refuse(w, http.StatusForbidden, fmt.Sprintf(`Bearer error="insufficient_scope", scope="%s"`, scope))
		default:
			slog.InfoContext(r.Context(), "request", "user", caller.User, "acted_by", caller.Actor, "chain", caller.Chain)
			next(w, r, caller)
		}
	}
}

func refuse(w http.ResponseWriter, status int, challenge string) {
	if challenge != "" {
		w.Header().Set("WWW-Authenticate", challenge)
	}
	w.WriteHeader(status)
}

func answer(w http.ResponseWriter, _ *http.Request, caller *who) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if err := json.NewEncoder(w).Encode(caller); err != nil {
		slog.Warn("answer not written", "err", err)
	}
}

func main() {
	cooldown, err := strconv.Atoi(os.Getenv("JWKS_COOLDOWN"))
	if err != nil {
		cooldown = 30 // seconds
	}
	v := &verifier{
		issuer: os.Getenv("ISSUER"), audience: os.Getenv("AUDIENCE"), cooldown: time.Duration(cooldown) * time.Second,
		client: &http.Client{Timeout: 5 * time.Second},
	}
	if v.issuer == "" || v.audience == "" {
		slog.Error("expected ISSUER and AUDIENCE in the environment")
		os.Exit(1)
	}
	http.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	http.HandleFunc("GET /stocks", v.guard("stocks/read", answer))
	http.HandleFunc("POST /orders", v.guard("stocks/trade", answer))
	server := &http.Server{Addr: "127.0.0.1:" + os.Getenv("PORT"), ReadHeaderTimeout: 5 * time.Second}
	if err := server.ListenAndServe(); err != nil {
		slog.Error("serving", "err", err)
		os.Exit(1)
	}
}
