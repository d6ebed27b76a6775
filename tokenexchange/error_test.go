package tokenexchange_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"phantomtoken/tokenexchange"
)

func TestErrorJSON(t *testing.T) {
	in := &tokenexchange.Error{
		Code:        "invalid_target",
		Description: "audience \"x\\y\" is unknown\r\nSet-Cookie: a=b\u00e9",
		URI:         "https://docs.example/errors",
		Status:      400,
	}
	got, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"error":"invalid_target","error_description":"audience 'x?y' is unknown??Set-Cookie: a=b?","error_uri":"https://docs.example/errors"}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestUnmarshalError(t *testing.T) {
	for _, tc := range []struct {
		name            string
		body            string
		wantCode        string // empty: refused
		wantDescription string
	}{
		{name: "code only", body: `{"error":"invalid_scope"}`, wantCode: "invalid_scope"},
		{name: "code of their own", body: `{"error":"AADSTS-50.13"}`, wantCode: "AADSTS-50.13"},
		{name: "description", body: `{"error":"invalid_scope","error_description":"Scopes [a] not present"}`, wantCode: "invalid_scope", wantDescription: "Scopes [a] not present"},
		{name: "description of another type", body: `{"error":"invalid_scope","error_description":{}}`, wantCode: "invalid_scope"},
		{name: "description with control characters", body: `{"error":"x","error_description":"a\u0000b\u2028c"}`, wantCode: "x", wantDescription: "a?b?c"},
		{name: "long description", body: `{"error":"x","error_description":"` + strings.Repeat("a", 2000) + `"}`, wantCode: "x", wantDescription: strings.Repeat("a", 512)},
		{name: "no code", body: `{"message":"nope"}`},
		{name: "empty code", body: `{"error":""}`},
		{name: "code is an object", body: `{"error":{"code":1}}`},
		{name: "code is a sentence", body: `{"error":"something went wrong"}`},
		{name: "long code", body: `{"error":"` + strings.Repeat("a", 65) + `"}`},
		{name: "not JSON", body: `<html>`},
		{name: "trailing data", body: `{"error":"x"}}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got tokenexchange.Error
			err := got.UnmarshalJSON([]byte(tc.body))
			if (err == nil) != (tc.wantCode != "") {
				t.Fatalf("got error %v", err)
			}
			if got.Code != tc.wantCode || got.Description != tc.wantDescription {
				t.Errorf("got %q %q, want %q %q", got.Code, got.Description, tc.wantCode, tc.wantDescription)
			}
		})
	}
}

func TestErrorIsUnavailable(t *testing.T) {
	for _, tc := range []struct {
		err  tokenexchange.Error
		want bool
	}{
		{tokenexchange.Error{Status: 400, Code: "invalid_target"}, false},
		{tokenexchange.Error{Status: 401, Code: "invalid_client"}, false},
		{tokenexchange.Error{Status: 429}, true},
		{tokenexchange.Error{Status: 500, Code: "server_error"}, false},
		{tokenexchange.Error{Status: 502}, true},
		{tokenexchange.Error{Status: 503, Code: "temporarily_unavailable"}, true},
		{tokenexchange.Error{Status: 504}, true},
		{tokenexchange.Error{Status: 400, Code: "temporarily_unavailable"}, true},
	} {
		wrapped := fmt.Errorf("calling the API: %w", &tc.err)
		if got := errors.Is(wrapped, tokenexchange.ErrUnavailable); got != tc.want {
			t.Errorf("%v: unavailable: got %t, want %t", &tc.err, got, tc.want)
		}
		if errors.Is(wrapped, tokenexchange.ErrUnacceptable) {
			t.Errorf("%v is not an unacceptable answer", &tc.err)
		}
	}
}
