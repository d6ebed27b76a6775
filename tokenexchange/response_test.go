package tokenexchange_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"phantomtoken/tokenexchange"
)

func TestResponseJSON(t *testing.T) {
	for _, tc := range []struct {
		name string
		in   tokenexchange.Response
		want string
	}{
		{
			name: "complete",
			in: tokenexchange.Response{AccessToken: "t", IssuedTokenType: "i", TokenType: "Bearer",
				ExpiresIn: 90 * time.Second, Scope: []string{"a", "b"}},
			want: `{"access_token":"t","issued_token_type":"i","token_type":"Bearer","expires_in":90,"scope":"a b"}`,
		},
		{
			name: "required only",
			in:   tokenexchange.Response{AccessToken: "t", IssuedTokenType: "i", TokenType: "N_A"},
			want: `{"access_token":"t","issued_token_type":"i","token_type":"N_A"}`,
		},
		{
			name: "no scope at all is said",
			in:   tokenexchange.Response{AccessToken: "t", IssuedTokenType: "i", TokenType: "Bearer", Scope: []string{}},
			want: `{"access_token":"t","issued_token_type":"i","token_type":"Bearer","scope":""}`,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := json.Marshal(tc.in)
			if err != nil || string(got) != tc.want {
				t.Errorf("got %s, error %v\nwant %s", got, err, tc.want)
			}
			var back tokenexchange.Response
			if err := json.Unmarshal(got, &back); err != nil || !reflect.DeepEqual(back, tc.in) {
				t.Errorf("back: error %v, got %+v, want %+v", err, back, tc.in)
			}
		})
	}
}

// Covers: TX-08, TX-11
func TestUnmarshalResponse(t *testing.T) {
	const rest = `"issued_token_type":"i","token_type":"Bearer"`
	for _, tc := range []struct {
		name    string
		body    string
		want    *tokenexchange.Response
		wantErr string
	}{
		{name: "unknown members and refresh token", body: `{"access_token":"t",` + rest + `,"refresh_token":"r","x":{"y":[1]}}`,
			want: &tokenexchange.Response{AccessToken: "t", IssuedTokenType: "i", TokenType: "Bearer"}},
		{name: "null scope and expiry", body: `{"access_token":"t",` + rest + `,"scope":null,"expires_in":null}`,
			want: &tokenexchange.Response{AccessToken: "t", IssuedTokenType: "i", TokenType: "Bearer"}},
		{name: "fraction of a second", body: `{"access_token":"t",` + rest + `,"expires_in":9.9}`,
			want: &tokenexchange.Response{AccessToken: "t", IssuedTokenType: "i", TokenType: "Bearer", ExpiresIn: 9 * time.Second}},
		{name: "no access token", body: `{` + rest + `}`, wantErr: `"access_token"`},
		{name: "no issued token type", body: `{"access_token":"t","token_type":"Bearer"}`, wantErr: `"issued_token_type"`},
		{name: "no token type", body: `{"access_token":"t","issued_token_type":"i"}`, wantErr: `"token_type"`},
		{name: "null access token", body: `{"access_token":null,` + rest + `}`, wantErr: `"access_token"`},
		{name: "access token is a number", body: `{"access_token":1,` + rest + `}`, wantErr: `"access_token"`},
		{name: "RejectsTokenWithLineBreak", body: `{"access_token":"t\r\nX: y",` + rest + `}`, wantErr: `"access_token"`},
		{name: "RejectsRepeatedMember", body: `{"access_token":"t","access_token":"u",` + rest + `}`, wantErr: "twice"},
		{name: "name in another case", body: `{"Access_Token":"t",` + rest + `}`, wantErr: `"access_token"`},
		{name: "expires_in is text", body: `{"access_token":"t",` + rest + `,"expires_in":"300"}`, wantErr: `"expires_in"`},
		{name: "expires_in is negative", body: `{"access_token":"t",` + rest + `,"expires_in":-1}`, wantErr: `"expires_in"`},
		{name: "expires_in overflows", body: `{"access_token":"t",` + rest + `,"expires_in":1e300}`, wantErr: `"expires_in"`},
		{name: "scope is an array", body: `{"access_token":"t",` + rest + `,"scope":["a"]}`, wantErr: `"scope"`},
		{name: "array", body: `[]`, wantErr: "one JSON object"},
		{name: "null", body: `null`, wantErr: "one JSON object"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := tokenexchange.Response{AccessToken: "untouched"}
			err := got.UnmarshalJSON([]byte(tc.body))
			if tc.want != nil {
				if err != nil || !reflect.DeepEqual(got, *tc.want) {
					t.Errorf("got %+v, error %v, want %+v", got, err, *tc.want)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tc.wantErr) {
				t.Errorf("got error %v, want one with %q", err, tc.wantErr)
			}
			if got.AccessToken != "untouched" {
				t.Errorf("the value was changed although reading failed: %q", got.AccessToken)
			}
		})
	}
}

// FuzzResponse: never panics, and what was read survives writing and reading.
func FuzzResponse(f *testing.F) {
	f.Add([]byte(`{"access_token":"t","issued_token_type":"i","token_type":"Bearer","expires_in":90,"scope":"a b"}`))
	f.Add([]byte(`{"access_token":"t","issued_token_type":"i","token_type":"N_A","scope":""}`))
	f.Add([]byte(`{"error":"invalid_target","error_description":"x"}`))
	f.Add([]byte(`{"a":{"a":[[[`))
	f.Add([]byte(`{}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var failure tokenexchange.Error
		if err := failure.UnmarshalJSON(data); err == nil && failure.Code == "" {
			t.Error("an error response without a code was accepted")
		}
		var got tokenexchange.Response
		if got.UnmarshalJSON(data) != nil {
			return
		}
		out, err := json.Marshal(got)
		if err != nil {
			t.Fatalf("writing what was read: %v", err)
		}
		var back tokenexchange.Response
		if err := json.Unmarshal(out, &back); err != nil || !reflect.DeepEqual(got, back) {
			t.Errorf("after writing %s: error %v", out, err)
		}
	})
}
