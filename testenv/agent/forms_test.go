package agent_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"phantomtoken/testenv/agent"
)

// Other authorization servers have forms of other words: a login in the place of a username,
// and a form that is nothing but the consent.
func TestPersonAtOtherForms(t *testing.T) {
	const redirect = "http://127.0.0.1:1/callback"
	mux := http.NewServeMux()
	mux.HandleFunc("GET /auth", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `<form action="/interaction" method="post"><input type="hidden" name="prompt" value="login">
			<input name="login"><input type="password" name="password"><button type="submit">Sign in</button></form>`)
	})
	mux.HandleFunc("POST /interaction", func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.FormValue("prompt") == "login" && r.FormValue("login") == "john" && r.FormValue("password") == "secret":
			_, _ = io.WriteString(w, `<form action="/interaction" method="post"><input type="hidden" name="prompt" value="consent">
				<button type="submit">Continue</button></form>`)
		case r.FormValue("prompt") == "consent":
			http.Redirect(w, r, redirect+"?code=abc", http.StatusSeeOther)
		default:
			http.Error(w, "unexpected form", http.StatusBadRequest)
		}
	})
	server := httptest.NewServer(mux)
	defer server.Close()
	for _, tt := range []struct {
		name   string
		refuse bool
		want   string
	}{
		{"Allows", false, "abc"},
		{"CannotRefuse", true, ""}, // there is no button for it
	} {
		t.Run(tt.name, func(t *testing.T) {
			person, err := agent.NewPerson("john", "secret")
			if err != nil {
				t.Fatal(err)
			}
			defer person.Close()
			person.Refuse = tt.refuse
			result, err := person.Authorize(t.Context(), server.URL+"/auth", redirect)
			if got := result.Get("code"); got != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("got code %q, %v; want %q", got, err, tt.want)
			}
		})
	}
}
