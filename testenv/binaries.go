package testenv

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// Binaries are the paths of the two programs of this project.
type Binaries struct {
	Plugin  string // its file name must be phantom-token: Kong takes the plugin's name from it
	Sidecar string
}

// BinariesIn returns the programs that `make build` puts into dir.
func BinariesIn(dir string) Binaries {
	return Binaries{
		Plugin:  filepath.Join(dir, "phantom-token"),
		Sidecar: filepath.Join(dir, "token-exchange-sidecar"),
	}
}

// Build builds both programs into dir with the go command, flags given to `go build`. The
// working directory must be inside the module.
func Build(ctx context.Context, dir string, flags ...string) (Binaries, error) {
	b := BinariesIn(dir)
	for _, target := range []struct{ pkg, output string }{
		{"phantomtoken/kong-plugin", b.Plugin},
		{"phantomtoken/sidecar", b.Sidecar},
	} {
		args := append([]string{"build"}, flags...)
		args = append(args, "-o", target.output, target.pkg)
		if out, err := exec.CommandContext(ctx, "go", args...).CombinedOutput(); err != nil {
			return Binaries{}, fmt.Errorf("building %s: %w\n%s", target.pkg, err, out)
		}
	}
	return b, nil
}

// moduleRoot is the folder of go.mod, where kong.yml is.
func moduleRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("asking the go command for the module: %w", err)
	}
	file := strings.TrimSpace(string(out))
	if filepath.Base(file) != "go.mod" {
		return "", errors.New("expected the working directory to be inside the module")
	}
	return filepath.Dir(file), nil
}
