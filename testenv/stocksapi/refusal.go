package stocksapi

import (
	"encoding/json"
	"net/http"
)

// refusal is an error answer. cause is for the log.
type refusal struct {
	status            int
	code, description string
	scope             string
	challenge         bool // another token would help
	cause             error
}

func (a *api) refuse(w http.ResponseWriter, r *http.Request, no *refusal) {
	if no.challenge {
		challenge := `Bearer realm="stocks"`
		if no.code != "unauthorized" { // RFC 6750 §3.1: no error code when there was no token
			challenge += `, error="` + no.code + `", error_description="` + no.description + `"`
		}
		if no.scope != "" {
			challenge += `, scope="` + no.scope + `"`
		}
		w.Header().Set("WWW-Authenticate", challenge)
	}
	if no.status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "5")
	}
	a.log.InfoContext(r.Context(), "request refused", "status", no.status, "error", no.code, "err", no.cause)
	a.write(w, r, no.status, Error{Code: no.code, Description: no.description, Scope: no.scope})
}

func (a *api) write(w http.ResponseWriter, r *http.Request, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store") // the answer is one user's
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(v); err != nil {
		a.log.WarnContext(r.Context(), "answer not written", "err", err)
	}
}
