package main

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"strings"

	"phantomtoken/internal/oauth"
)

// providerSettings says how the authorization server is asked.
func (c *Config) providerSettings(p *problems) providerSettings {
	in, exchange := c.Introspection, c.mode() == modeExchange
	switch {
	case c.IntrospectionEndpoint != "":
		p.transport("introspection_endpoint", c.IntrospectionEndpoint)
	case c.Token.Issuer == "":
		p.add("introspection_endpoint", "expected an absolute http or https URL, or token.issuer to find it by, got neither")
	}
	if c.ClientID == "" {
		p.add("client_id", "expected the id of the gateway's own client, got nothing")
	}
	if c.ClientSecret == "" {
		p.add("client_secret", "expected a secret, got nothing: an unresolved vault reference arrives empty; check that the variable is in Kong's own environment")
	}
	if in.AuthMethod != "" {
		p.oneOf("introspection.auth_method", in.AuthMethod, oauth.AuthBasic, oauth.AuthPost)
	}
	p.between("introspection.timeout_seconds", in.TimeoutSeconds, 1, 30)
	p.between("introspection.max_response_bytes", in.MaxResponseBytes, 1024, 16<<20)
	p.between("introspection.failures_per_minute", in.FailuresPerMinute, 0, 1_000_000)
	return providerSettings{
		Endpoint:           c.IntrospectionEndpoint,
		ClientID:           c.ClientID,
		ClientSecret:       c.ClientSecret,
		AuthMethod:         in.AuthMethod,
		TokenTypeHint:      in.TokenTypeHint,
		AcceptJWT:          c.mode() == modeIntrospection,
		Timeout:            seconds(in.TimeoutSeconds),
		MaxResponseBytes:   int64(in.MaxResponseBytes),
		FailuresPerMinute:  in.FailuresPerMinute,
		CAs:                c.authorities(p),
		InsecureSkipVerify: !c.VerifySSL,
		InsecureHosts:      c.InsecureHTTPHosts,
		Issuer:             c.Token.Issuer,
		InternalURL:        c.Token.InternalURL,
		JWKSURI:            c.Token.JWKSURI,
		Leeway:             seconds(c.Token.LeewaySeconds),
		Exchange:           exchange,
		TokenEndpoint:      c.PhantomToken.TokenEndpoint,
	}
}

// authorities returns the certificates that the provider's may come from, in PEM.
func (c *Config) authorities(p *problems) string {
	var out strings.Builder
	add := func(field string, data []byte) {
		rest, found := data, false
		for {
			var block *pem.Block
			if block, rest = pem.Decode(rest); block == nil {
				break
			}
			if block.Type != "CERTIFICATE" {
				p.add(field, "expected PEM blocks of type CERTIFICATE, got one of another type")
				return
			}
			if _, err := x509.ParseCertificate(block.Bytes); err != nil {
				p.add(field, "expected certificates in PEM, got a block that is none")
				return
			}
			found = true
			out.Write(pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes}))
		}
		if !found {
			p.add(field, "expected certificates in PEM, got none")
		}
	}
	if file := c.Introspection.CAFile; file != "" {
		if data, err := readBounded(file); err != nil {
			p.check("introspection.ca_file", err)
		} else {
			add("introspection.ca_file", data)
		}
	}
	switch text := c.Introspection.CACertificates; {
	case text == nil:
	case *text == "":
		p.add("introspection.ca_certificates", "expected certificates in PEM, got nothing: an unresolved vault reference arrives empty; check that the variable is in Kong's own environment")
	default:
		add("introspection.ca_certificates", []byte(*text))
	}
	if out.Len() > 0 && !c.VerifySSL {
		p.add("verify_ssl", "expected true where introspection.ca_file or introspection.ca_certificates says whom to trust, got false")
	}
	return out.String()
}

const maxCAFile = 4 << 20

func readBounded(file string) ([]byte, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, fmt.Errorf("expected a readable file of certificates: %w", err)
	}
	if !info.Mode().IsRegular() { // others might never end, or never begin
		return nil, fmt.Errorf("expected certificate file %s to be a regular file", file)
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("expected a readable file of certificates: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxCAFile+1))
	if err != nil {
		return nil, fmt.Errorf("expected a readable file of certificates: %w", err)
	}
	if len(data) > maxCAFile {
		return nil, fmt.Errorf("expected certificate file %s to have at most %d bytes", file, maxCAFile)
	}
	return data, nil
}
