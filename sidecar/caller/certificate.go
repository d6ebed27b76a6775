package caller

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"slices"
	"strings"

	"phantomtoken/internal/oauth"
)

// byCertificate reads the certificate of the connection (RFC 8705 §2.1). named is the
// parameter client_id, which need not be there.
func (a *Authenticator) byCertificate(state *tls.ConnectionState, named string) (Identity, error) {
	// Only what the handshake verified counts, never PeerCertificates.
	if state == nil || len(state.VerifiedChains) == 0 || len(state.VerifiedChains[0]) == 0 {
		return Identity{}, a.none()
	}
	leaf := state.VerifiedChains[0][0] // of every chain
	// The handshake may be long ago.
	if now := a.now(); now.After(leaf.NotAfter) || now.Before(leaf.NotBefore) {
		return Identity{}, invalidClient("expected a client certificate that is valid now, got one that has expired; open a new connection with the current one")
	}
	// A certificate that can sign others is not that of a workload (SPIFFE X.509-SVID §5.2).
	if leaf.IsCA || leaf.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0 {
		return Identity{}, invalidClient("expected the client certificate of a service, got that of an authority")
	}
	var found []*registered
	uris, names := alternativeNames(leaf)
	if len(uris) == 1 { // a SPIFFE certificate has one URI (SPIFFE X.509-SVID §2)
		found = appendCaller(found, a.spiffe[uris[0]], named)
	}
	for _, name := range names {
		found = appendCaller(found, a.dns[name], named)
	}
	switch {
	case len(found) == 0:
		return Identity{}, invalidClient("expected the client certificate of a caller (authentication.mtls in the policy file) that client_id, if sent, names too, got another")
	case len(found) > 1:
		return Identity{}, invalidRequest(ReasonSeveral, "expected a client certificate of one caller, got one of several; say in client_id which of them asks")
	}
	return Identity{ID: found[0].id, Method: oauth.AuthTLS}, nil
}

// appendCaller adds r unless client_id names another.
func appendCaller(found []*registered, r *registered, named string) []*registered {
	if r == nil || named != "" && named != r.id || slices.Contains(found, r) {
		return found
	}
	return append(found, r)
}

// alternativeNames reads URIs and DNS names of the extension subjectAltName (RFC 5280
// §4.2.1.6) byte by byte. The parsed ones of crypto/x509 have been through url.Parse, which
// makes one of several spellings.
func alternativeNames(leaf *x509.Certificate) (uris, names []string) {
	const tagDNS, tagURI = 2, 6
	for _, extension := range leaf.Extensions {
		if !extension.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 17}) {
			continue
		}
		var list []asn1.RawValue
		if rest, err := asn1.Unmarshal(extension.Value, &list); err != nil || len(rest) > 0 {
			return nil, nil
		}
		for _, name := range list {
			if name.Class != asn1.ClassContextSpecific || name.IsCompound {
				continue
			}
			switch name.Tag {
			case tagURI:
				uris = append(uris, string(name.Bytes))
			case tagDNS:
				names = append(names, string(name.Bytes))
			}
		}
	}
	return uris, names
}

// isSPIFFEID reports whether s is a SPIFFE id of a workload (SPIFFE-ID §2).
func isSPIFFEID(s string) bool {
	const lower = "abcdefghijklmnopqrstuvwxyz0123456789.-_"
	rest, ok := strings.CutPrefix(s, "spiffe://")
	domain, path, hasPath := strings.Cut(rest, "/")
	if !ok || !hasPath || len(s) > 2048 || domain == "" || len(domain) > 255 || strings.Trim(domain, lower) != "" {
		return false
	}
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "" || segment == "." || segment == ".." || strings.Trim(segment, lower+"ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
			return false
		}
	}
	return true
}

// isDNSName reports whether s is a host name in lower case.
func isDNSName(s string) bool {
	if len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return false
		}
	}
	return true
}
