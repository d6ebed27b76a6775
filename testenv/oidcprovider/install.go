package oidcprovider

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// Version is the one version of oidc-provider that this project is tested with. It is also
// in package.json.
const Version = "9.13.3"

// CacheVariable names the environment variable with the folder in which the program is
// installed. Without it, that is phantom-token/oidc-provider in the user's cache folder.
const CacheVariable = "OIDC_PROVIDER_CACHE"

//go:embed package.json package-lock.json server.mjs
var program embed.FS

// files are the names in program, in the order in which they are hashed.
func files() []string { return []string{"package.json", "package-lock.json", "server.mjs"} }

// installedMarker says, in a folder, that everything is there.
const installedMarker = ".installed"

func cacheFolder() (string, error) {
	if folder := os.Getenv(CacheVariable); folder != "" {
		return filepath.Abs(folder)
	}
	folder, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("finding the cache folder: set %s: %w", CacheVariable, err)
	}
	return filepath.Join(folder, "phantom-token", "oidc-provider"), nil
}

// Prepare installs the program with the ordinary npm, unless an earlier call has done so, and
// returns its folder. It takes some seconds the first time. Processes that prepare at the
// same time wait for each other. log gets what npm prints.
func Prepare(ctx context.Context, log io.Writer) (string, error) {
	cache, err := cacheFolder()
	if err != nil {
		return "", err
	}
	folder, err := prepare(ctx, cache, log)
	if err != nil {
		return "", fmt.Errorf("preparing oidc-provider: %w", err)
	}
	return folder, nil
}

func prepare(ctx context.Context, cache string, log io.Writer) (string, error) {
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	unlock, err := lock(filepath.Join(cache, "lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	sum, err := checksum()
	if err != nil {
		return "", err
	}
	folder := filepath.Join(cache, Version+"-"+sum[:12])
	if _, err := os.Stat(filepath.Join(folder, installedMarker)); err == nil {
		return folder, nil
	}
	return folder, install(ctx, folder, log)
}

// checksum tells one program from another: a change means a folder of its own.
func checksum() (string, error) {
	h := sha256.New()
	for _, name := range files() {
		data, err := program.ReadFile(name)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%s %d\n", name, len(data))
		h.Write(data)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func install(ctx context.Context, folder string, log io.Writer) error {
	// Of an attempt that was interrupted nothing is used.
	if err := os.RemoveAll(folder); err != nil {
		return err
	}
	if err := os.Mkdir(folder, 0o755); err != nil {
		return err
	}
	for _, name := range files() {
		data, err := program.ReadFile(name)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(folder, name), data, 0o644); err != nil {
			return err
		}
	}
	// Exactly what package-lock.json says, checked against its checksums, and no scripts of
	// packages.
	cmd := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
	cmd.Dir = folder
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("installing with npm ci: expected Node 20 or later with npm: %w", err)
	}
	return os.WriteFile(filepath.Join(folder, installedMarker), nil, 0o644)
}

// lock waits for the lock of a file, which ends with this process at the latest.
func lock(file string) (unlock func(), err error) {
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("locking %s: %w", file, err), f.Close())
	}
	return func() { _ = f.Close() }, nil
}
