package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestRunRefuses(t *testing.T) {
	for _, tt := range []struct {
		name string
		args []string
		want string
	}{
		{"RealmThatIsMissing", []string{"-realm", "no-such-file.json"}, "reading the realm"},
		{"FlagThatIsMissing", []string{"-no-such-flag"}, "no-such-flag"},
		{"RealmThatIsNone", []string{"-realm", "main.go"}, "reading the realm"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			err := run(t.Context(), tt.args, &out, &out)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
		})
	}
}
