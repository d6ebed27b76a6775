package caller

import (
	"context"
	"encoding/base64"
	"errors"
	"slices"
	"strings"

	"phantomtoken/internal/keyring"
	"phantomtoken/internal/oauth"
)

// maxAssertion bounds a client assertion in bytes. Kubernetes tokens have one or two
// thousand.
const maxAssertion = 16 << 10

// byAssertion reads a JWT as client authentication (RFC 7521 §4.2, RFC 7523 §3). named is
// the parameter client_id, which need not be there.
func (a *Authenticator) byAssertion(ctx context.Context, assertion, named string) (Identity, error) {
	issuer, ok := peekIssuer(assertion)
	switch {
	case !ok:
		return Identity{}, invalidClient("client_assertion was not accepted: expected a signed JWT of at most %d bytes with claim iss, got something else", maxAssertion)
	case a.cluster != "" && issuer == a.cluster:
		return a.byServiceAccount(ctx, assertion, named)
	case named != "" && named != issuer:
		return Identity{}, otherClientID()
	}
	known := a.callers[issuer]
	if known == nil || known.assertions == nil {
		return Identity{}, invalidClient("client_assertion was not accepted: expected iss to be a caller with authentication.private_key_jwt in the policy file, or the issuer of the cluster (TOKEN_EXCHANGE_KUBERNETES_ISSUER), got another")
	}
	verified, err := known.assertions.Verify(ctx, assertion)
	if err != nil {
		return Identity{}, assertionRefused(err, "the keys of the caller cannot be had at the moment (authentication.private_key_jwt.jwks_uri in the policy file)")
	}
	in, now := verified.Introspection, a.now()
	switch {
	case in.Subject != known.id:
		return Identity{}, invalidClient("client_assertion was not accepted: expected sub to be the same as iss, got another")
	case !onlyFor(in.Audience, a.ours):
		return Identity{}, notOnlyForUs()
	case in.Expiry.Sub(now) > maxAssertionLife+leeway:
		return Identity{}, invalidClient("client_assertion was not accepted: expected exp at most %s ahead, got more", maxAssertionLife)
	case in.ID == "":
		return Identity{}, invalidClient("client_assertion was not accepted: expected claim jti, got none")
	}
	// The last check: what is refused for another reason is not used up.
	switch err := a.replay.use(known.id, in.ID, in.Expiry.Add(leeway), now); {
	case errors.Is(err, errReplayed):
		refusal := invalidClient("client_assertion was not accepted: expected one that was not used before; make one with a new jti for every request")
		refusal.Reason = ReasonReplayed
		return Identity{}, refusal
	case err != nil:
		return Identity{}, unavailable(ReasonReplayFull, "too many client assertions were used in the last minutes; wait, and keep exchanged tokens while they live", err)
	}
	return Identity{ID: known.id, Method: oauth.AuthPrivateKeyJWT}, nil
}

// byServiceAccount reads a token of a Kubernetes service account. It serves until it
// expires: the cluster renews it in a file, and pods send what is there. What it says of
// pod and node is not looked at.
func (a *Authenticator) byServiceAccount(ctx context.Context, token, named string) (Identity, error) {
	verified, err := a.serviceAccounts.Verify(ctx, token)
	if err != nil {
		return Identity{}, assertionRefused(err, "the keys of the cluster cannot be had at the moment (TOKEN_EXCHANGE_KUBERNETES_ISSUER)")
	}
	in := verified.Introspection
	if !onlyFor(in.Audience, []string{a.clusterAudience}) {
		return Identity{}, notOnlyForUs()
	}
	known := a.accounts[in.Subject]
	switch {
	case known == nil:
		return Identity{}, invalidClient("client_assertion was not accepted: expected the service account of a caller (authentication.kubernetes in the policy file), got another")
	case named != "" && named != known.id:
		return Identity{}, otherClientID()
	}
	return Identity{ID: known.id, Method: MethodKubernetes}, nil
}

// onlyFor reports whether all audiences are ours: whoever else an assertion is meant for
// could show it to us.
func onlyFor(audience, ours []string) bool {
	return !slices.ContainsFunc(audience, func(aud string) bool { return !slices.Contains(ours, aud) })
}

func notOnlyForUs() error {
	return invalidClient("client_assertion was not accepted: expected this service alone in aud, got others too")
}

func otherClientID() error {
	return invalidRequest(ReasonSeveral, "parameter 'client_id': expected the caller of the client_assertion, got another")
}

// assertionRefused turns the verifier's word into an answer. It says which check failed and
// holds nothing of an assertion but the names that it claims, and of one without a valid
// signature not even those but kid, alg and typ.
func assertionRefused(err error, keys string) error {
	if errors.Is(err, keyring.ErrKeysUnavailable) {
		return unavailable(ReasonKeys, keys, err)
	}
	return invalidClient("client_assertion was not accepted: %s", strings.TrimPrefix(err.Error(), keyring.ErrInvalidToken.Error()+": "))
}

// peekIssuer reads iss of an assertion that nobody has verified. It tells who is to verify
// it, and that one compares iss again.
func peekIssuer(assertion string) (issuer string, ok bool) {
	if len(assertion) > maxAssertion {
		return "", false
	}
	_, rest, _ := strings.Cut(assertion, ".")
	payload, _, found := strings.Cut(rest, ".")
	if !found {
		return "", false
	}
	data, err := base64.RawURLEncoding.Strict().DecodeString(payload)
	if err != nil {
		return "", false
	}
	claims, err := oauth.ParseClaims(data)
	if err != nil {
		return "", false
	}
	issuer, _ = claims["iss"].(string)
	return issuer, issuer != ""
}
