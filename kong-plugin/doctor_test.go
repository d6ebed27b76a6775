package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"phantomtoken/kong-plugin/doctor"
)

// TestDoctorCommandLine: flags, exit status and output; what the doctor finds is tested
// where it lives.
func TestDoctorCommandLine(t *testing.T) {
	open := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }))
	t.Cleanup(open.Close)
	gone := httptest.NewServer(nil)
	gone.Close()
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	token, empty := write("token", "s3cret-token\n"), write("empty", "\n")
	for _, tt := range []struct {
		name string
		args []string
		want error
	}{
		{"Faults", []string{"-url", open.URL + "/mcp", "-token-file", token}, exitStatus(doctor.ExitFaults)},
		{"TwoDashes", []string{"--url", open.URL + "/mcp", "--token", "s3cret-token", "--json"}, exitStatus(doctor.ExitFaults)},
		{"NotReachable", []string{"-url", gone.URL + "/mcp"}, exitStatus(doctor.ExitUnreachable)},
		{"NoURL", nil, errUsage},
		{"URLOfAnotherKind", []string{"-url", "ftp://gw.example.com/mcp"}, errUsage},
		{"WordAfterFlags", []string{"-url", open.URL, "more"}, errUsage},
		{"TwoTokens", []string{"-url", open.URL, "-token", "s3cret", "-token-file", token}, errUsage},
		{"EmptyTokenFile", []string{"-url", open.URL, "-token-file", empty}, errUsage},
		{"TokenFileThatIsMissing", []string{"-url", open.URL, "-token-file", filepath.Join(dir, "none")}, errUsage},
		{"AuthoritiesThatAreNone", []string{"-url", open.URL, "-ca-file", token}, errUsage},
		{"Origin", []string{"-url", open.URL, "-origin", "example.com"}, errUsage},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			err := run(append([]string{"phantom-token", "doctor"}, tt.args...), &stdout, &stderr)
			if !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v\n%s", err, tt.want, stdout.String())
			}
			if all := stdout.String() + stderr.String() + err.Error(); strings.Contains(all, "s3cret") {
				t.Errorf("the token was printed: %s", all)
			}
			if tt.name == "TwoDashes" && !json.Valid(stdout.Bytes()) {
				t.Errorf("got %s, want JSON", stdout.String())
			}
		})
	}
}
