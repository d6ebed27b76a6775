package house_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "phantomtoken"

// room is one row of the table "Who may import whom" of docs/architecture.md.
type room struct {
	dir     string
	modules []string // rooms of ours; "*" for all
	third   []string // modules of others; "*" for all
}

func rooms(t *testing.T) []room {
	t.Helper()
	lines, _ := section(read(t, "docs/architecture.md"), "Who may import whom")
	var out []room
	for _, line := range lines {
		cells := row(line)
		if len(cells) < 3 || len(code(cells[0])) != 1 {
			continue
		}
		out = append(out, room{code(cells[0])[0], code(cells[1]), code(cells[2])})
	}
	if len(out) == 0 {
		t.Fatal("docs/architecture.md: the table under \"Who may import whom\" is missing")
	}
	return out
}

// roomOf returns the room of the longest name that holds dir.
func roomOf(rooms []room, dir string) *room {
	var best *room
	for i := range rooms {
		if within(dir, rooms[i].dir) && (best == nil || len(rooms[i].dir) > len(best.dir)) {
			best = &rooms[i]
		}
	}
	return best
}

// importProblems says which imports of f the table does not allow. Tests may use testenv
// and modules of others beside what their room may.
func importProblems(f *goFile, rooms []room) []string {
	r := roomOf(rooms, f.dir())
	if r == nil {
		return []string{fmt.Sprintf("%s: folder is in no room of docs/architecture.md", f.path)}
	}
	var out []string
	for _, spec := range f.ast.Imports {
		name, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue
		}
		rel, ours := strings.CutPrefix(name, module+"/")
		switch {
		case ours:
			to := roomOf(rooms, rel)
			if to == nil || to.dir != r.dir && !slices.Contains(r.modules, to.dir) && !slices.Contains(r.modules, "*") &&
				!(f.test() && to.dir == "testenv") {
				out = append(out, fmt.Sprintf("%s:%d: %s must not import %s", f.path, f.line(spec.Pos()), r.dir, rel))
			}
		case strings.Contains(strings.Split(name, "/")[0], ".") && !f.test():
			if !slices.ContainsFunc(r.third, func(m string) bool { return m == "*" || within(name, m) }) {
				out = append(out, fmt.Sprintf("%s:%d: %s must not import %s", f.path, f.line(spec.Pos()), r.dir, name))
			}
		}
	}
	return out
}

func TestImportsFollowTheTable(t *testing.T) {
	rooms := rooms(t)
	var found []string
	used := map[string]bool{}
	for _, f := range goFiles(t) {
		found = append(found, importProblems(f, rooms)...)
		if r := roomOf(rooms, f.dir()); r != nil {
			used[r.dir] = true
		}
	}
	for _, r := range rooms {
		if !used[r.dir] {
			found = append(found, fmt.Sprintf("docs/architecture.md: room %s is empty", r.dir))
		}
	}
	problems(t, found)
}

// The table itself must say what the design rests on, whoever edits it.
func TestRoomsThatNeverMeet(t *testing.T) {
	rooms := rooms(t)
	never := []struct{ from, to string }{
		{"kong-plugin", "sidecar"},
		{"sidecar", "kong-plugin"},
		{"internal/oauth", "*"},
		{"tokenexchange", "internal/oauth"},
		{"tokenexchange", "internal/keyring"},
		{"sidecar/exchange", "sidecar/sts"},
		{"sidecar/exchange", "sidecar/egress"},
		{"sidecar/sts", "sidecar/egress"},
		{"sidecar/egress", "sidecar/exchange"},
		{"internal/policy", "internal/keyring"},
		{"kong-plugin", "testenv"},
		{"sidecar", "testenv"},
		{"internal/gate", "github.com/Kong/go-pdk"},
		{"tokenexchange", "github.com/Kong/go-pdk"},
	}
	for _, n := range never {
		r := roomOf(rooms, n.from)
		if r == nil || r.dir != n.from {
			t.Errorf("room %s is missing", n.from)
			continue
		}
		if n.to == "*" && len(r.modules) > 0 || slices.Contains(r.modules, n.to) || slices.Contains(r.modules, "*") || slices.Contains(r.third, n.to) {
			t.Errorf("%s may import %q, want never %s", n.from, append(r.modules, r.third...), n.to)
		}
	}
}

func TestImportProblemsAreFound(t *testing.T) {
	rooms := []room{
		{dir: "plugin", modules: []string{"inner"}, third: []string{"github.com/kong"}},
		{dir: "side"}, {dir: "inner"}, {dir: "testenv", modules: []string{"*"}},
	}
	tests := []struct {
		name, path, imports string
		want                int
	}{
		{"AllowedRoom", "plugin/a.go", "phantomtoken/inner/x", 0},
		{"OwnRoom", "plugin/a.go", "phantomtoken/plugin/server", 0},
		{"StandardLibrary", "inner/a.go", "net/http", 0},
		{"OtherSide", "plugin/a.go", "phantomtoken/side", 1},
		{"ThirdPartyOfAnotherRoom", "inner/a.go", "github.com/kong/pdk", 1},
		{"ThirdPartyOfItsRoom", "plugin/a.go", "github.com/kong/pdk", 0},
		{"TestenvFromCode", "inner/a.go", "phantomtoken/testenv/x", 1},
		{"TestenvFromTest", "inner/a_test.go", "phantomtoken/testenv/x", 0},
		{"FolderWithoutRoom", "stray/a.go", "net/http", 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := parseGo(t, tt.path, []byte("package p\nimport _ \""+tt.imports+"\"\n"))
			if got := importProblems(f, rooms); len(got) != tt.want {
				t.Errorf("got %q, want %d problems", got, tt.want)
			}
		})
	}
}
