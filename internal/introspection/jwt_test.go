package introspection_test

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	"phantomtoken/internal/introspection"
	"phantomtoken/internal/keyring"
)

const (
	issuer   = "https://idp.example" // not where the endpoint is: split horizon
	upstream = "https://mcp.internal.example"
)

// provider signs tokens as a provider does.
type provider struct {
	ring *keyring.Ring
	clk  *clock
}

func newProvider(t testing.TB) *provider {
	t.Helper()
	key, err := keyring.Generate("ES256")
	if err != nil {
		t.Fatalf("Generate: %v", err)
	}
	ring, err := keyring.NewRing(key)
	if err != nil {
		t.Fatalf("NewRing: %v", err)
	}
	return &provider{ring: ring, clk: newClock()}
}

func (p *provider) verifier(t testing.TB) *keyring.Verifier {
	t.Helper()
	v, err := keyring.NewVerifier(keyring.VerifierConfig{Issuer: issuer, Audiences: []string{upstream}, Keys: p.ring, Now: p.clk.now})
	if err != nil {
		t.Fatalf("NewVerifier: %v", err)
	}
	return v
}

// mint returns a good token for john.doe that lives for life, after change.
func (p *provider) mint(t testing.TB, life time.Duration, change func(*keyring.Token)) string {
	t.Helper()
	token := keyring.Token{
		Issuer: issuer, Subject: "john.doe", Audience: []string{upstream}, ClientID: "mcp-client",
		IssuedAt: p.clk.now(), Expiry: p.clk.now().Add(life), Extra: map[string]any{"region": "USA"},
	}
	if change != nil {
		change(&token)
	}
	jwt, err := p.ring.Mint(token)
	if err != nil {
		t.Fatalf("Mint: %v", err)
	}
	return jwt
}

func unsigned(header, payload string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(payload)) + ".c2lnbmF0dXJl"
}

// curity answers as the Curity Identity Server does, keycloak as Keycloak does.
func curity(jwt string) http.HandlerFunc { return answer(200, "application/jwt", jwt) }
func keycloak(jwt string) http.HandlerFunc {
	return json200(`{"active":true,"sub":"jane.roe","region":"Europe","exp":1785243600,"jwt":"` + jwt + `"}`)
}

// tamper changes the subject under the signature.
func tamper(t testing.TB, jwt string) string {
	t.Helper()
	parts := strings.Split(jwt, ".")
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(payload), "john.doe", "jane.roe", 1)
	if changed == string(payload) {
		t.Fatal("nothing to tamper with")
	}
	return parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(changed)) + "." + parts[2]
}

// The issuer of the tokens is public, the endpoint is reached by another name.
//
// Covers: IN-15, IN-16, IN-20, AS-03
func TestJWTAnswer(t *testing.T) {
	p := newProvider(t)
	jwt := p.mint(t, 15*time.Minute, nil)
	end := p.clk.now().Add(15 * time.Minute)
	jsonEnd := time.Unix(1785243600, 0) // an hour after the clock's start
	for _, tt := range []struct {
		name    string
		answer  http.HandlerFunc
		active  bool
		jwt     string
		subject string
		region  string
		expiry  time.Time
	}{
		{name: "Curity: the body is the JWT and its claims", answer: curity(jwt), active: true, jwt: jwt, subject: "john.doe", region: "USA", expiry: end},
		{name: "Curity with charset and upper case", answer: answer(200, "Application/JWT; charset=UTF-8", jwt), active: true, jwt: jwt, subject: "john.doe", region: "USA", expiry: end},
		{name: "Curity with a line break", answer: curity(jwt + "\r\n"), active: true, jwt: jwt, subject: "john.doe", region: "USA", expiry: end},
		{name: "Curity: 204 is inactive", answer: answer(204, "", "")},
		{name: "Curity: JWT that says inactive", answer: curity(p.mint(t, time.Hour, func(t *keyring.Token) { t.Extra["active"] = false }))},
		{name: "RejectsActiveAsStringInJWT", answer: curity(p.mint(t, time.Hour, func(t *keyring.Token) { t.Extra["active"] = "true" }))},
		{name: "Keycloak: claims of the JSON, JWT as a member, the earlier end", answer: keycloak(jwt), active: true, jwt: jwt, subject: "jane.roe", region: "Europe", expiry: end},
		{name: "Keycloak: JWT that lives longer than the token", answer: keycloak(p.mint(t, 3*time.Hour, nil)), active: true, jwt: "any", subject: "jane.roe", region: "Europe", expiry: jsonEnd},
		{name: "Keycloak: JSON without exp", answer: json200(`{"active":true,"sub":"jane.roe","region":"Europe","jwt":"` + jwt + `"}`), active: true, jwt: jwt, subject: "jane.roe", region: "Europe", expiry: end},
		{name: "Keycloak without the member", answer: json200(`{"active":true,"sub":"jane.roe","region":"Europe","exp":1785243600}`), active: true, subject: "jane.roe", region: "Europe", expiry: jsonEnd},
		{name: "Keycloak with null for a member", answer: json200(`{"active":true,"sub":"jane.roe","region":"Europe","exp":1785243600,"jwt":null}`), active: true, subject: "jane.roe", region: "Europe", expiry: jsonEnd},
		{name: "Keycloak: inactive", answer: json200(`{"active":false}`)},
		{name: "RejectsJWTOfInactive", answer: json200(`{"active":false,"jwt":"` + jwt + `"}`)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := start(t, tt.answer)
			for name, verifier := range map[string]*keyring.Verifier{"verified": p.verifier(t), "issuer not configured": nil} {
				c := newClient(t, introspection.Config{Endpoint: e.URL, Accept: introspection.AcceptJWT, Verifier: verifier, Now: p.clk.now})
				got, err := c.Introspect(t.Context(), "token")
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				in := got.Introspection
				region, _ := in.Claims["region"].(string)
				if in.Active != tt.active || in.Subject != tt.subject || region != tt.region || !in.Expiry.Equal(tt.expiry) {
					t.Errorf("%s: got active %v, sub %q, region %q, exp %v, want %v, %q, %q, %v",
						name, in.Active, in.Subject, region, in.Expiry, tt.active, tt.subject, tt.region, tt.expiry)
				}
				if tt.jwt == "any" && got.JWT != "" {
					continue
				}
				if got.JWT != tt.jwt {
					t.Errorf("%s: got JWT %q, want %q", name, got.JWT, tt.jwt)
				}
				if _, there := in.Claims["jwt"]; there {
					t.Errorf("%s: the JWT is among the claims", name)
				}
			}
		})
	}
}

// Covers: IN-21
func TestJWTThatDoesNotVerify(t *testing.T) {
	p, stranger := newProvider(t), newProvider(t)
	good := p.mint(t, time.Hour, nil)
	parts := strings.Split(good, ".")
	for _, tt := range []struct {
		name, jwt   string
		keyless     bool // refused without the issuer's keys too
		kind        introspection.Kind
		onlyCurity  bool
		description string
	}{
		{name: "RejectsTampered", jwt: tamper(t, good)},
		{name: "RejectsKeyOfStranger", jwt: stranger.mint(t, time.Hour, nil)},
		{name: "RejectsOtherIssuer", jwt: p.mint(t, time.Hour, func(t *keyring.Token) { t.Issuer = "https://evil.example" })},
		{name: "RejectsAudienceOfOtherUpstream", jwt: p.mint(t, time.Hour, func(t *keyring.Token) { t.Audience = []string{"https://other.example"} })},
		{name: "RejectsExpired", jwt: expired(t, p), keyless: true},
		{name: "RejectsAlgNone", jwt: unsigned(`{"alg":"none","typ":"at+jwt"}`, `{"sub":"x"}`), keyless: true},
		{name: "RejectsAlgNoneWithoutSignature", jwt: strings.TrimSuffix(unsigned(`{"alg":"none"}`, `{"sub":"x"}`), "c2lnbmF0dXJl"), keyless: true},
		{name: "RejectsStrippedSignature", jwt: parts[0] + "." + parts[1] + ".", keyless: true},
		{name: "RejectsAlgNoneInOtherCase", jwt: unsigned(`{"alg":"nOnE"}`, `{"sub":"x"}`), keyless: true},
		{name: "RejectsSymmetric", jwt: unsigned(`{"alg":"HS256"}`, `{"sub":"x"}`), keyless: true},
		{name: "RejectsMissingAlg", jwt: unsigned(`{"typ":"JWT"}`, `{"sub":"x"}`), keyless: true},
		{name: "RejectsRepeatedAlg", jwt: unsigned(`{"alg":"none","alg":"ES256"}`, `{"sub":"x"}`), keyless: true},
		{name: "RejectsIntrospectionResponseAsToken", jwt: unsigned(`{"alg":"ES256","typ":"token-introspection+jwt"}`, `{"sub":"x"}`), keyless: true},
		{name: "RejectsTypeThatIsNoString", jwt: unsigned(`{"alg":"ES256","typ":["at+jwt"]}`, `{"sub":"x"}`), keyless: true},
		{name: "RejectsRepeatedClaim", jwt: unsigned(`{"alg":"ES256"}`, `{"sub":"a","sub":"b"}`), keyless: true},
		{name: "RejectsBadClaim", jwt: unsigned(`{"alg":"ES256"}`, `{"scope":"a\"b"}`), keyless: true},
		{name: "RejectsPayloadThatIsNoObject", jwt: unsigned(`{"alg":"ES256"}`, `"x"`), keyless: true},
		{name: "RejectsInvalidUTF8", jwt: unsigned(`{"alg":"ES256"}`, "{\"sub\":\"\xff\"}"), keyless: true},
		{name: "RejectsPadding", jwt: parts[0] + "." + parts[1] + "=." + parts[2], keyless: true},
		{name: "RejectsSignatureThatIsNoBase64", jwt: parts[0] + "." + parts[1] + ".!!", keyless: true},
		{name: "RejectsEncrypted", jwt: good + ".x.y", keyless: true},
		{name: "RejectsOpaque", jwt: "opaque", keyless: true},
		{name: "RejectsLineBreakInside", jwt: parts[0] + "." + parts[1][:8] + "\n" + parts[1][8:] + "." + parts[2], keyless: true, onlyCurity: true},
		{name: "RejectsEmpty", jwt: "", keyless: true, onlyCurity: true},
		{name: "RejectsJSONUnderJWTType", jwt: `{"active":true}`, keyless: true, onlyCurity: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			answers := map[string]http.HandlerFunc{"Curity": curity(tt.jwt)}
			if !tt.onlyCurity {
				answers["Keycloak"] = keycloak(tt.jwt)
			}
			for name, handler := range answers {
				e := start(t, handler)
				verifiers := []*keyring.Verifier{p.verifier(t)}
				if tt.keyless {
					verifiers = append(verifiers, nil)
				}
				for _, verifier := range verifiers {
					c := newClient(t, introspection.Config{Endpoint: e.URL, Accept: introspection.AcceptJWT, Verifier: verifier, Now: p.clk.now})
					got, err := c.Introspect(t.Context(), "token")
					failed := wantKind(t, got, err, introspection.KindUnverified)
					if failed.Status != 200 || !strings.Contains(err.Error(), "token.issuer") {
						t.Errorf("%s: got status %d, %q, want 200 and the setting named", name, failed.Status, err)
					}
				}
			}
		})
	}
}

// expired is a token that was good until a moment before the clock's start.
func expired(t testing.TB, p *provider) string {
	t.Helper()
	return p.mint(t, 0, func(token *keyring.Token) {
		token.IssuedAt = token.IssuedAt.Add(-time.Hour)
		token.Expiry = p.clk.now()
	})
}

func TestJWTMemberThatIsNoStringIsMalformed(t *testing.T) {
	e := start(t, json200(`{"active":true,"jwt":{"x":1}}`))
	c := newClient(t, introspection.Config{Endpoint: e.URL, Accept: introspection.AcceptJWT})
	got, err := c.Introspect(t.Context(), "token")
	wantKind(t, got, err, introspection.KindMalformed)
}

// An outage of the key server is not a bad token.
func TestKeysThatCannotBeHad(t *testing.T) {
	p := newProvider(t)
	keys := start(t, answer(500, "", ""))
	remote, err := keyring.NewRemoteKeys(keyring.RemoteConfig{URL: keys.URL + "/jwks"})
	if err != nil {
		t.Fatalf("NewRemoteKeys: %v", err)
	}
	t.Cleanup(remote.Close)
	v, err := keyring.NewVerifier(keyring.VerifierConfig{Issuer: issuer, Audiences: []string{upstream}, Keys: remote, Now: p.clk.now})
	if err != nil {
		t.Fatalf("NewVerifier: %v", err)
	}
	e := start(t, curity(p.mint(t, time.Hour, nil)))
	c := newClient(t, introspection.Config{Endpoint: e.URL, Accept: introspection.AcceptJWT, Verifier: v})
	got, err := c.Introspect(t.Context(), "token")
	failed := wantKind(t, got, err, introspection.KindKeys)
	if !strings.Contains(failed.Error(), "token.jwks_uri") {
		t.Errorf("got %q, want the setting named", failed)
	}
}
