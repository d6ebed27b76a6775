package main

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"phantomtoken/internal/oauth"
)

// problems collects what is wrong with a configuration, so that an operator sees all of it
// at once. Every problem begins with the name of the field, says what was expected and,
// unless it is a secret, what came. The checks report whether all was well.
type problems struct {
	errs          []error
	insecureHosts []string
}

func (p *problems) add(field, format string, args ...any) {
	p.errs = append(p.errs, fmt.Errorf(field+": "+format, args...))
}

// check adds err, if there is one.
func (p *problems) check(field string, err error) bool {
	if err != nil {
		p.errs = append(p.errs, fmt.Errorf("%s: %w", field, err))
	}
	return err == nil
}

func (p *problems) err() error { return errors.Join(p.errs...) }

func (p *problems) between(field string, got, low, high int) {
	if got < low || got > high {
		p.add(field, "expected a number between %d and %d, got %d", low, high, got)
	}
}

func (p *problems) oneOf(field, got string, values ...string) bool {
	if slices.Contains(values, got) {
		return true
	}
	p.add(field, "expected one of %s, got %q", strings.Join(values, ", "), got)
	return false
}

// link checks a URL that is only shown to people.
func (p *problems) link(field, s string) {
	if s == "" || p.hasUser(field, s) {
		return
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		p.add(field, "expected an absolute http or https URL, got %q", s)
	}
}

// transport checks a URL that carries tokens or secrets, or says where to send them.
func (p *problems) transport(field, s string) bool {
	return !p.hasUser(field, s) && p.check(field, oauth.CheckTransport(s, p.insecureHosts))
}

// issuer checks an issuer identifier (RFC 8414 §2).
func (p *problems) issuer(field, s string) bool {
	if strings.ContainsAny(s, "?#") {
		p.add(field, "expected an issuer URL without query and fragment, got %q", s)
		return false
	}
	return p.transport(field, s)
}

// hasUser refuses a URL with user information, which may be a password.
func (p *problems) hasUser(field, s string) bool {
	authority, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(s, "https://"), "http://"), "/")
	if strings.Contains(authority, "@") {
		p.add(field, "expected a URL without user information, got one with it")
		return true
	}
	return false
}

const scopeOfflineAccess = "offline_access"

// scopes checks scopes that clients are told to ask for.
func (p *problems) scopes(field, s string) oauth.Scopes {
	scopes, err := oauth.ParseScopes(s)
	p.check(field, err)
	if slices.Contains(scopes, scopeOfflineAccess) {
		p.add(field, "expected scopes of this resource, got offline_access: whether a client gets a refresh token is between it and the authorization server")
	}
	return scopes
}

// origin checks a web origin as browsers send it (RFC 6454 §7).
func (p *problems) origin(field, s string) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || s != u.Scheme+"://"+u.Host || s != strings.ToLower(s) {
		p.add(field, "expected an origin as browsers send it, scheme://host or scheme://host:port in lower case, got %q", s)
	}
}

// host checks an entry of insecure_http_hosts.
func (p *problems) host(field, s string) {
	if !regexp.MustCompile(`^[\w.\-]+(:\d+)?$|^\[[0-9A-Fa-f:.]+\](:\d+)?$`).MatchString(s) {
		p.add(field, "expected a host or host:port, got %q", s)
	}
}

// header checks the name of a header (RFC 9110 §5.1).
func (p *problems) header(field, s string) {
	if !regexp.MustCompile(`^[A-Za-z0-9_-]+$`).MatchString(s) {
		p.add(field, "expected the name of a header, got %q", s)
	}
}

func (p *problems) notEmpty(field string, values []string) {
	if slices.Contains(values, "") {
		p.errs = append(p.errs, errors.New(field+": expected values, got an empty one"))
	}
}
