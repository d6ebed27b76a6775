package introspection

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"

	"phantomtoken/internal/oauth"
)

// answer is a complete response that may speak of a token.
type answer struct {
	media string // mediaJSON or mediaJWT; empty: no content, the token is inactive
	body  []byte
}

// readAnswer lets through what can be an answer, by status and media type alone, and
// reads its body up to the bound. Bodies of other responses are not read.
func (c *Client) readAnswer(callerCtx, callCtx context.Context, resp *http.Response) (answer, *Error) {
	if err := c.checkStatus(resp.StatusCode); err != nil {
		return answer{}, err
	}
	if resp.StatusCode == http.StatusNoContent {
		return answer{}, nil
	}
	media, err := c.mediaType(resp.Header)
	if err != nil {
		err.Status = resp.StatusCode
		return answer{}, err
	}
	limit := c.cfg.maxResponseBytes()
	tooLarge := failure(KindTooLarge, "expected an answer of at most %d bytes, got a larger one; see introspection.max_response_bytes", limit)
	tooLarge.Status = resp.StatusCode
	if resp.ContentLength > limit {
		return answer{}, tooLarge
	}
	body, readErr := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	switch {
	case readErr != nil:
		failed := c.callError(callerCtx, callCtx, readErr)
		failed.Status = resp.StatusCode
		return answer{}, failed
	case int64(len(body)) > limit:
		return answer{}, tooLarge
	}
	return answer{media: media, body: body}, nil
}

func (c *Client) checkStatus(status int) *Error {
	var err *Error
	switch {
	case status == http.StatusOK, status == http.StatusNoContent && c.cfg.Accept == AcceptJWT:
		return nil
	case status >= 300 && status < 400:
		err = failure(KindRedirect, "%s answers %d, a redirect, which is never followed with a token and a secret in hand; set introspection_endpoint to its target", c.host, status)
	case status == http.StatusBadRequest, status == http.StatusUnauthorized, status == http.StatusForbidden:
		// RFC 7662 §2.3: this speaks of the gateway, not of the token.
		err = failure(KindCredentials, "%s answers %d to the gateway itself; check client_id, client_secret, introspection.auth_method, and that the client may introspect", c.host, status)
	default:
		err = failure(KindStatus, "expected status 200 from %s, got %d; check introspection_endpoint", c.host, status)
	}
	err.Status = status
	return err
}

// mediaType tells the shape of the body from Content-Type alone, never from the body.
// Parameters mean nothing for these types and are ignored.
func (c *Client) mediaType(h http.Header) (string, *Error) {
	switch enc := h.Values("Content-Encoding"); {
	case len(enc) == 0, len(enc) == 1 && strings.EqualFold(strings.TrimSpace(enc[0]), "identity"):
	default:
		return "", failure(KindMediaType, "expected a plain answer from %s, got one with a Content-Encoding that was not asked for", c.host)
	}
	types := h.Values("Content-Type")
	if len(types) != 1 {
		return "", failure(KindMediaType, "expected one Content-Type from %s, got %d", c.host, len(types))
	}
	media, _, _ := strings.Cut(types[0], ";")
	switch media = strings.ToLower(strings.TrimSpace(media)); {
	case media == mediaJSON:
		return mediaJSON, nil
	case media == mediaJWT && c.cfg.Accept == AcceptJWT:
		return mediaJWT, nil
	case media == mediaJWT:
		return "", failure(KindMediaType, "expected %s from %s, got %s, which was not asked for; set phantom_token.mode to introspection to use it", mediaJSON, c.host, mediaJWT)
	}
	return "", failure(KindMediaType, "expected %s from %s, got another type; check introspection_endpoint", c.wanted(), c.host)
}

func (c *Client) wanted() string {
	if c.cfg.Accept == AcceptJWT {
		return mediaJWT + " or " + mediaJSON
	}
	return mediaJSON
}

// inactive is all that is said of a token that is not active (RFC 7662 §2.2).
func inactive() *Result { return &Result{Introspection: &oauth.Introspection{}} }

// judge reads the body of an answer.
func (c *Client) judge(ctx context.Context, a answer) (*Result, *Error) {
	switch a.media {
	case "":
		return inactive(), nil
	case mediaJWT:
		return c.judgeJWT(ctx, a.body)
	default:
		return c.judgeJSON(ctx, a.body)
	}
}

// judgeJSON reads RFC 7662 §2.2, with Keycloak's member jwt where a JWT was asked for.
func (c *Client) judgeJSON(ctx context.Context, body []byte) (*Result, *Error) {
	in, err := oauth.ParseIntrospection(body)
	if err != nil {
		return nil, c.malformed(err) // the text names members and quotes nothing
	}
	if !in.Active {
		return inactive(), nil
	}
	result := &Result{Introspection: in}
	member := in.Claims["jwt"]
	// It goes on as Result.JWT or not at all. Left among the claims it could end up in a
	// log or in another token.
	delete(in.Claims, "jwt")
	if c.cfg.Accept != AcceptJWT || member == nil {
		return result, nil
	}
	jwt, ok := member.(string)
	if !ok {
		return nil, c.malformed(errors.New(`member "jwt": expected a string, got another type`))
	}
	_, inJWT, failed := c.readJWT(ctx, jwt)
	if failed != nil {
		return nil, failed
	}
	result.JWT = jwt
	// What is cached and forwarded is the JWT: its end counts too.
	if e := inJWT.Expiry; !e.IsZero() && (in.Expiry.IsZero() || e.Before(in.Expiry)) {
		in.Expiry = e
	}
	return result, nil
}

// judgeJWT reads Curity's answer: the body is the phantom token and its claims are the
// answer. It has no member active; one that is there and not true is believed.
func (c *Client) judgeJWT(ctx context.Context, body []byte) (*Result, *Error) {
	jwt := strings.TrimSpace(string(body))
	claims, in, failed := c.readJWT(ctx, jwt)
	if failed != nil {
		return nil, failed
	}
	if active, ok := claims["active"]; ok && active != true {
		return inactive(), nil
	}
	active := *in
	active.Active = true
	return &Result{Introspection: &active, JWT: jwt}, nil
}

func (c *Client) malformed(err error) *Error {
	return &Error{
		Kind:   KindMalformed,
		Status: http.StatusOK,
		text:   c.host + " does not answer with an introspection response (RFC 7662 §2.2); check introspection_endpoint",
		err:    err,
	}
}
