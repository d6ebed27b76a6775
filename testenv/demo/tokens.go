package main

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"regexp"
	"strings"
)

// fingerprint identifies a secret on the screen without showing any of it.
func fingerprint(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return "#" + hex.EncodeToString(sum[:4])
}

// jwt is what can be read of a JWT without verifying it: enough to show what it says.
type jwt struct {
	header, claims map[string]any
}

func readJWT(token string) (jwt, bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return jwt{}, false
	}
	var j jwt
	for i, into := range []*map[string]any{&j.header, &j.claims} {
		data, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil || json.Unmarshal(data, into) != nil {
			return jwt{}, false
		}
	}
	return j, true
}

func (j jwt) text(claim string) string {
	s, _ := j.claims[claim].(string)
	return s
}

func (j jwt) typ() string {
	s, _ := j.header["typ"].(string)
	return s
}

// label shows a token as its type and fingerprint.
func label(token string) string {
	kind := "opaque token"
	if j, ok := readJWT(token); ok {
		kind = "JWT"
		if typ := j.typ(); typ != "" {
			kind = typ
		}
	}
	return kind + " " + fingerprint(token)
}

// bearer is the token of an Authorization field, or "".
func bearer(field string) string {
	scheme, token, _ := strings.Cut(field, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return token
}

// looksLikeJWT matches a JWT anywhere in a text.
func looksLikeJWT() *regexp.Regexp {
	return regexp.MustCompile(`eyJ[\w-]+\.eyJ[\w-]+\.[\w-]+`)
}
