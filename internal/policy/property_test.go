package policy_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"phantomtoken/internal/oauth"
	"phantomtoken/internal/policy"
)

// model is a policy as this test understands it, apart from the code that is tested. Its
// JSON is a policy file.
type model struct {
	Version   int                       `json:"version"`
	Limits    map[string]any            `json:"limits,omitempty"`
	Audiences map[string]*modelAudience `json:"audiences"`
	Callers   map[string]*modelCaller   `json:"callers"`
	Tools     map[string]*modelTool     `json:"tools,omitempty"`
}

type modelAudience struct {
	Resources []string          `json:"resources,omitempty"`
	Issue     string            `json:"issue"`
	Lifetime  string            `json:"token_lifetime,omitempty"`
	Scopes    []string          `json:"scopes,omitempty"`
	Claims    map[string]string `json:"claims,omitempty"`
}

type modelCaller struct {
	SubjectAudience string                  `json:"subject_audience"`
	Authentication  map[string]any          `json:"authentication"`
	Audiences       map[string]*modelTarget `json:"audiences,omitempty"`
}

type modelTarget struct {
	Scopes []string    `json:"scopes,omitempty"`
	Rules  []modelRule `json:"rules,omitempty"`
}

type modelRule struct {
	Name  string   `json:"name"`
	When  []string `json:"when"`
	Grant []string `json:"grant"`
}

type modelTool struct {
	Requires  []string            `json:"requires,omitempty"`
	Audiences map[string][]string `json:"audiences"`
}

// some picks elements of list, each with probability 1/n, in random order.
func some(r *rand.Rand, list []string, n int) []string {
	out := []string{}
	for _, i := range r.Perm(len(list)) {
		if r.IntN(n) == 0 {
			out = append(out, list[i])
		}
	}
	return out
}

func randomModel(r *rand.Rand, scopes []string) *model {
	m := &model{Version: 1, Limits: map[string]any{"actors": 2 + r.IntN(7)}, Audiences: map[string]*modelAudience{}, Callers: map[string]*modelCaller{}}
	for i := range 1 + r.IntN(4) {
		a := &modelAudience{Issue: "mint", Scopes: some(r, scopes, 2), Claims: map[string]string{}}
		if r.IntN(5) == 0 {
			a.Issue, a.Claims = "idp", nil
		} else {
			for _, claim := range some(r, []string{"region", "tier"}, 2) {
				a.Claims[claim] = []string{claim, "other"}[r.IntN(2)]
			}
		}
		if r.IntN(2) == 0 {
			a.Resources = []string{fmt.Sprintf("https://r%d.example.com", i)}
		}
		if r.IntN(2) == 0 {
			a.Lifetime = fmt.Sprintf("%ds", 10+r.IntN(290))
		}
		m.Audiences[fmt.Sprintf("a%d", i)] = a
	}
	names := slices.Sorted(maps.Keys(m.Audiences))
	rules := 0
	reach := map[string]map[string]bool{}
	for i := range 1 + r.IntN(2) {
		c := &modelCaller{SubjectAudience: "s", Authentication: map[string]any{"secret_variables": []string{"SECRET"}}, Audiences: map[string]*modelTarget{}}
		for _, name := range names {
			if r.IntN(4) == 0 {
				continue
			}
			if reach[name] == nil {
				reach[name] = map[string]bool{}
			}
			t := &modelTarget{Scopes: some(r, m.Audiences[name].Scopes, 2)}
			for range r.IntN(3) {
				rules++
				rule := modelRule{Name: fmt.Sprintf("rule-%d", rules), When: some(r, scopes, 3), Grant: some(r, m.Audiences[name].Scopes, 2)}
				if len(rule.When) > 0 && len(rule.Grant) > 0 {
					t.Rules = append(t.Rules, rule)
				}
			}
			for _, list := range append(slices.Collect(func(yield func([]string) bool) {
				for _, rule := range t.Rules {
					if !yield(rule.Grant) {
						return
					}
				}
			}), t.Scopes) {
				for _, scope := range list {
					reach[name][scope] = true
				}
			}
			c.Audiences[name] = t
		}
		m.Callers[fmt.Sprintf("c%d", i)] = c
	}
	if r.IntN(2) == 0 {
		m.Tools = map[string]*modelTool{}
		for i := range 1 + r.IntN(2) {
			t := &modelTool{Requires: some(r, scopes, 6), Audiences: map[string][]string{}}
			for name, of := range reach {
				if r.IntN(3) > 0 {
					t.Audiences[name] = some(r, slices.Sorted(maps.Keys(of)), 2)
				}
			}
			if len(t.Audiences) > 0 {
				m.Tools[fmt.Sprintf("t%d", i)] = t
			}
		}
	}
	return m
}

func randomQuestion(r *rand.Rand, m *model, scopes []string) policy.Question {
	var names []string
	for name, a := range m.Audiences {
		names = append(append(names, name), a.Resources...)
	}
	slices.Sort(names)
	q := policy.Question{
		Caller:  fmt.Sprintf("c%d", r.IntN(2)),
		Granted: oauth.Scopes(some(r, append(slices.Clone(scopes), "openid"), 2)),
		Actors:  r.IntN(3),
	}
	for range 1 + r.IntN(2)*r.IntN(3) {
		q.Audience = append(q.Audience, names[r.IntN(len(names))])
	}
	if r.IntN(3) == 0 {
		q.Scope = oauth.Scopes(some(r, scopes, 4))
	}
	if r.IntN(3) == 0 {
		q.Tool = fmt.Sprintf("t%d", r.IntN(3))
	}
	return q
}

func subset(a, b []string) bool {
	return !slices.ContainsFunc(a, func(s string) bool { return !slices.Contains(b, s) })
}

// wider says in what a grant goes beyond the model; nothing when it does not.
func (m *model) wider(q policy.Question, g *policy.Grant) string {
	var asked []string
	for _, name := range q.Audience {
		for key, a := range m.Audiences {
			if (name == key || slices.Contains(a.Resources, name)) && !slices.Contains(asked, key) {
				asked = append(asked, key)
			}
		}
	}
	if !slices.Equal(asked, g.Audience) {
		return fmt.Sprintf("audience %v, want %v", g.Audience, asked)
	}
	if len(q.Scope) > 0 && !slices.Equal(q.Scope, g.Scope) {
		return "another scope than was asked for"
	}
	if actors := m.Limits["actors"].(int); max(q.Actors, 1)+1 > actors {
		return "too many actors"
	}
	var used []string
	for _, name := range g.Audience {
		a, t := m.Audiences[name], m.Callers[q.Caller].Audiences[name]
		if t == nil {
			return "audience of another caller"
		}
		if len(g.Audience) > 1 && a.Issue == "idp" {
			return "identity provider in company"
		}
		if !subset(g.Scope, a.Scopes) {
			return "scope outside of the audience"
		}
		if d, _ := time.ParseDuration(a.Lifetime); g.Lifetime > 5*time.Minute || d > 0 && g.Lifetime > d {
			return "lives too long"
		}
		for claim, of := range g.Claims {
			if a.Claims[claim] != of {
				return "claim outside of the audience"
			}
		}
		for _, scope := range g.Scope {
			if slices.Contains(q.Granted, scope) && slices.Contains(t.Scopes, scope) {
				continue
			}
			i := slices.IndexFunc(t.Rules, func(r modelRule) bool {
				return slices.Contains(g.Rules, r.Name) && slices.Contains(r.Grant, scope) && subset(r.When, q.Granted)
			})
			if i < 0 {
				return "scope " + scope + " that is neither granted and listed nor given by a named rule"
			}
			used = append(used, t.Rules[i].Name)
		}
		if len(t.Scopes)+len(t.Rules) > 0 && len(q.Scope) == 0 && q.Tool == "" && len(g.Scope) == 0 {
			return "no scope where there should be one"
		}
		if tool := m.Tools[q.Tool]; q.Tool != "" && len(m.Tools) > 0 {
			if tool == nil || !subset(g.Scope, tool.Audiences[name]) || !subset(tool.Requires, q.Granted) {
				return "wider than the tool"
			}
			if _, ok := tool.Audiences[name]; !ok {
				return "target of another tool"
			}
		}
	}
	if !subset(g.Rules, used) {
		return "a rule that gave nothing is named"
	}
	return ""
}

// A grant is never wider than the scopes of the subject token and what named rules add, and
// never outside of what the file lists; nor narrower, where nothing was asked for. Explain
// says the same.
//
// Covers: TX-41
func TestDecideIsNeverWiderThanThePolicy(t *testing.T) {
	scopes := []string{"a", "b", "c", "d", "e"}
	granted, refused := 0, map[string]int{}
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		m := randomModel(r, scopes)
		data, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		p, err := policy.Parse(data)
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, data)
		}
		for range 50 {
			q := randomQuestion(r, m, scopes)
			g, err := p.Decide(q)
			e := p.Explain(q)
			if err != nil {
				var refusal *policy.Refusal
				if g != nil || !errors.As(err, &refusal) || e.Grant != nil || e.Refusal == nil || *e.Refusal != *refusal {
					t.Fatalf("seed %d: %+v: %+v, %v; explained %+v", seed, q, g, err, e)
				}
				refused[refusal.Reason]++
				continue
			}
			if e.Refusal != nil || !reflect.DeepEqual(e.Grant, g) {
				t.Fatalf("seed %d: %+v: %+v; explained %+v", seed, q, g, e)
			}
			if why := m.wider(q, g); why != "" {
				t.Fatalf("seed %d: %+v: %+v: %s\n%s", seed, q, g, why, data)
			}
			if len(g.Audience) == 1 && len(q.Scope) == 0 && (q.Tool == "" || len(m.Tools) == 0) {
				for _, scope := range m.Callers[q.Caller].Audiences[g.Audience[0]].Scopes {
					if slices.Contains(q.Granted, scope) && !slices.Contains(g.Scope, scope) {
						t.Fatalf("seed %d: %+v: %+v lacks %s\n%s", seed, q, g, scope, data)
					}
				}
			}
			granted++
		}
	}
	// The questions are worth asking.
	if granted < 500 || len(refused) < 6 {
		t.Errorf("granted %d, refused %v", granted, refused)
	}
}

// Whatever comes in, Parse comes back; what it takes, it takes again the same way.
func FuzzParse(f *testing.F) {
	f.Add([]byte(full))
	f.Add([]byte("version: 1\ncallers:\n  a: &a {subject_audience: b, authentication: *a}\n"))
	f.Add([]byte("version: 1\ncallers: {a: {subject_audience: b, authentication: {secret_files: [c]}, audiences: {d: {}}}}\naudiences: {d: {}}\n"))
	f.Add([]byte("{\"version\": 1, \"callers\": {\"<<\": {}}}\n---\n"))
	f.Add([]byte("? [a]\n: !!binary x\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := policy.Parse(data)
		if err != nil {
			var problems policy.Problems
			if p != nil || !errors.As(err, &problems) || len(problems) == 0 {
				t.Fatalf("Parse: %v, %v", p, err)
			}
			for _, problem := range problems {
				if problem.Line < 1 || problem.Column < 1 || problem.Text == "" {
					t.Errorf("problem %+v", problem)
				}
			}
			return
		}
		if problems := policy.Structure(data); problems != nil {
			t.Fatalf("Parse takes what the description refuses: %v", problems)
		}
		again, err := policy.Parse(data)
		if err != nil || !reflect.DeepEqual(again, p) {
			t.Fatalf("Parse takes it differently: %v", err)
		}
		for _, c := range p.Callers() {
			for _, a := range p.Audiences() {
				q := policy.Question{Caller: c.ID, Audience: []string{a.Name}, Granted: a.Scopes}
				one, two := p.Explain(q), again.Explain(q)
				first, err := json.Marshal(one)
				if err != nil {
					t.Fatal(err)
				}
				if second, _ := json.Marshal(two); string(first) != string(second) || one.String() != two.String() {
					t.Errorf("decided differently:\n%s\n%s", first, second)
				}
				if one.Grant != nil && !a.Scopes.Contains(one.Grant.Scope) {
					t.Errorf("wider than the audience: %s", first)
				}
			}
		}
	})
}
