package main

import (
	"fmt"
	"reflect"
	"strings"

	"phantomtoken/testenv/recorder"
)

// mismatch is a step that is not as it should be. It ends the demonstration.
type mismatch struct{ what, want, got string }

func (m *mismatch) Error() string {
	return fmt.Sprintf("%s\n      expected  %s\n      got       %s", m.what, m.want, m.got)
}

// facts checks one thing after another and keeps the first that is wrong.
type facts struct {
	checked int
	err     error
}

func (f *facts) fail(what, want, got string) {
	if f.err == nil {
		f.err = &mismatch{what, want, got}
	}
}

func (f *facts) equal(what string, want, got any) {
	f.checked++
	if !reflect.DeepEqual(want, got) {
		f.fail(what, fmt.Sprintf("%v", want), fmt.Sprintf("%v", got))
	}
}

func (f *facts) contains(what, text, part string) {
	f.checked++
	if !strings.Contains(text, part) {
		f.fail(what, fmt.Sprintf("%q in it", part), short(text))
	}
}

func (f *facts) holds(what string, ok bool) {
	f.checked++
	if !ok {
		f.fail(what, "so it is", "it is not so")
	}
}

// talk is a part of the conversation.
type talk []*recorder.Exchange

// find returns the exchanges between two parties whose URL ends so.
func (t talk) find(from, to, suffix string) talk {
	var out talk
	for _, e := range t {
		path, _, _ := strings.Cut(e.URL, "?")
		if e.From == from && (to == "" || e.To == to) && strings.HasSuffix(path, suffix) {
			out = append(out, e)
		}
	}
	return out
}

// only returns the one exchange that find finds. Where there is another number, it notes
// the mismatch and returns an empty one.
func (f *facts) only(t talk, from, to, suffix string) *recorder.Exchange {
	f.checked++
	found := t.find(from, to, suffix)
	if len(found) != 1 {
		f.fail(fmt.Sprintf("exchanges of %s with %s at %s", from, to, suffix), "1", fmt.Sprint(len(found)))
		return &recorder.Exchange{}
	}
	return found[0]
}
