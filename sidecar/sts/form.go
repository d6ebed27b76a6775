package sts

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"

	"phantomtoken/tokenexchange"
)

// maxBody bounds the body of a token request: a subject token of 16 KiB, percent-encoded,
// and room for everything else.
const maxBody = 64 << 10

const formType = "application/x-www-form-urlencoded"

// readForm reads the parameters of a token request. They come in the body and nowhere else:
// what stands in the URL ends in logs, and two places for one parameter are two truths.
func readForm(w http.ResponseWriter, r *http.Request) (url.Values, error) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return nil, refuseStatus(http.StatusMethodNotAllowed, reasonMethod, tokenexchange.ErrorInvalidRequest, "expected method POST, got "+r.Method)
	}
	if r.URL.RawQuery != "" || r.URL.ForceQuery {
		return nil, refuse(reasonQuery, tokenexchange.ErrorInvalidRequest, "expected all parameters in the body, got a query")
	}
	if contentType := r.Header["Content-Type"]; len(contentType) != 1 || !isForm(contentType[0]) {
		return nil, refuse(reasonMediaType, tokenexchange.ErrorInvalidRequest, "expected Content-Type "+formType)
	}
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" {
		return nil, refuse(reasonMediaType, tokenexchange.ErrorInvalidRequest, "expected a body without Content-Encoding")
	}
	body, err := readBody(w, r)
	if err != nil {
		return nil, err
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		// The text of err quotes the body.
		return nil, refuse(reasonForm, tokenexchange.ErrorInvalidRequest, "expected a body of form-encoded parameters separated by &")
	}
	return form, nil
}

func isForm(contentType string) bool {
	if contentType == formType { // what clients send, without work
		return true
	}
	mediaType, _, err := mime.ParseMediaType(contentType)
	return err == nil && mediaType == formType
}

// readBody reads the body, of which the server lets through no more than Content-Length says.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	var body []byte
	var err error
	switch {
	case r.ContentLength > maxBody: // nobody waits for what is refused anyway
		err = &http.MaxBytesError{Limit: maxBody}
	case r.ContentLength >= 0:
		body = make([]byte, r.ContentLength)
		_, err = io.ReadFull(r.Body, body)
	default:
		body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	}
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return nil, refuseStatus(http.StatusRequestEntityTooLarge, reasonBodyTooLarge, tokenexchange.ErrorInvalidRequest, fmt.Sprintf("expected a body of at most %d bytes", maxBody))
	}
	if err != nil {
		return nil, refuse(reasonForm, tokenexchange.ErrorInvalidRequest, "expected a whole body, got a part of it")
	}
	return body, nil
}
