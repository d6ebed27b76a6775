package gate

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"phantomtoken/internal/oauth"
	"phantomtoken/internal/tokencache"
)

// refusal is why a request does not go through: err is for the client, the rest for the
// operator's log and never for the client.
type refusal struct {
	err         *oauth.Error
	cause       string // constant text or values that are no secrets
	inner       error
	fingerprint string // of the access token
}

// of notes which access token was refused, as a fingerprint.
func (r *refusal) of(token string) *refusal {
	r.fingerprint = tokencache.Fingerprint(token)
	return r
}

// The texts that clients see. One text for all causes of invalid_token: it tells an
// attacker nothing and stays the same when a client compares challenges to notice a loop.
const (
	textInvalidToken      = "The access token is invalid, expired or not intended for this resource"
	textInsufficientScope = "Additional scope is required for this operation"
)

// unauthenticated is the answer to a request without credentials: no error code in the
// challenge (RFC 6750 §3.1).
func unauthenticated(cause string) *refusal {
	return &refusal{
		err:   &oauth.Error{Code: oauth.ErrorUnauthorized, Status: http.StatusUnauthorized},
		cause: cause,
	}
}

func malformed(cause, description string) *refusal {
	return &refusal{
		err:   &oauth.Error{Code: oauth.ErrorInvalidRequest, Description: description, Status: http.StatusBadRequest},
		cause: cause,
	}
}

func invalidToken(cause string) *refusal {
	return &refusal{
		err:   &oauth.Error{Code: oauth.ErrorInvalidToken, Description: textInvalidToken, Status: http.StatusUnauthorized},
		cause: cause,
	}
}

// insufficientScope names every scope the operation needs at once, and the granted ones
// beside them: some clients ask next time for exactly this list and would lose the others.
func insufficientScope(required, granted oauth.Scopes) *refusal {
	if len(granted) > maxKept {
		granted = nil
	}
	kept := slices.DeleteFunc(slices.Sorted(slices.Values(granted)), func(s string) bool { return s == "offline_access" })
	return &refusal{
		err: &oauth.Error{
			Code: oauth.ErrorInsufficientScope, Description: textInsufficientScope,
			Scope: required.Union(kept), Status: http.StatusForbidden,
		},
		cause: fmt.Sprintf("required scope is %q, granted is %q", required, granted),
	}
}

// unavailable is for trouble that is not the client's: a 401 would send every user to log
// in again and make the provider's bad day worse.
func unavailable(doing string, err error) *refusal {
	return &refusal{
		err:   &oauth.Error{Code: oauth.ErrorTemporarilyUnavailable, Status: http.StatusServiceUnavailable, RetryAfter: 5 * time.Second},
		cause: doing, inner: err,
	}
}

// denied is a refusal by policy, here or at the provider.
func denied(cause, description string) *refusal {
	return &refusal{
		err:   &oauth.Error{Code: oauth.ErrorAccessDenied, Description: description, Status: http.StatusForbidden},
		cause: cause,
	}
}

// misconfigured is for what the operator has to mend.
func misconfigured(cause string) *refusal {
	return &refusal{
		err:   &oauth.Error{Code: oauth.ErrorServerError, Status: http.StatusInternalServerError},
		cause: cause,
	}
}

// refuse writes the answer to a refusal and the log line beside it.
func (g *Gate) refuse(req *Request, res *resource, r *refusal) Decision {
	g.record(r)
	headers := make([]Header, 0, 8)
	if challenged(r.err) {
		headers = append(headers, Header{"WWW-Authenticate", g.challenge(r.err, res).String()})
	}
	if r.err.RetryAfter > 0 {
		seconds := int((r.err.RetryAfter + time.Second - 1) / time.Second)
		headers = append(headers, Header{"Retry-After", strconv.Itoa(seconds)})
	}
	headers = append(headers,
		Header{"Cache-Control", "no-store"},
		Header{"Content-Type", "application/json"})
	headers = append(headers, g.crossOrigin(req.first("origin"), res, false)...)
	return Decision{Answer: &Answer{Status: r.err.Status, Headers: headers, Body: r.err.Body()}}
}

// challenged reports whether another token or another request could help. A refusal by
// policy and trouble behind us carry no challenge: clients would log in again for nothing.
func challenged(e *oauth.Error) bool {
	return e.Status == http.StatusUnauthorized || e.Status == http.StatusBadRequest || e.Code == oauth.ErrorInsufficientScope
}

// challenge leads the client to the metadata and, unless its request was malformed, to
// the scopes to ask for.
func (g *Gate) challenge(e *oauth.Error, res *resource) oauth.Challenge {
	c := oauth.Challenge{Realm: g.cfg.Realm}
	if res != nil && res.document != nil {
		c.ResourceMetadata = res.id.MetadataURL()
	} else if c.Realm == "" {
		c.Realm = defaultRealm // RFC 6750 §3 wants at least one parameter
	}
	switch e.Code {
	case oauth.ErrorUnauthorized:
		c.Scope = g.cfg.Token.Scopes
	case oauth.ErrorInsufficientScope:
		c.Error, c.ErrorDescription, c.Scope = e.Code, e.Description, e.Scope
	case oauth.ErrorInvalidRequest:
		c.Error, c.ErrorDescription = e.Code, e.Description
	default:
		c.Error, c.ErrorDescription, c.Scope = e.Code, e.Description, g.cfg.Token.Scopes
	}
	return c
}

const defaultRealm = "phantom-token"

// clip bounds what a client or a provider can put into a log line.
func clip(s string) string {
	const most = 400
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// maxKept is how many granted scopes a challenge repeats; above it a header field grows
// beyond what proxies pass.
const maxKept = 32

func (g *Gate) record(r *refusal) {
	attrs := []any{"status", r.err.Status, "error", r.err.Code, "cause", clip(r.cause)}
	if r.fingerprint != "" {
		attrs = append(attrs, "token", r.fingerprint)
	}
	if r.inner != nil {
		attrs = append(attrs, "err", r.inner)
	}
	switch {
	case r.err.Status == http.StatusInternalServerError: // until somebody mends it
		g.log.Error("request not decided", attrs...)
	case r.err.Status > http.StatusInternalServerError:
		g.log.Warn("request not decided", attrs...)
	case r.cause == "":
		g.log.Debug("request without credentials", attrs...)
	default:
		g.log.Info("request refused", attrs...)
	}
}
