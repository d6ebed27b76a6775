// Command check reads docker-compose.yml with the library that Docker Compose itself uses, so
// that a key it does not know, a service it cannot find or a variable without a value is
// found without an engine. It is a module of its own: the library's dependencies are none of
// the programs'.
//
//	go run . ../../docker-compose.yml
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: check docker-compose.yml")
		os.Exit(2)
	}
	if err := run(context.Background(), os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "check:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, file string) error {
	names, err := variables(filepath.Join(filepath.Dir(file), ".env.example"))
	if err != nil {
		return err
	}
	var env []string
	for _, name := range names {
		env = append(env, name+"=value-of-"+strings.ToLower(name))
	}
	project, err := load(ctx, file, env)
	if err != nil {
		return fmt.Errorf("with all variables of .env.example: %w", err)
	}
	// A file without its .env must be refused, with what to do about it.
	for i, name := range names {
		_, err := load(ctx, file, slices.Concat(env[:i], env[i+1:]))
		if err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "make env") {
			return fmt.Errorf("without %s: expected an error that says so and names make env, got %v", name, err)
		}
	}
	for _, name := range project.ServiceNames() {
		s := project.Services[name]
		var ports []string
		for _, p := range s.Ports {
			ports = append(ports, fmt.Sprintf("%s:%s", p.HostIP, p.Published))
		}
		fmt.Printf("%-12s %-28s %4d MiB  %s\n", name, s.Image, s.MemLimit>>20, strings.Join(ports, " "))
	}
	return order(project)
}

func load(ctx context.Context, file string, env []string) (*types.Project, error) {
	options, err := cli.NewProjectOptions([]string{file},
		cli.WithWorkingDirectory(filepath.Dir(file)),
		cli.WithEnv(env), // and nothing of this machine's
		cli.WithProfiles([]string{"*"}),
	)
	if err != nil {
		return nil, err
	}
	return options.LoadProject(ctx)
}

// variables are the names that .env.example has.
func variables(file string) ([]string, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var out []string
	for line := range strings.Lines(string(data)) {
		if name, _, ok := strings.Cut(line, "="); ok && !strings.HasPrefix(line, "#") {
			out = append(out, name)
		}
	}
	if len(out) == 0 {
		return nil, errors.New("expected names in .env.example, got none")
	}
	return out, nil
}

// order checks that the services can be started one after the other.
func order(project *types.Project) error {
	var started []string
	for len(started) < len(project.Services) {
		before := len(started)
		for _, name := range project.ServiceNames() {
			ready := !slices.Contains(started, name)
			for other := range project.Services[name].DependsOn {
				ready = ready && slices.Contains(started, other)
			}
			if ready {
				started = append(started, name)
			}
		}
		if len(started) == before {
			return fmt.Errorf("services wait for each other; only %s can start", strings.Join(started, ", "))
		}
	}
	fmt.Println("start order:", strings.Join(started, ", "))
	return nil
}
