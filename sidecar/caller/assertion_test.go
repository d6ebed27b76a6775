package caller_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"phantomtoken/sidecar/caller"
)

const notAccepted = "client_assertion was not accepted: "

// forge writes a JWS whose parts are taken as they are.
func forge(t testing.TB, header, claims map[string]any, signature string) string {
	t.Helper()
	var parts []string
	for _, v := range []any{header, claims} {
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, base64.RawURLEncoding.EncodeToString(data))
	}
	return strings.Join(append(parts, signature), ".")
}

// TestRefusesAssertions has what RFC 7523 §3 and RFC 8725 refuse.
func TestRefusesAssertions(t *testing.T) {
	w := newWorld(t, nil)
	good := func(change map[string]any) string { return w.signer.sign(t, "JWT", w.claims("signer", change)) }
	der, err := x509.MarshalPKIXPublicKey(w.signer.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	publicPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	hmacBy := func(secret []byte) string {
		return sign(t, jose.SigningKey{Algorithm: jose.HS256, Key: secret}, w.signer.kid, "JWT", w.claims("signer", nil))
	}
	otherKey := w.remote
	otherKey.kid = w.signer.kid
	header := func(name string, value any) string {
		options := (&jose.SignerOptions{}).WithHeader("kid", w.signer.kid).WithHeader(jose.HeaderKey(name), value)
		made, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: w.signer.key}, options)
		if err != nil {
			t.Fatal(err)
		}
		payload, err := json.Marshal(w.claims("signer", nil))
		if err != nil {
			t.Fatal(err)
		}
		jws, err := made.Sign(payload)
		if err != nil {
			t.Fatal(err)
		}
		compact, err := jws.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		return compact
	}
	after := func(d time.Duration) int64 { return w.clock.Now().Add(d).Unix() }
	tampered := func() string {
		parts := strings.Split(good(nil), ".")
		return strings.Join([]string{parts[0], strings.Split(good(map[string]any{"exp": after(2 * time.Minute)}), ".")[1], parts[2]}, ".")
	}()

	for _, tc := range []struct {
		name      string
		assertion string
		text      string
	}{
		{name: "RejectsAlgorithmConfusionWithPublicKeyAsSecret", assertion: hmacBy(publicPEM), text: `expected header alg ES256 or RS256 or PS256 or EdDSA, got "HS256"`},
		{name: "RejectsAlgorithmConfusionWithDERAsSecret", assertion: hmacBy(der), text: `got "HS256"`},
		{name: "RejectsAlgorithmConfusionWithKeySetAsSecret", assertion: hmacBy([]byte(w.signer.jwks(t))), text: `got "HS256"`},
		{name: "RejectsAlgNone", assertion: forge(t, map[string]any{"alg": "none", "kid": w.signer.kid}, w.claims("signer", nil), "AA"), text: `got "none"`},
		{name: "RejectsAlgNoneWithoutSignature", assertion: forge(t, map[string]any{"alg": "none", "kid": w.signer.kid}, w.claims("signer", nil), ""), text: "expected base64url without padding in part 3"},
		{name: "RejectsOtherAlgorithmThanTheKeys", assertion: forge(t, map[string]any{"alg": "RS256", "kid": w.signer.kid}, w.claims("signer", nil), "AA"), text: "expected the algorithm of key"},
		{name: "RejectsKeyOfOtherCaller", assertion: w.remote.sign(t, "", w.claims("signer", nil)), text: `expected a key of issuer signer, got unknown kid "remote-1"`},
		{name: "RejectsKeyOfOtherCallerUnderKidOfThisOne", assertion: otherKey.sign(t, "", w.claims("signer", nil)), text: "expected a signature by the key of its kid"},
		{name: "RejectsAssertionOfAnotherCaller", assertion: good(map[string]any{"iss": "remote", "sub": "remote"}), text: `expected a key of issuer remote, got unknown kid "signer-1"`},
		{name: "RejectsSubOfAnotherCaller", assertion: good(map[string]any{"sub": "mcp-server"}), text: "expected sub to be the same as iss"},
		{name: "RejectsIssOfAnother", assertion: good(map[string]any{"iss": "https://idp.example"}), text: "expected iss to be a caller with authentication.private_key_jwt"},
		{name: "RejectsAssertionForCallerWithSecretOnly", assertion: w.signer.sign(t, "", w.claims("mcp-server", nil)), text: "expected iss to be a caller with authentication.private_key_jwt"},
		{name: "RejectsAssertionForCallerWithCertificateOnly", assertion: w.signer.sign(t, "", w.claims("workload", nil)), text: "expected iss to be a caller with"},
		{name: "RejectsOwnAssertionOfPod", assertion: w.pods.sign(t, "", w.claims("pod", nil)), text: "expected iss to be a caller with"},
		{name: "RejectsTampered", assertion: tampered, text: "expected a signature by the key of its kid"},
		{name: "RejectsAssertionForAnotherServer", assertion: good(map[string]any{"aud": "https://other.example/token"}), text: "expected audience " + issuer + " or " + tokenEndpoint},
		{name: "RejectsAudienceWithSlash", assertion: good(map[string]any{"aud": issuer + "/"}), text: "expected audience"},
		{name: "RejectsAudienceInOtherCase", assertion: good(map[string]any{"aud": strings.ToUpper(issuer)}), text: "expected audience"},
		{name: "RejectsAudienceMissing", assertion: good(map[string]any{"aud": nil}), text: "expected audience"},
		{name: "RejectsAudienceEmpty", assertion: good(map[string]any{"aud": []string{}}), text: "expected audience"},
		{name: "RejectsAssertionForUsAndAnother", assertion: good(map[string]any{"aud": []string{issuer, "https://other.example"}}), text: "expected this service alone in aud, got others too"},
		{name: "RejectsExpired", assertion: good(map[string]any{"exp": after(-31 * time.Second)}), text: "expected a token that has not expired"},
		{name: "RejectsWithoutExp", assertion: good(map[string]any{"exp": nil}), text: "expected claim exp, got none"},
		{name: "RejectsLongLife", assertion: good(map[string]any{"exp": after(5*time.Minute + 31*time.Second)}), text: "expected exp at most 5m0s ahead, got more"},
		{name: "RejectsExpBeyondReach", assertion: good(map[string]any{"exp": 1e18}), text: "year 9999"},
		{name: "RejectsIssuedInTheFuture", assertion: good(map[string]any{"iat": after(31 * time.Second)}), text: "expected a token issued in the past"},
		{name: "RejectsNotYetValid", assertion: good(map[string]any{"nbf": after(31 * time.Second)}), text: "expected a token that is valid already"},
		{name: "RejectsWithoutJTI", assertion: good(map[string]any{"jti": nil}), text: "expected claim jti, got none"},
		{name: "RejectsEmptyJTI", assertion: good(map[string]any{"jti": ""}), text: "expected claim jti, got none"},
		{name: "RejectsJTIThatIsANumber", assertion: good(map[string]any{"jti": 7}), text: `member "jti"`},
		{name: "RejectsAccessToken", assertion: w.signer.sign(t, "at+jwt", w.claims("signer", nil)), text: "expected header typ"},
		{name: "RejectsAccessTokenByLongType", assertion: w.signer.sign(t, "application/AT+JWT", w.claims("signer", nil)), text: "expected header typ"},
		{name: "RejectsIDToken", assertion: good(map[string]any{"nonce": "x"}), text: "expected an access token, got a token with claim nonce"},
		{name: "RejectsWithoutKid", assertion: header("kid", ""), text: "expected header kid, got none"},
		{name: "RejectsCrit", assertion: header("b64", true), text: "expected a header without b64"},
		{name: "RejectsRepeatedIss", assertion: "eyJhbGciOiJFUzI1NiJ9." + base64.RawURLEncoding.EncodeToString([]byte(`{"iss":"signer","iss":"remote"}`)) + ".AA", text: "expected a signed JWT"},
		{name: "RejectsWithoutIss", assertion: good(map[string]any{"iss": nil}), text: "expected a signed JWT"},
		{name: "RejectsPayloadThatIsNoJSON", assertion: "eyJhbGciOiJFUzI1NiJ9.TUFSS0VE.AA", text: "expected a signed JWT"},
		{name: "RejectsPayloadInLooseBase64", assertion: "eyJhbGciOiJFUzI1NiJ9.TUFSS0VEx.AA", text: "expected a signed JWT"},
		{name: "RejectsEncrypted", assertion: strings.Repeat("eyJhIjoxfQ.", 4) + "AA", text: "expected a signed JWT of at most 16384 bytes with claim iss"},
		{name: "RejectsHuge", assertion: good(map[string]any{"x": strings.Repeat("x", 16<<10)}), text: "at most 16384 bytes"},
		{name: "RejectsJSONSerialization", assertion: `{"payload":"","signatures":[]}`, text: "expected a signed JWT"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w.t = t
			wantRefusal(t, w.send(request{form: asserted(tc.assertion)}), 401, caller.ReasonNotAuthenticated, notAccepted)
			wantRefusal(t, w.send(request{form: asserted(tc.assertion)}), 401, caller.ReasonNotAuthenticated, tc.text)
		})
	}

	t.Run("RejectsOtherAssertionTypes", func(t *testing.T) {
		w.t = t
		for _, kind := range []string{"urn:ietf:params:oauth:client-assertion-type:saml2-bearer", assertionType + " ", "urn:ietf:params:oauth:grant-type:jwt-bearer"} {
			form := asserted(good(nil))
			form.Set("client_assertion_type", kind)
			wantRefusal(t, w.send(request{form: form}), 401, caller.ReasonNotAuthenticated, "parameter 'client_assertion_type': expected "+assertionType+", got another")
		}
	})
}

// TestAcceptsAssertions has what the RFCs leave to the caller.
func TestAcceptsAssertions(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	more := []signer{{"rs", jose.RS256, rsaKey}, {"ps", jose.PS256, rsaKey}, {"ed", jose.EdDSA, edKey}}
	w := newWorld(t, func(w *world) {
		for _, s := range more {
			w.known = append(w.known, caller.Caller{ID: s.kid, JWKSFile: writeFile(t, t.TempDir(), "jwks.json", s.jwks(t), 0o644), Where: s.kid})
		}
	})
	after := func(d time.Duration) int64 { return w.clock.Now().Add(d).Unix() }
	for _, tc := range []struct {
		name   string
		typ    string
		change map[string]any
	}{
		{name: "aud is the token endpoint", change: map[string]any{"aud": tokenEndpoint}},
		{name: "aud has both of ours", change: map[string]any{"aud": []string{issuer, tokenEndpoint}}},
		{name: "no iat", change: map[string]any{"iat": nil}},
		{name: "nbf now", change: map[string]any{"nbf": after(0)}},
		{name: "clock ahead", change: map[string]any{"iat": after(30 * time.Second), "nbf": after(30 * time.Second), "exp": after(5*time.Minute + 30*time.Second)}},
		{name: "clock behind", change: map[string]any{"exp": after(-29 * time.Second)}},
		{name: "five minutes", change: map[string]any{"exp": after(5 * time.Minute)}},
		{name: "typ of RFC 7523 update", typ: "client-authentication+jwt"},
		{name: "typ in other case", typ: "application/JWT"},
		{name: "long jti", change: map[string]any{"jti": strings.Repeat("long", 2<<10)}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w.t = t
			form := asserted(w.signer.sign(t, tc.typ, w.claims("signer", tc.change)))
			form.Set("client_id", "signer")
			if got := w.send(request{form: form}); got.ID != "signer" {
				t.Errorf("got %+v", got)
			}
		})
	}
	for _, s := range more {
		t.Run(string(s.alg), func(t *testing.T) {
			w.t = t
			if got := w.send(request{form: asserted(s.sign(t, "JWT", w.claims(s.kid, nil)))}); got.ID != s.kid {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// TestCallerWithSeveralMethods: each of them says the same.
func TestCallerWithSeveralMethods(t *testing.T) {
	w := newWorld(t, func(w *world) {
		c := &w.known[0]
		c.JWKSFile, c.SPIFFEID, c.ServiceAccount = w.known[2].JWKSFile, "spiffe://example.com/mcp", &caller.ServiceAccount{Namespace: "mcp", Name: "mcp"}
	})
	for _, r := range []request{
		{authorization: []string{basic("mcp-server", mcpSecret)}},
		{form: asserted(w.signer.sign(t, "", w.claims("mcp-server", nil)))},
		{certificate: w.ca.issue(names(nil, "spiffe://example.com/mcp"))},
		{form: asserted(w.pods.sign(t, "", w.podClaims(map[string]any{"sub": "system:serviceaccount:mcp:mcp"})))},
	} {
		if got := w.send(r); got.ID != "mcp-server" {
			t.Errorf("got %+v", got)
		}
	}
}

// TestKeysUnavailable: while the keys of a caller cannot be had nothing is known of its
// assertions, so the answer is 503, and nobody else notices.
func TestKeysUnavailable(t *testing.T) {
	w := newWorld(t, nil)
	keys := w.remote.jwks(t)
	w.jwks.set("")
	good := asserted(w.remote.sign(t, "", w.claims("remote", nil)))
	wantRefusal(t, w.send(request{form: good}), 503, caller.ReasonKeys, "the keys of the caller cannot be had at the moment")
	if got := w.send(request{form: asserted(w.signer.sign(t, "", w.claims("signer", nil)))}); got.ID != "signer" {
		t.Errorf("another caller: %+v", got)
	}
	w.jwks.set(keys)
	w.clock.advance(2 * time.Second)
	if got := w.send(request{form: good}); got.ID != "remote" {
		t.Errorf("the same assertion, once the keys are there: %+v", got)
	}
}

// TestServiceAccounts has tokens of a Kubernetes cluster.
func TestServiceAccounts(t *testing.T) {
	w := newWorld(t, func(w *world) {
		w.known = append(w.known, caller.Caller{ID: "long", ServiceAccount: &caller.ServiceAccount{Namespace: "mcp", Name: "server.v1"}, Where: "long"})
	})
	token := func(change map[string]any) string { return w.pods.sign(t, "", w.podClaims(change)) }
	sub := func(s string) string { return token(map[string]any{"sub": s}) }
	other := newSigner(t, "other-cluster")
	sameKid := newSigner(t, w.pods.kid)

	t.Run("serves until it expires", func(t *testing.T) {
		w.t = t
		form := asserted(token(nil))
		for range 3 {
			if got := w.send(request{form: form}); got.ID != "pod" {
				t.Errorf("got %+v", got)
			}
		}
		form.Set("client_id", "pod")
		if got := w.send(request{form: form}); got.ID != "pod" {
			t.Errorf("with client_id: %+v", got)
		}
	})
	t.Run("whatever the pod", func(t *testing.T) {
		w.t = t
		for _, v := range []any{nil, map[string]any{"namespace": "mcp", "pod": map[string]any{"name": "x"}}} {
			if got := w.send(request{form: asserted(token(map[string]any{"kubernetes.io": v, "jti": nil}))}); got.ID != "pod" {
				t.Errorf("got %+v", got)
			}
		}
	})
	for _, tc := range []struct {
		name  string
		token string
		text  string
	}{
		{name: "RejectsOtherNamespace", token: sub("system:serviceaccount:default:server"), text: "expected the service account of a caller"},
		{name: "RejectsOtherAccount", token: sub("system:serviceaccount:mcp:default"), text: "expected the service account of a caller"},
		{name: "RejectsCraftedNameWithColon", token: sub("system:serviceaccount:mcp:server:v1"), text: "expected the service account of a caller"},
		{name: "RejectsCraftedNamespaceWithColon", token: sub("system:serviceaccount:x:mcp:server"), text: "expected the service account of a caller"},
		{name: "RejectsPrefix", token: sub("system:serviceaccount:mcp:serve"), text: "expected the service account of a caller"},
		{name: "RejectsSuffix", token: sub("system:serviceaccount:mcp:server2"), text: "expected the service account of a caller"},
		{name: "RejectsOtherCase", token: sub("system:serviceaccount:mcp:Server"), text: "expected the service account of a caller"},
		{name: "RejectsUser", token: sub("mcp:server"), text: "expected the service account of a caller"},
		{name: "RejectsNode", token: sub("system:node:server"), text: "expected the service account of a caller"},
		{name: "RejectsCallerID", token: sub("pod"), text: "expected the service account of a caller"},
		{name: "RejectsTokenOfAnotherCluster", token: other.sign(t, "", w.podClaims(nil)), text: `got unknown kid "other-cluster"`},
		{name: "RejectsTokenOfAnotherClusterUnderOurKid", token: sameKid.sign(t, "", w.podClaims(nil)), text: "expected a signature by the key of its kid"},
		{name: "RejectsIssuerOfAnotherCluster", token: token(map[string]any{"iss": cluster + "2"}), text: "expected iss to be a caller"},
		{name: "RejectsIssuerWithSlash", token: token(map[string]any{"iss": cluster + "/"}), text: "expected iss to be a caller"},
		{name: "RejectsAudienceMissing", token: token(map[string]any{"aud": nil}), text: "expected audience " + issuer},
		{name: "RejectsTokenForTheAPIServer", token: token(map[string]any{"aud": []string{cluster}}), text: "expected audience " + issuer},
		{name: "RejectsTokenForUsAndTheAPIServer", token: token(map[string]any{"aud": []string{cluster, issuer}}), text: "expected this service alone in aud"},
		{name: "RejectsTokenForTheTokenEndpoint", token: token(map[string]any{"aud": tokenEndpoint}), text: "expected audience " + issuer},
		{name: "RejectsExpired", token: token(map[string]any{"exp": w.clock.Now().Add(-time.Minute).Unix()}), text: "expected a token that has not expired"},
		{name: "RejectsLegacyTokenWithoutExp", token: token(map[string]any{"exp": nil}), text: "expected claim exp, got none"},
		{name: "RejectsWithoutIat", token: token(map[string]any{"iat": nil}), text: "expected claim iat, got none"},
		{name: "RejectsAccessToken", token: w.pods.sign(t, "at+jwt", w.podClaims(nil)), text: "expected header typ"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w.t = t
			wantRefusal(t, w.send(request{form: asserted(tc.token)}), 401, caller.ReasonNotAuthenticated, tc.text)
		})
	}
}

// TestClusterAudience: one of its own instead of the issuer.
func TestClusterAudience(t *testing.T) {
	w := newWorld(t, func(w *world) { w.cfg.Kubernetes.Audience = "token-exchange" })
	if got := w.send(request{form: asserted(w.pods.sign(t, "", w.podClaims(map[string]any{"aud": "token-exchange"})))}); got.ID != "pod" {
		t.Errorf("got %+v", got)
	}
	wantRefusal(t, w.send(request{form: asserted(w.pods.sign(t, "", w.podClaims(nil)))}), 401, caller.ReasonNotAuthenticated, "expected audience token-exchange")
}

// TestClusterKeysUnavailable: 503, as for the keys of a caller.
func TestClusterKeysUnavailable(t *testing.T) {
	w := newWorld(t, func(w *world) { w.cfg.Kubernetes.Keys = noKeys{} })
	wantRefusal(t, w.send(request{form: asserted(w.pods.sign(t, "", w.podClaims(nil)))}), 503, caller.ReasonKeys, "the keys of the cluster cannot be had at the moment")
}

// TestWithoutCluster: then its tokens are those of a stranger.
func TestWithoutCluster(t *testing.T) {
	w := newWorld(t, func(w *world) {
		w.cfg.Kubernetes = nil
		w.known = w.known[:3]
	})
	wantRefusal(t, w.send(request{form: asserted(w.pods.sign(t, "", w.podClaims(nil)))}), 401, caller.ReasonNotAuthenticated, "expected iss to be a caller")
	wantRefusal(t, w.send(request{form: url.Values{"client_assertion": {w.pods.sign(t, "", w.podClaims(map[string]any{"iss": ""}))}, "client_assertion_type": {assertionType}}}), 401, caller.ReasonNotAuthenticated, "expected a signed JWT")
}
