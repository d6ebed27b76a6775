//go:build keycloak

package keycloak_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// report is what phantom-token doctor prints as JSON.
type report struct {
	Faults int `json:"faults"`
	Steps  []struct {
		Name   string `json:"name"`
		Result string `json:"result"`
		Seen   string `json:"seen"`
		Faults []struct {
			Rule, Seen, Expected, Change string
		} `json:"faults"`
		Notes []string `json:"notes"`
	} `json:"steps"`
}

// visit runs phantom-token doctor with a token and returns its report and exit status. It
// registers a client at Keycloak, as a client would, and removes it again.
func (w *world) visit(t *testing.T, token string) (report, int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), w.programs.Plugin, "doctor", "-url", w.MCPURL, "-token-file", "-", "-register", "-json")
	cmd.Stdin = strings.NewReader(token)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal(out, &r); err != nil || len(r.Steps) == 0 {
		t.Fatalf("got %s, %v; want a report; %s", out, err, stderr.String())
	}
	if strings.Contains(string(out), token) {
		t.Error("the report has the token in it")
	}
	return r, cmd.ProcessState.ExitCode()
}

// doctor visits a good setup, and others with one thing wrong with each.
func doctor(t *testing.T, w *world) {
	yaml, err := os.ReadFile("../../kong.yml")
	if err != nil {
		t.Fatal(err)
	}
	// The setup of this project, without its cache: a new token is asked about at once, and
	// what is wrong with a secret is not hidden by what was right before.
	setup := strings.ReplaceAll(string(yaml), "token_cache_seconds: 300", "token_cache_seconds: 0")
	without := func(mapper string) func(t *testing.T) {
		return func(t *testing.T) {
			t.Helper()
			restore, err := w.keycloak.RemoveMapper(t.Context(), "stocks/read", mapper)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := restore(context.WithoutCancel(t.Context())); err != nil {
					t.Error(err)
				}
			})
		}
	}
	for _, tt := range []struct {
		name    string
		spoil   func(t *testing.T) // nil: all is well
		setup   string
		step    string // with the one fault, for the token
		rule    string
		change  string
		further string // another step with a fault; empty: none
	}{
		{name: "AllIsWell", setup: setup},
		{name: "WrongSecret", setup: strings.ReplaceAll(setup, "{vault://env/gateway-client-secret}", "not-the-secret-of-the-gateway"),
			step: "your token", rule: "IN-08", change: "client_secret", further: "a token that does not exist"},
		{name: "AudienceOfTheMCPServerMissing", spoil: without("audience of the MCP server"), setup: setup,
			step: "your token", rule: "MCP-15", change: "audience"},
		{name: "AudienceOfTheGatewayMissing", spoil: without("audience api-gateway-client"), setup: setup,
			step: "your token", rule: "MCP-20", change: "client_id may not see it"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.spoil != nil {
				tt.spoil(t)
			}
			if err := w.Gateway.Reload([]byte(tt.setup)); err != nil {
				t.Fatal(err)
			}
			r, exit := w.visit(t, w.freshToken(t, john))
			want := map[string]bool{}
			for _, step := range []string{tt.step, tt.further} {
				if step != "" {
					want[step] = true
				}
			}
			for _, step := range r.Steps {
				switch {
				case step.Result == "skipped":
					t.Errorf("%s: skipped: %s", step.Name, step.Seen)
				case (step.Result == "fault") != want[step.Name]:
					t.Errorf("%s: got %s %q %+v, want a fault: %t", step.Name, step.Result, step.Seen, step.Faults, want[step.Name])
				case step.Name == tt.step:
					if f := step.Faults[0]; len(step.Faults) != 1 || f.Rule != tt.rule || !strings.Contains(f.Change, tt.change) {
						t.Errorf("%s: got %+v, want rule %s and to change %s", step.Name, step.Faults, tt.rule, tt.change)
					}
				}
			}
			if wantExit := min(1, len(want)); exit != wantExit || r.Faults != len(want) {
				t.Errorf("got %d faults, exit status %d; want %d, %d", r.Faults, exit, len(want), wantExit)
			}
		})
	}
}
