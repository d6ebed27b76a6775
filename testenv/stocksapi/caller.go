package stocksapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"phantomtoken/testenv/accesstoken"
)

// caller is what the API wants to know of who is calling, all of it from a verified token.
type caller struct {
	subject string
	scopes  []string
	actors  []actor // who acts, and for whom before that; none for a client of the user's own

	Region         string `json:"region"`
	ClientType     string `json:"client_type"`
	AssuranceLevel int    `json:"client_assurance_level"`
}

// Scopes of the operations.
const (
	scopeRead  = "stocks/read"
	scopeTrade = "stocks/trade"
)

// minPortfolioAssurance is the client_assurance_level that reading a portfolio takes.
const minPortfolioAssurance = 2

// authenticate verifies the bearer token of a request.
func (a *api) authenticate(r *http.Request) (*caller, *refusal) {
	fields := r.Header.Values("Authorization")
	if len(fields) == 0 {
		return nil, &refusal{status: http.StatusUnauthorized, code: "unauthorized", description: "An access token is required", challenge: true}
	}
	scheme, token, ok := strings.Cut(fields[0], " ")
	if len(fields) > 1 || !ok || !strings.EqualFold(scheme, "Bearer") || strings.ContainsAny(token, " ,") {
		return nil, &refusal{status: http.StatusBadRequest, code: "invalid_request", description: "Expected one Authorization field with one Bearer token", challenge: true}
	}
	verifier, ok := a.verifiers[accesstoken.ClaimedIssuer(token)]
	if !ok { // of somebody else, or no JWT at all: the first verifier says so
		verifier = a.verifiers[a.cfg.Issuer]
	}
	verified, err := verifier.Verify(r.Context(), token)
	switch {
	case errors.Is(err, accesstoken.ErrInvalid):
		return nil, &refusal{
			status: http.StatusUnauthorized, code: "invalid_token", challenge: true, cause: err,
			description: fmt.Sprintf("Expected an unexpired access token of %s for audience %s", a.cfg.Issuer, a.cfg.Audience),
		}
	case err != nil:
		return nil, &refusal{status: http.StatusServiceUnavailable, code: "temporarily_unavailable", description: "Access tokens cannot be verified now", cause: err}
	}
	c := &caller{subject: verified.Subject, scopes: verified.Scopes}
	var act struct {
		Act *actor `json:"act"`
	}
	if err := errors.Join(verified.Claims(c), verified.Claims(&act)); err != nil {
		return nil, &refusal{
			status: http.StatusUnauthorized, code: "invalid_token", challenge: true, cause: err,
			description: "Expected region and client_type as strings, client_assurance_level as a whole number and act as objects",
		}
	}
	c.actors = act.Act.chain()
	return c, nil
}

// allow decides whether the caller may do what r asks for.
type allow func(c *caller) *refusal

func reading(c *caller) *refusal { return c.needs(scopeRead) }

func readingPortfolio(c *caller) *refusal {
	if c.AssuranceLevel < minPortfolioAssurance {
		return &refusal{
			status: http.StatusForbidden, code: "access_denied",
			description: fmt.Sprintf("Portfolios need a client_assurance_level of %d or more, this client has %d", minPortfolioAssurance, c.AssuranceLevel),
		}
	}
	return c.needs(scopeRead)
}

func (a *api) trading(c *caller) *refusal {
	if c.ClientType == "mcp" {
		return &refusal{
			status: http.StatusForbidden, code: "access_denied",
			description: "Orders are not accepted from clients of client_type mcp",
		}
	}
	if a.cfg.OrdersThrough != "" && len(c.actors) > 0 && !c.actors[0].is(a.cfg.OrdersThrough, a.cfg.Issuer) {
		return &refusal{
			status: http.StatusForbidden, code: "access_denied",
			description: fmt.Sprintf("Orders are accepted through %s alone, not through %q", a.cfg.OrdersThrough, c.actors[0].name()),
		}
	}
	return c.needs(scopeTrade)
}

func (c *caller) needs(scope string) *refusal {
	if slices.Contains(c.scopes, scope) {
		return nil
	}
	return &refusal{
		status: http.StatusForbidden, code: "insufficient_scope", scope: scope, challenge: true,
		description: "This operation needs scope " + scope,
	}
}

type callerKey struct{}

func callerOf(ctx context.Context) *caller {
	c, _ := ctx.Value(callerKey{}).(*caller)
	return c
}
