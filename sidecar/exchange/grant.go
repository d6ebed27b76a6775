package exchange

import (
	"errors"
	"net/http"

	"phantomtoken/internal/oauth"
	"phantomtoken/internal/policy"
	"phantomtoken/tokenexchange"
)

// decideGrant asks the policy what may be issued.
func decideGrant(p *policy.Policy, c *caller, subject *oauth.Introspection, actors int, req *Request) (*policy.Grant, error) {
	grant, err := p.Decide(policy.Question{
		Caller:   c.ID,
		Tool:     req.Tool,
		Audience: req.Audience,
		Scope:    req.Scope,
		Granted:  subject.Scope,
		Actors:   actors,
	})
	if err == nil {
		return grant, nil
	}
	var no *policy.Refusal
	if !errors.As(err, &no) {
		return nil, fault(ReasonFault, err)
	}
	return nil, &Refusal{
		Answer: &tokenexchange.Error{Code: no.Code, Description: no.Text, Status: http.StatusBadRequest},
		Reason: Reason(no.Reason),
	}
}
