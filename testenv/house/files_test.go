package house_test

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// foreign are texts that belong to one machine or one build environment, or that must
// never be committed. They are written in pieces so that this file passes its own test.
var foreign = []struct {
	what    string
	inTests bool // tests may hold it: keys of test vectors
	pattern *regexp.Regexp
}{
	{"a path of one machine", false, regexp.MustCompile(`(^|[\s"'=(:\x60])/(` + `work|root|farm|Users|home/[a-z]+` + `)/[A-Za-z]`)},
	{"a package registry's host", false, regexp.MustCompile(`(proxy\.golang|sum\.golang|registry\.npmjs|files\.pythonhosted|deb\.debian)\.(org|net)|repo1?\.maven\.`)},
	{"a private key", true, regexp.MustCompile(`-----BEGIN ` + `(RSA |EC |ENCRYPTED |OPENSSH )?PRIVATE KEY-----\s+[A-Za-z0-9+/=]{16}`)},
	{"a signed token", true, regexp.MustCompile(`\beyJ` + `[A-Za-z0-9_-]{20,}\.eyJ[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{40,}`)},
	{"a private JSON web key", true, regexp.MustCompile(`"(d|p|q|dp|dq|qi)"\s*:\s*"[A-Za-z0-9_-]{22,}"`)},
	{"an access key of a cloud or a forge", false, regexp.MustCompile(`\b(AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36}|glpat-[A-Za-z0-9_-]{20})\b`)},
}

func foreignProblems(name string, data []byte) []string {
	var out []string
	if bytes.IndexByte(data, 0) >= 0 { // not text
		return nil
	}
	test := strings.HasSuffix(name, "_test.go") || strings.Contains(name, "/testdata/")
	for _, f := range foreign {
		if test && f.inTests {
			continue
		}
		for _, at := range f.pattern.FindAllIndex(data, -1) {
			line := 1 + bytes.Count(data[:at[0]], []byte("\n"))
			out = append(out, fmt.Sprintf("%s:%d: holds %s", name, line, f.what))
		}
	}
	return out
}

func TestFilesBelongToTheProjectAlone(t *testing.T) {
	var found []string
	for _, name := range files(t) {
		// A fuzzing corpus holds what the machine invented; go.sum holds hashes.
		if strings.Contains(name, "/testdata/fuzz/") || name == "go.sum" {
			continue
		}
		found = append(found, foreignProblems(name, []byte(read(t, name)))...)
	}
	problems(t, found)
}

func TestForeignProblemsAreFound(t *testing.T) {
	tests := []struct {
		name, text string
		want       bool
	}{
		{"MachinePath", "see /wo" + "rk/main", true},
		{"HomeFolder", `"/home` + `/jane/key.json"`, true},
		{"UsualPath", "/etc/kong/keys/phantom.json and /usr/local/bin", false},
		{"PathOfAURL", "https://example.com/work/items", false},
		{"Registry", "https://registry.npm" + "js.org/x", true},
		{"PrivateKey", "-----BEGIN " + "PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEG", true},
		{"PrivateKeyInWords", "a PEM file that begins with -----BEGIN " + "PRIVATE KEY-----", false},
		{"PrivateJWK", `{"kty":"EC","d":"` + strings.Repeat("a", 43) + `"}`, true},
		{"PublicJWK", `{"kty":"EC","x":"` + strings.Repeat("a", 43) + `"}`, false},
		{"Token", "eyJ" + strings.Repeat("a", 30) + ".eyJ" + strings.Repeat("b", 30) + "." + strings.Repeat("c", 43), true},
		{"ShortenedToken", "eyJhbGciOi…", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := foreignProblems("x", []byte(tt.text)); (len(got) > 0) != tt.want {
				t.Errorf("got %q, want a problem: %t", got, tt.want)
			}
		})
	}
}
