package mcpserver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"phantomtoken/testenv/stocksapi"
	"phantomtoken/tokenexchange"
)

// upstream is the stocks API. Its client knows for whom a call is made by the context of the
// tool call, see way.
type upstream struct {
	url  string
	http *http.Client
}

// Paths of the API's operations.
const (
	pathStocks    = "/stocks"
	pathPortfolio = "/portfolio"
	pathOrders    = "/orders"
)

// call is one request to the API.
type call struct {
	method, path string
	body         any // nil: none
}

// maxAnswer bounds what is read of an answer.
const maxAnswer = 1 << 20

// do makes the call and decodes the answer into out. The errors are written for the model:
// they say what was refused and quote no token.
func (u *upstream) do(ctx context.Context, c call, out any) error {
	var body io.Reader
	if c.body != nil {
		data, err := json.Marshal(c.body)
		if err != nil {
			return fmt.Errorf("encoding the request: %w", err)
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, c.method, u.url+c.path, body)
	if err != nil {
		return fmt.Errorf("building the request: %w", err)
	}
	if c.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := u.http.Do(req)
	if err != nil {
		return notSent(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return errors.New("the stocks API broke off its answer, try again later")
	}
	if res.StatusCode != http.StatusOK && res.StatusCode != http.StatusCreated {
		return refused(res, data)
	}
	if err := json.Unmarshal(data, out); err != nil {
		return errors.New("the stocks API gave an answer that is not the expected JSON")
	}
	return nil
}

var (
	errNoAPI      = errors.New("the stocks API cannot be reached now, try again later")
	errNoTokenNow = errors.New("no token for the stocks API can be had now, try again later")
)

// refused passes on what the API said, or what the egress proxy said in its place.
func refused(res *http.Response, body []byte) error {
	var e stocksapi.Error
	if json.Unmarshal(body, &e) != nil {
		e = stocksapi.Error{}
	}
	switch own := res.Header.Get("Phantom-Error"); {
	case own == "" && e.Code == "":
		return fmt.Errorf("the stocks API refused the request with status %d", res.StatusCode)
	case own == "":
		return fmt.Errorf("the stocks API refused the request with status %d, %s: %s", res.StatusCode, e.Code, e.Description)
	case res.StatusCode == http.StatusServiceUnavailable:
		return errNoTokenNow
	case res.StatusCode >= http.StatusInternalServerError:
		return errNoAPI
	}
	return noToken(e.Code, e.Description)
}

func noToken(code, description string) error {
	return fmt.Errorf("no token for the stocks API, %s: %s", code, description)
}

// notSent says why there was no answer: there is no token, or no API.
func notSent(err error) error {
	var e *tokenexchange.Error
	switch {
	case errors.Is(err, tokenexchange.ErrUnavailable):
		return errNoTokenNow
	case errors.As(err, &e):
		return noToken(e.Code, e.Description)
	case errors.Is(err, tokenexchange.ErrUnacceptable):
		return fmt.Errorf("no token for the stocks API: %w", tokenexchange.ErrUnacceptable)
	case errors.Is(err, tokenexchange.ErrNoToken):
		return errors.New("the request carries no verified access token")
	}
	return errNoAPI
}
