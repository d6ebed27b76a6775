package oidcprovider

import (
	"context"
	"embed"
	"fmt"
	"io"
	"os/exec"

	"phantomtoken/testenv/toolcache"
)

// Version is the one version of oidc-provider that this project is tested with. It is also
// in package.json.
const Version = "9.13.3"

// CacheVariable names the environment variable with the folder in which the program is
// installed. Without it, that is phantom-token/oidc-provider in the user's cache folder.
const CacheVariable = "OIDC_PROVIDER_CACHE"

//go:embed package.json package-lock.json server.mjs
var program embed.FS

// Prepare installs the program with the ordinary npm, unless an earlier call has done so, and
// returns its folder. It takes some seconds the first time. Processes that prepare at the
// same time wait for each other. log gets what npm prints.
func Prepare(ctx context.Context, log io.Writer) (string, error) {
	return toolcache.Kit{Name: "oidc-provider", Variable: CacheVariable, Files: program, Install: install}.Prepare(ctx, log)
}

func install(ctx context.Context, folder string, log io.Writer) error {
	// Exactly what package-lock.json says, checked against its checksums, and no scripts of
	// packages.
	cmd := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
	cmd.Dir = folder
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("installing with npm ci: expected Node 20 or later with npm: %w", err)
	}
	return nil
}
