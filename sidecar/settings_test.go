package main

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestHelpSaysWhatReadyMeans, because it is not what some expect of a readiness check.
func TestHelpSaysWhatReadyMeans(t *testing.T) {
	var help bytes.Buffer
	printHelp(&help)
	if !strings.Contains(help.String(), "/readyz") {
		t.Errorf("got %s, want a word about /readyz", &help)
	}
}

// TestHelpIsComplete: every setting has all that -help prints, in the form that it prints.
func TestHelpIsComplete(t *testing.T) {
	var help bytes.Buffer
	printHelp(&help)
	entry := regexp.MustCompile(`(?m)^  (TOKEN_EXCHANGE_[A-Z_]+) \(([^;]+); ([^)]+)\)\n      (\S.*\.)$`)
	found := entry.FindAllStringSubmatch(help.String(), -1)
	all := settings()
	if len(found) != len(all) || len(all) < 15 {
		t.Fatalf("got %d complete entries of %d settings:\n%s", len(found), len(all), &help)
	}
	for i, s := range all {
		if got := (setting{found[i][1], found[i][2], found[i][3], found[i][4]}); got != s {
			t.Errorf("got %+v, want %+v", got, s)
		}
	}
}

// TestNamedVariablesExist reads the code of the sidecar: a variable that a message tells
// somebody to change must be a setting.
func TestNamedVariablesExist(t *testing.T) {
	known := make(map[string]bool)
	for _, s := range settings() {
		known[s.name] = true
	}
	named := 0
	for _, folder := range []string{".", "../internal/policy", "../internal/delegation", "../internal/keyring", "../internal/oauth"} {
		err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			for pattern, prefix := range map[string]string{
				`\b(TOKEN_EXCHANGE_[A-Z]\w*[A-Z])\b`:              "",
				`envPrefix ?\+ ?"([A-Z][A-Z_]+[A-Z])`:             envPrefix,
				`%s((?:[A-Z]+_)+[A-Z]+)`:                          envPrefix, // in a format with envPrefix
				`note\("([A-Z_]+)"`:                               envPrefix,
				`[^.]problem\("([A-Z_]+)"`:                        envPrefix + "IDP_",
				`(?:remoteKeys|listenTCP)\((?:cfg, )?"([A-Z_]+)"`: envPrefix,
			} {
				for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(string(data), -1) {
					named++
					if !known[prefix+m[1]] {
						t.Errorf("%s names %s, which is no setting", path, prefix+m[1])
					}
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if named < 80 {
		t.Errorf("only %d names found: the patterns no longer fit the code", named)
	}
}
