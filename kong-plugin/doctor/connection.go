package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"
)

// expirySoon is when the end of a certificate is worth a word.
const expirySoon = 14 * 24 * time.Hour

// connection connects, and looks at the certificate with the eyes of a client: names,
// expiry, authority, each by itself.
func (v *visit) connection(ctx context.Context, s *Step) {
	ctx, cancel := context.WithTimeout(ctx, v.cfg.Timeout)
	defer cancel()
	host, port := v.url.Hostname(), v.url.Port()
	if port == "" {
		port = map[string]string{"https": "443", "http": "80"}[v.url.Scheme]
	}
	address := net.JoinHostPort(host, port)
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		v.report.Unreachable = true
		s.fault("PR-20", explainDial(err, address), "a connection to "+address,
			"start the gateway, open the port, or correct the name in the URL or in DNS")
		return
	}
	defer conn.Close()
	s.Seen = "connected to " + conn.RemoteAddr().String()
	if v.url.Scheme != "https" {
		return
	}
	secure := tls.Client(conn, &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12, InsecureSkipVerify: true}) // verified below, fault by fault
	if err := secure.HandshakeContext(ctx); err != nil {
		v.report.Unreachable = true
		s.fault("PR-20", "no TLS: "+explain(err).Error(), "TLS 1.2 or newer", "check that this port speaks https and not http")
		return
	}
	chain := secure.ConnectionState().PeerCertificates
	s.Seen += ", " + tls.VersionName(secure.ConnectionState().Version)
	v.certificate(s, host, chain)
	if len(s.Faults) > 0 {
		v.distrusted = true
		v.gateway = newClient(v.cfg, true)
		s.note("the next steps are taken without verifying the certificate, and your token is not sent")
	}
}

func (v *visit) certificate(s *Step, host string, chain []*x509.Certificate) {
	if len(chain) == 0 {
		s.fault("PR-20", "no certificate", "one for "+host, "configure a certificate")
		return
	}
	leaf, now := chain[0], v.cfg.Now()
	if err := leaf.VerifyHostname(host); err != nil {
		names := append([]string{}, leaf.DNSNames...)
		for _, ip := range leaf.IPAddresses {
			names = append(names, ip.String())
		}
		s.fault("PR-20", fmt.Sprintf("a certificate for %q", names), "one that names "+host,
			"use the name in the certificate, or get a certificate for this name (Kong: certificates and snis)")
	}
	switch {
	case now.After(leaf.NotAfter):
		s.fault("PR-20", "a certificate that expired on "+leaf.NotAfter.UTC().Format(time.DateTime), "one that is valid", "renew the certificate")
	case now.Before(leaf.NotBefore):
		s.fault("PR-20", "a certificate that is not valid before "+leaf.NotBefore.UTC().Format(time.DateTime), "one that is valid", "check the clocks of the certificate's maker and of this computer")
	case leaf.NotAfter.Sub(now) < expirySoon:
		s.note("the certificate expires on %s", leaf.NotAfter.UTC().Format(time.DateTime))
	}
	options := x509.VerifyOptions{Roots: v.cfg.CAs, Intermediates: x509.NewCertPool(), CurrentTime: leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) / 2)}
	for _, c := range chain[1:] {
		options.Intermediates.AddCert(c)
	}
	if _, err := leaf.Verify(options); err != nil {
		s.fault("PR-20", "a certificate of an authority that is not known here: "+leaf.Issuer.String(), "one of an authority that clients know, sent with all intermediate certificates",
			"complete the chain, or name the authority by -ca-file where all clients know it")
	}
}

func explainDial(err error, address string) string {
	var dns *net.DNSError
	var op *net.OpError
	switch {
	case errors.As(err, &dns):
		return fmt.Sprintf("the name %s has no address", dns.Name)
	case errors.As(err, &op) && op.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return "no answer from " + address + " in time"
	case errors.As(err, &op):
		return fmt.Sprintf("no connection to %s: %v", address, op.Err)
	}
	return "no connection to " + address
}
