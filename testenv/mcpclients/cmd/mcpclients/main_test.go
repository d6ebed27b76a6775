package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"phantomtoken/testenv/mcpclients"
)

func TestRunRefuses(t *testing.T) {
	t.Setenv(mcpclients.CacheVariable, filepath.Join(t.TempDir(), "nothing-here"))
	for _, tt := range []struct {
		name string
		args []string
		want string
	}{
		{"NotInstalled", nil, "are not installed"},
		{"FlagThatIsMissing", []string{"-no-such-flag"}, "no-such-flag"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			if err := run(t.Context(), tt.args, &out, &out); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
		})
	}
}
