package tokenexchange_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"phantomtoken/tokenexchange"
)

// A tool of an MCP server calls an API in the name of the user who called the tool. The
// handler is for the official Go SDK; every other framework needs the same three steps.
func Example() {
	sts, api := exampleServers()
	defer sts.Close()
	defer api.Close()

	// Once, when the program starts.
	client, err := tokenexchange.New(tokenexchange.Config{
		Endpoint:     sts.URL + "/token",
		ClientID:     "mcp-server",
		ClientSecret: "the secret of the MCP server",
	})
	if err != nil {
		fmt.Println(err)
		return
	}

	listPrices := func(ctx context.Context, req *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, any, error) {
		// 1. The token that came with the call; the server's middleware has verified it.
		received := strings.TrimPrefix(req.Extra.Header.Get("Authorization"), "Bearer ")

		// 2. One for the API instead.
		token, err := client.Exchange(ctx, tokenexchange.Request{
			SubjectToken: received,
			Audience:     []string{"https://api.demo.example"},
			Scope:        []string{"stocks/read"},
		})
		if err != nil {
			return nil, nil, err // never call the API with the token that was received
		}

		// 3. The call.
		call, err := http.NewRequestWithContext(ctx, http.MethodGet, api.URL+"/stocks", nil)
		if err != nil {
			return nil, nil, err
		}
		call.Header.Set("Authorization", "Bearer "+token.AccessToken)
		answer, err := api.Client().Do(call)
		if err != nil {
			return nil, nil, err
		}
		defer answer.Body.Close()
		prices, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
		if err != nil {
			return nil, nil, err
		}
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: string(prices)}}}, nil, nil
	}

	result, _, err := listPrices(context.Background(), &mcp.CallToolRequest{
		Extra: &mcp.RequestExtra{Header: http.Header{"Authorization": {"Bearer phantom-token-of-john"}}},
	}, struct{}{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(result.Content[0].(*mcp.TextContent).Text)
	// Output: {"MSFT":450.22}
}

// Which code came decides what to do; whether to try again is one question.
func ExampleClient_Exchange_errors() {
	sts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.PostFormValue("audience") == "busy" {
			w.Header().Set("Retry-After", "5")
			w.WriteHeader(http.StatusServiceUnavailable)
			io.WriteString(w, `{"error":"temporarily_unavailable"}`)
			return
		}
		w.WriteHeader(http.StatusBadRequest)
		io.WriteString(w, `{"error":"invalid_target","error_description":"audience 'billing' is not configured for this client"}`)
	}))
	defer sts.Close()
	client, err := tokenexchange.New(tokenexchange.Config{Endpoint: sts.URL, ClientID: "mcp-server", ClientSecret: "secret"})
	if err != nil {
		fmt.Println(err)
		return
	}

	for _, audience := range []string{"billing", "busy"} {
		_, err := client.Exchange(context.Background(), tokenexchange.Request{
			SubjectToken: "phantom-token-of-john",
			Audience:     []string{audience},
		})
		var refused *tokenexchange.Error
		switch {
		case errors.Is(err, tokenexchange.ErrUnavailable):
			if errors.As(err, &refused) {
				fmt.Println("answer 503 and ask to wait", refused.RetryAfter)
			}
		case !errors.As(err, &refused):
			fmt.Println("answer 502:", err)
		case refused.Code == tokenexchange.ErrorInvalidRequest:
			fmt.Println("answer 401: the token that came with the call is no good any more")
		case refused.Code == tokenexchange.ErrorInvalidTarget, refused.Code == tokenexchange.ErrorInvalidScope:
			fmt.Println("answer 403, and tell the operator:", refused.Description)
		default:
			fmt.Println("answer 500, our own configuration is wrong:", refused.Code)
		}
	}
	// Output:
	// answer 403, and tell the operator: audience 'billing' is not configured for this client
	// answer 503 and ask to wait 5s
}

// A token endpoint for tests, or the beginning of a real one: ParseRequest reads the form,
// Error and Response write the answers.
func ExampleParseRequest() {
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := func(status int, body any) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Cache-Control", "no-store")
			w.WriteHeader(status)
			json.NewEncoder(w).Encode(body)
		}
		if id, secret, _ := r.BasicAuth(); id != "mcp-server" || secret != "secret" {
			w.Header().Set("WWW-Authenticate", `Basic realm="token"`)
			answer(http.StatusUnauthorized, &tokenexchange.Error{Code: tokenexchange.ErrorInvalidClient})
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
		if err := r.ParseForm(); err != nil {
			answer(http.StatusBadRequest, &tokenexchange.Error{Code: tokenexchange.ErrorInvalidRequest})
			return
		}
		req, err := tokenexchange.ParseRequest(r.PostForm) // not r.Form, which has the query too
		if refused := (*tokenexchange.Error)(nil); errors.As(err, &refused) {
			answer(refused.Status, refused)
			return
		}
		answer(http.StatusOK, tokenexchange.Response{
			AccessToken:     "token-for-" + req.Audience[0],
			IssuedTokenType: tokenexchange.TokenTypeAccessToken,
			TokenType:       tokenexchange.Bearer,
			ExpiresIn:       5 * time.Minute,
		})
	}))
	defer endpoint.Close()

	client, err := tokenexchange.New(tokenexchange.Config{Endpoint: endpoint.URL, ClientID: "mcp-server", ClientSecret: "secret"})
	if err != nil {
		fmt.Println(err)
		return
	}
	res, err := client.Exchange(context.Background(), tokenexchange.Request{
		SubjectToken: "phantom-token-of-john",
		Audience:     []string{"orders"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(res.AccessToken, "for", res.ExpiresIn)
	// Output: token-for-orders for 5m0s
}

// exampleServers are a token endpoint and an API that takes only tokens of that endpoint.
func exampleServers() (sts, api *httptest.Server) {
	sts = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(tokenexchange.Response{
			AccessToken:     "api-token-of-john",
			IssuedTokenType: tokenexchange.TokenTypeAccessToken,
			TokenType:       tokenexchange.Bearer,
			ExpiresIn:       5 * time.Minute,
		})
	}))
	api = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer api-token-of-john" {
			http.Error(w, "wrong token", http.StatusUnauthorized)
			return
		}
		io.WriteString(w, `{"MSFT":450.22}`)
	}))
	return sts, api
}
