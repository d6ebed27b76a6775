// The command egress calls an API through the sidecar's proxy: plain HTTP, no OAuth.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

// client sends everything to the sidecar. EGRESS is http://127.0.0.1:9201, or
// unix:/run/token-exchange/egress.sock.
func client(egress string) (*http.Client, string) {
	c := &http.Client{
		Timeout:   30 * time.Second,
		Transport: &http.Transport{},
		// Where a redirect leads there may be no route: decide about it yourself.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	socket, ok := strings.CutPrefix(egress, "unix:")
	if !ok {
		return c, egress
	}
	c.Transport = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	return c, "http://api.internal" // the host of a route, or any
}

// stockPrices is the body of a tool. received is the token of the request that is served.
func stockPrices(ctx context.Context, c *http.Client, base, received string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/stocks", nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "Bearer "+received)
	req.Header.Set("Phantom-Tool", "get_stock_prices") // if the policy has tools
	res, err := c.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	switch code := res.Header.Get("Phantom-Error"); {
	case err != nil:
		return "", err
	case code != "": // the sidecar's own answer; the body says more
		return "", errors.New("the sidecar refused: " + code)
	case res.StatusCode != http.StatusOK:
		return "", fmt.Errorf("the API answered %d", res.StatusCode)
	}
	return string(body), nil
}

func main() {
	c, base := client(os.Getenv("EGRESS"))
	prices, err := stockPrices(context.Background(), c, base, os.Getenv("RECEIVED_TOKEN"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(prices)
}
