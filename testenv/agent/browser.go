package agent

import (
	"context"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
)

// browser keeps cookies and follows redirects.
type browser struct {
	http  *http.Client
	pages []Page // as they were shown
}

func newBrowser(transport http.RoundTripper) (*browser, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, fmt.Errorf("making a cookie jar: %w", err)
	}
	return &browser{http: &http.Client{Transport: transport, Jar: jar}}, nil
}

// open shows the page at address, after redirects.
func (b *browser) open(ctx context.Context, address string) (*Page, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, fmt.Errorf("opening page: %w", err)
	}
	return b.show(req)
}

// submit sends f with further values, as the browser does when a button is pressed.
func (b *browser) submit(ctx context.Context, on *Page, f form, values url.Values) (*Page, error) {
	action, err := on.url.Parse(f.action)
	if err != nil {
		return nil, fmt.Errorf("reading the action of a form: %w", err)
	}
	if f.method != http.MethodPost {
		return nil, fmt.Errorf("submitting form: expected method POST, got %q", f.method)
	}
	for name, v := range values {
		f.fields[name] = v
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, action.String(), strings.NewReader(f.fields.Encode()))
	if err != nil {
		return nil, fmt.Errorf("submitting form: %w", err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Origin", on.url.Scheme+"://"+on.url.Host)
	return b.show(req)
}

func (b *browser) show(req *http.Request) (*Page, error) {
	req.Header.Set("Accept", "text/html")
	res, err := b.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("opening page: %w", err)
	}
	defer res.Body.Close()
	page, err := parsePage(res)
	if err != nil {
		return nil, fmt.Errorf("reading page: %w", err)
	}
	b.pages = append(b.pages, *page)
	return page, nil
}

// authorize is what a person does between the application opening the browser and the
// browser returning to the application.
func (b *browser) authorize(ctx context.Context, address, user, password string) error {
	page, err := b.open(ctx, address)
	if err != nil {
		return err
	}
	if login, values, ok := page.signIn(user, password); ok {
		if page, err = b.submit(ctx, page, login, values); err != nil {
			return err
		}
	}
	consent, values, ok := page.allow()
	if !ok {
		return fmt.Errorf("signing in: expected a consent page, got %q with status %d: %s", page.Title, page.Status, page.Text)
	}
	page, err = b.submit(ctx, page, consent, values)
	if err != nil {
		return err
	}
	if page.Status != http.StatusOK {
		return fmt.Errorf("allowing access: expected to return to the application, got %q with status %d", page.Title, page.Status)
	}
	return nil
}
