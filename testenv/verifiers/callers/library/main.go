// The command library is a server whose handlers call an API with an ordinary http.Client:
// package tokenexchange exchanges the token of the request that is being served.
package main

import (
	"io"
	"log"
	"net/http"
	"os"

	"phantomtoken/tokenexchange"
)

func main() {
	api := os.Getenv("API")
	client, err := tokenexchange.New(tokenexchange.Config{
		Endpoint:     os.Getenv("TOKEN_ENDPOINT"),
		ClientID:     "mcp-server",
		ClientSecret: os.Getenv("MCP_SERVER_SECRET"),
		Cache:        &tokenexchange.CacheConfig{}, // one exchange per user and API, not per call
	})
	if err != nil {
		log.Fatal(err)
	}
	transport, err := tokenexchange.NewTransport(tokenexchange.TransportConfig{
		Client: client,
		Targets: []tokenexchange.Target{{ // no other place gets a token
			URL:      api,
			Audience: []string{"https://api.example.com"},
			Scope:    []string{"stocks/read"},
		}},
	})
	if err != nil {
		log.Fatal(err)
	}
	upstream := &http.Client{Transport: transport}

	http.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	http.HandleFunc("GET /prices", func(w http.ResponseWriter, r *http.Request) {
		call, err := http.NewRequestWithContext(r.Context(), http.MethodGet, api+"/stocks", nil) // the context is what matters
		if err != nil {
			http.Error(w, "no call", http.StatusInternalServerError)
			return
		}
		res, err := upstream.Do(call)
		if err != nil {
			log.Print(err) // holds no token
			http.Error(w, "no prices", http.StatusBadGateway)
			return
		}
		defer res.Body.Close()
		w.WriteHeader(res.StatusCode)
		_, _ = io.Copy(w, res.Body)
	})
	// Middleware notes the token. It does not verify it: do that before.
	server := &http.Server{Addr: "127.0.0.1:" + os.Getenv("PORT"), Handler: tokenexchange.Middleware(http.DefaultServeMux)}
	log.Fatal(server.ListenAndServe())
}
