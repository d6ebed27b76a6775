package toolcache

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"strings"
)

// NPMPackages reads the package-lock.json of a kit and returns the version of each package in
// it, by name. It refuses a lock file that does not give the same everywhere: every package
// must have a SHA-512, and none the address of a registry, since that is the machine's to
// choose.
func NPMPackages(files fs.FS) (map[string]string, error) {
	data, err := fs.ReadFile(files, "package-lock.json")
	if err != nil {
		return nil, err
	}
	var lock struct {
		Packages map[string]struct {
			Version, Integrity, Resolved string
		} `json:"packages"`
	}
	if err := json.Unmarshal(data, &lock); err != nil {
		return nil, fmt.Errorf("reading package-lock.json: %w", err)
	}
	out := map[string]string{}
	for path, p := range lock.Packages {
		if path == "" {
			continue // the kit itself
		}
		if !strings.HasPrefix(p.Integrity, "sha512-") || p.Resolved != "" {
			return nil, fmt.Errorf("reading package-lock.json: %s: expected a SHA-512 and no address, got integrity %q, resolved %q", path, p.Integrity, p.Resolved)
		}
		if name, ok := strings.CutPrefix(path, "node_modules/"); ok && !strings.Contains(name, "node_modules/") {
			out[name] = p.Version
		}
	}
	return out, nil
}
