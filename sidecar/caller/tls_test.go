package caller_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"phantomtoken/sidecar/caller"
)

// served is the server's certificate that a new connection gets.
func (w *world) served() *x509.Certificate {
	w.t.Helper()
	conn, err := tls.Dial("tcp", strings.TrimPrefix(w.url, "https://"), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0]
}

// TestTLSFilesAreReadAgain: SPIRE renews certificates every half hour, and the authority
// from time to time.
func TestTLSFilesAreReadAgain(t *testing.T) {
	w := newWorld(t, nil)
	first := w.served()
	next, nextCA := serverCertificate(w.ca), newAuthority(t)
	w.files.write(next, nextCA.pem())
	if !w.served().Equal(first) {
		t.Error("files were read again at once, want a pause")
	}
	w.clock.advance(5 * time.Second)
	if got := w.served(); !got.Equal(next.Leaf) {
		t.Error("the old certificate is served after the pause")
	}
	if !strings.Contains(w.log.String(), "TLS files read again") {
		t.Errorf("nothing in the log: %s", w.log)
	}
	if got := w.send(request{certificate: nextCA.issue(names(nil, spiffeID))}); got.ID != "workload" {
		t.Errorf("a certificate of the new authority: %+v", got)
	}
	if got, err := w.post(w.client(w.ca.issue(names(nil, spiffeID))), request{}); err == nil {
		t.Errorf("a certificate of the authority that is gone: %+v", got)
	}
}

// TestBrokenTLSFilesLeaveTheOldOnes: renewal writes one file after the other, and may be
// seen in between.
func TestBrokenTLSFilesLeaveTheOldOnes(t *testing.T) {
	for _, tc := range []struct {
		name     string
		breakOne func(f tlsFiles, next *tls.Certificate)
		text     string
	}{
		{name: "certificate before its key", breakOne: func(f tlsFiles, next *tls.Certificate) { f.writeCert(next) }, text: "TOKEN_EXCHANGE_TLS_CERTIFICATE_FILE, TOKEN_EXCHANGE_TLS_KEY_FILE: expected a certificate in PEM and its private key"},
		{name: "key before its certificate", breakOne: func(f tlsFiles, next *tls.Certificate) { f.writeKey(next) }, text: "TOKEN_EXCHANGE_TLS_KEY_FILE: expected"},
		{name: "empty key", breakOne: func(f tlsFiles, _ *tls.Certificate) { f.put(f.key, "") }, text: "TOKEN_EXCHANGE_TLS_KEY_FILE: expected a file with the server's private key, got an empty one"},
		{name: "garbage for authorities", breakOne: func(f tlsFiles, _ *tls.Certificate) { f.put(f.clientCAs, "x") }, text: "TOKEN_EXCHANGE_TLS_CLIENT_CA_FILE: expected certificates in PEM"},
		{name: "no certificate file", breakOne: func(f tlsFiles, _ *tls.Certificate) { _ = os.Remove(f.cert) }, text: "TOKEN_EXCHANGE_TLS_CERTIFICATE_FILE: expected the path of a readable file"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t, nil)
			first, next := w.served(), serverCertificate(w.ca)
			tc.breakOne(w.files, next)
			for range 3 {
				w.clock.advance(5 * time.Second)
				if !w.served().Equal(first) {
					t.Fatal("not the old certificate")
				}
				if got := w.send(request{certificate: w.ca.issue(names(nil, spiffeID))}); got.ID != "workload" {
					t.Errorf("a client certificate: %+v", got)
				}
			}
			log := w.log.String()
			if strings.Count(log, "TLS files cannot be used, those of before serve on") != 1 || !strings.Contains(log, tc.text) || strings.Contains(log, "PRIVATE KEY-----") {
				t.Errorf("log: %s\nwant one line with %q", log, tc.text)
			}
			w.files.write(next, w.ca.pem())
			w.clock.advance(5 * time.Second)
			if !w.served().Equal(next.Leaf) {
				t.Error("not the new certificate once the files are whole")
			}
		})
	}
}

// TestReloadTLS looks at once, for a signal, and says what is wrong.
func TestReloadTLS(t *testing.T) {
	ca := newAuthority(t)
	f := newTLSFiles(t, ca)
	stopped := &clock{now: start}
	config, reload, err := caller.ServerTLS(caller.TLSConfig{CertFile: f.cert, KeyFile: f.key, Now: stopped.Now})
	if err != nil {
		t.Fatal(err)
	}
	if config.ClientAuth != tls.NoClientCert {
		t.Errorf("client certificates are asked for without authorities: %s", config.ClientAuth)
	}
	if err := reload(); err != nil {
		t.Errorf("nothing changed: %v", err)
	}
	next := serverCertificate(ca)
	f.writeCert(next)
	if err := reload(); err == nil || !strings.Contains(err.Error(), "TOKEN_EXCHANGE_TLS_CERTIFICATE_FILE") {
		t.Errorf("the key of another certificate: %v", err)
	}
	f.writeKey(next)
	if err := reload(); err != nil {
		t.Errorf("whole again: %v", err)
	}
	got, err := config.GetConfigForClient(nil)
	if err != nil || !got.Certificates[0].Leaf.Equal(next.Leaf) {
		t.Errorf("not the new certificate, %v", err)
	}
}

// TestTLSVersions: 1.2 at least, no sessions that bring back a verification of another day,
// HTTP/2 and HTTP/1.1.
func TestTLSVersions(t *testing.T) {
	w := newWorld(t, nil)
	address := strings.TrimPrefix(w.url, "https://")
	if conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}); err == nil {
		conn.Close()
		t.Error("TLS 1.1 is spoken")
	}
	for _, protocol := range []string{"h2", "http/1.1"} {
		conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protocol}})
		if err != nil {
			t.Fatal(err)
		}
		if got := conn.ConnectionState().NegotiatedProtocol; got != protocol {
			t.Errorf("got %q, want %s", got, protocol)
		}
		conn.Close()
	}
	cache := tls.NewLRUClientSessionCache(4)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for range 2 {
			conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, ClientSessionCache: cache, MaxVersion: version})
			if err != nil {
				t.Fatal(err)
			}
			if conn.ConnectionState().DidResume {
				t.Error("a session was resumed")
			}
			_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
			_, _ = io.Copy(io.Discard, conn) // with TLS 1.3 tickets come after the handshake
			conn.Close()
		}
	}
}

// TestHandshakesWhileFilesChange is for the race detector.
func TestHandshakesWhileFilesChange(t *testing.T) {
	ca := newAuthority(t)
	f := newTLSFiles(t, ca)
	c := &clock{now: start}
	config, _, err := caller.ServerTLS(caller.TLSConfig{CertFile: f.cert, KeyFile: f.key, ClientCAFile: f.clientCAs, Now: c.Now})
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 20 {
				client, server := net.Pipe()
				go func() { _ = tls.Server(server, config).Handshake(); server.Close() }()
				if err := tls.Client(client, &tls.Config{RootCAs: ca.pool(), ServerName: "localhost", Time: c.Now}).Handshake(); err != nil {
					t.Error(err)
				}
				client.Close()
				c.advance(5 * time.Second)
			}
		})
	}
	for range 10 {
		f.write(serverCertificate(ca), ca.pem())
	}
	all.Wait()
}

// TestServerTLS refuses files that cannot work, all at once, each with its variable.
func TestServerTLS(t *testing.T) {
	ca := newAuthority(t)
	leaf := ca.issue(names([]string{dnsName}))
	for _, tc := range []struct {
		name   string
		change func(*caller.TLSConfig, tlsFiles)
		want   []string
	}{
		{name: "nothing", change: func(c *caller.TLSConfig, _ tlsFiles) { *c = caller.TLSConfig{} }, want: []string{"TOKEN_EXCHANGE_TLS_CERTIFICATE_FILE: expected the path of a readable file with the server's certificate", "TOKEN_EXCHANGE_TLS_KEY_FILE: expected the path of a readable file with the server's private key"}},
		{name: "a folder", change: func(c *caller.TLSConfig, f tlsFiles) { c.CertFile = filepath.Dir(f.cert) }, want: []string{"TOKEN_EXCHANGE_TLS_CERTIFICATE_FILE: expected a regular file"}},
		{name: "RejectsFileThatOthersWrite", change: func(c *caller.TLSConfig, f tlsFiles) { _ = os.Chmod(f.clientCAs, 0o666) }, want: []string{"TOKEN_EXCHANGE_TLS_CLIENT_CA_FILE: expected a file that only its owner may write, got mode 0666"}},
		{name: "RejectsKeyInsteadOfItsPath", change: func(c *caller.TLSConfig, f tlsFiles) { c.KeyFile = "-----BEGIN PRIVATE KEY-----MARKED" }, want: []string{"TOKEN_EXCHANGE_TLS_KEY_FILE: expected the path"}},
		{name: "RejectsHugeFile", change: func(c *caller.TLSConfig, f tlsFiles) { f.put(f.clientCAs, strings.Repeat("x", 1<<20+1)) }, want: []string{"TOKEN_EXCHANGE_TLS_CLIENT_CA_FILE: expected a file with authorities of client certificates of at most 1048576 bytes, got more"}},
		{name: "RejectsClientCertificateAsAuthority", change: func(c *caller.TLSConfig, f tlsFiles) { f.writeCert(leaf); c.ClientCAFile, f.clientCAs = f.cert, "" }, want: []string{"TOKEN_EXCHANGE_TLS_CLIENT_CA_FILE: expected certificate 1 to be that of an authority, got another"}},
		{name: "RejectsKeyAmongAuthorities", change: func(c *caller.TLSConfig, f tlsFiles) { c.ClientCAFile = f.key }, want: []string{"TOKEN_EXCHANGE_TLS_CLIENT_CA_FILE: expected PEM block 1 to be a certificate"}},
		{name: "RejectsBrokenAuthorityAmongGoodOnes", change: func(c *caller.TLSConfig, f tlsFiles) {
			f.put(f.clientCAs, ca.pem()+strings.Replace(newAuthority(t).pem(), "MII", "!II", 1)+ca.pem())
		}, want: []string{"TOKEN_EXCHANGE_TLS_CLIENT_CA_FILE: expected 3 whole PEM blocks, got 2"}},
		{name: "RejectsCutAuthority", change: func(c *caller.TLSConfig, f tlsFiles) { f.put(f.clientCAs, ca.pem()[:200]) }, want: []string{"TOKEN_EXCHANGE_TLS_CLIENT_CA_FILE: expected 1 whole PEM blocks, got 0"}},
		{name: "comments between authorities", change: func(c *caller.TLSConfig, f tlsFiles) {
			f.put(f.clientCAs, "# one\n"+ca.pem()+"\n# two\n"+newAuthority(t).pem()+"# end\n")
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newTLSFiles(t, ca)
			log := new(logBuffer)
			cfg := caller.TLSConfig{CertFile: f.cert, KeyFile: f.key, ClientCAFile: f.clientCAs, Logger: slog.New(slog.NewJSONHandler(log, nil))}
			tc.change(&cfg, f)
			_, _, err := caller.ServerTLS(cfg)
			if len(tc.want) == 0 {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil {
				t.Fatal("accepted")
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %q, want %q in it", err, want)
				}
			}
			if strings.Contains(err.Error(), "MARKED") || log.String() != "" {
				t.Errorf("got %q, log %q", err, log)
			}
		})
	}
}
