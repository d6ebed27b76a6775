// The command exchange asks the sidecar for a token by hand (RFC 8693) and calls an API with
// it. In Go, the library is less code and checks more.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

var client = &http.Client{Timeout: 10 * time.Second}

// exchange swaps the token that this server received for one that the API accepts.
func exchange(ctx context.Context, received string) (string, error) {
	form := url.Values{
		"grant_type":         {"urn:ietf:params:oauth:grant-type:token-exchange"},
		"subject_token":      {received},
		"subject_token_type": {"urn:ietf:params:oauth:token-type:access_token"},
		"audience":           {"https://api.example.com"},
		"scope":              {"stocks/read"},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, os.Getenv("TOKEN_ENDPOINT"), strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth("mcp-server", url.QueryEscape(os.Getenv("MCP_SERVER_SECRET")))
	res, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	var answer struct {
		Token string `json:"access_token"`
		Type  string `json:"token_type"`
		Error string `json:"error"`
		Text  string `json:"error_description"`
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(&answer); err != nil {
		return "", fmt.Errorf("expected JSON from the token endpoint, got status %d", res.StatusCode)
	}
	if res.StatusCode != http.StatusOK || !strings.EqualFold(answer.Type, "Bearer") {
		// Never go on with the token that was received.
		return "", fmt.Errorf("the exchange was refused: %s: %s", answer.Error, answer.Text)
	}
	return answer.Token, nil
}

// stockPrices is the body of a tool.
func stockPrices(ctx context.Context, received string) (string, error) {
	token, err := exchange(ctx, received)
	if err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, os.Getenv("API")+"/stocks", nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil || res.StatusCode != http.StatusOK {
		return "", fmt.Errorf("the API answered %d", res.StatusCode)
	}
	return string(body), nil
}

func main() {
	prices, err := stockPrices(context.Background(), os.Getenv("RECEIVED_TOKEN"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(prices)
}
