package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// maxProblems is how many problems are reported at most: a file of another kind has one in
// every line.
const maxProblems = 100

// Problem is one thing that is wrong with a policy file.
type Problem struct {
	// Line and Column count from 1.
	Line, Column int
	// Path is the key that is concerned, such as callers.mcp-server.audiences; empty for the
	// file as a whole.
	Path string
	// Text says what was expected and what was there.
	Text string
}

// Error is "line:column: path: text".
func (p Problem) Error() string {
	if p.Path == "" {
		return fmt.Sprintf("%d:%d: %s", p.Line, p.Column, p.Text)
	}
	return fmt.Sprintf("%d:%d: %s: %s", p.Line, p.Column, p.Path, p.Text)
}

// Problems is the error of Parse: all problems of a file in the order of their places, of
// more than a hundred those that were found first. There is at least one.
type Problems []Problem

// Error has one problem in each line.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i := range p {
		lines[i] = p[i].Error()
	}
	return strings.Join(lines, "\n")
}

// place is where something stands.
type place struct {
	line, column int
	path         string
}

// member is the place of a key inside of p.
func (p place) member(name string, line, column int) place {
	return place{line, column, memberPath(p.path, name)}
}

// memberPath writes names that are not plain in brackets and single quotes: an error
// description of OAuth cannot have double ones (RFC 6749 §5.2).
func memberPath(path, name string) string {
	plain := name != "" && len(name) <= maxShown && !strings.ContainsFunc(name, func(r rune) bool {
		return r != '_' && r != '-' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	})
	switch {
	case !plain:
		return path + "[" + quote(name) + "]"
	case path == "":
		return name
	}
	return path + "." + name
}

// findings collects problems: maxProblems of them, and of the others only the number. What
// takes work to be said is an argument that says it in a String method: then the work is
// bounded too.
type findings struct {
	found Problems
	count int
}

func (f *findings) add(at place, format string, args ...any) {
	if f.count++; f.count > maxProblems {
		return
	}
	f.found = append(f.found, Problem{Line: at.line, Column: at.column, Path: at.path, Text: fmt.Sprintf(format, args...)})
}

// err is nil when nothing was found.
func (f *findings) err() error {
	if len(f.found) == 0 {
		return nil
	}
	slices.SortStableFunc(f.found, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	// What is reached by two aliases is read twice.
	return slices.Compact(f.found)
}

// quote shows a name in one line, shortened when it is long.
func quote(s string) string {
	if withheld(s) {
		return concealed
	}
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, clip(s))
	return "'" + s + "'"
}

// literal shows a text with all that is in it, shortened when it is long.
func literal(s string) string {
	if withheld(s) {
		return concealed
	}
	return strconv.Quote(clip(s))
}

// concealed stands for a text that is withheld.
const concealed = "something that is not shown, since it might be a secret"

// withheld reports whether a text is none that belongs into a policy and may well be a
// secret: a key in PEM, or several lines of whatever file.
func withheld(s string) bool {
	lines := strings.TrimSpace(s)
	return strings.Contains(s, "-----BEGIN ") || strings.Contains(lines, "\n") || strings.Contains(lines, "\r")
}

// maxShown is how many bytes of a text are shown.
const maxShown = 128

// clip shortens what is shown.
func clip(s string) string {
	if len(s) > maxShown {
		return strings.ToValidUTF8(s[:maxShown], "") + "..."
	}
	return s
}

// names are shown by quoteAll.
type names []string

func (n names) String() string { return quoteAll(n) }

// quoteAll shows some of the names.
func quoteAll(names []string) string {
	const most = 20
	if len(names) == 0 {
		return "none"
	}
	quoted := make([]string, 0, most)
	for _, name := range names[:min(len(names), most)] {
		quoted = append(quoted, quote(name))
	}
	if more := len(names) - most; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(quoted, ", "), more)
	}
	return strings.Join(quoted, ", ")
}
