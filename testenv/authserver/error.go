package authserver

import (
	"net/http"

	"phantomtoken/internal/oauth"
)

// Error codes of an authorization server. Those it shares with a resource server stand
// in package oauth.
const (
	errInvalidClient           = "invalid_client"            // RFC 6749 §5.2
	errInvalidGrant            = "invalid_grant"             // RFC 6749 §5.2
	errUnauthorizedClient      = "unauthorized_client"       // RFC 6749 §5.2
	errUnsupportedGrantType    = "unsupported_grant_type"    // RFC 6749 §5.2
	errInvalidScope            = "invalid_scope"             // RFC 6749 §5.2
	errUnsupportedResponseType = "unsupported_response_type" // RFC 6749 §4.1.2.1
	errInvalidTarget           = "invalid_target"            // RFC 8707 §2
	errInvalidRedirectURI      = "invalid_redirect_uri"      // RFC 7591 §3.2.2
	errInvalidClientMetadata   = "invalid_client_metadata"   // RFC 7591 §3.2.2
	errLoginRequired           = "login_required"            // OpenID Connect Core §3.1.2.6
	errConsentRequired         = "consent_required"          // OpenID Connect Core §3.1.2.6
	errRequestNotSupported     = "request_not_supported"     // RFC 9101 §6.2
	errRequestURINotSupported  = "request_uri_not_supported" // RFC 9101 §6.2
)

func badRequest(code, description string) *oauth.Error {
	return &oauth.Error{Code: code, Description: description, Status: http.StatusBadRequest}
}

// invalidClient is the one answer to every failed client authentication.
func invalidClient(description string) *oauth.Error {
	return &oauth.Error{Code: errInvalidClient, Description: description, Status: http.StatusUnauthorized}
}

// writeError writes e in the form of RFC 6749 §5.2. A client that tried HTTP
// authentication is told the scheme, as that section demands.
func writeError(w http.ResponseWriter, r *http.Request, e *oauth.Error) {
	if e.Status == http.StatusUnauthorized && r.Header.Get("Authorization") != "" {
		w.Header().Set("WWW-Authenticate", `Basic realm="authorization server", charset="UTF-8"`)
	}
	writeJSON(w, e.Status, e.Body())
}

// writeJSON writes an answer that nobody may store.
func writeJSON(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("Pragma", "no-cache") // RFC 6749 §5.1 still asks for it
	w.WriteHeader(status)
	_, _ = w.Write(body)
}
