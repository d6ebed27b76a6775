package house_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"phantomtoken/testenv"
)

// TestDocumentsMatchPrograms builds both programs and compares the documents with them.
// The kong.yml of the README is loaded by a gateway, and what it promises is asked for.
//
// Covers: PR-18
func TestDocumentsMatchPrograms(t *testing.T) {
	programs, err := testenv.Build(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Run("PluginSettings", func(t *testing.T) {
		settingsTable(t, "Plugin settings", pluginSettings(t, output(t, programs.Plugin, "-dump")))
	})
	t.Run("SidecarSettings", func(t *testing.T) {
		settingsTable(t, "Sidecar settings", sidecarSettings(t, output(t, programs.Sidecar, "-help")))
	})
	t.Run("SidecarEnvironment", func(t *testing.T) { sidecarEnvironment(t, programs.Sidecar) })
	t.Run("KongYAML", func(t *testing.T) { kongYAML(t, programs.Plugin) })
}

func output(t *testing.T, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v", name, strings.Join(args, " "), err)
	}
	return out
}

// settingsTable compares the rows under a heading of the README with those made from the
// code, or writes them.
func settingsTable(t *testing.T, name string, want [][]string) {
	t.Helper()
	doc := read(t, "README.md")
	lines, first := section(doc, name)
	begin, end := -1, -1 // of the rows, the head aside
	var got [][]string
	for i, line := range lines {
		switch cells := row(line); {
		case strings.HasPrefix(line, "|--"):
			begin, end = i+1, i+1
		case begin >= 0 && cells != nil:
			got = append(got, cells)
			end = i + 1
		}
	}
	if begin < 0 {
		t.Fatalf("README.md: there is no table under %q", name)
	}
	if *update {
		all := strings.Split(doc, "\n")
		rows := make([]string, len(want))
		for i := range want {
			rows[i] = formatRow(want[i])
		}
		write(t, "README.md", strings.Join(slices.Concat(all[:first-1+begin], rows, all[first-1+end:]), "\n"))
		return
	}
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			t.Errorf("README.md: %s: the row of %s is missing; run: go test ./testenv/house -update", name, want[i][0])
		case i >= len(want):
			t.Errorf("README.md: %s: %s is no setting; run: go test ./testenv/house -update", name, got[i][0])
		case !slices.Equal(got[i], want[i]):
			t.Errorf("README.md: %s: got %q, want %q; run: go test ./testenv/house -update", name, formatRow(got[i]), formatRow(want[i]))
		}
	}
}

var helpEntry = regexp.MustCompile(`(?m)^  ([A-Z_]+) \((.+); (.+)\)\n {6}(.+)$`)

// sidecarSettings makes one row of each setting in the sidecar's -help.
func sidecarSettings(t *testing.T, help []byte) [][]string {
	t.Helper()
	var out [][]string
	for _, m := range helpEntry.FindAllStringSubmatch(string(help), -1) {
		need := m[3]
		switch value, ok := strings.CutPrefix(need, "default "); {
		case ok:
			need = "`" + value + "`"
		case need == "required":
			need = "**required**"
		case need == "optional":
			need = "–"
		}
		out = append(out, []string{"`" + m[1] + "`", m[2], need, cellText(m[4])})
	}
	if want := strings.Count(string(help), "\n  TOKEN_EXCHANGE_"); len(out) == 0 || len(out) != want {
		t.Fatalf("reading -help: understood %d settings of %d", len(out), want)
	}
	return out
}

// sidecarEnvironment has the sidecar check every example of its environment together with the
// policy file that follows it in the document.
func sidecarEnvironment(t *testing.T, sidecar string) {
	n := 0
	for name, doc := range documents(t) {
		all := blocks(doc)
		for i, b := range all {
			if b.info != "ini sidecar.env" {
				continue
			}
			n++
			dir := t.TempDir()
			secret, policy, key := filepath.Join(dir, "secret"), filepath.Join(dir, "policy.yaml"), filepath.Join(dir, "key.json")
			if i+1 >= len(all) || all[i+1].info != "yaml policy.yaml" {
				t.Errorf("%s:%d: expected the next block to be marked yaml policy.yaml", name, b.line)
				continue
			}
			places := strings.NewReplacer("/run/secrets/mcp-server", secret, "/etc/token-exchange/policy.yaml", policy, "/var/lib/token-exchange/key.json", key)
			for file, text := range map[string]string{secret: "a secret of this test", policy: places.Replace(all[i+1].text)} {
				if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			cmd := exec.CommandContext(t.Context(), sidecar, "-check")
			for line := range strings.Lines(b.text) {
				if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
					cmd.Env = append(cmd.Env, places.Replace(line))
				}
			}
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s:%d: %v\n%s", name, b.line, err, out)
			}
		}
	}
	if n == 0 {
		t.Error("no document has a block marked ini sidecar.env")
	}
}

// field is one entry of a Kong schema.
type field struct {
	Type          string             `json:"type"`
	Required      bool               `json:"required"`
	Default       any                `json:"default"`
	OneOf         []string           `json:"one_of"`
	Between       []json.Number      `json:"between"`
	Encrypted     bool               `json:"encrypted"`
	Referenceable bool               `json:"referenceable"`
	Description   string             `json:"description"`
	Elements      *field             `json:"elements"`
	Fields        []map[string]field `json:"fields"`
}

// pluginSettings makes one row of each setting in the plugin's -dump.
func pluginSettings(t *testing.T, dump []byte) [][]string {
	t.Helper()
	var info struct {
		Plugins []struct{ Schema field }
	}
	dec := json.NewDecoder(strings.NewReader(string(dump)))
	dec.UseNumber()
	if err := dec.Decode(&info); err != nil || len(info.Plugins) != 1 {
		t.Fatalf("reading -dump: %v, %d plugins", err, len(info.Plugins))
	}
	for _, entry := range info.Plugins[0].Schema.Fields {
		if config, ok := entry["config"]; ok {
			return fieldRows("", config.Fields)
		}
	}
	t.Fatal("the schema has no config")
	return nil
}

func fieldRows(prefix string, fields []map[string]field) [][]string {
	var out [][]string
	for _, entry := range fields {
		for name, f := range entry {
			name = prefix + name
			switch {
			case f.Type == "record":
				out = append(out, fieldRows(name+".", f.Fields)...)
			case f.Type == "array" && f.Elements != nil && f.Elements.Type == "record":
				out = append(out, []string{"`" + name + "`", "list of records", f.defaultCell(), f.Description})
				out = append(out, fieldRows(name+"[].", f.Elements.Fields)...)
			default:
				out = append(out, []string{"`" + name + "`", f.typeCell(), f.defaultCell(), cellText(f.Description)})
			}
		}
	}
	return out
}

func cellText(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

func (f *field) typeCell() string {
	var s string
	switch {
	case len(f.OneOf) > 0:
		s = "`" + strings.Join(f.OneOf, "`, `") + "`"
	case f.Type == "array":
		s = "list of strings"
	case f.Type == "map":
		s = "map of strings"
	case f.Type == "integer" && len(f.Between) == 2:
		s = fmt.Sprintf("integer %s–%s", f.Between[0], f.Between[1])
	default:
		s = f.Type
	}
	if f.Encrypted {
		s += ", secret"
	}
	if f.Referenceable {
		s += ", may be a vault reference"
	}
	return s
}

func (f *field) defaultCell() string {
	switch v := f.Default.(type) {
	case nil:
		if f.Required {
			return "**required**"
		}
		return "–"
	case []any, map[string]any:
		return "none"
	default:
		return fmt.Sprintf("`%v`", v)
	}
}
