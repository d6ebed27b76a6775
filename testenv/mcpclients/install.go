package mcpclients

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"phantomtoken/testenv/toolcache"
)

// CacheVariable names the environment variable with the folder in which the clients are
// installed. Without it, that is phantom-token/mcp-clients in the user's cache folder.
const CacheVariable = "MCP_CLIENTS_CACHE"

//go:embed package.json package-lock.json requirements.txt session.mjs typescript1.mjs typescript2.mjs client.py fastmcp_client.py
var programs embed.FS

func kit() toolcache.Kit {
	return toolcache.Kit{Name: "mcp-clients", Variable: CacheVariable, Files: programs, Install: install}
}

// Install installs the clients with the ordinary npm and pip, unless that has been done, and
// returns their folder. It takes half a minute the first time. log gets what the two print.
func Install(ctx context.Context, log io.Writer) (string, error) {
	return kit().Prepare(ctx, log)
}

func install(ctx context.Context, folder string, log io.Writer) error {
	for _, step := range []struct {
		needs   string
		command []string
	}{
		// Exactly what the lock files say, checked against their checksums, and no scripts of
		// packages.
		{"Node 20 or later with npm", []string{"npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"}},
		{"Python 3.11 or later with venv", []string{"python3", "-m", "venv", "python"}},
		{"pip of that Python", []string{pythonIn("."), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "--only-binary", ":all:", "-r", "requirements.txt"}},
	} {
		cmd := exec.CommandContext(ctx, step.command[0], step.command[1:]...)
		cmd.Dir = folder
		cmd.Stdout, cmd.Stderr = log, log
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("running %s: expected %s: %w", step.command[0], step.needs, err)
		}
	}
	return nil
}

func pythonIn(folder string) string { return filepath.Join(folder, "python", "bin", "python") }

// Find returns the folder of the installed clients. Its error says in one sentence what is
// missing and how to get it.
func Find() (string, error) {
	folder, err := kit().Find()
	if errors.Is(err, os.ErrNotExist) {
		return "", errors.New("the MCP clients of package-lock.json and requirements.txt are not installed: run make mcp-clients, which needs Node 20 or later with npm and Python 3.11 or later with venv")
	}
	if err != nil {
		return "", err
	}
	if _, err := exec.LookPath("node"); err != nil {
		return "", errors.New("the MCP clients are installed but Node is not: install Node 20 or later")
	}
	return folder, nil
}
