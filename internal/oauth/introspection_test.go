package oauth_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"phantomtoken/internal/oauth"
)

// Covers: IN-06, IN-11, IN-12
func TestParseIntrospection(t *testing.T) {
	const full = `{
		"active": true, "scope": "stocks/read stocks/trade", "client_id": "https://client.example/metadata.json", "username": "john.doe",
		"token_type": "Bearer", "exp": 1795262700, "iat": 1795262400, "nbf": 1795262399, "sub": "7f1c", "aud": "https://gw.example.com/mcp",
		"iss": "https://idp.example", "jti": "id-1", "region": "USA", "client_assurance_level": 1, "account": 9007199254740993, "roles": {"a": ["b"]}
	}`
	in, err := oauth.ParseIntrospection([]byte(full))
	if err != nil {
		t.Fatal(err)
	}
	want := &oauth.Introspection{
		Active: true, Scope: oauth.Scopes{"stocks/read", "stocks/trade"}, ClientID: "https://client.example/metadata.json", Username: "john.doe",
		TokenType: "Bearer", Expiry: time.Unix(1795262700, 0), IssuedAt: time.Unix(1795262400, 0), NotBefore: time.Unix(1795262399, 0),
		Subject: "7f1c", Audience: []string{"https://gw.example.com/mcp"}, Issuer: "https://idp.example", ID: "id-1",
	}
	claims := in.Claims
	in.Claims = nil
	if !reflect.DeepEqual(in, want) {
		t.Errorf("typed view\n got %+v\nwant %+v", in, want)
	}
	// Unknown members are kept, numbers digit by digit.
	if claims["region"] != "USA" || claims["account"] != json.Number("9007199254740993") || !reflect.DeepEqual(claims["roles"], map[string]any{"a": []any{"b"}}) || len(claims) != 16 {
		t.Errorf("claims = %v", claims)
	}
}

// Covers: IN-11, IN-12
func TestParseIntrospectionMembers(t *testing.T) {
	empty := oauth.Introspection{Active: true}
	tests := []struct {
		name string
		in   string
		want func(*oauth.Introspection)
	}{
		{name: "active alone", in: `{"active":true}`, want: func(*oauth.Introspection) {}},
		{name: "null members are absent", in: `{"active":true,"scope":null,"aud":null,"exp":null,"sub":null,"client_id":null,"iss":null}`, want: func(*oauth.Introspection) {}},
		{name: "empty members", in: `{"active":true,"scope":"","aud":"","sub":""}`, want: func(*oauth.Introspection) {}},
		{name: "audience array", in: `{"active":true,"aud":["a","b"]}`, want: func(i *oauth.Introspection) { i.Audience = []string{"a", "b"} }},
		{name: "empty audience array", in: `{"active":true,"aud":[]}`, want: func(i *oauth.Introspection) { i.Audience = []string{} }},
		{name: "scope set", in: `{"active":true,"scope":" b  a b "}`, want: func(i *oauth.Introspection) { i.Scope = oauth.Scopes{"b", "a"} }},
		{name: "azp for client_id", in: `{"active":true,"azp":"c"}`, want: func(i *oauth.Introspection) { i.ClientID = "c" }},
		{name: "client_id before azp", in: `{"active":true,"azp":"c","client_id":"d"}`, want: func(i *oauth.Introspection) { i.ClientID = "d" }},
		{name: "fraction of a date is cut", in: `{"active":true,"exp":1795262700.999}`, want: func(i *oauth.Introspection) { i.Expiry = time.Unix(1795262700, 0) }},
		{name: "date with exponent", in: `{"active":true,"exp":1.7952627e9}`, want: func(i *oauth.Introspection) { i.Expiry = time.Unix(1795262700, 0) }},
		{name: "end of the year 9999", in: `{"active":true,"exp":253402300799}`, want: func(i *oauth.Introspection) { i.Expiry = time.Unix(253402300799, 0) }},
		{name: "the first second is a date", in: `{"active":true,"exp":0}`, want: func(i *oauth.Introspection) { i.Expiry = time.Unix(0, 0) }},
		{name: "blanks around", in: " \r\n\t{\"active\" : true}\n", want: func(*oauth.Introspection) {}},
		{name: "deep but bearable", in: `{"active":true,"x":` + strings.Repeat("[", 30) + strings.Repeat("]", 30) + `}`, want: func(*oauth.Introspection) {}},
		{name: "case of names matters", in: `{"active":true,"SUB":"x","Scope":"y"}`, want: func(*oauth.Introspection) {}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := oauth.ParseIntrospection([]byte(tt.in))
			if err != nil {
				t.Fatal(err)
			}
			want := empty
			tt.want(&want)
			got.Claims = nil
			if !reflect.DeepEqual(*got, want) {
				t.Errorf("got %+v, want %+v", *got, want)
			}
		})
	}
}

// Only the boolean true is active, and nothing else of an inactive answer is kept.
//
// Covers: IN-06, IN-07
func TestParseIntrospectionInactive(t *testing.T) {
	tests := []struct {
		name, in string
	}{
		{name: "false", in: `{"active":false}`},
		{name: "false with members", in: `{"active":false,"sub":"x","scope":"admin","exp":9999999999,"client_id":"c"}`},
		{name: "false with malformed members", in: `{"active":false,"sub":7,"scope":["x"],"exp":"tomorrow","aud":{}}`},
		{name: "missing", in: `{"sub":"x"}`},
		{name: "empty object", in: `{}`},
		{name: "TextTrue", in: `{"active":"true"}`},
		{name: "TextTrueCapitals", in: `{"active":"True"}`},
		{name: "One", in: `{"active":1}`},
		{name: "Null", in: `{"active":null}`},
		{name: "Array", in: `{"active":[true]}`},
		{name: "Object", in: `{"active":{"active":true}}`},
		{name: "CapitalName", in: `{"Active":true}`},
		{name: "Nested", in: `{"token_introspection":{"active":true}}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := oauth.ParseIntrospection([]byte(tt.in))
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, &oauth.Introspection{}) {
				t.Errorf("got %+v, want an inactive answer with nothing in it", got)
			}
		})
	}
}

// What is not understood is trouble, not an answer. The error names the member and never
// quotes what came.
//
// Covers: BC-08
func TestParseIntrospectionRefuses(t *testing.T) {
	active := func(member string) string { return `{"active":true,` + member + `}` }
	tests := []struct {
		name, in string
		want     string // in the error
	}{
		{name: "Nothing", in: ``, want: "JSON object"},
		{name: "HTML", in: `<html>SESAME</html>`, want: "JSON object"},
		{name: "Text", in: `"SESAME"`, want: "got a string"},
		{name: "True", in: `true`, want: "got a boolean"},
		{name: "Null", in: `null`, want: "got null"},
		{name: "Array", in: `[{"active":true}]`, want: "got an array"},
		{name: "Truncated", in: `{"active":true`, want: "JSON object"},
		{name: "TrailingObject", in: `{"active":false}{"active":true}`, want: "JSON object"},
		{name: "TrailingText", in: `{"active":true} SESAME`, want: "JSON object"},
		{name: "TrailingComma", in: `{"active":true,}`, want: "JSON object"},
		{name: "Comment", in: `{"active":true/*SESAME*/}`, want: "JSON object"},
		{name: "SingleQuotes", in: `{'active':true}`, want: "JSON object"},
		{name: "ByteOrderMark", in: "\ufeff" + `{"active":true}`, want: "JSON object"},
		{name: "UTF16", in: "{\x00\"\x00a\x00", want: "JSON object"},
		{name: "NotUTF8", in: active("\"sub\":\"\xff\""), want: "UTF-8"},
		{name: "NamesThatBecomeOneWithoutUTF8", in: active("\"\xfe\":1,\"\xff\":2"), want: "UTF-8"},

		{name: "DuplicateActive", in: `{"active":false,"active":true}`, want: "twice"},
		{name: "DuplicateActiveSameValue", in: `{"active":true,"active":true}`, want: "twice"},
		{name: "DuplicateByEscape", in: `{"active":true,"\u0061ctive":true}`, want: "twice"},
		{name: "DuplicateAudience", in: active(`"aud":"a","aud":"b"`), want: "twice"},
		{name: "DuplicateUnknownMember", in: active(`"x":1,"x":1`), want: "twice"},
		{name: "DuplicateNested", in: active(`"act":{"sub":"a","sub":"b"}`), want: "twice"},
		{name: "DuplicateInArray", in: active(`"x":[1,{"a":{"b":1,"b":2}}]`), want: "twice"},
		{name: "DuplicateInInactive", in: `{"active":false,"x":1,"x":2}`, want: "twice"},

		{name: "ScopeArray", in: active(`"scope":["SESAME"]`), want: `member "scope": expected a string, got an array`},
		{name: "ScopeWithQuote", in: active(`"scope":"SESAME\""`), want: `member "scope"`},
		{name: "ScopeWithTab", in: active(`"scope":"SESAME\tb"`), want: `member "scope"`},
		{name: "ScopeNotASCII", in: active(`"scope":"SESAMÉ"`), want: `member "scope"`},
		{name: "SubjectNumber", in: active(`"sub":7`), want: `member "sub": expected a string, got a number`},
		{name: "SubjectTrue", in: active(`"sub":true`), want: "got a boolean"},
		{name: "ClientObject", in: active(`"client_id":{"SESAME":1}`), want: `member "client_id": expected a string, got an object`},
		{name: "AzpNumber", in: active(`"azp":7`), want: `member "azp"`},
		{name: "IssuerArray", in: active(`"iss":["SESAME"]`), want: `member "iss"`},
		{name: "TypeNumber", in: active(`"token_type":1`), want: `member "token_type"`},
		{name: "AudienceNumber", in: active(`"aud":7`), want: `member "aud"`},
		{name: "AudienceObject", in: active(`"aud":{"SESAME":true}`), want: `member "aud"`},
		{name: "AudienceMixed", in: active(`"aud":["a",7]`), want: `member "aud"`},
		{name: "AudienceNullInArray", in: active(`"aud":["a",null]`), want: `member "aud"`},
		{name: "AudienceNested", in: active(`"aud":[["a"]]`), want: `member "aud"`},
		{name: "ExpiryText", in: active(`"exp":"1795262700"`), want: `member "exp": expected a number, got a string`},
		{name: "ExpiryTrue", in: active(`"exp":true`), want: `member "exp"`},
		{name: "ExpiryNegative", in: active(`"exp":-1`), want: `member "exp"`},
		{name: "ExpiryHuge", in: active(`"exp":1e300`), want: `member "exp"`},
		{name: "ExpiryBeyondFloat", in: active(`"exp":1e999`), want: `member "exp"`},
		{name: "ExpiryBeyondInt64", in: active(`"exp":9223372036854775808`), want: `member "exp"`},
		{name: "ExpiryYear10000", in: active(`"exp":253402300800`), want: `member "exp"`},
		{name: "ExpiryMilliseconds", in: active(`"exp":1795262700000`), want: `member "exp"`},
		{name: "ExpiryManyDigits", in: active(`"exp":` + strings.Repeat("9", 10000)), want: `member "exp"`},
		{name: "IssuedAtText", in: active(`"iat":"SESAME"`), want: `member "iat"`},
		{name: "NotBeforeArray", in: active(`"nbf":[1]`), want: `member "nbf"`},

		{name: "NestedObjects", in: active(`"x":` + strings.Repeat(`{"a":`, 40) + "1" + strings.Repeat("}", 40)), want: "32 levels"},
		{name: "NestedArrays", in: active(`"x":` + strings.Repeat("[", 40) + strings.Repeat("]", 40)), want: "32 levels"},
		{name: "NestedABillionTimesNearly", in: strings.Repeat(`[`, 1<<20), want: "JSON object"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := oauth.ParseIntrospection([]byte(tt.in))
			if !errors.Is(err, oauth.ErrMalformedIntrospection) || got != nil {
				t.Fatalf("got %+v and error %v, want ErrMalformedIntrospection alone", got, err)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %q, want it to say %q", err, tt.want)
			}
			if strings.Contains(err.Error(), "SESAM") || len(err.Error()) > 200 {
				t.Errorf("error %q quotes the answer", err)
			}
		})
	}
}

func TestClaimsIntrospectionLeavesActiveAlone(t *testing.T) {
	in, err := oauth.ClaimsIntrospection(map[string]any{"active": true, "sub": "x"})
	if err != nil {
		t.Fatal(err)
	}
	if in.Active || in.Subject != "x" {
		t.Errorf("got %+v, want the subject and nothing active", in)
	}
}

func TestParseClaims(t *testing.T) {
	claims, err := oauth.ParseClaims([]byte(`{"active":false,"n":9007199254740993,"a":[1,"x",null,true,{}]}`))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"active": false, "n": json.Number("9007199254740993"), "a": []any{json.Number("1"), "x", nil, true, map[string]any{}}}
	if !reflect.DeepEqual(claims, want) {
		t.Errorf("claims = %v, want %v", claims, want)
	}
	if claims, err := oauth.ParseClaims([]byte(`{"a":1,"a":1}`)); err == nil {
		t.Errorf("claims = %v, want an error", claims)
	}
}

func TestHasUser(t *testing.T) {
	tests := []struct {
		name string
		in   string
		want bool
	}{
		{name: "person", in: `"sub":"7f1c","client_id":"c","username":"john.doe"`, want: true},
		{name: "person without client", in: `"sub":"7f1c"`, want: true},
		{name: "person who came by code", in: `"sub":"7f1c","client_id":"c","grant_type":"authorization_code"`, want: true},
		{name: "name that only begins alike", in: `"sub":"7f1c","client_id":"c","username":"service.account"`, want: true},
		{name: "client whose name begins the subject", in: `"sub":"c-1","client_id":"c"`, want: true},

		{name: "NoSubject", in: `"client_id":"c","username":"john.doe"`},
		{name: "EmptySubject", in: `"sub":"","client_id":"c"`},
		{name: "SubjectIsClient", in: `"sub":"c","client_id":"c"`},
		{name: "SubjectIsClientByAzp", in: `"sub":"c","azp":"c"`},
		{name: "Auth0Client", in: `"sub":"c@clients","client_id":"c"`},
		{name: "Auth0GrantType", in: `"sub":"7f1c","gty":"client-credentials"`},
		{name: "KeycloakServiceAccount", in: `"sub":"7f1c","client_id":"c","username":"service-account-c"`},
		{name: "KeycloakServiceAccountCapitals", in: `"sub":"7f1c","client_id":"c","username":"Service-Account-c"`},
		{name: "GrantType", in: `"sub":"7f1c","client_id":"c","grant_type":"client_credentials"`},
		{name: "KeycloakServiceAccountByPreferredUsername", in: `"sub":"7f1c","client_id":"c","preferred_username":"service-account-evil"`},
		{name: "EntraApplication", in: `"sub":"7f1c","azp":"c","idtyp":"app"`},
		{name: "SubjectIsAzpBesideAnotherClient", in: `"sub":"c","client_id":"d","azp":"c"`},
		{name: "Auth0GrantTypeInAList", in: `"sub":"7f1c","gty":["client-credentials"]`},
		{name: "NothingAtAll", in: `"x":1`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in, err := oauth.ParseIntrospection(fmt.Appendf(nil, `{"active":true,%s}`, tt.in))
			if err != nil {
				t.Fatal(err)
			}
			if got := in.HasUser(); got != tt.want {
				t.Errorf("HasUser() = %t, want %t", got, tt.want)
			}
		})
	}
	if (&oauth.Introspection{}).HasUser() {
		t.Error("an inactive answer has a user")
	}
}

func FuzzParseIntrospection(f *testing.F) {
	for _, seed := range []string{
		`{"active":true}`, `{"active":false,"sub":"x"}`, `{"active":"true"}`, `{"active":true,"aud":["a","b"],"scope":"a b","exp":1795262700}`,
		`{"active":true,"active":true}`, `{"active":true,"exp":1e999}`, `{"active":true,"a":{"b":[{"c":null}]}}`, `[]`, `null`, ``, "{\"\xff\":1}",
		`{"active":true,"scope":"a\u0000b"}`, `{"active":true,"x":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		in, err := oauth.ParseIntrospection(data)
		if err != nil {
			if in != nil || !errors.Is(err, oauth.ErrMalformedIntrospection) {
				t.Errorf("got %+v and error %v", in, err)
			}
			return
		}
		if !in.Active {
			if !reflect.DeepEqual(in, &oauth.Introspection{}) {
				t.Errorf("an inactive answer holds %+v", in)
			}
			return
		}
		// A second, lenient reader sees no other token than we do.
		var lenient map[string]any
		dec := json.NewDecoder(bytes.NewReader(data))
		dec.UseNumber()
		if err := dec.Decode(&lenient); err != nil {
			t.Fatalf("accepted what encoding/json refuses: %v", err)
		}
		if lenient["active"] != true {
			t.Error("active for us, inactive for encoding/json")
		}
		if s, _ := lenient["sub"].(string); s != in.Subject {
			t.Errorf("subject %q, encoding/json reads %q", in.Subject, s)
		}
		// Written and read again it is the same.
		again, err := json.Marshal(in.Claims)
		if err != nil {
			t.Fatal(err)
		}
		second, err := oauth.ParseIntrospection(again)
		if err != nil {
			t.Fatalf("%s, written from an accepted answer, is refused: %v", again, err)
		}
		if !reflect.DeepEqual(in, second) {
			t.Errorf("read again it is\n%+v, at first it was\n%+v", second, in)
		}
		if !slices.Equal(parseScopes(t, in.Scope.String()), in.Scope) {
			t.Errorf("scope %q is not what its wire form says", in.Scope)
		}
		for _, date := range []time.Time{in.Expiry, in.IssuedAt, in.NotBefore} {
			if !date.IsZero() && (date.Unix() < 0 || date.UTC().Year() > 9999) {
				t.Errorf("date %v is out of reach", date)
			}
		}
	})
}
