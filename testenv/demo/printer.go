package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
)

// printer writes the conversation. Colours are for terminals only.
type printer struct {
	mu      sync.Mutex
	out     io.Writer
	colours bool
	number  int
}

// newPrinter returns a printer with colours if file is a terminal and nobody objects
// (https://no-color.org).
func newPrinter(file *os.File) *printer {
	info, err := file.Stat()
	terminal := err == nil && info.Mode()&os.ModeCharDevice != 0
	return &printer{out: file, colours: terminal && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
}

const (
	bold  = "1"
	dim   = "2"
	red   = "31"
	green = "32"
	cyan  = "36"
)

func (p *printer) paint(colour, text string) string {
	if !p.colours {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

func (p *printer) line(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.out, format+"\n", args...)
}

// chapter begins a part of the conversation.
func (p *printer) chapter(title string) {
	p.line("\n%s", p.paint(bold, "== "+title))
}

// note says what the conversation shows.
func (p *printer) note(format string, args ...any) {
	p.line("      %s", p.paint(cyan, fmt.Sprintf(format, args...)))
}

// entry is one exchange as it is shown.
type entry struct {
	from, to string
	request  string   // method and path
	says     []string // what matters of the request
	status   int
	answer   []string // what matters of the response
}

func (p *printer) entry(e entry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.number++
	fmt.Fprintf(p.out, "%3d   %s → %s   %s\n", p.number, p.paint(bold, e.from), p.paint(bold, e.to), e.request)
	for _, s := range e.says {
		fmt.Fprintf(p.out, "        %s\n", s)
	}
	status := fmt.Sprint(e.status)
	switch {
	case e.status == 0:
		status = p.paint(red, "no answer")
	case e.status < 400:
		status = p.paint(green, status)
	default:
		status = p.paint(red, status)
	}
	fmt.Fprintf(p.out, "      ← %s   %s\n", status, strings.Join(e.answer, "\n              "))
}

// refusal is one line: what was tried, what had to come, what came.
func (p *printer) refusal(what string, want, got int, says string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.number++
	mark := p.paint(green, "as expected")
	if want != got {
		mark = p.paint(red, "UNEXPECTED")
	}
	fmt.Fprintf(p.out, "%3d   %-47s expected %d, got %d: %s   %s\n", p.number, what, want, got, mark, p.paint(dim, says))
}
