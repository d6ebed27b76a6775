package main

import (
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"sync"

	"phantomtoken/testenv/recorder"
)

// printer writes the conversation. Colours are for terminals only.
type printer struct {
	mu      sync.Mutex
	out     io.Writer
	colours bool
	number  int
	read    map[string]bool // tokens whose claims were shown
}

// newPrinter returns a printer with colours if file is a terminal and nobody objects
// (https://no-color.org).
func newPrinter(file *os.File) *printer {
	info, err := file.Stat()
	terminal := err == nil && info.Mode()&os.ModeCharDevice != 0
	return newPrinterTo(file, terminal && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb")
}

func newPrinterTo(out io.Writer, colours bool) *printer {
	return &printer{out: out, colours: colours, read: map[string]bool{}}
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
	request  string   // method and URL
	says     []string // what matters of the request
	token    string   // a token of ours in it
	claims   []string // what that token says; shown once
	status   int
	answer   []string // what matters of the response
}

// request writes who asks whom for what. depth says how many exchanges are under way. The
// number belongs to the exchange.
func (p *printer) request(e entry, depth int) (number int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.number++
	fmt.Fprintf(p.out, "%3d   %s%s → %s   %s\n", p.number, indent(depth), p.paint(bold, e.from), p.paint(bold, e.to), e.request)
	says := e.says
	if e.token != "" && !p.read[e.token] {
		p.read[e.token] = true
		says = append(says, e.claims...)
	}
	for _, s := range says {
		fmt.Fprintf(p.out, "      %s    %s\n", indent(depth), s)
	}
	return p.number
}

// answer writes the answer to a request.
func (p *printer) answer(e entry, depth, number int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	status := fmt.Sprint(e.status)
	switch {
	case e.status == 0:
		status = p.paint(red, "no answer")
	case e.status < 400:
		status = p.paint(green, status)
	default:
		status = p.paint(red, status)
	}
	fmt.Fprintf(p.out, "%s   %s← %s   %s\n", p.paint(dim, fmt.Sprintf("%3d", number)), indent(depth), status,
		strings.Join(e.answer, "\n            "+indent(depth)))
}

func indent(depth int) string { return strings.Repeat("   ", depth) }

// conversation writes exchanges in the order in which they began. What is asked on the way
// to an answer stands between the question and that answer.
func (p *printer) conversation(exchanges []*recorder.Exchange) {
	type open struct {
		entry  entry
		ended  int
		number int
	}
	var under []open // way
	finish := func(before int) {
		for len(under) > 0 && under[len(under)-1].ended < before {
			last := under[len(under)-1]
			under = under[:len(under)-1]
			p.answer(last.entry, len(under), last.number)
		}
	}
	for _, e := range exchanges {
		finish(e.Began)
		shown := describe(e)
		number := p.request(shown, len(under))
		// An inner one may end a moment after the outer one, when its last byte has passed.
		ended := e.Ended
		if len(under) > 0 {
			ended = min(ended, under[len(under)-1].ended-1)
		}
		under = append(under, open{shown, ended, number})
	}
	finish(math.MaxInt)
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
	fmt.Fprintf(p.out, "%3d   %-41s expected %d, got %d, %s   %s\n", p.number, what, want, got, mark, p.paint(dim, says))
}
