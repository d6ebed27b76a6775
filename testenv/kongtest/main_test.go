package kongtest_test

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/Kong/go-pdk/server"
)

// TestMain turns the test binary into a plugin when it is called by a plugin's name: a
// plugin process inherits no environment that could say so.
func TestMain(m *testing.M) {
	if _, err := os.Stat(definitionFile(os.Args[0])); err == nil {
		if err := runPlugin(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// definition is what a test's plugin prints for -dump.
type definition struct {
	Version  string          `json:",omitempty"`
	Priority int             `json:",omitempty"`
	Phases   []string        `json:",omitempty"`
	Schema   json.RawMessage `json:",omitempty"`
	// Stock leaves -dump to go-pdk.
	Stock bool `json:",omitempty"`
}

func definitionFile(binary string) string { return binary + ".json" }

// plugin makes a plugin of that name of the test binary and returns its path. Without a
// schema of its own it has the one field tag.
func plugin(t testing.TB, name string, def definition) string {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, name)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// A link, not a symbolic one: the plugin's name is that of its file.
	if err := os.Link(self, path); err != nil {
		if err := copyFile(path, self); err != nil {
			t.Fatal(err)
		}
	}
	if def.Version == "" {
		def.Version = "1.0.0"
	}
	if def.Priority == 0 {
		def.Priority = 1000
	}
	if def.Phases == nil {
		def.Phases = []string{"access"}
	}
	if def.Schema == nil {
		def.Schema = json.RawMessage(fmt.Sprintf(`{"name":%q,"fields":[{"config":{"type":"record","fields":[{"tag":{"type":"string"}}]}}]}`, name))
	}
	data, err := json.Marshal(def)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(definitionFile(path), data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o700)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	return err
}

// runPlugin is the main function of a plugin: -dump prints the definition, otherwise
// go-pdk's own server serves.
func runPlugin() error {
	data, err := os.ReadFile(definitionFile(os.Args[0]))
	if err != nil {
		return err
	}
	var def definition
	if err := json.Unmarshal(data, &def); err != nil {
		return err
	}
	for _, arg := range os.Args[1:] {
		if arg == "-dump" && !def.Stock {
			info := map[string]any{
				"Name": filepath.Base(os.Args[0]), "Version": def.Version, "Priority": def.Priority,
				"Phases": def.Phases, "Schema": def.Schema,
			}
			return json.NewEncoder(os.Stdout).Encode(map[string]any{"Protocol": "ProtoBuf:1", "Plugins": []any{info}})
		}
	}
	return server.StartServer(func() any { return new(probe) }, def.Version, def.Priority)
}
