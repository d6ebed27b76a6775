package main

import (
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"phantomtoken/tokenexchange"
)

// A token endpoint that accepts connections and says nothing must not keep them: a dial
// outlives the request that asked for it, and there are only so many.
func TestSilentTokenEndpointKeepsNoConnections(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	const calls = 8
	ended := make(chan struct{}, calls)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(io.Discard, conn) // until the other side gives up
				_ = conn.Close()
				ended <- struct{}{}
			}()
		}
	}()
	p, err := newProvider(providerSettings{
		Endpoint: "https://" + l.Addr().String() + "/introspect", TokenEndpoint: "https://" + l.Addr().String() + "/token",
		ClientID: "gateway", ClientSecret: testSecret, Issuer: "https://idp.example.com", JWKSURI: "https://idp.example.com/jwks",
		Exchange: true, Audiences: []string{"https://upstream.internal"}, Timeout: 100 * time.Millisecond,
	}, time.Now, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	var all sync.WaitGroup
	for range calls {
		all.Go(func() {
			if _, err := p.Exchange(t.Context(), tokenexchange.Request{SubjectToken: "opaque"}); err == nil {
				t.Error("got an answer from a silent endpoint")
			}
		})
	}
	all.Wait()
	for range calls {
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			t.Fatal("a connection is still held")
		}
	}
}
