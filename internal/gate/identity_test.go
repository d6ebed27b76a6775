package gate_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"phantomtoken/internal/gate"
)

const (
	otherToken = "_0XBPWQQ_00000000-0e98-413c-a44d-d8a46d3bd2f2"
	otherIDP   = "https://idp.example.org/realms/other"
)

var john = gate.Consumer{ID: "1c8a7b0e-4a5f-4a3e-9a53-6f6c1b1d9c01", Username: "john.doe", CustomID: "42", CreatedAt: 1_700_000_000, Tags: []string{"mcp"}}

// callerOf decides on a request of goodToken, whose answer has these changes.
func callerOf(t *testing.T, id gate.Identity, change map[string]any, consumers ...gate.Consumer) (gate.Decision, *kong, *world) {
	t.Helper()
	w := newWorld(t, func(cfg *gate.Config) { cfg.Identity = id })
	w.idp.answer[goodToken] = claims(change)
	k := &kong{consumers: map[string]gate.Consumer{}}
	for _, c := range consumers {
		k.consumers[c.Username] = c
		k.consumers[c.ID] = c // Kong looks a name up as an id first, too
	}
	return w.decideAt(request("/mcp", "authorization", "Bearer "+goodToken), k), k, w
}

// wantDenied checks for a refusal by policy: 403 without a challenge, so that no client
// logs in again for nothing.
func wantDenied(t *testing.T, d gate.Decision, w *world, cause string) {
	t.Helper()
	if d.Answer == nil || d.Answer.Status != 403 || headerOf(d.Answer.Headers, "WWW-Authenticate") != "" || !strings.Contains(string(d.Answer.Body), `"access_denied"`) {
		t.Fatalf("decision = %+v, want 403 access_denied without challenge", d)
	}
	if !strings.Contains(w.log.String(), cause) {
		t.Errorf("log = %s\nwant %s", w.log.String(), cause)
	}
}

func TestIdentityTellsNothingByDefault(t *testing.T) {
	d, k, _ := callerOf(t, gate.Identity{}, nil, john)
	if d.Forward == nil || d.Forward.Caller != nil || len(k.questions) != 0 {
		t.Errorf("decision = %+v, questions = %v, want nobody and none", d, k.questions)
	}
}

func TestConsumerOfTheToken(t *testing.T) {
	for _, tt := range []struct {
		name      string
		id        gate.Identity
		change    map[string]any
		cause     string // of the refusal; empty: forwarded
		anonymous bool   // forwarded without consumer
	}{
		{name: "ByUsername", id: gate.Identity{ConsumerClaim: "sub"}},
		{name: "ByNestedClaim", id: gate.Identity{ConsumerClaim: "ext.user"}, change: map[string]any{"ext": `{"user":"john.doe"}`}},
		{name: "WithTag", id: gate.Identity{ConsumerClaim: "sub", ConsumerTag: "mcp"}},
		{name: "RejectsTokenWithoutTheClaim", id: gate.Identity{ConsumerClaim: "user"}, cause: `claim \"user\" is missing, so it names no consumer`},
		{name: "RejectsUnknownConsumer", id: gate.Identity{ConsumerClaim: "region"}, cause: `claim \"region\" names no consumer that Kong knows`},
		{name: "RejectsConsumerOfOtherCallers", id: gate.Identity{ConsumerClaim: "sub", ConsumerTag: "partners"}, cause: `names a consumer without the tag \"partners\"`},
		{
			name: "RejectsUsernameThatIsTheIDOfAnotherConsumer", id: gate.Identity{ConsumerClaim: "preferred_username"},
			change: map[string]any{"preferred_username": `"` + john.ID + `"`}, cause: "holds the id of a consumer",
		},
		{name: "RejectsUsernameInAnotherCase", id: gate.Identity{ConsumerClaim: "user"}, change: map[string]any{"user": `"John.Doe"`}, cause: "names no consumer"},
		{name: "RejectsEmptyUsername", id: gate.Identity{ConsumerClaim: "user"}, change: map[string]any{"user": `""`}, cause: "is empty"},
		{name: "RejectsNumber", id: gate.Identity{ConsumerClaim: "user"}, change: map[string]any{"user": 42}, cause: "is no string"},
		{name: "RejectsListOfUsernames", id: gate.Identity{ConsumerClaim: "user"}, change: map[string]any{"user": `["john.doe","root"]`}, cause: "is no string"},
		{name: "RejectsControlCharacters", id: gate.Identity{ConsumerClaim: "user"}, change: map[string]any{"user": `"john\u0000doe"`}, cause: "holds control characters"},
		{name: "RejectsReplacementCharacters", id: gate.Identity{ConsumerClaim: "user"}, change: map[string]any{"user": `"john\ud800"`}, cause: "holds control characters"},
		{name: "RejectsSpacesAround", id: gate.Identity{ConsumerClaim: "user"}, change: map[string]any{"user": `" john.doe"`}, cause: "begins or ends with a space"},
		{name: "RejectsVeryLongNames", id: gate.Identity{ConsumerClaim: "user"}, change: map[string]any{"user": `"` + strings.Repeat("j", 1025) + `"`}, cause: "is longer than 1024 bytes"},
		{name: "OptionalWithoutClaim", id: gate.Identity{ConsumerClaim: "user", ConsumerOptional: true, CredentialClaim: "sub"}, anonymous: true},
		{name: "OptionalAndUnknown", id: gate.Identity{ConsumerClaim: "region", ConsumerOptional: true, CredentialClaim: "sub"}, anonymous: true},
		{
			name: "OptionalIsNoWayAroundTheTag", id: gate.Identity{ConsumerClaim: "sub", ConsumerTag: "partners", ConsumerOptional: true, CredentialClaim: "sub"},
			anonymous: true,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d, _, w := callerOf(t, tt.id, tt.change, john)
			if tt.cause != "" {
				wantDenied(t, d, w, tt.cause)
				if strings.Contains(w.log.String(), "john") {
					t.Errorf("log = %s\nwant no user in it", w.log.String())
				}
				return
			}
			if d.Forward == nil {
				t.Fatalf("decision = %+v, want it forwarded; log: %s", d, w.log.String())
			}
			got := d.Forward.Caller
			if tt.anonymous {
				if got.Consumer != nil || got.CredentialConsumer != gate.NoConsumer || got.Credential == "" {
					t.Errorf("caller = %+v, want a credential of nobody", got)
				}
				return
			}
			if got.Consumer == nil || got.Consumer.ID != john.ID || got.Consumer.CustomID != "42" || got.Credential != "" || got.Groups != nil {
				t.Errorf("caller = %+v, want consumer %+v alone", got, john)
			}
		})
	}
}

// A database that does not answer is trouble, and trouble is no missing consumer.
func TestConsumerThatCannotBeLookedUp(t *testing.T) {
	w := newWorld(t, func(cfg *gate.Config) { cfg.Identity = gate.Identity{ConsumerClaim: "sub", ConsumerOptional: true} })
	d := w.decideAt(request("/mcp", "authorization", "Bearer "+goodToken), &kong{consumerErr: errors.New("broken")})
	if d.Answer == nil || d.Answer.Status != 503 {
		t.Errorf("decision = %+v, want 503", d)
	}
}

// The value is what documents say that it is: Python's
// uuid5(uuid5(NAMESPACE_URL, issuer), "sub=john.doe").
func TestCredentialIsANameBasedUUID(t *testing.T) {
	d, k, _ := callerOf(t, gate.Identity{CredentialClaim: "sub"}, nil)
	const want = "21fea9e5-3323-5074-a2eb-922227b69cc1"
	if d.Forward == nil || d.Forward.Caller.Credential != want || d.Forward.Caller.CredentialConsumer != "" || len(k.questions) != 0 {
		t.Errorf("caller = %+v, want credential %s and no question", d.Forward.Caller, want)
	}
}

func credential(t *testing.T, id gate.Identity, change map[string]any) string {
	t.Helper()
	d, _, w := callerOf(t, id, change)
	if d.Forward == nil {
		t.Fatalf("decision = %+v, want it forwarded; log: %s", d, w.log.String())
	}
	return d.Forward.Caller.Credential
}

// Callers who are not the same have different credentials, however much they look alike.
func TestCredentialsDoNotCollide(t *testing.T) {
	bySub := gate.Identity{CredentialClaim: "sub"}
	assumed := gate.Identity{CredentialClaim: "sub", Issuer: otherIDP}
	noPolicy := map[string]any{"iss": nil}
	all := map[string]string{
		"John":                   credential(t, bySub, nil),
		"Jane":                   credential(t, bySub, map[string]any{"sub": `"jane.doe"`}),
		"JohnOfAssumedIssuer":    credential(t, assumed, noPolicy),
		"SameValueInOtherClaim":  credential(t, gate.Identity{CredentialClaim: "user"}, map[string]any{"user": `"john.doe"`}),
		"ValueThatHoldsTheClaim": credential(t, bySub, map[string]any{"sub": `"sub=john.doe"`}),
	}
	w := newWorld(t, func(cfg *gate.Config) {
		cfg.Identity = bySub
		cfg.Metadata.AuthorizationServers = []string{idpURL, otherIDP}
	})
	w.idp.answer[otherToken] = claims(map[string]any{"iss": `"` + otherIDP + `"`})
	all["JohnOfAnotherIssuer"] = w.bearer(otherToken).Forward.Caller.Credential
	if all["JohnOfAnotherIssuer"] != all["JohnOfAssumedIssuer"] {
		t.Errorf("an answer without iss does not count for the assumed issuer: %v", all)
	}
	delete(all, "JohnOfAssumedIssuer")
	seen := map[string]string{}
	for name, id := range all {
		if other, ok := seen[id]; ok {
			t.Errorf("%s and %s have the same credential %s", name, other, id)
		}
		seen[id] = name
		if len(id) != 36 || id[14] != '5' {
			t.Errorf("%s: credential = %q, want a UUID of version 5", name, id)
		}
	}
}

func TestCredentialStaysTheSame(t *testing.T) {
	id := gate.Identity{CredentialClaim: "sub"}
	if a, b := credential(t, id, nil), credential(t, id, map[string]any{"scope": `"mcp:read mcp:write"`, "client_id": `"another"`}); a != b {
		t.Errorf("credentials of one user are %s and %s", a, b)
	}
}

// The client stands for itself where no user takes part, and never for a user of its name.
func TestCredentialOfAClientWithoutUser(t *testing.T) {
	w := newWorld(t, func(cfg *gate.Config) {
		cfg.Identity = gate.Identity{CredentialClaim: "sub"}
		cfg.Token.AllowWithoutUser = true
	})
	w.idp.answer[goodToken] = claims(map[string]any{"sub": nil, "client_id": `"robot"`})
	w.idp.answer[otherToken] = claims(map[string]any{"sub": `"robot"`, "client_id": `"another"`})
	client, user := w.bearer(goodToken).Forward.Caller.Credential, w.bearer(otherToken).Forward.Caller.Credential
	if client == "" || client == user {
		t.Errorf("credentials are %q of the client and %q of the user robot, want two", client, user)
	}
}

func TestRejectsTokenThatTellsNobodyApart(t *testing.T) {
	d, _, w := callerOf(t, gate.Identity{CredentialClaim: "employee"}, nil)
	wantDenied(t, d, w, `claim \"employee\" is missing, so it tells nobody apart (identity.credential_claim)`)
	d, _, w = callerOf(t, gate.Identity{CredentialClaim: "employee"}, map[string]any{"employee": `{"id":1}`})
	wantDenied(t, d, w, "is no string")
}

func TestGroupsOfTheToken(t *testing.T) {
	list := func(n int, s string) string {
		return "[" + strings.TrimSuffix(strings.Repeat(`"`+s+`",`, n), ",") + "]"
	}
	for _, tt := range []struct {
		name   string
		claim  string
		change map[string]any
		want   []string
		cause  string
	}{
		{name: "Scopes", claim: "scope", change: map[string]any{"scope": `"mcp:read mcp:write"`}, want: []string{"mcp:read", "mcp:write"}},
		{name: "List", claim: "groups", change: map[string]any{"groups": `["admins","Human Resources"]`}, want: []string{"admins", "Human Resources"}},
		{name: "OneAsAString", claim: "department", change: map[string]any{"department": `"Human Resources"`}, want: []string{"Human Resources"}},
		{name: "Nested", claim: "realm_access.roles", change: map[string]any{"realm_access": `{"roles":["admin"]}`}, want: []string{"admin"}},
		{name: "NoneAreToldToo", claim: "groups", want: []string{}},
		{name: "EmptyList", claim: "groups", change: map[string]any{"groups": `[]`}, want: []string{}},
		{name: "NullIsNone", claim: "groups", change: map[string]any{"groups": `null`}, want: []string{}},
		{
			name: "AStringOfSeveralIsOneGroup", claim: "department",
			change: map[string]any{"department": `"sales admin"`}, want: []string{"sales admin"},
		},
		{name: "RejectsGroupInjectedThroughScopeWithComma", claim: "scope", change: map[string]any{"scope": `"mcp:read x,admin"`}, cause: "has a group with a comma"},
		{name: "RejectsGroupInjectedThroughComma", claim: "groups", change: map[string]any{"groups": `["a, admin"]`}, cause: "has a group with a comma"},
		{name: "RejectsGroupInjectedThroughLineBreak", claim: "groups", change: map[string]any{"groups": `["a\r\nX-Admin: 1"]`}, cause: "has a group that holds control characters"},
		{name: "RejectsEmptyGroup", claim: "groups", change: map[string]any{"groups": `["a",""]`}, cause: "has a group that is empty"},
		{name: "RejectsGroupsThatAreNoStrings", claim: "groups", change: map[string]any{"groups": `[["admin"]]`}, cause: "has an element that is no string"},
		{name: "RejectsObjects", claim: "groups", change: map[string]any{"groups": `{"admin":true}`}, cause: "is neither a string nor a list of strings"},
		{name: "RejectsLongGroup", claim: "groups", change: map[string]any{"groups": list(1, strings.Repeat("g", 1025))}, cause: "is longer than 1024 bytes"},
		{name: "RejectsMoreThanAHeaderHolds", claim: "groups", change: map[string]any{"groups": list(1000, "group-name")}, cause: "has groups of more than 8192 bytes together"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d, k, w := callerOf(t, gate.Identity{GroupsClaim: tt.claim}, tt.change)
			if tt.cause != "" {
				wantDenied(t, d, w, tt.cause)
				return
			}
			if d.Forward == nil {
				t.Fatalf("decision = %+v, want it forwarded; log: %s", d, w.log.String())
			}
			got := d.Forward.Caller
			if got.Groups == nil || !slices.Equal(got.Groups, tt.want) || got.Consumer != nil || got.Credential != "" || len(k.questions) != 0 {
				t.Errorf("caller = %+v after questions %v, want groups %q alone", got, k.questions, tt.want)
			}
		})
	}
}

// A name that looks like another one is none: neither a group, nor a consumer, nor a credential.
func TestRejectsNamesThatLookLikeOthers(t *testing.T) {
	for name, value := range map[string]string{
		"ZeroWidthSpace": "admins\u200b", "ZeroWidthJoiner": "ad\u200dmins", "RightToLeftOverride": "\u202esnimda", "Isolate": "\u2066admins\u2069",
		"ByteOrderMark": "\ufeffadmins", "LineSeparator": "a\u2028b", "ParagraphSeparator": "a\u2029b", "SoftHyphen": "ad\u00admins",
		"NoBreakSpace": "a\u00a0b", "HangulFiller": "admins\u3164", "VariationSelector": "admins\ufe00", "Tag": "admins\U000e0061", "PrivateUse": "admins\ue000",
	} {
		t.Run(name, func(t *testing.T) {
			for _, id := range []gate.Identity{{GroupsClaim: "x"}, {ConsumerClaim: "x"}, {CredentialClaim: "x"}} {
				d, _, w := callerOf(t, id, map[string]any{"x": `"` + value + `"`}, gate.Consumer{ID: "1", Username: value})
				wantDenied(t, d, w, "holds control characters, others that cannot be seen, or bytes that are no text")
			}
		})
	}
	for _, value := range []string{"Human Resources", "Führung", "営業部", "المدراء", "a;b", "(x) \"y\"", "🚀"} {
		d, _, w := callerOf(t, gate.Identity{GroupsClaim: "x"}, map[string]any{"x": fmt.Sprintf("[%q]", value)})
		if d.Forward == nil || !slices.Equal(d.Forward.Caller.Groups, []string{value}) {
			t.Errorf("group %s: decision = %+v, want it told; log: %s", value, d, w.log.String())
		}
	}
}

// Whoever is refused anyway is looked up nowhere, and a caller who is not known gets no
// phantom token.
func TestIdentityComesAfterAuthorization(t *testing.T) {
	id := gate.Identity{ConsumerClaim: "sub", CredentialClaim: "sub", GroupsClaim: "scope"}
	d, k, _ := callerOf(t, id, map[string]any{"aud": `"https://other.example"`}, john)
	if d.Answer == nil || d.Answer.Status != 401 || len(k.questions) != 0 {
		t.Errorf("decision = %+v after questions %v, want 401 and none", d, k.questions)
	}
	d, k, _ = callerOf(t, id, nil, john)
	if d.Forward == nil || !slices.Equal(k.questions, []string{"consumer john.doe"}) || d.Forward.Caller.CredentialConsumer != john.ID {
		t.Errorf("decision = %+v after questions %v, want one question", d, k.questions)
	}
}

func FuzzIdentity(f *testing.F) {
	for _, s := range []string{`"john.doe"`, `["a","b"]`, `["a,b"]`, `""`, `null`, `{"a":1}`, `"\ud800"`, `"a\u0000"`, `12`, `" a"`, `[""]`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		w := newWorld(t, func(cfg *gate.Config) {
			cfg.Identity = gate.Identity{ConsumerClaim: "x", CredentialClaim: "x", GroupsClaim: "x"}
		})
		w.idp.answer[goodToken] = claims(map[string]any{"x": value})
		d := w.decideAt(request("/mcp", "authorization", "Bearer "+goodToken), &kong{consumers: map[string]gate.Consumer{"john.doe": john}})
		if d.Forward == nil {
			return
		}
		c := d.Forward.Caller
		if c.Consumer == nil || c.Consumer.Username != "john.doe" || len(c.Credential) != 36 || len(c.Groups) != 1 || c.Groups[0] != "john.doe" {
			t.Errorf("claim %s: caller = %s", value, fmt.Sprintf("%+v", c))
		}
	})
}
