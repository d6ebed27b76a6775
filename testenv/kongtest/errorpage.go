package kongtest

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// delayedResponse is an answer of Kong itself, or of a plugin by exit, kept until the
// access phase is over.
type delayedResponse struct {
	status  int
	body    []byte // nil and empty are the same
	headers []headerChange
}

// errorResponse is kong.response.error: the message of the status (or text) in the form
// that the Accept header asks for.
func (x *exchange) errorResponse(status int, text string) *delayedResponse {
	if text == "" {
		text = statusMessage(status)
	}
	accept := strings.Join(x.head.headers.table(luaHeaders).get("accept"), ",")
	return x.errorPage(status, text, responseType(accept))
}

// nginxError is Kong's error handler for errors found by nginx: bad requests and upstreams
// that cannot be reached. Without an Accept header the Content-Type decides, and without
// one of those text/plain.
func (x *exchange) nginxError(status int) *delayedResponse {
	accept, ok := x.header("Accept")
	if !ok {
		accept, ok = x.header("Content-Type")
	}
	if !ok {
		accept = "text/plain"
	}
	text := statusMessage(status)
	if status == 494 {
		status = 400
	}
	return x.errorPage(status, text, responseType(accept))
}

func (x *exchange) errorPage(status int, text, contentType string) *delayedResponse {
	return &delayedResponse{
		status:  status,
		body:    fmt.Appendf(nil, errorTemplate(contentType), text, x.id),
		headers: []headerChange{{"Content-Type", []string{contentType}}},
	}
}

// statusMessage is what Kong says for a status.
func statusMessage(status int) string {
	switch status {
	case 400:
		return "Bad request"
	case 404:
		return "Not found"
	case 405:
		return "Method not allowed"
	case 414:
		return "URI too long"
	case 494:
		return "Request header or cookie too large"
	case 500:
		return "An unexpected error occurred"
	case 502:
		return "An invalid response was received from the upstream server"
	case 503:
		return "The upstream server is currently unavailable"
	case 504:
		return "The upstream server is timing out"
	default:
		return fmt.Sprintf("The upstream server responded with %d", status)
	}
}

const (
	typeJSON  = "application/json; charset=utf-8"
	typeHTML  = "text/html; charset=utf-8"
	typePlain = "text/plain; charset=utf-8"
	typeXML   = "application/xml; charset=utf-8"
)

// responseType picks the content type of an error page: that of the element with the
// greatest quality that Kong knows, JSON otherwise.
func responseType(accept string) string {
	const token = `[a-z0-9][a-z0-9!#$&^_+.-]+`
	// Kong's pattern of one element of the header.
	pattern := regexp.MustCompile(`(?i)^((?:` + token + `|\*)/(?:` + token + `|\*))` +
		`(?:\s*;\s*q=(1(?:\.0{0,3}|)|0(?:\.\d{0,3}|))|\s*;\s*` + token + `(?:=[^;]*|))*`)
	best, contentType := 0.0, typeJSON
	for element := range strings.SplitSeq(accept, ",") {
		m := pattern.FindStringSubmatch(strings.TrimSpace(element))
		if m == nil {
			continue
		}
		quality, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			quality = 1
		}
		if quality > best {
			best, contentType = quality, mimeType(m[1])
		}
	}
	return contentType
}

func mimeType(media string) string {
	switch media {
	case "text/html":
		return typeHTML
	case "text/plain", "text/*":
		return typePlain
	case "application/xml":
		return typeXML
	default:
		return typeJSON
	}
}

func errorTemplate(contentType string) string {
	switch contentType {
	case typeHTML:
		return `<!doctype html>
<html>
  <head>
    <meta charset="utf-8">
    <title>Error</title>
  </head>
  <body>
    <h1>Error</h1>
    <p>%s.</p>
    <p>request_id: %s</p>
  </body>
</html>
`
	case typePlain:
		return "%s\nrequest_id: %s\n"
	case typeXML:
		return `<?xml version="1.0" encoding="UTF-8"?>
<error>
  <message>%s</message>
  <requestid>%s</requestid>
</error>
`
	default:
		return "{\n  \"message\":\"%s\",\n  \"request_id\":\"%s\"\n}"
	}
}
