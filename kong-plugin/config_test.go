package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"phantomtoken/internal/gate"
	"phantomtoken/internal/keyring"
)

// buildJSON decodes and builds a configuration.
func buildJSON(t testing.TB, config map[string]any, log *slog.Logger) (gate.Config, error) {
	t.Helper()
	b, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	cfg, _, err := decodeConfig(b)
	if err != nil {
		return gate.Config{}, err
	}
	shared, err := newParts(time.Now, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	built, release, err := cfg.build(shared, log)
	if err == nil {
		t.Cleanup(release)
	}
	return built, err
}

// patch is a configuration with some fields changed; nested maps are merged.
func patch(config, changes map[string]any) map[string]any {
	out := map[string]any{}
	for name, value := range config {
		out[name] = value
	}
	for name, value := range changes {
		inner, isMap := value.(map[string]any)
		outer, wasMap := out[name].(map[string]any)
		switch {
		case value == nil:
			delete(out, name)
		case isMap && wasMap:
			out[name] = patch(outer, inner)
		default:
			out[name] = value
		}
	}
	return out
}

func keyFile(t testing.TB, alg string, mode os.FileMode) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "key.jwk")
	if _, err := keyring.LoadOrCreate(file, alg); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, mode); err != nil {
		t.Fatal(err)
	}
	return file
}

func certificate(t testing.TB) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func completeConfig(t testing.TB) map[string]any {
	return map[string]any{
		"introspection_endpoint": "https://idp.example.com/introspect",
		"client_id":              "gateway",
		"client_secret":          testSecret,
		"scope":                  "stocks/read",
		"resource":               "https://gw.example.com/mcp",
		"authorization_servers":  []string{"https://idp.example.com"},
		"phantom_token": map[string]any{
			"issuer":           "https://gw.example.com/phantom",
			"audience":         "https://mcp.internal.example",
			"signing_key_file": keyFile(t, "", 0o600),
		},
	}
}

// TestConfigurationIsRefusedByName: each refusal begins with the field, says what was
// expected, and quotes no secret.
//
// Covers: CH-03, CH-06, JW-03, JW-04, MCP-06, MCP-10, MCP-23, PR-01, BT-12
func TestConfigurationIsRefusedByName(t *testing.T) {
	phantom := func(fields map[string]any) map[string]any { return map[string]any{"phantom_token": fields} }
	token := func(fields map[string]any) map[string]any { return map[string]any{"token": fields} }
	tests := []struct {
		name    string
		changes map[string]any
		want    []string // each at the beginning of a line
	}{
		{"EmptySecretOfAnUnresolvedReference", map[string]any{"client_secret": ""}, []string{"client_secret: expected a secret, got nothing: an unresolved vault reference arrives empty; check that the variable is in Kong's own environment"}},
		{"NoClientID", map[string]any{"client_id": ""}, []string{"client_id: expected"}},
		{"AllProblemsTogether", map[string]any{"client_secret": "", "client_id": "", "introspection_endpoint": "ftp://x", "token_cache_seconds": -1}, []string{"client_secret: ", "client_id: ", "introspection_endpoint: ", "token_cache_seconds: expected a number between 0 and 86400, got -1"}},
		{"EndpointOverPlainHTTP", map[string]any{"introspection_endpoint": "http://idp.example.com/introspect"}, []string{`introspection_endpoint: expected https, got http to "idp.example.com"`}},
		{"EndpointWithPassword", map[string]any{"introspection_endpoint": "https://user:marked-client-secret@idp.example.com/%zz"}, []string{"introspection_endpoint: expected a URL without user information"}},
		{"WrongType", map[string]any{"token_cache_seconds": "soon"}, []string{"token_cache_seconds: expected int"}},
		{"WrongTypeInside", map[string]any{"cache": map[string]any{"max_bytes": true}}, []string{"cache.max_bytes: expected int"}},
		{"ScopeOutsideTheAlphabet", map[string]any{"scope": `a"b`}, []string{"scope: "}},
		{"OfflineAccessAsScope", map[string]any{"scope": "a offline_access"}, []string{"scope: expected scopes of this resource, got offline_access"}},
		{"OfflineAccessInMetadata", map[string]any{"metadata": map[string]any{"scopes_supported": []string{"offline_access"}}}, []string{"metadata.scopes_supported: expected scopes of this resource"}},
		{"TwoScopesInOneEntry", map[string]any{"metadata": map[string]any{"scopes_supported": []string{"a b"}}}, []string{"metadata.scopes_supported: expected one scope in each entry"}},
		{"MetadataLinkWithoutHost", map[string]any{"metadata": map[string]any{"resource_tos_uri": "/terms"}}, []string{"metadata.resource_tos_uri: "}},
		{"OriginWithPath", map[string]any{"trusted_web_origins": []string{"https://app.example.com/"}}, []string{"trusted_web_origins: expected an origin"}},
		{"OriginInUpperCase", map[string]any{"trusted_web_origins": []string{"https://App.example.com"}}, []string{"trusted_web_origins: "}},
		{"OriginStar", map[string]any{"trusted_web_origins": []string{"*"}}, []string{"trusted_web_origins: "}},
		{"ResourceWithFragment", map[string]any{"resource": "https://gw.example.com/mcp#x"}, []string{"resource: expected a URL without fragment"}},
		{"ResourceOverPlainHTTP", map[string]any{"resource": "http://gw.example.com/mcp"}, []string{"resource: expected https"}},
		{"ResourceWithoutAuthorizationServer", map[string]any{"authorization_servers": []string{}}, []string{"authorization_servers: expected at least one issuer"}},
		{"ResourceAtAPathThatNeedsNoToken", map[string]any{"resource": "https://gw.example.com/.well-known/x"}, []string{"resource: expected the URL of the protected resource"}},
		{"ResourceAtAPathNoRequestHas", map[string]any{"resource": "https://gw.example.com/a//b/../c"}, []string{"resource: expected a path as requests have it"}},
		{"AuthorizationServerWithQuery", map[string]any{"authorization_servers": []string{"https://idp.example.com?x"}}, []string{"authorization_servers: expected an issuer URL without query and fragment"}},
		{"RealmWithQuote", map[string]any{"realm": `a"b`}, []string{"realm: "}},
		{"RealmWithLineBreak", map[string]any{"realm": "a\r\nb"}, []string{"realm: "}},
		{"UnknownAuthMethod", map[string]any{"introspection": map[string]any{"auth_method": "none"}}, []string{"introspection.auth_method: expected one of client_secret_basic, client_secret_post"}},
		{"TimeoutTooLong", map[string]any{"introspection": map[string]any{"timeout_seconds": 31}}, []string{"introspection.timeout_seconds: "}},
		{"MissingCAFile", map[string]any{"introspection": map[string]any{"ca_file": "/does/not/exist"}}, []string{"introspection.ca_file: "}},
		{"CAFileIsADevice", map[string]any{"introspection": map[string]any{"ca_file": "/dev/zero"}}, []string{"introspection.ca_file: expected certificate file"}},
		{"CAFileWithoutCertificates", map[string]any{"introspection": map[string]any{"ca_file": keyFile(t, "", 0o600)}}, []string{"introspection.ca_file: expected certificates in PEM, got none"}},
		{"CACertificatesThatAreAKey", map[string]any{"introspection": map[string]any{"ca_certificates": "-----BEGIN PRIVATE KEY-----\nbWFya2Vk\n-----END PRIVATE KEY-----\n"}}, []string{"introspection.ca_certificates: expected PEM blocks of type CERTIFICATE"}},
		{"UnresolvedCACertificatesWidenNoTrust", map[string]any{"introspection": map[string]any{"ca_certificates": ""}}, []string{"introspection.ca_certificates: expected certificates in PEM, got nothing"}},
		{"KeyInPlaceOfItsPath", phantom(map[string]any{"signing_key_file": `{"kty":"EC","d":"marked-client-secret"}`}), []string{"phantom_token.signing_key_file: "}},
		{"PEMInPlaceOfItsPath", phantom(map[string]any{"signing_key_file": "-----BEGIN PRIVATE KEY-----marked-client-secret"}), []string{"phantom_token.signing_key_file: "}},
		{"IssuerThatLooksLikeAnAuthorizationServer", phantom(map[string]any{"issuer": "https://gw.example.com"}), []string{"phantom_token.issuer: expected an issuer with a path"}},
		{"CAsWithoutVerification", map[string]any{"verify_ssl": false, "introspection": map[string]any{"ca_certificates": certificate(t)}}, []string{"verify_ssl: expected true"}},
		{"UnknownAudienceCheck", token(map[string]any{"audience_check": "maybe"}), []string{"token.audience_check: expected one of required, when_present, off"}},
		{"EmptyAudience", token(map[string]any{"audience": []string{""}}), []string{"token.audience: expected values"}},
		{"KeysOfNobody", token(map[string]any{"jwks_uri": "https://idp.example.com/jwks"}), []string{"token.jwks_uri: expected together with token.issuer"}},
		{"LeewayTooLong", token(map[string]any{"leeway_seconds": 61}), []string{"token.leeway_seconds: "}},
		{"RequiredClaimWithoutName", token(map[string]any{"required_claims": []any{map[string]any{"claim": ""}}}), []string{"token.required_claims[1].claim: "}},
		{"ReasonWithQuote", token(map[string]any{"required_claims": []any{map[string]any{"claim": "a", "reason": `say "x"`}}}), []string{"token.required_claims[1].reason: "}},
		{"ReasonThatLooksLikeAParameter", token(map[string]any{"required_claims": []any{map[string]any{"claim": "a", "reason": "scope=x"}}}), []string{"token.required_claims[1].reason: "}},
		{"UnknownMode", phantom(map[string]any{"mode": "borrow"}), []string{"phantom_token.mode: expected one of mint, introspection, exchange"}},
		{"NothingToFindTheEndpointBy", map[string]any{"introspection_endpoint": nil}, []string{"introspection_endpoint: expected an absolute http or https URL, or token.issuer"}},
		{"InternalURLOfNobody", token(map[string]any{"internal_url": "https://keycloak:8443"}), []string{"token.internal_url: expected together with token.issuer"}},
		{"InternalURLWithPath", token(map[string]any{"issuer": "https://idp.example.com", "internal_url": "https://keycloak:8443/auth"}), []string{"token.internal_url: expected scheme, host and port"}},
		{"InternalURLOverPlainHTTP", token(map[string]any{"issuer": "https://idp.example.com", "internal_url": "http://keycloak:8080"}), []string{"token.internal_url: expected https"}},
		{"ExchangeSettingsWithoutExchange", phantom(map[string]any{"token_endpoint": "https://idp.example.com/token", "exchange_scope": "a"}), []string{"phantom_token.token_endpoint: has a meaning only", "phantom_token.exchange_scope: has a meaning only"}},
		{"ExchangeWithASigningKey", patch(token(map[string]any{"issuer": "https://idp.example.com"}), phantom(map[string]any{"mode": "exchange", "issuer": ""})), []string{"phantom_token.signing_key_file: has a meaning only"}},
		{"ExchangeWithoutIssuer", phantom(map[string]any{"mode": "exchange", "issuer": "", "signing_key_file": ""}), []string{"token.issuer: expected with phantom_token.mode exchange"}},
		{"ExchangeWithoutScope", patch(map[string]any{"scope": nil}, patch(token(map[string]any{"issuer": "https://idp.example.com"}), phantom(map[string]any{"mode": "exchange", "issuer": "", "signing_key_file": ""}))), []string{"phantom_token.exchange_scope: expected the scopes"}},
		{"ExchangeOverPlainHTTP", patch(token(map[string]any{"issuer": "https://idp.example.com"}), phantom(map[string]any{"mode": "exchange", "issuer": "", "signing_key_file": "", "token_endpoint": "http://idp.example.com/token"})), []string{"phantom_token.token_endpoint: expected https"}},
		{"ExchangeForTheResource", patch(token(map[string]any{"issuer": "https://idp.example.com"}), phantom(map[string]any{"mode": "exchange", "issuer": "", "signing_key_file": "", "audience": "https://gw.example.com/mcp"})), []string{"phantom_token.audience: expected the upstream's own identifier"}},
		{"MintWithoutKey", phantom(map[string]any{"mode": "mint", "signing_key_file": ""}), []string{"phantom_token.mode: mint needs a key"}},
		{"MintWithoutIssuerAndAudience", phantom(map[string]any{"issuer": "", "audience": ""}), []string{"phantom_token.audience: expected", "phantom_token.issuer: expected"}},
		{"IssuerWithoutKey", phantom(map[string]any{"signing_key_file": "", "claims": map[string]string{"a": "b"}}), []string{"phantom_token.issuer: has a meaning only", "phantom_token.claims: has a meaning only"}},
		{"TwoKeys", phantom(map[string]any{"signing_key": "marked-client-secret"}), []string{"phantom_token.signing_key: expected either"}},
		{"KeyThatIsNone", phantom(map[string]any{"signing_key_file": "", "signing_key": "marked-client-secret"}), []string{"phantom_token.signing_key: "}},
		{"KeyFileOpenToOthers", phantom(map[string]any{"signing_key_file": keyFile(t, "", 0o644)}), []string{"phantom_token.signing_key_file: "}},
		{"KeyFileMissing", phantom(map[string]any{"signing_key_file": "/does/not/exist"}), []string{"phantom_token.signing_key_file: "}},
		{"KeyOfAnotherAlgorithm", phantom(map[string]any{"algorithm": "RS256"}), []string{"phantom_token.signing_key_file: "}},
		{"SymmetricAlgorithm", phantom(map[string]any{"algorithm": "HS256"}), []string{"phantom_token.algorithm: expected one of"}},
		{"PublishedKeyMissing", phantom(map[string]any{"published_key_files": []string{"/does/not/exist"}}), []string{"phantom_token.published_key_files: "}},
		{"LifetimeTooLong", phantom(map[string]any{"lifetime_seconds": 3601}), []string{"phantom_token.lifetime_seconds: "}},
		{"AudienceIsTheResource", phantom(map[string]any{"audience": "https://GW.example.com/mcp/"}), []string{"phantom_token.audience: expected the upstream's own identifier"}},
		{"AudienceIsEverybody", phantom(map[string]any{"audience": "*"}), []string{"phantom_token.audience: expected the identifier of one upstream"}},
		{"IssuerIsAnAuthorizationServer", phantom(map[string]any{"issuer": "https://idp.example.com"}), []string{"phantom_token.issuer: expected an issuer of the gateway's own"}},
		{"IssuerIsThatOfTheTokens", patch(phantom(map[string]any{"issuer": "https://realm.example.com"}), token(map[string]any{"issuer": "https://realm.example.com"})), []string{"phantom_token.issuer: expected an issuer of the gateway's own"}},
		{"IssuerWithQuery", phantom(map[string]any{"issuer": "https://gw.example.com/p?x"}), []string{"phantom_token.issuer: "}},
		{"RegisteredClaimMapped", phantom(map[string]any{"claims": map[string]string{"sub": "email"}}), []string{`phantom_token.claims: expected claims of your own, got "sub"`}},
		{"ClaimOfNothing", phantom(map[string]any{"claims": map[string]string{"a": ""}}), []string{"phantom_token.claims: "}},
		{"NoHeaderName", phantom(map[string]any{"clear_headers": []string{"a b"}}), []string{"phantom_token.clear_headers: "}},
		{"CacheWithoutRoom", map[string]any{"cache": map[string]any{"max_entries": 0, "max_bytes": 1, "negative_seconds": 61}}, []string{"cache.max_entries: ", "cache.max_bytes: ", "cache.negative_seconds: "}},
		{"InsecureHostAsURL", map[string]any{"insecure_http_hosts": []string{"http://idp"}}, []string{"insecure_http_hosts: expected a host"}},
		{
			"VerifiedJWTOfNoAudience",
			map[string]any{"resource": nil, "phantom_token": nil, "token": map[string]any{"issuer": "https://idp.example.com"}},
			[]string{"phantom_token.audience: expected the audience that the provider's JWT names"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := buildJSON(t, patch(completeConfig(t), tt.changes), slog.New(slog.DiscardHandler))
			if err == nil {
				t.Fatal("configuration was accepted")
			}
			lines := strings.Split(err.Error(), "\n")
			for _, want := range tt.want {
				if !slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, want) }) {
					t.Errorf("error is\n%v\nwant a line that begins with %q", err, want)
				}
			}
			if len(lines) != len(tt.want) {
				t.Errorf("error has %d lines, want %d:\n%v", len(lines), len(tt.want), err)
			}
			if strings.Contains(err.Error(), testSecret) || strings.Contains(err.Error(), "bWFya2Vk") {
				t.Errorf("error quotes a secret: %v", err)
			}
		})
	}
}

func TestConfigurationIsAccepted(t *testing.T) {
	key, err := os.ReadFile(keyFile(t, "RS256", 0o600))
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name    string
		changes map[string]any
		wantLog string
	}{
		{name: "Complete"},
		{name: "PlainHTTPByName", changes: map[string]any{"introspection_endpoint": "http://idp:8080/introspect", "insecure_http_hosts": []string{"idp"}}},
		{name: "PlainHTTPOnLoopback", changes: map[string]any{"resource": "http://127.0.0.1:8000/mcp"}},
		{name: "KeyInPlace", changes: map[string]any{"phantom_token": map[string]any{"signing_key_file": "", "signing_key": string(key)}}},
		{name: "SamePEMTwice", changes: map[string]any{"introspection": map[string]any{"ca_certificates": certificate(t) + "\n" + certificate(t)}}},
		{name: "NextKeyPublished", changes: map[string]any{"phantom_token": map[string]any{"published_key_files": []string{keyFile(t, "EdDSA", 0o600)}}}},
		{name: "IntrospectionModeWithKeyAsFallback", changes: map[string]any{"phantom_token": map[string]any{"mode": "introspection"}}},
		{name: "NoCache", changes: map[string]any{"token_cache_seconds": 0}},
		{name: "EmptyRecords", changes: map[string]any{"cache": map[string]any{}, "cors": map[string]any{}, "metadata": map[string]any{}}},
		{name: "IssuerInPlaceOfEndpointAndAuthorizationServers", changes: map[string]any{"introspection_endpoint": nil, "authorization_servers": nil, "token": map[string]any{"issuer": "https://idp.example.com"}}},
		{name: "IssuerBehindAnInternalAddress", changes: map[string]any{"introspection_endpoint": nil, "insecure_http_hosts": []string{"keycloak:8080"}, "token": map[string]any{"issuer": "https://idp.example.com", "internal_url": "http://keycloak:8080"}}},
		{name: "Exchange", changes: map[string]any{"token": map[string]any{"issuer": "https://idp.example.com"}, "phantom_token": map[string]any{"mode": "exchange", "issuer": "", "signing_key_file": ""}}},
		{name: "PublishedMetadataWithoutResourceRequiresAnAudience", changes: map[string]any{"resource": nil}},
		{name: "WarnsOfNoVerification", changes: map[string]any{"verify_ssl": false}, wantLog: "verify_ssl is false"},
		{name: "WarnsOfNoAudience", changes: map[string]any{"token": map[string]any{"audience_check": "off"}}, wantLog: "token.audience_check is off"},
		{name: "WarnsOfOptionalAudience", changes: map[string]any{"token": map[string]any{"audience_check": "when_present"}}, wantLog: "token.audience_check is when_present"},
		{name: "WarnsOfUnusedKeys", changes: map[string]any{"token": map[string]any{"issuer": "https://idp.example.com", "jwks_uri": "https://idp.example.com/jwks"}}, wantLog: "token.jwks_uri has no effect"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var log logBuffer
			if _, err := buildJSON(t, patch(completeConfig(t), tt.changes), log.logger()); err != nil {
				t.Fatalf("configuration was refused: %v", err)
			}
			if tt.wantLog == "" && log.String() != "" || !strings.Contains(log.String(), tt.wantLog) {
				t.Errorf("log is %q, want %q", log.String(), tt.wantLog)
			}
		})
	}
}

// TestConfigurationMeansWhatItSays checks the way from a field of kong.yml to the gate.
//
// Covers: MCP-09, PR-09
func TestConfigurationMeansWhatItSays(t *testing.T) {
	got, err := buildJSON(t, patch(completeConfig(t), map[string]any{
		"realm": "r", "token_cache_seconds": 60, "trusted_web_origins": []string{"https://app.example.com"},
		"metadata":      map[string]any{"resource_name": "Stocks", "max_age_seconds": 10, "at_root": false},
		"introspection": map[string]any{"timeout_seconds": 7},
		"token": map[string]any{
			"issuer": "https://realm.example.com", "audience": []string{"x"}, "allow_without_user": true, "clients_without_user": []string{"batch"},
			"required_claims": []any{
				map[string]any{"claim": "org_id"},
				map[string]any{"claim": "region", "values": []string{"USA"}},
				map[string]any{"claim": "a", "reason": "Because"},
			},
			"leeway_seconds": 10, "max_length": 100,
		},
		"phantom_token": map[string]any{"lifetime_seconds": 60, "claims": map[string]string{"region": "region"}, "subject_claim": "email", "clear_headers": []string{"X-Tenant"}},
		"cache":         map[string]any{"negative_seconds": 1},
		"cors":          map[string]any{"max_age_seconds": 5},
	}), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	want := gate.TokenPolicy{
		Issuer: "https://realm.example.com", Audiences: []string{"x"}, AudienceCheck: gate.AudienceRequired,
		Scopes: []string{"stocks/read"}, AllowWithoutUser: true, ClientsWithoutUser: []string{"batch"},
		RequiredClaims: []gate.RequiredClaim{
			{Claim: "org_id", Reason: "User has no organization"},
			{Claim: "region", Values: []string{"USA"}, Reason: "Access token missing region claim"},
			{Claim: "a", Reason: "Because"},
		},
		Leeway: 10 * time.Second, MaxLength: 100,
	}
	if !reflect.DeepEqual(got.Token, want) {
		t.Errorf("Token = %+v\nwant %+v", got.Token, want)
	}
	if got.Resource.String() != "https://gw.example.com/mcp" || got.MetadataMaxAge != 10*time.Second || got.MetadataAtRoot || got.Realm != "r" {
		t.Errorf("resource %q, max age %v, at root %v, realm %q", got.Resource, got.MetadataMaxAge, got.MetadataAtRoot, got.Realm)
	}
	if m := got.Metadata; m.ResourceName != "Stocks" || !slices.Equal(m.ScopesSupported, []string{"stocks/read"}) || !slices.Equal(m.AuthorizationServers, []string{"https://idp.example.com"}) {
		t.Errorf("Metadata = %+v", m)
	}
	if ph, ok := got.Phantom.(*gate.Mint); !ok || ph.Keys == nil || ph.Issuer != "https://gw.example.com/phantom" || ph.Audience != "https://mcp.internal.example" || ph.Lifetime != time.Minute || ph.SubjectClaim != "email" || ph.Claims["region"] != "region" {
		t.Errorf("Phantom = %+v", ph)
	}
	if len(got.Issuers) != 1 || got.Issuers[0].URL() != "https://gw.example.com/phantom" {
		t.Errorf("Issuers = %v", got.Issuers)
	}
	if got.CORS.MaxAge != 5*time.Second || !got.CORS.Enabled || !slices.Equal(got.CORS.Origins, []string{"https://app.example.com"}) {
		t.Errorf("CORS = %+v", got.CORS)
	}
	if got.CacheTTL != time.Minute || got.NegativeTTL != time.Second || got.Timeout != 9*time.Second || got.Failures == nil || !slices.Equal(got.ClearHeaders, []string{"X-Tenant"}) {
		t.Errorf("cache %v, negative %v, timeout %v, limiter %v, clear %v", got.CacheTTL, got.NegativeTTL, got.Timeout, got.Failures, got.ClearHeaders)
	}
}

// FuzzConfig: whatever a configuration holds, it is built or refused by name.
func FuzzConfig(f *testing.F) {
	f.Add([]byte(`{}`))
	f.Add([]byte(`null`))
	f.Add([]byte(`{"__seq__":2,"client_secret":"marked-client-secret","introspection_endpoint":"https://idp.example.com/i","client_id":"a","$refs":{"client_secret":"{vault://env/x}"}}`))
	f.Add([]byte(`{"token":{"required_claims":[{"claim":"a","values":[""]}]},"phantom_token":{"mode":"mint","signing_key":"marked-client-secret"},"resource":"http://[::1"}`))
	f.Add([]byte(`{"insecure_http_hosts":["a"],"trusted_web_origins":["%"],"authorization_servers":["https://a@b"],"scope":"\u0000"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg, _, err := decodeConfig(data)
		if err != nil {
			return
		}
		// No file of the machine is anybody's business here.
		cfg.PhantomToken.SigningKeyFile, cfg.PhantomToken.PublishedKeyFiles, cfg.Introspection.CAFile = "", nil, ""
		shared, err := newParts(time.Now, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		built, release, err := cfg.build(shared, slog.New(slog.DiscardHandler))
		if err != nil {
			if release != nil || built.Cache != nil {
				t.Error("a refused configuration came back")
			}
			for _, secret := range []string{cfg.ClientSecret, cfg.PhantomToken.SigningKey} {
				if len(secret) > 16 && bytes.Count(data, []byte(secret)) == 1 && strings.Contains(err.Error(), secret) {
					t.Errorf("error quotes a secret: %v", err)
				}
			}
			return
		}
		if _, err := gate.New(built); err != nil {
			t.Errorf("gate refuses what was built: %v", err)
		}
		release()
		if len(shared.providers) != 0 {
			t.Errorf("%d providers after release, want none", len(shared.providers))
		}
	})
}
