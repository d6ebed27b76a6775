package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Person is a user at a browser of their own, for clients other than Agent. Create it with
// NewPerson. Its methods must not be called at the same time.
type Person struct {
	// Pages are the web pages seen so far, in order.
	Pages []Page
	// Refuse says no where access is asked for.
	Refuse bool

	name, password string
	transport      *http.Transport
	browser        *browser
}

// NewPerson returns a user who is not signed in anywhere.
func NewPerson(name, password string) (*Person, error) {
	transport := &http.Transport{Proxy: nil, IdleConnTimeout: 30 * time.Second}
	b, err := newBrowser(transport)
	if err != nil {
		return nil, err
	}
	return &Person{name: name, password: password, transport: transport, browser: b}, nil
}

// Authorize opens an authorization URL, signs in and allows what is asked for (or refuses it),
// as far as the pages want it, and returns what the redirect to redirectURI carries. The redirect is not
// followed: behind it is a client that need not exist.
func (p *Person) Authorize(ctx context.Context, address, redirectURI string) (url.Values, error) {
	var arrived *url.URL
	p.browser.http.CheckRedirect = func(req *http.Request, _ []*http.Request) error {
		if strings.HasPrefix(req.URL.String(), redirectURI) {
			arrived = req.URL
			return http.ErrUseLastResponse
		}
		return nil
	}
	defer func() { p.Pages = p.browser.pages }()
	page, err := p.browser.open(ctx, address)
	for err == nil && arrived == nil {
		if login, values, ok := page.signIn(p.name, p.password); ok {
			page, err = p.browser.submit(ctx, page, login, values)
		} else if consent, values, ok := p.decide(page); ok {
			page, err = p.browser.submit(ctx, page, consent, values)
		} else {
			err = fmt.Errorf("expected a page to sign in or to allow access, got %q with status %d: %s", page.Title, page.Status, page.Text)
		}
		if len(p.browser.pages) > maxPages {
			err = errors.New("expected the browser to return to the client, got one page after another")
		}
	}
	if err != nil {
		return nil, fmt.Errorf("authorizing: %w", err)
	}
	return arrived.Query(), nil
}

// decide is the form in which access is asked for, with the person's answer.
func (p *Person) decide(page *Page) (form, url.Values, bool) {
	if p.Refuse {
		f, ok := page.formWith("cancel")
		return f, url.Values{"cancel": {"yes"}}, ok
	}
	return page.allow()
}

// maxPages ends a login that goes round in circles, such as with a wrong password.
const maxPages = 20

// Close closes the connections of the browser.
func (p *Person) Close() { p.transport.CloseIdleConnections() }
