package house_test

import (
	"strings"
)

// block is one fenced code block of a document.
type block struct {
	info string // what follows the fence: "sh", "yaml kong.yml"
	text string
	line int // of the fence, from 1
}

func blocks(doc string) []block {
	var out []block
	var open *block
	n := 0
	for line := range strings.Lines(doc) {
		n++
		trimmed := strings.TrimSpace(line)
		switch {
		case open == nil && strings.HasPrefix(trimmed, "```"):
			open = &block{info: strings.TrimSpace(strings.TrimLeft(trimmed, "`")), line: n}
		case open != nil && trimmed == "```":
			out = append(out, *open)
			open = nil
		case open != nil:
			open.text += line
		}
	}
	return out
}

// prose is a document with its code blocks emptied; lines keep their numbers.
func prose(doc string) []string {
	var out []string
	inside := false
	for line := range strings.Lines(doc) {
		line = strings.TrimRight(line, "\r\n")
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			inside = !inside
			line = ""
		}
		if inside {
			line = ""
		}
		out = append(out, line)
	}
	return out
}

// row splits a table row into its cells; nil for every other line and for the line under
// a table's head.
func row(line string) []string {
	line = strings.TrimSpace(line)
	if !strings.HasPrefix(line, "|") || !strings.HasSuffix(line, "|") || len(line) < 2 {
		return nil
	}
	line = strings.ReplaceAll(line[1:len(line)-1], `\|`, "\x00")
	cells := strings.Split(line, "|")
	rule := true
	for i, c := range cells {
		cells[i] = strings.ReplaceAll(strings.TrimSpace(c), "\x00", `\|`)
		rule = rule && strings.Trim(cells[i], "-:") == ""
	}
	if rule {
		return nil
	}
	return cells
}

func formatRow(cells []string) string { return "| " + strings.Join(cells, " | ") + " |" }

// section returns the lines under the heading called name, with the number of the first
// line, up to the next heading of the same or a higher level.
func section(doc, name string) (lines []string, first int) {
	level := 0
	for i, line := range prose(doc) {
		if h, title := heading(line); h > 0 {
			switch {
			case level == 0 && title == name:
				level, first = h, i+2
				continue
			case level > 0 && h <= level:
				return lines, first
			}
		}
		if level > 0 {
			lines = append(lines, line)
		}
	}
	return lines, first
}

// heading returns the level and text of a heading line, or 0.
func heading(line string) (int, string) {
	level := len(line) - len(strings.TrimLeft(line, "#"))
	if level == 0 || level > 6 || !strings.HasPrefix(line[level:], " ") {
		return 0, ""
	}
	return level, strings.TrimSpace(line[level:])
}

// code returns the text of every `code span` of a cell.
func code(cell string) []string {
	var out []string
	for i, part := range strings.Split(cell, "`") {
		if i%2 == 1 {
			out = append(out, part)
		}
	}
	return out
}
