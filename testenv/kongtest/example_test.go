package kongtest_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"

	"phantomtoken/testenv/kongtest"
)

// A gateway in front of one upstream. Plugins maps the names of the plugins that the
// configuration uses to their binaries.
func ExampleStart() {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.URL.Path, " via ", r.Header.Get("Via"))
	}))
	defer upstream.Close()

	gateway, err := kongtest.Start(context.Background(), kongtest.Config{
		YAML: []byte(`
_format_version: "3.0"
services:
- name: stocks
  url: http://stocks.internal:9100
  routes:
  - name: stocks
    paths: ["/stocks"]
`),
		Addresses: map[string]string{"stocks.internal:9100": upstream.Listener.Addr().String()},
		Plugins:   map[string]string{},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer gateway.Close()

	res, err := http.Get(gateway.URL() + "/stocks/AAPL")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	fmt.Println(res.StatusCode, string(body))
	// Output: 200 /AAPL via 1.1 kong/3.9.3
}
