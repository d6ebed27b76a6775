package mcpclients_test

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"phantomtoken/testenv/mcpclients"
	"phantomtoken/testenv/toolcache"
)

// The clients and what they depend on are the same everywhere, and those that are named.
func TestPinned(t *testing.T) {
	data, err := os.ReadFile("package.json")
	if err != nil {
		t.Fatal(err)
	}
	var wanted struct {
		Dependencies map[string]string `json:"dependencies"`
	}
	if err := json.Unmarshal(data, &wanted); err != nil {
		t.Fatal(err)
	}
	locked, err := toolcache.NPMPackages(os.DirFS("."))
	if err != nil {
		t.Fatal(err)
	}
	requirements, err := os.ReadFile("requirements.txt")
	if err != nil {
		t.Fatal(err)
	}
	direct, err := os.ReadFile("requirements.in")
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]string{}
	for _, c := range mcpclients.Clients() {
		named[c.Package] = c.Version
		line := c.Package + "==" + c.Version
		node := wanted.Dependencies[c.Package] == c.Version && locked[c.Package] == c.Version
		python := slices.Contains(strings.Fields(string(direct)), line) && strings.Contains(string(requirements), "\n"+line+" \\\n")
		if node == python {
			t.Errorf("%s %s: expected it in the files of npm or in those of pip", c.Package, c.Version)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(wanted.Dependencies)) {
		if named[name] == "" {
			t.Errorf("package.json: %s belongs to no client", name)
		}
	}
	for _, line := range strings.Fields(string(direct)) {
		if name, _, _ := strings.Cut(line, "=="); named[name] == "" {
			t.Errorf("requirements.in: %s belongs to no client", name)
		}
	}
}

// Every requirement has one version and checksums, and comes from wherever pip is told.
func TestRequirementsHaveChecksums(t *testing.T) {
	data, err := os.ReadFile("requirements.txt")
	if err != nil {
		t.Fatal(err)
	}
	requirement := regexp.MustCompile(`^[a-z0-9-]+==[0-9][0-9a-z.]*( ; [^\\]+)?( --hash=sha256:[0-9a-f]{64})+$`)
	text := strings.ReplaceAll(string(data), "\\\n", "")
	n := 0
	for line := range strings.Lines(text) {
		line = strings.Join(strings.Fields(line), " ")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		n++
		if !requirement.MatchString(line) {
			t.Errorf("got %.80s, want name==version with SHA-256 alone", line)
		}
	}
	if n < 10 {
		t.Errorf("got %d requirements, want the SDK and all it depends on", n)
	}
}

// Who has not installed them is told so in one sentence.
func TestFindSaysWhatIsMissing(t *testing.T) {
	t.Setenv(mcpclients.CacheVariable, filepath.Join(t.TempDir(), "nothing-here"))
	_, err := mcpclients.Find()
	if err == nil || !strings.Contains(err.Error(), "not installed: run make mcp-clients") || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v, want what to run", err)
	}
}

func TestCallWantsAllItNeeds(t *testing.T) {
	for _, c := range mcpclients.Clients() {
		if _, err := c.Call(t.Context(), "", mcpclients.Call{URL: "http://127.0.0.1/mcp"}); err == nil || !strings.Contains(err.Error(), "expected URL, Credentials, Tool and Browse") {
			t.Errorf("%s: got %v, want the fields that are required", c.Name, err)
		}
	}
}
