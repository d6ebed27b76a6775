package main

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"phantomtoken/testenv"
	"phantomtoken/testenv/recorder"
	"phantomtoken/testenv/stocksapi"
)

// describe says what matters of an exchange. It shows no token, code, secret or password.
func describe(e *recorder.Exchange) entry {
	u, err := url.Parse(e.URL)
	if err != nil {
		u = &url.URL{Path: e.URL}
	}
	d := entry{from: e.From, to: e.To, request: e.Method + " " + u.Scheme + "://" + u.Host + u.Path, status: e.Status}
	if token := bearer(e.RequestHeader.Get("Authorization")); token != "" {
		d.says = append(d.says, "Authorization: Bearer "+label(token))
	}
	for _, field := range e.Header.Values("WWW-Authenticate") {
		d.answer = append(d.answer, "WWW-Authenticate: "+field)
	}
	switch {
	case u.Path == callbackPath:
		d.to = client
	case u.Path == "/mcp" || u.Path == "/advisor/mcp":
		describeMCP(e, &d)
	case strings.Contains(u.Path, "/.well-known/"):
		describeMetadata(e, &d)
	case strings.HasSuffix(u.Path, "/jwks.json"):
		describeKeys(e, &d)
	case e.To == testenv.AuthServer:
		describeAuthorization(e, &d, u)
	case e.To == testenv.Sidecar && u.Path == "/token":
		describeExchange(e, &d)
	case e.To == testenv.StocksAPI || e.To == testenv.Egress:
		if e.From == testenv.Egress { // nobody else shows that token
			d.token, d.claims = tokenClaims(e)
		}
		d.answer = append(d.answer, short(string(e.Body)))
		if actors := e.Header.Get(stocksapi.HeaderActors); actors != "" && e.To == testenv.StocksAPI {
			d.answer = append(d.answer, stocksapi.HeaderActors+": "+actors)
		}
	}
	return d
}

const (
	client       = "MCP client"
	browser      = "browser"
	callbackPath = "/callback"
)

func describeMCP(e *recorder.Exchange, d *entry) {
	var message struct {
		Method string `json:"method"`
		Params struct {
			Name      string          `json:"name"`
			Arguments json.RawMessage `json:"arguments"`
		} `json:"params"`
	}
	if json.Unmarshal(e.RequestBody, &message) == nil && message.Method != "" {
		d.request += "   " + strings.TrimSpace(message.Method+" "+message.Params.Name+" "+strings.TrimPrefix(string(message.Params.Arguments), "null"))
	}
	if e.From == testenv.Gateway { // an exchanged token was shown when it was issued
		d.token, d.claims = tokenClaims(e)
	}
	if e.Status >= 400 {
		d.answer = append(d.answer, short(string(e.Body)))
		return
	}
	result := toolText(e.Body)
	if result == "" || e.From != client { // behind the gateway it is the same
		result = e.Header.Get("Content-Type")
	}
	d.answer = append(d.answer, short(result))
}

// tokenClaims are the token of a request and what it says, if it is one of ours.
func tokenClaims(e *recorder.Exchange) (token string, claims []string) {
	token = bearer(e.RequestHeader.Get("Authorization"))
	j, ok := readJWT(token)
	if !ok {
		return "", nil
	}
	return token, claimLines(j)
}

// toolText finds the text of a tool result in an event stream.
func toolText(body []byte) string {
	for line := range strings.Lines(string(body)) {
		data, ok := strings.CutPrefix(line, "data: ")
		if !ok {
			continue
		}
		var message struct {
			Result struct {
				IsError bool `json:"isError"`
				Content []struct {
					Text string `json:"text"`
				} `json:"content"`
				Tools []struct {
					Name string `json:"name"`
				} `json:"tools"`
			} `json:"result"`
		}
		if json.Unmarshal([]byte(data), &message) != nil {
			continue
		}
		if len(message.Result.Tools) > 0 {
			var names []string
			for _, t := range message.Result.Tools {
				names = append(names, t.Name)
			}
			return "tools: " + strings.Join(names, ", ")
		}
		if len(message.Result.Content) > 0 {
			text := message.Result.Content[0].Text
			if message.Result.IsError {
				text = "tool error: " + text
			}
			return text
		}
	}
	return ""
}

// claimLines are what a token of ours says, in the order of importance.
func claimLines(j jwt) []string {
	first := fmt.Sprintf("typ %v, alg %v, iss %v", j.header["typ"], j.header["alg"], j.claims["iss"])
	var rest []string
	for _, name := range []string{"aud", "sub", "client_id", "scope", "act", "region", "client_type", "client_assurance_level"} {
		if v, ok := j.claims[name]; ok {
			if name == "act" {
				v = actors(v)
			}
			rest = append(rest, fmt.Sprintf("%s %v", name, v))
		}
	}
	if exp, ok := j.claims["exp"].(float64); ok {
		if iat, ok := j.claims["iat"].(float64); ok {
			rest = append(rest, fmt.Sprintf("lives %s", time.Duration(exp-iat)*time.Second))
		}
	}
	half := (len(rest) + 1) / 2
	return []string{first, strings.Join(rest[:half], ", "), strings.Join(rest[half:], ", ")}
}

// actors shows who acts, and for whom before that (RFC 8693 §4.1).
func actors(act any) string { return strings.Join(chain(act), ", called by ") }

// chain are the names in act, the current actor first.
func chain(act any) []string {
	var subjects []string
	for m, ok := act.(map[string]any); ok; m, ok = m["act"].(map[string]any) {
		subjects = append(subjects, fmt.Sprint(m["sub"]))
	}
	return subjects
}

func describeMetadata(e *recorder.Exchange, d *entry) {
	var m struct {
		Resource             string   `json:"resource"`
		AuthorizationServers []string `json:"authorization_servers"`
		Scopes               []string `json:"scopes_supported"`
		Issuer               string   `json:"issuer"`
		Registration         string   `json:"registration_endpoint"`
		JWKSURI              string   `json:"jwks_uri"`
		Challenges           []string `json:"code_challenge_methods_supported"`
		CIMD                 bool     `json:"client_id_metadata_document_supported"`
		Iss                  bool     `json:"authorization_response_iss_parameter_supported"`
	}
	if json.Unmarshal(e.Body, &m) != nil {
		return
	}
	switch {
	case m.Resource != "":
		d.answer = append(d.answer, fmt.Sprintf("resource %s, authorization_servers %v, scopes_supported %v", m.Resource, m.AuthorizationServers, m.Scopes))
	case m.Registration != "":
		d.answer = append(d.answer, fmt.Sprintf("issuer %s, PKCE %v, iss in the redirect %t, DCR at %s, CIMD %t", m.Issuer, m.Challenges, m.Iss, m.Registration, m.CIMD))
	case m.Issuer != "":
		d.answer = append(d.answer, fmt.Sprintf("issuer %s, jwks_uri %s", m.Issuer, m.JWKSURI))
	}
}

func describeKeys(e *recorder.Exchange, d *entry) {
	var set struct {
		Keys []struct {
			ID  string `json:"kid"`
			Alg string `json:"alg"`
		} `json:"keys"`
	}
	if json.Unmarshal(e.Body, &set) != nil {
		return
	}
	var keys []string
	for _, k := range set.Keys {
		keys = append(keys, k.Alg+" "+k.ID)
	}
	d.answer = append(d.answer, "public keys: "+strings.Join(keys, ", "))
}

func describeAuthorization(e *recorder.Exchange, d *entry, u *url.URL) {
	form, _ := url.ParseQuery(string(e.RequestBody))
	var answer map[string]any
	_ = json.Unmarshal(e.Body, &answer) // of the pages nothing remains, which is right
	switch strings.TrimPrefix(u.Path, "/") {
	case "register":
		var in map[string]any
		if json.Unmarshal(e.RequestBody, &in) == nil {
			d.says = append(d.says, fmt.Sprintf("client_name %v, redirect_uris %v", in["client_name"], in["redirect_uris"]))
		}
		d.answer = append(d.answer, fmt.Sprintf("client_id %v, client_secret %s", answer["client_id"], hidden(answer["client_secret"])))
	case "authorize":
		d.says = append(d.says, parameters(u.Query(), "client_id", "scope", "resource", "redirect_uri"),
			parameters(u.Query(), "response_type", "code_challenge_method", "code_challenge", "state"))
		d.answer = append(d.answer, location(e))
	case "login", "consent":
		if e.Method == "POST" {
			d.says = append(d.says, parameters(form, "username", "password", "accept"))
		}
		d.answer = append(d.answer, location(e))
	case "token":
		d.says = append(d.says, parameters(form, "grant_type", "code", "code_verifier", "resource", "client_id", "client_secret"))
		token, ok := answer["access_token"].(string)
		if !ok {
			d.answer = append(d.answer, members(answer, "error", "error_description"))
			break
		}
		_, refresh := answer["refresh_token"]
		d.answer = append(d.answer, fmt.Sprintf("%s, %v, expires_in %v, scope %q, refresh token: %t", label(token), answer["token_type"], answer["expires_in"], answer["scope"], refresh))
	case "introspect":
		d.says = append(d.says, "token "+label(form.Get("token"))+", authenticated as the gateway's own client")
		d.answer = append(d.answer, members(answer, "active", "sub", "client_id"), members(answer, "aud", "scope"), members(answer, "iss", "region", "client_type", "client_assurance_level"))
	}
}

func describeExchange(e *recorder.Exchange, d *entry) {
	form, _ := url.ParseQuery(string(e.RequestBody))
	d.says = append(d.says,
		parameters(form, "grant_type"),
		"subject_token "+label(form.Get("subject_token"))+", "+parameters(form, "audience", "scope"))
	var answer map[string]any
	if json.Unmarshal(e.Body, &answer) != nil {
		return
	}
	token, ok := answer["access_token"].(string)
	if !ok {
		d.answer = append(d.answer, members(answer, "error", "error_description"))
		return
	}
	d.answer = append(d.answer, fmt.Sprintf("%s, expires_in %v", label(token), answer["expires_in"]))
	if j, ok := readJWT(token); ok {
		d.answer = append(d.answer, claimLines(j)...)
	}
}

// parameters shows those parameters that are there; what must not be seen is named only.
func parameters(values url.Values, names ...string) string {
	var out []string
	for _, name := range names {
		switch v := values.Get(name); {
		case v == "":
		case name == "password":
			out = append(out, "password (not shown)")
		case slices.Contains([]string{"code", "code_verifier", "state", "code_challenge", "client_secret"}, name):
			out = append(out, name+" "+fingerprint(v))
		default:
			out = append(out, name+" "+v)
		}
	}
	return strings.Join(out, ", ")
}

// location shows where a redirect goes, its code and state only as fingerprints.
func location(e *recorder.Exchange) string {
	to, err := url.Parse(e.Header.Get("Location"))
	if err != nil || to.String() == "" {
		return strings.Join(strings.Fields(e.Header.Get("Content-Type")), " ")
	}
	shown := parameters(to.Query(), "code", "state", "iss", "error")
	to.RawQuery = ""
	if shown != "" {
		shown = " with " + shown
	}
	return "to " + to.String() + shown
}

func hidden(v any) string {
	s, _ := v.(string)
	if s == "" {
		return "none"
	}
	return fingerprint(s)
}

// members shows those members of an object that are there.
func members(m map[string]any, names ...string) string {
	var out []string
	for _, name := range names {
		if v, ok := m[name]; ok {
			out = append(out, fmt.Sprintf("%s %v", name, v))
		}
	}
	return strings.Join(out, ", ")
}

func short(s string) string { return cut(s, 200) }

func cut(s string, most int) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > most {
		return s[:most] + " …"
	}
	return s
}
