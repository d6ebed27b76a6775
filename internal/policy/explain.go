package policy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"phantomtoken/internal/oauth"
)

// Explanation is an answer of Decide with the way to it. The zero value explains nothing.
type Explanation struct {
	// Steps are in the order in which they were taken.
	Steps []Step
	// Grant is what is given, or Refusal why not. One of them is set.
	Grant   *Grant
	Refusal *Refusal
}

// Step is one step of a decision.
type Step struct {
	// Line is the line of the file that decided it; 0 for a default, or for what the file
	// does not say.
	Line int
	// Text says what was decided.
	Text string
}

// Explain answers a question as Decide does, by the same code, and says which line of the
// file decided each step.
func (p *Policy) Explain(q Question) Explanation {
	rec := new(recorder)
	grant, refusal := p.decide(&q, rec)
	return Explanation{Steps: rec.steps, Grant: grant, Refusal: refusal}
}

// recorder takes the notes of decide.
type recorder struct{ steps []Step }

func (r *recorder) step(line int, format string, args ...any) {
	r.steps = append(r.steps, Step{line, fmt.Sprintf(format, args...)})
}

func (r *recorder) target(name string, t *target) {
	if name == t.Name {
		r.step(t.line, "%s: the caller may reach %s", t.path, quote(name))
		return
	}
	r.step(t.line, "%s: the caller may reach %s, which is a resource of it; aud is %s", t.path, quote(name), quote(t.Name))
}

// available notes what became of each scope of the subject token and of each rule.
func (r *recorder) available(out, granted oauth.Scopes, targets []*target) {
	for _, t := range targets {
		for _, scope := range granted {
			switch {
			case t.lines[scope] == 0 && !slices.Contains(out, scope):
				r.step(t.scopesLine, "%s.scopes: %s of the subject token is not listed, left out", t.path, quote(scope))
			case t.lines[scope] == 0: // a rule gives it
			case !slices.Contains(out, scope):
				r.step(t.lines[scope], "%s.scopes: %s is listed, but not for every target, left out", t.path, quote(scope))
			default:
				r.step(t.lines[scope], "%s.scopes: %s is listed, and the subject token has it", t.path, quote(scope))
			}
		}
		for _, rule := range t.rules {
			if !granted.Contains(rule.when) {
				r.step(rule.line, "rule %s: gives nothing, since the subject token lacks one of %s", quote(rule.name), quoteAll(rule.when))
			}
		}
		if len(t.reach) == 0 {
			r.step(t.line, "%s: no scopes are listed, a token without scope", t.path)
		}
	}
}

// common notes what targets say beside scopes. from is the one with the shortest life.
func (r *recorder) common(g *Grant, from *target, lines limitLines) {
	switch {
	case from.lifetimeLine != 0:
		r.step(from.lifetimeLine, "%s.token_lifetime: lives %s at most", from.audience.path, short(g.Lifetime))
	default:
		r.step(lines.lifetime, "limits.token_lifetime: lives %s at most", short(g.Lifetime))
	}
	if g.Issue == IDP {
		r.step(from.issueLine, "%s.issue: the identity provider issues the token", from.audience.path)
	}
	for _, name := range slices.Sorted(maps.Keys(g.Claims)) {
		r.step(from.claimLines[name], "%s is copied from %s of the subject token", memberPath(from.audience.path+".claims", name), quote(g.Claims[name]))
	}
}

// String writes a line for each step, with the line of the file in front ("default" where
// the file says nothing), and the outcome as the last.
func (e Explanation) String() string {
	var b strings.Builder
	for _, s := range e.Steps {
		fmt.Fprintf(&b, "%-9s %s\n", lineName(s.Line), s.Text)
	}
	switch {
	case e.Refusal != nil:
		where := ""
		if e.Refusal.Line > 0 {
			where = lineName(e.Refusal.Line)
		}
		fmt.Fprintf(&b, "%-9s refused: %s: %s\n", where, e.Refusal.Code, e.Refusal.Text)
	case e.Grant != nil:
		scope := "without scope"
		if len(e.Grant.Scope) > 0 {
			scope = "with scope " + quote(e.Grant.Scope.String())
		}
		fmt.Fprintf(&b, "%-9s granted: a token for %s %s, for %s at most, issued by %s", "", quoteAll(e.Grant.Audience), scope, short(e.Grant.Lifetime), e.Grant.Issue)
		if len(e.Grant.Rules) > 0 {
			fmt.Fprintf(&b, ", by rule %s", quoteAll(e.Grant.Rules))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func lineName(line int) string {
	if line == 0 {
		return "default"
	}
	return fmt.Sprintf("line %d", line)
}

// MarshalJSON writes {"outcome": "granted" or "refused", "steps": […], "grant" or "refusal"}.
func (e Explanation) MarshalJSON() ([]byte, error) {
	type step struct {
		Line int    `json:"line,omitempty"`
		Text string `json:"text"`
	}
	type grant struct {
		Audience []string          `json:"audience"`
		Scope    string            `json:"scope"`
		Claims   map[string]string `json:"claims,omitempty"`
		Lifetime int64             `json:"lifetime_seconds"`
		Issue    Issue             `json:"issue"`
		Rules    []string          `json:"rules,omitempty"`
		Lines    []int             `json:"lines"`
	}
	type refusal struct {
		Error       string `json:"error"`
		Reason      string `json:"reason"`
		Description string `json:"description"`
		Line        int    `json:"line,omitempty"`
	}
	out := struct {
		Outcome string   `json:"outcome"`
		Steps   []step   `json:"steps"`
		Grant   *grant   `json:"grant,omitempty"`
		Refusal *refusal `json:"refusal,omitempty"`
	}{Outcome: "refused", Steps: []step{}}
	for _, s := range e.Steps {
		out.Steps = append(out.Steps, step(s))
	}
	if g := e.Grant; g != nil {
		out.Outcome = "granted"
		out.Grant = &grant{g.Audience, g.Scope.String(), g.Claims, int64(g.Lifetime.Seconds()), g.Issue, g.Rules, g.Lines}
	}
	if r := e.Refusal; r != nil {
		out.Refusal = &refusal{r.Code, r.Reason, r.Text, r.Line}
	}
	return marshal(out)
}

// marshal is json.Marshal without escapes for HTML.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSpace(b.Bytes()), nil
}
