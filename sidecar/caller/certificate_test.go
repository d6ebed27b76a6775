package caller_test

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"phantomtoken/sidecar/caller"
)

// rawNames makes a certificate whose alternative names are these bytes: by tag 2 DNS names,
// by tag 6 URIs.
func rawNames(tag int, values ...string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		var list []asn1.RawValue
		for _, v := range values {
			list = append(list, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, Bytes: []byte(v)})
		}
		der, err := asn1.Marshal(list)
		if err != nil {
			panic(err)
		}
		c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: der}}
	}
}

const otherCertificate = "expected the client certificate of a caller (authentication.mtls in the policy file)"

// TestRefusesCertificates connects with certificates of the trusted authority that are not
// those of a caller.
func TestRefusesCertificates(t *testing.T) {
	w := newWorld(t, func(w *world) {
		w.known = append(w.known, caller.Caller{ID: "mesh-2", DNSName: "two.example.com", Where: "callers.mesh-2"})
	})
	for _, tc := range []struct {
		name   string
		change func(*x509.Certificate)
		named  string
		status int
		reason string
		text   string
	}{
		{name: "RejectsSPIFFEPrefix", change: names(nil, "spiffe://example.com/ns/mcp/sa"), text: otherCertificate},
		{name: "RejectsSPIFFESuffix", change: names(nil, spiffeID+"/x"), text: otherCertificate},
		{name: "RejectsSPIFFELookAlike", change: names(nil, spiffeID+"2"), text: otherCertificate},
		{name: "RejectsOtherTrustDomain", change: names(nil, "spiffe://example.org/ns/mcp/sa/server"), text: otherCertificate},
		{name: "RejectsTrustDomainBelow", change: names(nil, "spiffe://a.example.com/ns/mcp/sa/server"), text: otherCertificate},
		{name: "RejectsTrustDomainInUserInfo", change: names(nil, "spiffe://example.com@evil.example/ns/mcp/sa/server"), text: otherCertificate},
		{name: "RejectsPathWithDots", change: names(nil, "spiffe://example.com/ns/x/../mcp/sa/server"), text: otherCertificate},
		{name: "RejectsPathInOtherCase", change: names(nil, "spiffe://example.com/ns/MCP/sa/server"), text: otherCertificate},
		{name: "RejectsSchemeInOtherCase", change: rawNames(6, "SPIFFE://example.com/ns/mcp/sa/server"), text: otherCertificate},
		{name: "RejectsEmptyFragment", change: rawNames(6, spiffeID+"#"), text: otherCertificate},
		{name: "RejectsEmptyQuery", change: names(nil, spiffeID+"?"), text: otherCertificate},
		{name: "RejectsTrailingSlash", change: names(nil, spiffeID+"/"), text: otherCertificate},
		{name: "RejectsPercentEncoding", change: rawNames(6, "spiffe://example.com/ns/mcp/sa/%73erver"), text: otherCertificate},
		{name: "RejectsSeveralURIs", change: names(nil, spiffeID, "spiffe://example.com/other"), text: otherCertificate},
		{name: "RejectsTheSameURITwice", change: names(nil, spiffeID, spiffeID), text: otherCertificate},
		{name: "RejectsSPIFFEIDAsDNSName", change: rawNames(2, spiffeID), text: otherCertificate},
		{name: "RejectsDNSNameAsURI", change: rawNames(6, "dns:"+dnsName), text: otherCertificate},
		{name: "RejectsWildcard", change: names([]string{"*.example.com"}), text: otherCertificate},
		{name: "RejectsDNSNameBelow", change: names([]string{"a." + dnsName}), text: otherCertificate},
		{name: "RejectsDNSNameAbove", change: names([]string{"example.com"}), text: otherCertificate},
		{name: "RejectsDNSNameWithDot", change: rawNames(2, dnsName+"."), text: otherCertificate},
		{name: "RejectsDNSNameInOtherCase", change: names([]string{"MCP.example.com"}), text: otherCertificate},
		{name: "RejectsCommonNameOnly", change: func(c *x509.Certificate) { c.Subject = pkix.Name{CommonName: dnsName} }, text: otherCertificate},
		{name: "RejectsSPIFFEIDInCommonName", change: func(c *x509.Certificate) { c.Subject = pkix.Name{CommonName: spiffeID} }, text: otherCertificate},
		{name: "RejectsMailAddress", change: func(c *x509.Certificate) { c.EmailAddresses = []string{"x@" + dnsName} }, text: otherCertificate},
		{name: "RejectsAuthority", change: func(c *x509.Certificate) {
			names(nil, spiffeID)(c)
			c.IsCA = true
		}, text: "expected the client certificate of a service, got that of an authority"},
		{name: "RejectsCertificateThatSigns", change: func(c *x509.Certificate) {
			names(nil, spiffeID)(c)
			c.KeyUsage |= x509.KeyUsageCertSign
		}, text: "got that of an authority"},
		{name: "RejectsOtherClientID", change: names(nil, spiffeID), named: "mesh", text: otherCertificate},
		{name: "RejectsUnknownClientID", change: names(nil, spiffeID), named: "unknown", text: otherCertificate},
		{name: "RejectsClientIDOfCallerWithSecret", change: names(nil, spiffeID), named: "mcp-server", text: otherCertificate},
		{name: "RejectsCertificateOfTwoCallers", change: names([]string{dnsName}, spiffeID), status: 400, reason: caller.ReasonSeveral, text: "got one of several"},
		{name: "RejectsTwoDNSNamesOfTwoCallers", change: names([]string{dnsName, "two.example.com"}), status: 400, reason: caller.ReasonSeveral, text: "got one of several"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w.t = t
			if tc.status == 0 {
				tc.status, tc.reason = 401, caller.ReasonNotAuthenticated
			}
			r := request{certificate: w.ca.issue(tc.change)}
			if tc.named != "" {
				r.form = url.Values{"client_id": {tc.named}}
			}
			wantRefusal(t, w.send(r), tc.status, tc.reason, tc.text)
		})
	}
}

// TestAcceptsCertificates has names beside those that count.
func TestAcceptsCertificates(t *testing.T) {
	w := newWorld(t, nil)
	for _, tc := range []struct {
		name   string
		change func(*x509.Certificate)
		named  string
		id     string
	}{
		{name: "SPIFFE id with DNS names", change: names([]string{"server-7d9f.mcp.svc"}, spiffeID), id: "workload"},
		{name: "SPIFFE id with client_id", change: names(nil, spiffeID), named: "workload", id: "workload"},
		{name: "one of several DNS names", change: names([]string{"a.example.com", dnsName, dnsName}), id: "mesh"},
		{name: "DNS name with several URIs", change: names([]string{dnsName}, "https://a.example", "https://b.example"), id: "mesh"},
		{name: "names of two callers and client_id", change: names([]string{dnsName}, spiffeID), named: "mesh", id: "mesh"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w.t = t
			r := request{certificate: w.ca.issue(tc.change)}
			if tc.named != "" {
				r.form = url.Values{"client_id": {tc.named}}
			}
			if got := w.send(r); got.ID != tc.id || got.Method != "tls_client_auth" {
				t.Errorf("got %+v, want %s", got, tc.id)
			}
		})
	}
}

// TestHandshakeRefusesCertificates: what cannot be verified does not come as far as a
// request, even if that would have another credential.
func TestHandshakeRefusesCertificates(t *testing.T) {
	w := newWorld(t, nil)
	stranger := newAuthority(t)
	for _, tc := range []struct {
		name        string
		certificate *tls.Certificate
	}{
		{name: "RejectsOtherAuthorityOfTheSameName", certificate: stranger.issue(names([]string{dnsName}, spiffeID))},
		{name: "RejectsSelfSigned", certificate: selfSigned(t)},
		{name: "RejectsExpired", certificate: w.ca.issue(func(c *x509.Certificate) {
			names(nil, spiffeID)(c)
			c.NotAfter = start.Add(-time.Second)
		})},
		{name: "RejectsNotYetValid", certificate: w.ca.issue(func(c *x509.Certificate) {
			names(nil, spiffeID)(c)
			c.NotBefore = start.Add(time.Second)
		})},
		{name: "RejectsServerCertificate", certificate: w.ca.issue(func(c *x509.Certificate) {
			names(nil, spiffeID)(c)
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		})},
		{name: "RejectsCertificateWithoutItsKey", certificate: func() *tls.Certificate {
			c := w.ca.issue(names(nil, spiffeID))
			c.PrivateKey = newSigner(t, "").key
			return c
		}()},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w.t = t
			if got, err := w.post(w.client(tc.certificate), request{authorization: []string{basic("mcp-server", mcpSecret)}}); err == nil {
				t.Errorf("a request came through and was answered with %+v", got)
			}
		})
	}
}

// TestRejectsUnverifiedCertificates: what the handshake did not verify says nothing, and a
// header even less.
func TestRejectsUnverifiedCertificates(t *testing.T) {
	w := newWorld(t, nil)
	leaf := w.ca.issue(names(nil, spiffeID)).Leaf
	for _, tc := range []struct {
		name  string
		state *tls.ConnectionState
	}{
		{name: "RejectsPlainHTTP"},
		{name: "RejectsPeerCertificatesOnly", state: &tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}}},
		{name: "RejectsEmptyChain", state: &tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}, VerifiedChains: [][]*x509.Certificate{{}}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodPost, "/token", nil)
			r.TLS = tc.state
			r.Header.Set("X-Forwarded-Client-Cert", "URI="+spiffeID)
			r.Header.Set("X-SSL-Client-Verify", "SUCCESS")
			if identity, err := w.auth.Authenticate(t.Context(), r, nil); err == nil {
				t.Errorf("authenticated as %+v", identity)
			}
		})
	}
}

// TestRejectsCertificateThatExpiredOnAnOpenConnection: a connection can live longer than the
// certificate that opened it.
func TestRejectsCertificateThatExpiredOnAnOpenConnection(t *testing.T) {
	w := newWorld(t, nil)
	client := w.client(w.ca.issue(names(nil, spiffeID)))
	if got, err := w.post(client, request{}); err != nil || got.ID != "workload" {
		t.Fatalf("got %+v, %v", got, err)
	}
	w.clock.advance(time.Hour + time.Second)
	got, err := w.post(client, request{})
	if err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, got, 401, caller.ReasonNotAuthenticated, "got one that has expired; open a new connection with the current one")
}

func selfSigned(t *testing.T) *tls.Certificate {
	t.Helper()
	key := newSigner(t, "").key
	template := &x509.Certificate{
		SerialNumber: serial(t), NotBefore: start.Add(-time.Hour), NotAfter: start.Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	names([]string{dnsName}, spiffeID)(template)
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
