package caller

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxTLSFile bounds what is read of a file with certificates or a key. Bundles of all
	// public authorities have a quarter of it.
	maxTLSFile = 1 << 20
	// tlsPause is the least time between two looks at the files. SPIRE renews certificates
	// when half of their life is left, which is far longer.
	tlsPause = 5 * time.Second
)

// TLSConfig says how the token endpoint is served over TLS.
type TLSConfig struct {
	CertFile string // certificate chain in PEM, the server's own first; required
	KeyFile  string // its private key in PEM; required
	// ClientCAFile has the authorities in PEM whose client certificates are believed; empty
	// asks for no client certificates. Each of them can vouch for every SPIFFE id and DNS
	// name, so name only those that may.
	ClientCAFile string

	Now    func() time.Time // nil means time.Now
	Logger *slog.Logger     // nil discards
}

// ServerTLS makes the TLS side of a server: TLS 1.2 or later, HTTP/2 and HTTP/1.1, client
// certificates verified when sent and never demanded, since callers may have other ways to
// say who they are. An unverifiable one ends the handshake.
//
// The files are read again when they change; handshakes look after them, at most every 5
// seconds. Files that cannot be used leave the old ones in use and are logged once. reload
// looks at once and returns what is wrong. Connections that are open keep the certificates
// of their handshake.
func ServerTLS(cfg TLSConfig) (config *tls.Config, reload func() error, err error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	f := &tlsFiles{cfg: cfg}
	if err := f.reload(); err != nil {
		return nil, nil, err
	}
	config = f.current.Load().Clone()
	config.GetConfigForClient = f.forClient
	return config, f.reload, nil
}

// tlsFiles keeps a tls.Config in step with its files.
type tlsFiles struct {
	cfg     TLSConfig
	current atomic.Pointer[tls.Config]

	mu     sync.Mutex
	looked time.Time // when the files were looked at
	tried  tlsContent
	failed string // what was logged last; "" after success
}

// tlsContent is the content of the three files.
type tlsContent struct{ cert, key, clientCAs []byte }

func (c tlsContent) equal(other tlsContent) bool {
	return bytes.Equal(c.cert, other.cert) && bytes.Equal(c.key, other.key) && bytes.Equal(c.clientCAs, other.clientCAs)
}

// forClient is for tls.Config.GetConfigForClient.
func (f *tlsFiles) forClient(*tls.ClientHelloInfo) (*tls.Config, error) {
	// One handshake looks, others go on with what there is.
	if f.mu.TryLock() {
		if f.cfg.Now().Sub(f.looked).Abs() >= tlsPause {
			_ = f.look() // logged there, and the old files serve
		}
		f.mu.Unlock()
	}
	return f.current.Load(), nil
}

func (f *tlsFiles) reload() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.look()
}

// look reads the files and uses them if they changed. It wants f.mu held.
func (f *tlsFiles) look() error {
	f.looked = f.cfg.Now()
	content, err := f.read()
	if err == nil && content.equal(f.tried) && f.failed == "" {
		return nil
	}
	var config *tls.Config
	if err == nil {
		config, err = f.parse(content)
	}
	first := f.current.Load() == nil
	switch {
	case err == nil:
		f.current.Store(config)
		f.tried, f.failed = content, ""
		if !first {
			f.cfg.Logger.Info("TLS files read again", "not_after", config.Certificates[0].Leaf.NotAfter)
		}
	case !first && err.Error() != f.failed: // the caller reports those of the start
		f.failed = err.Error()
		f.cfg.Logger.Error("TLS files cannot be used, those of before serve on", "err", err)
	}
	return err
}

func (f *tlsFiles) read() (c tlsContent, err error) {
	var problems []error
	for _, file := range []struct {
		into           *[]byte
		variable, path string
		what           string
	}{
		{&c.cert, "TOKEN_EXCHANGE_TLS_CERTIFICATE_FILE", f.cfg.CertFile, "the server's certificate"},
		{&c.key, "TOKEN_EXCHANGE_TLS_KEY_FILE", f.cfg.KeyFile, "the server's private key"},
		{&c.clientCAs, "TOKEN_EXCHANGE_TLS_CLIENT_CA_FILE", f.cfg.ClientCAFile, "authorities of client certificates"},
	} {
		if file.into == &c.clientCAs && file.path == "" {
			continue
		}
		if *file.into, err = readFile(file.path, file.what, maxTLSFile); err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", file.variable, err))
		}
	}
	return c, errors.Join(problems...)
}

func (f *tlsFiles) parse(c tlsContent) (*tls.Config, error) {
	var problems []error
	pair, err := tls.X509KeyPair(c.cert, c.key)
	if err != nil {
		problems = append(problems, fmt.Errorf("TOKEN_EXCHANGE_TLS_CERTIFICATE_FILE, TOKEN_EXCHANGE_TLS_KEY_FILE: expected a certificate in PEM and its private key: %w", err))
	}
	config := &tls.Config{
		Certificates: []tls.Certificate{pair},
		MinVersion:   tls.VersionTLS12,
		NextProtos:   []string{"h2", "http/1.1"},
		// A resumed session would bring with it what was verified on another day, with
		// authorities that may be gone since.
		SessionTicketsDisabled: true,
		Time:                   f.cfg.Now,
	}
	if c.clientCAs != nil {
		config.ClientAuth = tls.VerifyClientCertIfGiven
		if config.ClientCAs, err = authorities(c.clientCAs); err != nil {
			problems = append(problems, fmt.Errorf("TOKEN_EXCHANGE_TLS_CLIENT_CA_FILE: %w", err))
		}
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	return config, nil
}

// authorities reads certificates in PEM. All of them must be those of authorities: any
// other one would be believed for its own name.
func authorities(data []byte) (*x509.CertPool, error) {
	// The decoder passes over what it cannot read, and an authority would be missing.
	want := bytes.Count(data, []byte("-----BEGIN "))
	pool := x509.NewCertPool()
	for n := 1; n <= want; n++ {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			return nil, fmt.Errorf("expected %d whole PEM blocks, got %d", want, n-1)
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil || block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("expected PEM block %d to be a certificate, got something else", n)
		}
		if !certificate.IsCA || !certificate.BasicConstraintsValid {
			return nil, fmt.Errorf("expected certificate %d to be that of an authority, got another", n)
		}
		pool.AddCert(certificate)
	}
	if want == 0 {
		return nil, errors.New("expected certificates in PEM, got something else")
	}
	return pool, nil
}
