package caller_test

import (
	"strings"
	"syscall"
	"testing"

	"phantomtoken/internal/keyring"
	"phantomtoken/sidecar/caller"
)

// TestNew refuses what cannot work, with the place in the message and no secret in it.
func TestNew(t *testing.T) {
	folder := t.TempDir()
	file := func(content string) string { return writeFile(t, t.TempDir(), "secret", content, 0o600) }
	fifo := folder + "/fifo"
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	secretFile := func(path string) func(*world) {
		return func(w *world) { w.known[0].SecretFiles[1] = path }
	}
	const inFile = "callers.mcp-server.authentication.secret_files[1]: "
	account := func(namespace, name string) func(*world) {
		return func(w *world) {
			w.known[6].ServiceAccount = &caller.ServiceAccount{Namespace: namespace, Name: name}
		}
	}
	spiffe := func(id string) func(*world) { return func(w *world) { w.known[4].SPIFFEID = id } }
	dns := func(name string) func(*world) { return func(w *world) { w.known[5].DNSName = name } }
	const badSPIFFE, badDNS = "callers.workload.authentication.mtls.spiffe_id: expected spiffe://trust-domain/path", "callers.mesh.authentication.mtls.dns_name: expected a DNS name in lower case without wildcard"

	for _, tc := range []struct {
		name   string
		change func(*world)
		want   []string // parts of the message; empty: accepted
	}{
		{name: "good", change: func(*world) {}},
		{name: "http by name", change: func(w *world) {
			w.known[3].JWKSURI, w.cfg.InsecureHosts = "http://mcp:8080/jwks", []string{"mcp"}
		}},
		{name: "secret of 4096 bytes", change: secretFile(file(strings.Repeat("s", 4096)))},

		{name: "no replay memory", change: func(w *world) { w.replay = nil }, want: []string{"expected a memory for used client assertions, got none"}},
		{name: "no issuer", change: func(w *world) { w.cfg.Issuer = "" }, want: []string{"TOKEN_EXCHANGE_ISSUER: expected the URL of this service, got nothing"}},
		{name: "no token endpoint", change: func(w *world) { w.cfg.TokenEndpoint = "" }, want: []string{"TOKEN_EXCHANGE_ISSUER: expected the URL of this service, got nothing"}},
		{name: "all at once", change: func(w *world) {
			w.known[0].SecretFiles[0], w.known[1].SecretVariables[0], w.known[2].JWKSFile = file("MARKED short"), "BROKEN", file("MARKED")
		}, want: []string{
			"callers.mcp-server.authentication.secret_files[0]: expected at least 16 random bytes, got 12",
			"callers.other+server:1.authentication.secret_variables[0]: expected a secret of one line, got several",
			"callers.signer.authentication.private_key_jwt.jwks_file: loading public key file",
		}},
		{name: "RejectsTwoCallersOfOneID", change: func(w *world) { w.known[1].ID = "mcp-server" }, want: []string{`callers.other+server:1.authentication: expected a client_id of its own, got "mcp-server" again`}},
		{name: "RejectsEmptyID", change: func(w *world) { w.known[2].ID = "" }, want: []string{"callers.signer.authentication: expected a client_id without control characters, got \"\""}},
		{name: "RejectsNULInID", change: func(w *world) { w.known[2].ID = "a\x00b" }, want: []string{`expected a client_id without control characters, got "a\x00b"`}},
		{name: "RejectsClusterAsCaller", change: func(w *world) { w.known[2].ID = cluster }, want: []string{"callers.signer.authentication: expected another client_id than the issuer of the cluster"}},

		{name: "no file", change: secretFile(folder + "/MARKED"), want: []string{inFile + "expected the path of a readable file with the secret: no such file"}},
		{name: "RejectsSecretInsteadOfItsPath", change: secretFile("MARKED\x00secret"), want: []string{inFile + "expected the path of a readable file with the secret"}},
		{name: "a folder", change: secretFile(folder), want: []string{inFile + "expected a regular file with the secret"}},
		{name: "RejectsPipeWithoutWaiting", change: secretFile(fifo), want: []string{inFile + "expected a regular file with the secret"}},
		{name: "RejectsFileThatOthersWrite", change: secretFile(writeFile(t, folder, "loose", mcpSecret, 0o620)), want: []string{inFile + "expected a file that only its owner may write, got mode 0620; run chmod go-w"}},
		{name: "empty file", change: secretFile(file("")), want: []string{inFile + "expected a file with the secret, got an empty one"}},
		{name: "file with an empty line", change: secretFile(file("\n")), want: []string{inFile + "expected a file with the secret, got an empty line"}},
		{name: "RejectsHugeFile", change: secretFile(file(strings.Repeat("s", 5000))), want: []string{inFile + "expected a file with the secret of at most 4096 bytes, got more"}},
		{name: "RejectsTwoLines", change: secretFile(file("MARKED-of-16-bytes\nMARKED-of-16-bytes\n")), want: []string{inFile + "expected a secret of one line, got several"}},
		{name: "RejectsBlanks", change: secretFile(file("MARKED-of-16-bytes \n")), want: []string{inFile + "expected a secret without blanks around it, got some"}},
		{name: "RejectsUnresolvedVaultReference", change: secretFile(file("{vault://env/MARKED-secret}")), want: []string{inFile + "expected a secret, got a reference that nobody resolved"}},
		{name: "RejectsUnresolvedVariable", change: secretFile(file("${MARKED_SECRET_OF_MCP}")), want: []string{inFile + "expected a secret, got a reference that nobody resolved"}},
		{name: "RejectsHugeVariable", change: func(w *world) {
			w.cfg.Lookup = func(string) (string, bool) { return strings.Repeat("s", 4097), true }
		}, want: []string{"callers.other+server:1.authentication.secret_variables[0]: expected at most 4096 bytes, got 4097"}},
		{name: "variable that is not set", change: func(w *world) { w.known[1].SecretVariables[0] = "MARKED" }, want: []string{"callers.other+server:1.authentication.secret_variables[0]: expected the name of an environment variable that is set, got another"}},

		{name: "keys twice", change: func(w *world) { w.known[2].JWKSURI = "https://mcp.example/jwks" }, want: []string{"callers.signer.authentication.private_key_jwt: expected jwks_file or jwks_uri, got both"}},
		{name: "no key file", change: func(w *world) { w.known[2].JWKSFile = folder + "/none" }, want: []string{"callers.signer.authentication.private_key_jwt.jwks_file: loading public keys: expected a readable key file"}},
		{name: "RejectsSharedSecretAsKey", change: func(w *world) {
			w.known[2].JWKSFile = file(`{"keys":[{"kty":"oct","k":"TUFSS0VE","alg":"HS256"}]}`)
		}, want: []string{"jwks_file: loading public key file", "expected at least one key to verify ES256"}},
		{name: "RejectsPlainHTTP", change: func(w *world) { w.known[3].JWKSURI = "http://mcp.example/jwks" }, want: []string{"callers.remote.authentication.private_key_jwt.jwks_uri:", "expected https", "(the variable is TOKEN_EXCHANGE_INSECURE_HTTP_HOSTS)"}},
		{name: "RejectsPasswordInURL", change: func(w *world) { w.known[3].JWKSURI = "https://x:MARKED@mcp.example/jwks" }, want: []string{"callers.remote.authentication.private_key_jwt.jwks_uri:"}},

		{name: "certificate twice", change: func(w *world) { w.known[4].DNSName = dnsName }, want: []string{"callers.workload.authentication.mtls: expected spiffe_id or dns_name, got both"}},
		{name: "RejectsSPIFFEIDOfAnotherCaller", change: func(w *world) { w.known[5].SPIFFEID, w.known[5].DNSName = spiffeID, "" }, want: []string{`callers.mesh.authentication.mtls.spiffe_id: expected a SPIFFE id of its own, got that of caller "workload"`}},
		{name: "RejectsDNSNameOfAnotherCaller", change: func(w *world) { w.known[4].SPIFFEID, w.known[4].DNSName = "", dnsName }, want: []string{`callers.mesh.authentication.mtls.dns_name: expected a DNS name of its own, got that of caller "workload"`}},
		{name: "RejectsSPIFFEWithoutPath", change: spiffe("spiffe://example.com"), want: []string{badSPIFFE}},
		{name: "RejectsSPIFFEWithSlash", change: spiffe(spiffeID + "/"), want: []string{badSPIFFE}},
		{name: "RejectsSPIFFEOfOtherScheme", change: spiffe("https://example.com/x"), want: []string{badSPIFFE}},
		{name: "RejectsSPIFFEWithPort", change: spiffe("spiffe://example.com:443/x"), want: []string{badSPIFFE}},
		{name: "RejectsSPIFFEWithDots", change: spiffe("spiffe://example.com/a/../b"), want: []string{badSPIFFE}},
		{name: "RejectsSPIFFEPattern", change: spiffe("spiffe://example.com/ns/*"), want: []string{badSPIFFE}},
		{name: "RejectsWildcard", change: dns("*.example.com"), want: []string{badDNS}},
		{name: "RejectsDNSNameInUpperCase", change: dns("MCP.example.com"), want: []string{badDNS}},
		{name: "RejectsDNSNameWithDot", change: dns("mcp.example.com."), want: []string{badDNS}},
		{name: "RejectsLongDNSName", change: dns(strings.Repeat("a.", 127) + "a"), want: []string{badDNS}},

		{name: "RejectsColonInNamespace", change: account("mcp:server", "v1"), want: []string{`callers.pod.authentication.kubernetes: namespace: expected 1 to 63 lower case letters, digits and hyphens, got "mcp:server"`}},
		{name: "RejectsColonInAccount", change: account("mcp", "server:v1"), want: []string{`callers.pod.authentication.kubernetes: service_account: expected 1 to 253 lower case letters, digits, hyphens and dots, got "server:v1"`}},
		{name: "RejectsEmptyAccount", change: account("mcp", ""), want: []string{"service_account: expected 1 to 253"}},
		{name: "RejectsPattern", change: account("*", "server"), want: []string{"namespace: expected 1 to 63"}},
		{name: "RejectsAccountOfAnotherCaller", change: func(w *world) { w.known[7].ServiceAccount = w.known[6].ServiceAccount }, want: []string{`callers.nobody.authentication.kubernetes: expected a service account of its own, got that of caller "pod"`}},
		{name: "no cluster", change: func(w *world) { w.cfg.Kubernetes = nil }, want: []string{"callers.pod.authentication.kubernetes: expected the issuer of the cluster in TOKEN_EXCHANGE_KUBERNETES_ISSUER, got none"}},
		{name: "cluster without issuer", change: func(w *world) { w.cfg.Kubernetes = &caller.Kubernetes{Keys: keyring.PublicKeys{}} }, want: []string{"TOKEN_EXCHANGE_KUBERNETES_ISSUER: expected the issuer of service account tokens, got nothing"}},
		{name: "cluster without keys", change: func(w *world) { w.cfg.Kubernetes = &caller.Kubernetes{Issuer: cluster} }, want: []string{"TOKEN_EXCHANGE_KUBERNETES_ISSUER: making token verifier: expected a source of keys, got none"}},
		{name: "RejectsAudienceOfTheAPIServer", change: func(w *world) { w.cfg.Kubernetes.Audience = cluster }, want: []string{"TOKEN_EXCHANGE_KUBERNETES_AUDIENCE: expected an audience of this service alone, got the issuer of the cluster"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t, nil)
			tc.change(w)
			a, err := caller.New(w.cfg, w.known, w.replay)
			if len(tc.want) == 0 {
				if err != nil {
					t.Fatal(err)
				}
				a.Close()
				return
			}
			if err == nil {
				t.Fatal("accepted")
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %q, want %q in it", err, want)
				}
			}
			if strings.Contains(err.Error(), "MARKED") {
				t.Errorf("a secret in %q", err)
			}
		})
	}
}

// TestDefaults: the environment of the process, the clock of the machine, no log.
func TestDefaults(t *testing.T) {
	t.Setenv("CALLER_TEST_SECRET", mcpSecret)
	a, err := caller.New(caller.Config{Issuer: issuer, TokenEndpoint: tokenEndpoint}, []caller.Caller{{ID: "mcp-server", SecretVariables: []string{"CALLER_TEST_SECRET"}}}, caller.NewReplay(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	a.Close()
}
