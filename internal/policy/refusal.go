package policy

import (
	"fmt"
	"strings"

	"phantomtoken/internal/oauth"
	"phantomtoken/tokenexchange"
)

// Reasons of refusals, for logs and metrics: the Reason of a Refusal is one of these.
const (
	// ReasonCaller: the caller is not in the policy.
	ReasonCaller = "caller_unknown"
	// ReasonUnauthorized: the caller has no audience.
	ReasonUnauthorized = "client_without_audience"
	// ReasonActors: the chain of actors would be too long.
	ReasonActors = "actor_chain"
	// ReasonTool: the tool is not listed, or not for the target.
	ReasonTool = "tool"
	// ReasonTarget: the target is missing, or the caller may not reach it.
	ReasonTarget = "target"
	// ReasonIssue: the targets cannot have one token together.
	ReasonIssue = "target_issue"
	// ReasonScope: a scope cannot be had, or none is left.
	ReasonScope = "scope"
)

// Refusal is the error of Decide.
type Refusal struct {
	// Code is the error code of the answer (RFC 6749 §5.2, RFC 8693 §2.2.2):
	// unauthorized_client, invalid_target, invalid_scope, or invalid_request for a subject
	// token whose chain of actors is too long.
	Code string
	// Reason is one of the Reason constants.
	Reason string
	// Text says for the caller what was expected, what came, and which key of the policy
	// file it is about. It quotes what the caller sent, shortened, and is not yet fit for
	// error_description as to its characters.
	Text string
	// Line is the line of the file that decided; 0 for a default and for what is not there.
	Line int
}

// Error is the code and the text.
func (r *Refusal) Error() string { return r.Code + ": " + r.Text }

// key names a key of the file with its line.
func key(path string, line int) string {
	return fmt.Sprintf("%s (line %d)", path, line)
}

func refuseCaller(id string) *Refusal {
	return &Refusal{tokenexchange.ErrorUnauthorizedClient, ReasonCaller,
		"client " + quote(id) + " may not exchange tokens: expected one of callers", 0}
}

func refuseWithoutAudience(c *caller) *Refusal {
	return &Refusal{tokenexchange.ErrorUnauthorizedClient, ReasonUnauthorized,
		"client " + quote(c.ID) + " may not exchange tokens: " + memberPath(c.path, "audiences") + " has none, " + key(c.path, c.Line), c.audiencesLine}
}

func refuseActors(most, line int) *Refusal {
	if line == 0 {
		return &Refusal{tokenexchange.ErrorInvalidRequest, ReasonActors,
			fmt.Sprintf("subject_token was not accepted: expected at most %d actors in act before the client, got more; the bound is the default of limits.actors", most-1), 0}
	}
	return &Refusal{tokenexchange.ErrorInvalidRequest, ReasonActors,
		fmt.Sprintf("subject_token was not accepted: expected at most %d actors in act before the client, got more; the bound is %s", most-1, key("limits.actors", line)), line}
}

func refuseTool(name string, line int) *Refusal {
	return &Refusal{tokenexchange.ErrorInvalidTarget, ReasonTool,
		"tool " + quote(name) + " is not configured: expected one of " + key("tools", line), line}
}

func refuseRequires(t *tool, name string, scope string, granted oauth.Scopes) *Refusal {
	return &Refusal{tokenexchange.ErrorInvalidScope, ReasonScope,
		fmt.Sprintf("tool %s requires scope %s, which is not granted to the subject token: got %s; the user has to authorize it first: %s",
			quote(name), quote(scope), quoteAll(granted), key(t.path+".requires", t.requiresLine)), t.requiresLine}
}

func refuseNoTarget(c *caller) *Refusal {
	return &Refusal{tokenexchange.ErrorInvalidTarget, ReasonTarget,
		"parameter 'audience' or 'resource' is missing: expected one of " + quoteAll(c.names), c.audiencesLine}
}

func refuseTarget(c *caller, name string) *Refusal {
	return &Refusal{tokenexchange.ErrorInvalidTarget, ReasonTarget,
		fmt.Sprintf("target %s is not configured for client %s: expected one of %s; a new one goes into %s",
			quote(name), quote(c.ID), quoteAll(c.names), key(memberPath(c.path, "audiences"), c.audiencesLine)), c.audiencesLine}
}

func refuseToolTarget(tool *tool, name string, t *target) *Refusal {
	return &Refusal{tokenexchange.ErrorInvalidTarget, ReasonTool,
		fmt.Sprintf("target %s is not configured for tool %s: expected one of %s; a new one goes into %s",
			quote(t.Name), quote(name), quoteAll(tool.names), key(tool.path+".audiences", tool.audiencesLine)), tool.audiencesLine}
}

func refuseIssue(t *target) *Refusal {
	return &Refusal{tokenexchange.ErrorInvalidTarget, ReasonIssue,
		"the targets have no token in common, since the identity provider issues those for " + quote(t.Name) + ": ask for one target at a time; the key is " + key(t.audience.path+".issue", t.issueLine), t.issueLine}
}

func refuseUnlisted(scope string, t *target, common oauth.Scopes) *Refusal {
	return &Refusal{tokenexchange.ErrorInvalidScope, ReasonScope,
		fmt.Sprintf("scope %s is not configured for the target: expected one of %s; a new one goes into %s",
			quote(scope), quoteAll(common), key(t.path+".scopes", t.scopesLine)), t.scopesLine}
}

func refuseToolScope(scope, name string, t toolTarget) *Refusal {
	return &Refusal{tokenexchange.ErrorInvalidScope, ReasonScope,
		fmt.Sprintf("scope %s is not configured for tool %s: expected one of %s; a new one goes into %s",
			quote(scope), quote(name), quoteAll(t.scopes), key(t.path, t.line)), t.line}
}

func refuseNotGranted(scope string, t *target, granted oauth.Scopes) *Refusal {
	for i := range t.rules {
		if r := &t.rules[i]; t.lines[scope] == 0 && r.grant.Contains(oauth.Scopes{scope}) {
			return &Refusal{tokenexchange.ErrorInvalidScope, ReasonScope,
				fmt.Sprintf("scope %s is given by rule %s (line %d) to subject tokens with %s, got %s; the user has to authorize them first",
					quote(scope), quote(r.name), r.line, quoteAll(r.when), quoteAll(granted)), r.line}
		}
	}
	return &Refusal{tokenexchange.ErrorInvalidScope, ReasonScope,
		fmt.Sprintf("scope %s is not granted to the subject token: expected one of %s; the user has to authorize it first", quote(scope), quoteAll(granted)), t.lines[scope]}
}

func refuseNone(t *target, granted oauth.Scopes) *Refusal {
	return &Refusal{tokenexchange.ErrorInvalidScope, ReasonScope,
		fmt.Sprintf("the subject token has none of the scopes configured for the target: expected one of %s (%s), got %s", quoteAll(t.reachable()), key(t.path+".scopes", t.scopesLine), quoteAll(granted)), t.scopesLine}
}

func refuseNoneInCommon(targets []*target) *Refusal {
	var where []string
	for _, t := range targets {
		where = append(where, key(t.path+".scopes", t.scopesLine))
	}
	return &Refusal{tokenexchange.ErrorInvalidScope, ReasonScope,
		"the subject token has no scope that is configured for every target (" + strings.Join(where, ", ") + "): ask for one target at a time", targets[0].scopesLine}
}

func refuseNoneForTool(name string, t toolTarget, had oauth.Scopes) *Refusal {
	return &Refusal{tokenexchange.ErrorInvalidScope, ReasonScope,
		fmt.Sprintf("none of the scopes configured for tool %s can be had: expected one of %s (%s), got %s", quote(name), quoteAll(t.scopes), key(t.path, t.line), quoteAll(had)), t.line}
}
