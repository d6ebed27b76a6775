package discovery

import (
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"phantomtoken/internal/oauth"
)

// Config says whose metadata is looked for and how. Issuer is required.
type Config struct {
	// Issuer is the issuer identifier: https, or http to a loopback host or to one of
	// InsecureHosts, without query and fragment. Metadata must name it byte by byte. What
	// metadata that came over https names is https, or on one of InsecureHosts.
	Issuer        string
	InsecureHosts []string

	// InternalURL is the origin (scheme, host, port) under which the issuer is reached
	// from here, if that is not the one in Issuer. Metadata is fetched there, and what it
	// puts under the origin of Issuer is taken to be there. Empty changes nothing.
	InternalURL string
	// AuthMethod is how the client authenticates, oauth.AuthBasic or oauth.AuthPost; empty
	// takes what the metadata supports.
	AuthMethod string

	CAs                *x509.CertPool // the only ones accepted; nil means those of the system
	InsecureSkipVerify bool           // accept any certificate; for test setups only

	Timeout  time.Duration // for all places together; 0 means 5 s
	MaxBytes int64         // of a document; 0 means 1 MiB
	// Refresh is the age at which metadata is fetched again in the background; 0 means 10
	// minutes.
	Refresh time.Duration
	// MaxStale is the age up to which metadata is used while fetching fails; 0 means 24
	// hours. It is never below Refresh.
	MaxStale time.Duration

	Now    func() time.Time // nil means time.Now
	Logger *slog.Logger     // nil discards
}

func (c *Config) timeout() time.Duration {
	if c.Timeout > 0 {
		return c.Timeout
	}
	return 5 * time.Second
}

func (c *Config) maxBytes() int64 {
	if c.MaxBytes > 0 {
		return c.MaxBytes
	}
	return 1 << 20
}

func (c *Config) refresh() time.Duration {
	if c.Refresh > 0 {
		return c.Refresh
	}
	return 10 * time.Minute
}

func (c *Config) maxStale() time.Duration {
	if c.MaxStale > 0 {
		return max(c.MaxStale, c.refresh())
	}
	return max(24*time.Hour, c.refresh())
}

// check returns the parsed issuer and the URL whose origin is in its place, which may be
// its own.
func (c *Config) check() (issuer, reached *url.URL, err error) {
	if err := oauth.CheckTransport(c.Issuer, c.InsecureHosts); err != nil && c.InternalURL == "" {
		return nil, nil, fmt.Errorf("token.issuer: %w", err)
	}
	// Reached elsewhere or not, it is an http or https URL: endpoints below it are, too.
	if _, err := oauth.ParseResource(c.Issuer); err != nil {
		return nil, nil, fmt.Errorf("token.issuer: %w", err)
	}
	issuer, err = url.Parse(c.Issuer)
	if err != nil || strings.ContainsAny(c.Issuer, "?#") {
		return nil, nil, errors.New("token.issuer: expected a URL without query, fragment and user information")
	}
	if c.AuthMethod != "" && c.AuthMethod != oauth.AuthBasic && c.AuthMethod != oauth.AuthPost {
		return nil, nil, fmt.Errorf("introspection.auth_method: expected %s or %s, got %q", oauth.AuthBasic, oauth.AuthPost, c.AuthMethod)
	}
	if c.InternalURL == "" {
		return issuer, issuer, nil
	}
	if err := oauth.CheckTransport(c.InternalURL, c.InsecureHosts); err != nil {
		return nil, nil, fmt.Errorf("token.internal_url: %w", err)
	}
	internal, err := url.Parse(c.InternalURL)
	if err != nil || strings.TrimSuffix(c.InternalURL, "/") != originOf(internal) {
		return nil, nil, errors.New("token.internal_url: expected scheme, host and port alone, got more")
	}
	return issuer, internal, nil
}
