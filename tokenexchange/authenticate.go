package tokenexchange

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"sync"
	"time"
)

// prover adds to the form of a call what proves who the client is.
type prover func(form url.Values) error

// prover checks the fields that belong to the AuthMethod, and that no others are set: a
// secret beside a key leaves open which of them was meant.
func (c *Config) prover() (prover, error) {
	method := c.authMethod()
	switch method {
	case AuthBasic, AuthPost, AuthPrivateKeyJWT, AuthAssertionFile, AuthTLS:
	default:
		return nil, fmt.Errorf("AuthMethod: expected %q, %q, %q, %q or %q, got %q",
			AuthBasic, AuthPost, AuthPrivateKeyJWT, AuthAssertionFile, AuthTLS, method)
	}
	var problems []error
	for _, f := range []struct {
		name, expected string
		set            bool
		methods        []AuthMethod // that use the field
		optional       bool
	}{
		{"ClientSecret", "a secret", c.ClientSecret != "", []AuthMethod{AuthBasic, AuthPost}, false},
		{"ClientKey", "a private key", c.ClientKey != nil, []AuthMethod{AuthPrivateKeyJWT}, false},
		{"ClientKeyID", "", c.ClientKeyID != "", []AuthMethod{AuthPrivateKeyJWT}, true},
		{"ClientKeyAlgorithm", "", c.ClientKeyAlgorithm != "", []AuthMethod{AuthPrivateKeyJWT}, true},
		{"AssertionAudience", "", c.AssertionAudience != "", []AuthMethod{AuthPrivateKeyJWT}, true},
		{"AssertionFile", "the path of a file", c.AssertionFile != "", []AuthMethod{AuthAssertionFile}, false},
	} {
		used := slices.Contains(f.methods, method)
		switch {
		case used && !f.set && !f.optional:
			problems = append(problems, fmt.Errorf("%s: expected %s, got nothing", f.name, f.expected))
		case !used && f.set:
			problems = append(problems, fmt.Errorf("%s: expected nothing with AuthMethod %q, got something", f.name, method))
		}
	}
	if method == AuthTLS && c.Transport == nil {
		problems = append(problems, errors.New("Transport: expected one that has the client certificate, got nothing"))
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	switch method {
	case AuthPost:
		return func(form url.Values) error {
			form.Set("client_id", c.ClientID)
			form.Set("client_secret", c.ClientSecret)
			return nil
		}, nil
	case AuthTLS:
		return func(form url.Values) error {
			form.Set("client_id", c.ClientID)
			return nil
		}, nil
	case AuthPrivateKeyJWT:
		signer, err := newAssertionSigner(c)
		if err != nil {
			return nil, err
		}
		return c.assert(signer.assertion), nil
	case AuthAssertionFile:
		file := &assertionFile{path: c.AssertionFile}
		if _, err := file.assertion(c.now()); err != nil {
			return nil, err
		}
		return c.assert(file.assertion), nil
	}
	return func(url.Values) error { return nil }, nil // newRequest puts it into the header
}

// assert sends an assertion (RFC 7521 §4.2). Some services want the client_id with it, and
// none minds it.
func (c *Config) assert(assertion func(now time.Time) (string, error)) prover {
	id, now := c.ClientID, c.now
	return func(form url.Values) error {
		a, err := assertion(now())
		if err != nil {
			return err
		}
		form.Set("client_assertion_type", ClientAssertionTypeJWT)
		form.Set("client_assertion", a)
		if id != "" {
			form.Set("client_id", id)
		}
		return nil
	}
}

// assertionFile is an assertion that somebody else puts into a file and renews.
type assertionFile struct {
	path string

	mu   sync.Mutex // guards what follows
	last string
	read time.Time
}

const (
	// assertionAge is how long what was read is used. Kubernetes renews a token when a fifth
	// of its life is left, minutes at least.
	assertionAge = time.Minute
	// maxAssertion bounds the file; the largest tokens in use are far smaller.
	maxAssertion = 64 << 10
)

func (f *assertionFile) assertion(now time.Time) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if age := now.Sub(f.read); f.last != "" && age >= 0 && age < assertionAge {
		return f.last, nil
	}
	file, err := os.Open(f.path)
	if err != nil {
		return "", fmt.Errorf("AssertionFile: reading the assertion: %w", err)
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxAssertion+1))
	if err != nil {
		return "", fmt.Errorf("AssertionFile: reading the assertion: %w", err)
	}
	text := string(bytes.TrimSpace(data))
	switch {
	case len(data) > maxAssertion:
		return "", fmt.Errorf("AssertionFile: expected one JWT in %s, got more than %d bytes", f.path, maxAssertion)
	case text == "" || !visible(text) || bytes.Count(data, []byte(".")) != 2:
		return "", fmt.Errorf("AssertionFile: expected one JWT in %s, got something else", f.path)
	}
	f.last, f.read = text, now
	return text, nil
}
