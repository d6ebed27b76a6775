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

// upstream calls the stocks API for the user of a phantom token.
type upstream struct {
	url      string
	audience string
	exchange *tokenexchange.Client
	http     *http.Client
}

// call is one request to the API.
type call struct {
	method, path string
	scope        string // the one scope the operation needs: no token gets more than its call
	body         any    // nil: none
}

// maxAnswer bounds what is read of an answer.
const maxAnswer = 1 << 20

// do makes the call with a token of its own and decodes the answer into out. The errors are
// written for the model: they say what was refused and quote no token.
func (u *upstream) do(ctx context.Context, phantom string, c call, out any) error {
	issued, err := u.exchange.Exchange(ctx, tokenexchange.Request{
		SubjectToken: phantom,
		Audience:     []string{u.audience},
		Scope:        []string{c.scope},
	})
	if err != nil {
		return exchangeError(err)
	}
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
	req.Header.Set("Authorization", "Bearer "+issued.AccessToken)
	if c.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := u.http.Do(req)
	if err != nil {
		return errors.New("the stocks API cannot be reached now, try again later")
	}
	defer res.Body.Close()
	data, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return errors.New("the stocks API broke off its answer, try again later")
	}
	if res.StatusCode != http.StatusOK && res.StatusCode != http.StatusCreated {
		return refused(res.StatusCode, data)
	}
	if err := json.Unmarshal(data, out); err != nil {
		return errors.New("the stocks API gave an answer that is not the expected JSON")
	}
	return nil
}

// refused passes on what the API said.
func refused(status int, body []byte) error {
	var e stocksapi.Error
	if json.Unmarshal(body, &e) != nil || e.Code == "" {
		return fmt.Errorf("the stocks API refused the request with status %d", status)
	}
	return fmt.Errorf("the stocks API refused the request with status %d, %s: %s", status, e.Code, e.Description)
}

// exchangeError says why there is no token for the API.
func exchangeError(err error) error {
	var e *tokenexchange.Error
	switch {
	case errors.Is(err, tokenexchange.ErrUnavailable):
		return errors.New("no token for the stocks API can be had now, try again later")
	case errors.As(err, &e):
		return fmt.Errorf("no token for the stocks API, %s: %s", e.Code, e.Description)
	default:
		return fmt.Errorf("no token for the stocks API: %w", err)
	}
}
