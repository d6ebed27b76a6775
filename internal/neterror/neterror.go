// Package neterror says in words for an operator why a host gave no answer: what crypto/tls,
// net and net/http reported, and which setting to look at. The texts of their errors are not
// used, because some quote the bytes they did not understand: only errors of known types
// speak.
package neterror

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
)

// Settings are the names under which the operator knows what the texts speak of. Both are
// required.
type Settings struct {
	Address     string // which host is asked, and how
	Authorities string // who may vouch for its certificate
}

// Timeout reports whether the time for a call was over, whoever ended it.
func Timeout(err error) bool {
	var network net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &network) && network.Timeout()
}

// TLS describes a handshake that failed and names the setting that helps, where one does. It
// reports false when err is of another kind.
func (s Settings) TLS(err error) (string, bool) {
	var (
		unknown x509.UnknownAuthorityError
		host    x509.HostnameError
		invalid x509.CertificateInvalidError
		record  tls.RecordHeaderError
		verify  *tls.CertificateVerificationError
		roots   x509.SystemRootsError
		alert   *net.OpError
	)
	trust := "; name its authority in " + s.Authorities
	switch {
	case errors.As(err, &unknown):
		return "the certificate comes from an unknown authority" + trust, true
	case errors.As(err, &roots):
		return "the authorities of the system cannot be loaded" + trust, true
	case errors.As(err, &host):
		return "the certificate is for another host; check " + s.Address, true
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "the certificate has expired or is not valid yet; renew it, or check the clock", true
	case errors.As(err, &invalid), errors.As(err, &verify):
		return "the certificate is not acceptable" + trust, true
	case errors.As(err, &record):
		return "the endpoint does not speak TLS; check " + s.Address, true
	// crypto/tls reports an alert as an operation of this name, whose error is a fixed text.
	case errors.As(err, &alert) && alert.Op == "remote error":
		return "the endpoint refused with the alert \"" + strings.TrimPrefix(alert.Err.Error(), "tls: ") + "\"", true
	case strings.HasPrefix(err.Error(), "tls: "):
		return "no agreement on TLS 1.2 or later", true
	}
	return "", false
}

// Connection describes a connection that could not be made or that ended too early. It
// reports false when err is of another kind: what came over the connection was no HTTP.
func Connection(err error) (string, bool) {
	var (
		dns   *net.DNSError
		errno syscall.Errno
		op    *net.OpError
	)
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return "the name of the host is not known", true
	case errors.As(err, &dns):
		return "the name of the host cannot be looked up", true
	case errors.As(err, &errno):
		return errno.Error(), true // a fixed text of the operating system
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "closed before the answer was complete", true
	case errors.As(err, &op):
		return op.Op + " failed", true
	}
	return "", false
}
