package tokenexchange_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"phantomtoken/tokenexchange"
)

// A server calls an API with an ordinary http.Client: the token of the request that it is
// serving is exchanged on the way. The handler knows nothing of tokens.
func ExampleTransport() {
	sts, api := exampleServers()
	defer sts.Close()
	defer api.Close()

	// Once, when the program starts.
	client, err := tokenexchange.New(tokenexchange.Config{
		Endpoint:     sts.URL + "/token",
		ClientID:     "mcp-server",
		ClientSecret: "the secret of the MCP server",
		Cache:        &tokenexchange.CacheConfig{}, // one exchange per user and API, not per call
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	transport, err := tokenexchange.NewTransport(tokenexchange.TransportConfig{
		Client: client,
		Targets: []tokenexchange.Target{{
			URL:      api.URL,
			Audience: []string{"https://api.demo.example"},
			Scope:    []string{"stocks/read"},
		}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	upstream := &http.Client{Transport: transport}

	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		call, err := http.NewRequestWithContext(r.Context(), http.MethodGet, api.URL+"/stocks", nil) // the context is what matters
		if err != nil {
			http.Error(w, "bad address", http.StatusInternalServerError)
			return
		}
		answer, err := upstream.Do(call)
		if err != nil {
			http.Error(w, "no prices now", http.StatusBadGateway)
			return
		}
		defer answer.Body.Close()
		io.Copy(w, io.LimitReader(answer.Body, 1<<20))
	})
	// verify stands for what the server has already to check the token and answer 401.
	verify := func(next http.Handler) http.Handler { return next }
	server := httptest.NewServer(verify(tokenexchange.Middleware(handler)))
	defer server.Close()

	request, err := http.NewRequest(http.MethodGet, server.URL, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	request.Header.Set("Authorization", "Bearer phantom-token-of-john")
	answer, err := server.Client().Do(request)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer answer.Body.Close()
	io.Copy(os.Stdout, answer.Body)
	// Output: {"MSFT":450.22}
}

// In an MCP server of the official Go SDK, a middleware of the MCP server takes the header
// of each call. It works with sessions and without, where Middleware alone would leave every
// call of a session with the token that began it.
func ExampleWithHeader() {
	server := mcp.NewServer(&mcp.Implementation{Name: "stocks", Version: "1.0.0"}, nil)
	server.AddReceivingMiddleware(func(next mcp.MethodHandler) mcp.MethodHandler {
		return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
			if extra := req.GetExtra(); extra != nil {
				ctx = tokenexchange.WithHeader(ctx, extra.Header)
			}
			return next(ctx, method, req)
		}
	})
	// Tool handlers pass their ctx to the requests that they make with a Transport.
	fmt.Println("ready")
	// Output: ready
}

// The client proves who it is with a key: no secret is shared with the endpoint.
func ExampleConfig_privateKeyJWT() {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader) // or one from a file, or of a key management service
	if err != nil {
		fmt.Println(err)
		return
	}
	client, err := tokenexchange.New(tokenexchange.Config{
		Endpoint:    "https://sts.example/token",
		ClientID:    "mcp-server",
		AuthMethod:  tokenexchange.AuthPrivateKeyJWT,
		ClientKey:   key,
		ClientKeyID: "2026-11",
	})
	fmt.Println(client, err)
	// Output: token exchange as client "mcp-server" at https://sts.example/token <nil>
}

// The client proves who it is with the service account token that Kubernetes puts into a
// file and renews there: nothing has to be distributed.
func ExampleConfig_assertionFile() {
	// A volume of the pod, projected with the audience that the endpoint expects:
	// /var/run/secrets/tokens/sts
	dir, err := os.MkdirTemp("", "tokens")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "sts")
	if err := os.WriteFile(file, []byte("header.claims.signature"), 0o600); err != nil {
		fmt.Println(err)
		return
	}
	_, err = tokenexchange.New(tokenexchange.Config{
		Endpoint:      "https://sts.example/token",
		AuthMethod:    tokenexchange.AuthAssertionFile,
		AssertionFile: file,
	})
	fmt.Println(err)
	// Output: <nil>
}

// The client proves who it is with its certificate.
func ExampleConfig_mutualTLS() {
	certificate := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return new(tls.Certificate), nil // read from a file, or from the workload API of SPIFFE
	}
	client, err := tokenexchange.New(tokenexchange.Config{
		Endpoint:   "https://sts.example/token",
		ClientID:   "mcp-server",
		AuthMethod: tokenexchange.AuthTLS,
		Transport: &http.Transport{
			TLSClientConfig:   &tls.Config{MinVersion: tls.VersionTLS12, GetClientCertificate: certificate},
			ForceAttemptHTTP2: true,
		},
	})
	fmt.Println(client, err)
	// Output: token exchange as client "mcp-server" at https://sts.example/token <nil>
}
