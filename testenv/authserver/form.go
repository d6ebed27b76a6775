package authserver

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"

	"phantomtoken/internal/oauth"
)

const maxFormBytes = 64 << 10

// readForm reads the body of a back-channel request (RFC 6749 §3.2): a form, no query,
// no parameter twice except resource (RFC 8707 §2) and audience (RFC 8693 §2.1). Parameters without a value count as
// absent (RFC 6749 §3.1).
func readForm(w http.ResponseWriter, r *http.Request) (url.Values, *oauth.Error) {
	if r.URL.RawQuery != "" {
		return nil, badRequest(oauth.ErrorInvalidRequest, "parameters must be in the body, not in the URL")
	}
	form, err := decodeForm(w, r)
	if err != nil {
		return nil, err
	}
	if name := repeated(form); name != "" {
		return nil, badRequest(oauth.ErrorInvalidRequest, "a parameter must not be sent twice")
	}
	return form, nil
}

func decodeForm(w http.ResponseWriter, r *http.Request) (url.Values, *oauth.Error) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/x-www-form-urlencoded" {
		return nil, badRequest(oauth.ErrorInvalidRequest, "expected content type application/x-www-form-urlencoded")
	}
	body, e := readBody(w, r, maxFormBytes)
	if e != nil {
		return nil, e
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, badRequest(oauth.ErrorInvalidRequest, "the form cannot be decoded")
	}
	return dropEmpty(form), nil
}

func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, *oauth.Error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if err == nil {
		return body, nil
	}
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return nil, &oauth.Error{Code: oauth.ErrorInvalidRequest, Description: "the body is too large", Status: http.StatusRequestEntityTooLarge}
	}
	return nil, badRequest(oauth.ErrorInvalidRequest, "the body cannot be read")
}

func dropEmpty(values url.Values) url.Values {
	out := url.Values{}
	for name, vs := range values {
		for _, v := range vs {
			if v != "" {
				out[name] = append(out[name], v)
			}
		}
	}
	return out
}

// repeated returns the name of a parameter that occurs twice, or "".
func repeated(values url.Values) string {
	for name, vs := range values {
		if len(vs) > 1 && name != "resource" && name != "audience" {
			return name
		}
	}
	return ""
}
