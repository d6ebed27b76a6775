package testenv

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"sync"
	"time"

	"phantomtoken/testenv/loopback"
)

// documentHost is a web site on which clients publish their metadata (CIMD). Such a
// document has an https URL, so this is the one place with a certificate, made for the run.
type documentHost struct {
	server *loopback.Server
	cas    *x509.CertPool

	mu        sync.Mutex
	documents map[string][]byte // by path
}

func newDocumentHost(logger *slog.Logger) (*documentHost, error) {
	certificate, err := selfSigned(net.IPv4(127, 0, 0, 1))
	if err != nil {
		return nil, fmt.Errorf("making a certificate: %w", err)
	}
	h := &documentHost{cas: x509.NewCertPool(), documents: map[string][]byte{}}
	h.cas.AddCert(certificate.Leaf)
	h.server, err = loopback.ServeTLS("", certificate, http.HandlerFunc(h.serve), logger)
	if err != nil {
		return nil, err
	}
	return h, nil
}

func (h *documentHost) serve(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	document, ok := h.documents[r.URL.Path]
	h.mu.Unlock()
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(document)
}

// publish serves a client metadata document with its own URL as client_id.
func (h *documentHost) publish(document map[string]any) (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	path := fmt.Sprintf("/clients/%d.json", len(h.documents)+1)
	id := h.server.URL() + path
	document["client_id"] = id
	data, err := json.Marshal(document)
	if err != nil {
		return "", fmt.Errorf("encoding client metadata: %w", err)
	}
	h.documents[path] = data
	return id, nil
}

// selfSigned makes a certificate for one address that vouches for itself.
func selfSigned(ip net.IP) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "test environment"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		IsCA:                  true,
		IPAddresses:           []net.IP{ip},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}
