package doctor

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode"
)

// Result is how a step went.
type Result string

const (
	// OK: nothing is wrong here.
	OK Result = "ok"
	// Faulty: a client fails here, or some clients do.
	Faulty Result = "fault"
	// Skipped: the step could not be taken, or was not asked for.
	Skipped Result = "skipped"
)

// Fault is one thing that is wrong.
type Fault struct {
	Rule     string `json:"rule"` // id in docs/conformance.md
	Seen     string `json:"seen"`
	Expected string `json:"expected"`
	Change   string `json:"change"` // what mends it
}

// Step is one step of the way.
type Step struct {
	Number int      `json:"number"` // from 1
	Name   string   `json:"name"`
	Result Result   `json:"result"`
	Seen   string   `json:"seen,omitempty"` // in short, or why it was skipped
	Faults []Fault  `json:"faults,omitempty"`
	Notes  []string `json:"notes,omitempty"` // worth knowing, not wrong
}

func (s *Step) skip(why string) { s.Result, s.Seen = Skipped, why }

func (s *Step) note(format string, args ...any) {
	s.Notes = append(s.Notes, fmt.Sprintf(format, args...))
}

func (s *Step) fault(rule, seen, expected, change string) {
	s.Faults = append(s.Faults, Fault{rule, seen, expected, change})
}

// Report is a visit as a whole.
type Report struct {
	URL         string `json:"url"`
	Unreachable bool   `json:"unreachable"` // nothing could be asked
	Faults      int    `json:"faults"`
	Steps       []Step `json:"steps"`
}

// Exit codes of the command.
const (
	ExitWell        = 0
	ExitFaults      = 1
	ExitUsage       = 2
	ExitUnreachable = 3
)

// ExitCode is the exit code that fits the report.
func (r *Report) ExitCode() int {
	switch {
	case r.Unreachable:
		return ExitUnreachable
	case r.Faults > 0:
		return ExitFaults
	}
	return ExitWell
}

// add takes in a step that was taken. All texts pass here: what came from outside is made
// harmless to read, and the token is never among it.
func (r *Report) add(s *Step, token string) {
	switch {
	case len(s.Faults) > 0:
		s.Result = Faulty
	case s.Result == "":
		s.Result = OK
	}
	s.Seen = harmless(s.Seen, token)
	for i := range s.Notes {
		s.Notes[i] = harmless(s.Notes[i], token)
	}
	for i := range s.Faults {
		f := &s.Faults[i]
		for _, text := range []*string{&f.Seen, &f.Expected, &f.Change} {
			*text = harmless(*text, token)
		}
	}
	r.Faults += len(s.Faults)
	r.Steps = append(r.Steps, *s)
}

const maxText = 600 // bytes of one text of a report

func harmless(s, token string) string {
	if token != "" {
		s = strings.ReplaceAll(s, token, "[token]")
	}
	s = strings.Map(func(c rune) rune {
		if unicode.IsControl(c) || unicode.Is(unicode.Cf, c) || c == unicode.ReplacementChar {
			return '?'
		}
		return c
	}, s)
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "") + "…"
	}
	return s
}

// WriteText writes the report for people.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	for _, s := range r.Steps {
		mark := map[Result]string{OK: "✓", Faulty: "✗", Skipped: "–"}[s.Result]
		line := fmt.Sprintf("%s %2d  %-32s %s", mark, s.Number, s.Name, s.Seen)
		fmt.Fprintln(&b, strings.TrimRight(line, " "))
		for _, f := range s.Faults {
			fmt.Fprintf(&b, "       seen      %s\n       expected  %s\n       change    %s\n       rule      %s\n", f.Seen, f.Expected, f.Change, f.Rule)
		}
		for _, n := range s.Notes {
			fmt.Fprintf(&b, "       note      %s\n", n)
		}
	}
	switch {
	case r.Unreachable:
		b.WriteString("not reachable\n")
	case r.Faults == 0:
		b.WriteString("all well\n")
	case r.Faults == 1:
		b.WriteString("1 fault\n")
	default:
		fmt.Fprintf(&b, "%d faults\n", r.Faults)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// WriteJSON writes the report for programs, as one JSON object.
func (r *Report) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}
