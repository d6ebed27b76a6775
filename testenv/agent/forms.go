package agent

import (
	"io"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/net/html"
)

// Page is what a person sees of a web page.
type Page struct {
	Status int
	Title  string
	Text   string // without markup, white space folded

	url   *url.URL
	forms []form
}

// form is a form with what its fields hold when the page is opened.
type form struct {
	method, action string
	fields         url.Values
	buttons        []string // names of its submit buttons
}

// maxPage bounds what is read of a page.
const maxPage = 1 << 20

func parsePage(res *http.Response) (*Page, error) {
	root, err := html.Parse(io.LimitReader(res.Body, maxPage))
	if err != nil {
		return nil, err
	}
	p := &Page{Status: res.StatusCode, url: res.Request.URL}
	var text strings.Builder
	p.read(root, nil, &text)
	p.Text = strings.Join(strings.Fields(text.String()), " ")
	return p, nil
}

// read walks the document; in is the form that n stands in.
func (p *Page) read(n *html.Node, in *form, text *strings.Builder) {
	switch {
	case n.Type == html.TextNode:
		text.WriteString(n.Data)
	case n.Type != html.ElementNode:
	case n.Data == "style", n.Data == "script":
		return
	case n.Data == "title":
		if n.FirstChild != nil {
			p.Title = n.FirstChild.Data
		}
		return
	case n.Data == "form":
		p.forms = append(p.forms, form{method: strings.ToUpper(attribute(n, "method")), action: attribute(n, "action"), fields: url.Values{}})
		in = &p.forms[len(p.forms)-1]
	case in == nil:
	case n.Data == "button":
		if kind := attribute(n, "type"); kind == "" || kind == "submit" {
			in.buttons = append(in.buttons, attribute(n, "name"))
		}
	case n.Data == "input" && attribute(n, "type") == "submit":
		in.buttons = append(in.buttons, attribute(n, "name"))
	case n.Data == "input" && attribute(n, "name") != "":
		in.fields.Set(attribute(n, "name"), attribute(n, "value"))
	}
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		p.read(c, in, text)
	}
	if n.Type == html.ElementNode { // words of neighbouring elements do not touch
		text.WriteByte(' ')
	}
}

func attribute(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

// formWith finds the form that has a field or a button of that name.
func (p *Page) formWith(name string) (form, bool) {
	for _, f := range p.forms {
		if f.fields.Has(name) {
			return f, true
		}
		for _, b := range f.buttons {
			if b == name {
				return f, true
			}
		}
	}
	return form{}, false
}

// signIn is the form that asks who the user is, with the answer. The authorization servers
// of the tests call its fields username and password, or login and password.
func (p *Page) signIn(user, password string) (form, url.Values, bool) {
	f, ok := p.formWith("password")
	name := "username"
	if f.fields.Has("login") {
		name = "login"
	}
	return f, url.Values{name: {user}, "password": {password}}, ok
}

// allow is the form that asks for access, with the answer yes: a button of that meaning, or
// a form that is about nothing else.
func (p *Page) allow() (form, url.Values, bool) {
	if f, ok := p.formWith("accept"); ok {
		return f, url.Values{"accept": {"yes"}}, true
	}
	f, ok := p.formWith("prompt")
	return f, nil, ok && f.fields.Get("prompt") == "consent"
}
