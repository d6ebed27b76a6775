// Command release builds the programs for every platform they are released for, each twice,
// and checks what a release promises: the same bytes from the same sources in whatever
// folder and with an empty build cache, one static file that needs no library, and a sidecar
// of less than 20 MB. It prints the sizes and keeps nothing.
//
// Run it in the root of the repository: `make release-check`.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
)

// program is one binary of a release.
type program struct {
	pkg, name string
	limit     int64 // bytes; 0: none
	stripped  bool  // built without symbols
}

var (
	programs = [...]program{
		{pkg: "./kong-plugin", name: "phantom-token"},
		{pkg: "./sidecar", name: "token-exchange-sidecar", limit: 20_000_000, stripped: true},
	}
	machines = [...]struct {
		arch string
		elf  elf.Machine
	}{{"amd64", elf.EM_X86_64}, {"arm64", elf.EM_AARCH64}}

	// flags are those of the Dockerfiles: without paths of this machine and without the
	// state of the checkout, which is not part of what is built.
	flags = [...]string{"build", "-trimpath", "-buildvcs=false"}
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "release-")
	if err != nil {
		return fmt.Errorf("making a folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	// The second build has other sources and another cache, or it would prove nothing.
	sources := filepath.Join(dir, "sources")
	if err := copyModule(ctx, sources); err != nil {
		return err
	}
	first := build{folder: ".", to: filepath.Join(dir, "first")}
	second := build{folder: sources, to: filepath.Join(dir, "second"), cache: filepath.Join(dir, "cache")}
	var problems []error
	for _, m := range machines {
		for _, p := range programs {
			file, err := first.program(ctx, p, m.arch)
			if err != nil {
				return err
			}
			again, err := second.program(ctx, p, m.arch)
			if err != nil {
				return err
			}
			data, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			same, err := os.ReadFile(again)
			if err != nil {
				return err
			}
			fmt.Fprintf(out, "%-22s linux/%-5s %5.1f MB  sha256 %x\n", p.name, m.arch, float64(len(data))/1e6, sha256.Sum256(data))
			if !bytes.Equal(data, same) {
				problems = append(problems, fmt.Errorf("%s for %s: expected the same bytes from two builds, got two binaries", p.name, m.arch))
			}
			if p.limit > 0 && int64(len(data)) >= p.limit {
				problems = append(problems, fmt.Errorf("%s for %s: expected less than %d bytes, got %d", p.name, m.arch, p.limit, len(data)))
			}
			if err := checkStatic(bytes.NewReader(data), m.elf); err != nil {
				problems = append(problems, fmt.Errorf("%s for %s: %w", p.name, m.arch, err))
			}
		}
	}
	if len(problems) == 0 {
		fmt.Fprintln(out, "reproducible, static, and small enough")
	}
	return errors.Join(problems...)
}

// build is one way to build: from the module in folder into the folder to.
type build struct {
	folder, to string
	cache      string // of the go command; empty: the usual one
}

func (b build) program(ctx context.Context, p program, arch string) (string, error) {
	file := filepath.Join(b.to, arch, p.name)
	args := flags[:]
	if p.stripped {
		args = append(args, "-ldflags=-s -w")
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "-o", file, p.pkg)...)
	cmd.Dir = b.folder
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch, "GOFLAGS=")
	if b.cache != "" {
		cmd.Env = append(cmd.Env, "GOCACHE="+b.cache)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building %s for %s: %w\n%s", p.name, arch, err, out)
	}
	return file, nil
}

// copyModule copies what the programs are built of to another folder.
func copyModule(ctx context.Context, to string) error {
	args := []string{"list", "-deps", "-f", `{{if and .Module .Module.Main}}{{$d := .ImportPath}}{{range .GoFiles}}{{$d}}/{{.}}
{{end}}{{range .EmbedFiles}}{{$d}}/{{.}}
{{end}}{{end}}`}
	for _, p := range programs {
		args = append(args, p.pkg)
	}
	out, err := exec.CommandContext(ctx, "go", args...).Output()
	if err != nil {
		return fmt.Errorf("listing sources: %w", err)
	}
	files := []string{"go.mod", "go.sum"}
	for _, line := range strings.Fields(string(out)) {
		_, file, _ := strings.Cut(line, "/") // behind the name of the module
		files = append(files, file)
	}
	for _, file := range files {
		data, err := os.ReadFile(filepath.FromSlash(file))
		if err != nil {
			return fmt.Errorf("copying sources: %w", err)
		}
		target := filepath.Join(to, filepath.FromSlash(file))
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return fmt.Errorf("copying sources: %w", err)
		}
		if err := os.WriteFile(target, data, 0o644); err != nil {
			return fmt.Errorf("copying sources: %w", err)
		}
	}
	return nil
}

// checkStatic reports why a binary is not a static one for machine: it asks for an
// interpreter or for libraries.
func checkStatic(r io.ReaderAt, machine elf.Machine) error {
	f, err := elf.NewFile(r)
	if err != nil {
		return fmt.Errorf("reading file header: %w", err)
	}
	if f.Machine != machine {
		return fmt.Errorf("expected a binary for %s, got one for %s", machine, f.Machine)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			return fmt.Errorf("expected a static binary, got one with %s", p.Type)
		}
	}
	return nil
}
