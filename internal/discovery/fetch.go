package discovery

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"phantomtoken/internal/neterror"
)

// newClient has a transport of its own: the proxy variables of the environment must not
// decide whom we believe. Fetches are minutes apart, so no connection is kept. The
// transport has bounds of its own for connecting: it goes on with that after the request
// has ended, so a host that hangs would collect connections otherwise.
func newClient(cfg *Config) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: cfg.timeout()}).DialContext,
			TLSHandshakeTimeout: cfg.timeout(),
			TLSClientConfig: &tls.Config{
				MinVersion:         tls.VersionTLS12,
				RootCAs:            cfg.CAs,
				InsecureSkipVerify: cfg.InsecureSkipVerify,
			},
			DisableKeepAlives:      true,
			ForceAttemptHTTP2:      true,
			MaxResponseHeaderBytes: 64 << 10,
		},
		// Metadata comes from the issuer's own places or from nowhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// discover asks place after place. A place without metadata gives way to the next one;
// metadata of somebody else and a host that does not answer end the search.
func (i *Issuer) discover() (*metadata, error) {
	ctx, cancel := context.WithTimeout(i.ctx, i.cfg.timeout())
	defer cancel()
	var tried []string
	for _, place := range i.places {
		body, reason, err := i.get(ctx, place)
		if err != nil {
			return nil, fmt.Errorf("discovering token.issuer %q at %s: %w", i.cfg.Issuer, place, err)
		}
		if reason == "" {
			m, err := parseMetadata(body, i.cfg.Issuer)
			if err == nil {
				return m, nil
			}
			if !errors.Is(err, errNoMetadata) {
				return nil, fmt.Errorf("discovering token.issuer %q at %s: %w; check token.issuer byte for byte", i.cfg.Issuer, place, err)
			}
			reason = errNoMetadata.Error()
		}
		tried = append(tried, place+" ("+reason+")")
	}
	return nil, fmt.Errorf("discovering token.issuer %q: expected metadata at one of %s; check token.issuer, or set introspection_endpoint, token.jwks_uri and phantom_token.token_endpoint where they are needed", i.cfg.Issuer, strings.Join(tried, ", "))
}

// get returns the body at place, or the reason why there is no document. An error means
// that the host cannot be asked.
func (i *Issuer) get(ctx context.Context, place string) (body []byte, reason string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, place, nil)
	if err != nil {
		return nil, "", errors.New("expected a URL that can be asked")
	}
	req.Header.Set("Accept", "application/json")
	resp, err := i.client.Do(req)
	if err != nil {
		return nil, "", i.transportCause(err)
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		return nil, fmt.Sprintf("status %d, a redirect, which is not followed", resp.StatusCode), nil
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Sprintf("status %d", resp.StatusCode), nil
	}
	body, err = io.ReadAll(io.LimitReader(resp.Body, i.cfg.maxBytes()+1))
	if err != nil {
		return nil, "", i.transportCause(err)
	}
	if int64(len(body)) > i.cfg.maxBytes() {
		return nil, fmt.Sprintf("more than %d bytes", i.cfg.maxBytes()), nil
	}
	return body, "", nil
}

// transportCause says why there was no answer, in words of ours.
func (i *Issuer) transportCause(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	settings := neterror.Settings{Address: "token.issuer", Authorities: "introspection.ca_file or introspection.ca_certificates"}
	if i.cfg.InternalURL != "" {
		settings.Address = "token.internal_url"
	}
	switch {
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case neterror.Timeout(err):
		return fmt.Errorf("no complete answer within %s (introspection.timeout_seconds, 5 at least); check %s", i.cfg.timeout(), settings.Address)
	}
	if text, ok := settings.TLS(err); ok {
		return errors.New(text)
	}
	if text, ok := neterror.Connection(err); ok {
		return fmt.Errorf("%s; check %s", text, settings.Address)
	}
	return fmt.Errorf("expected an answer in HTTP, got something else; check %s", settings.Address)
}
