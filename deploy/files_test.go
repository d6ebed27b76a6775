package deploy_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// root is the folder of go.mod, seen from this package.
const root = ".."

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// dockerfile is a Dockerfile with its lines joined. Paths are relative to the context.
type dockerfile struct {
	name, context string
	instructions  [][]string // words
}

// dockerfiles reads all there are. Their context is the root, except for Keycloak's, which
// needs no file of ours.
func dockerfiles(t *testing.T) []dockerfile {
	t.Helper()
	names, err := filepath.Glob("*/Dockerfile")
	if err != nil || len(names) < 4 {
		t.Fatalf("expected the Dockerfiles of kong, sidecar, samples and keycloak, got %q, %v", names, err)
	}
	var out []dockerfile
	for _, name := range names {
		d := dockerfile{name: "deploy/" + filepath.ToSlash(name)}
		if name == filepath.Join("keycloak", "Dockerfile") {
			d.context = "deploy/keycloak"
		}
		text := regexp.MustCompile(`(?m)^\s*#.*\n`).ReplaceAllString(read(t, d.name), "")
		for line := range strings.Lines(strings.ReplaceAll(text, "\\\n", " ")) {
			if words := strings.Fields(line); len(words) > 0 {
				d.instructions = append(d.instructions, words)
			}
		}
		out = append(out, d)
	}
	return out
}

// copied are the files and folders of the context that a Dockerfile copies.
func (d dockerfile) copied() []string {
	var out []string
	for _, words := range d.instructions {
		if words[0] != "COPY" && words[0] != "ADD" {
			continue
		}
		sources := slices.DeleteFunc(slices.Clone(words[1:len(words)-1]), func(w string) bool { return strings.HasPrefix(w, "--") })
		if !slices.ContainsFunc(words, func(w string) bool { return strings.HasPrefix(w, "--from=") }) {
			out = append(out, sources...)
		}
	}
	return out
}

var built = regexp.MustCompile(`\./[a-z][a-z/-]*`)

func TestDockerfilesCopyWhatExists(t *testing.T) {
	ignored := map[string]bool{}
	for line := range strings.Lines(read(t, ".dockerignore")) {
		ignored[strings.TrimSpace(line)] = true
	}
	for _, d := range dockerfiles(t) {
		for _, source := range d.copied() {
			if _, err := os.Stat(filepath.Join(root, d.context, source)); err != nil {
				t.Errorf("%s copies %s: %v", d.name, source, err)
			}
			if ignored[source] {
				t.Errorf("%s copies %s, which .dockerignore leaves out", d.name, source)
			}
		}
	}
}

// What a program is built of must be copied before it is built.
func TestDockerfilesCopyWhatIsBuilt(t *testing.T) {
	builds := 0
	for _, d := range dockerfiles(t) {
		copied := d.copied()
		for _, words := range d.instructions {
			line := strings.Join(words, " ")
			if words[0] != "RUN" || !strings.Contains(line, "go build") {
				continue
			}
			builds++
			if !strings.Contains(line, "CGO_ENABLED=0 go build -trimpath -buildvcs=false ") {
				t.Errorf("%s: expected the flags of the release check, got %s", d.name, line)
			}
			args := append([]string{"list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}"}, built.FindAllString(line, -1)...)
			cmd := exec.CommandContext(t.Context(), "go", args...)
			cmd.Dir = root
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("go %s: %v", strings.Join(args, " "), err)
			}
			for _, name := range strings.Fields(string(out)) {
				dir, ours := strings.CutPrefix(name, "phantomtoken/")
				if ours && !slices.ContainsFunc(copied, func(c string) bool { return dir == c || strings.HasPrefix(dir, c+"/") }) {
					t.Errorf("%s builds %s and does not copy it", d.name, dir)
				}
			}
		}
	}
	if builds != 3 {
		t.Errorf("programs are built in %d Dockerfiles, want 3", builds)
	}
}

// Every base image names a version, and all programs are built with one Go, which go.mod
// allows.
func TestDockerfilesPinVersions(t *testing.T) {
	versions := map[string][]string{}
	for _, d := range dockerfiles(t) {
		defaults := map[string]string{}
		for _, words := range d.instructions {
			switch words[0] {
			case "ARG":
				name, value, _ := strings.Cut(words[1], "=")
				defaults["${"+name+"}"] = value
				if name == "GO_VERSION" {
					versions[value] = append(versions[value], d.name)
				}
			case "FROM":
				image := words[1]
				for name, value := range defaults {
					image = strings.ReplaceAll(image, name, value)
				}
				if image != "scratch" && !regexp.MustCompile(`^[a-z./-]+:\d+\.\d+\.\d+(@sha256:[0-9a-f]{64})?$`).MatchString(image) {
					t.Errorf("%s: FROM %s: expected a full version", d.name, image)
				}
			}
		}
	}
	if len(versions) != 1 {
		t.Fatalf("versions of Go: got %v, want one", versions)
	}
	needed := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(read(t, "go.mod"))
	for version := range versions {
		if needed == nil || !strings.HasPrefix(version, needed[1]+".") {
			t.Errorf("Dockerfiles build with Go %s, go.mod says %v", version, needed)
		}
	}
}

// The last user of an image is not root.
func TestImagesAreNotRoot(t *testing.T) {
	for _, d := range dockerfiles(t) {
		if d.context != "" {
			continue // Keycloak's image has its user
		}
		user, images := "", 0
		check := func() {
			if user == "root" || user == "0" || images > 1 && user == "" {
				t.Errorf("%s: an image runs as %q", d.name, user)
			}
		}
		for _, words := range d.instructions {
			switch words[0] {
			case "FROM":
				check()
				user = ""
				images++
				if words[len(words)-1] == "build" {
					user = "nobody" // never run
				}
			case "USER":
				user = words[1]
			}
		}
		check()
	}
}
