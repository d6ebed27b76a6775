package stocksapi

import (
	"cmp"
	"net/http"
	"strconv"
	"strings"
)

// actor is one link of the act claim (RFC 8693 §4.1): a party, and the one before it.
type actor struct {
	Subject  string `json:"sub"`
	ClientID string `json:"client_id"`
	Issuer   string `json:"iss"` // who gave the name
	Before   *actor `json:"act"`
}

// chain lists the actors, the current one first. Only that one may decide about access; the
// others are for the log (RFC 8693 §4.1).
func (a *actor) chain() []actor {
	var out []actor
	for ; a != nil; a = a.Before {
		out = append(out, *a)
	}
	return out
}

func (a *actor) name() string { return cmp.Or(a.Subject, a.ClientID) }

// is compares the issuer too: another one may have given the same name.
func (a *actor) is(subject, issuer string) bool { return a.Subject == subject && a.Issuer == issuer }

// HeaderActors is in every answer to a token with act: the names of the actors, the current
// one first, as strings separated by commas. An API of a company would log them and leave it
// at that.
const HeaderActors = "Stocks-Actors"

func actorNames(actors []actor) []string {
	out := make([]string, len(actors))
	for i := range actors {
		out[i] = actors[i].name()
	}
	return out
}

// showActors writes the header field.
func showActors(h http.Header, names []string) {
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = strconv.QuoteToASCII(name) // it is a client's choice what a name holds
	}
	if len(quoted) > 0 {
		h.Set(HeaderActors, strings.Join(quoted, ", "))
	}
}
