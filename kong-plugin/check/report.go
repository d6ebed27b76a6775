package check

import (
	"encoding/json"
	"fmt"
	"io"
)

// WriteText writes the findings for people, one line each, and a last line that counts
// them.
func (r *Report) WriteText(w io.Writer) error {
	for _, f := range r.Findings {
		if _, err := fmt.Fprintln(w, f); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "%s: %s of the plugin, %s, %s\n", r.File, count(r.Blocks, "block"), count(r.Problems, "problem"), count(r.Warnings, "warning"))
	return err
}

// WriteJSON writes the report for programs, as one JSON object.
func (r *Report) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
