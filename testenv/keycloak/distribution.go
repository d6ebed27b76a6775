package keycloak

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"phantomtoken/testenv/toolcache"
)

// CacheVariable names the environment variable with the folder in which the distribution is
// kept. Without it, that is phantom-token/keycloak in the user's cache folder.
const CacheVariable = "KEYCLOAK_CACHE"

// buildOptions are those that Keycloak fixes when it is built: a database in memory, and
// readiness on the management port. Another set means another build.
func buildOptions() []string { return []string{"KC_DB=dev-mem", "KC_HEALTH_ENABLED=true"} }

// builtMarker says, in an unpacked distribution, that it is whole and built.
const builtMarker = ".built-for-tests"

// Prepare fetches, checks, unpacks and builds the distribution, unless an earlier call has
// done so, and returns its folder. It takes about a minute the first time. Processes that
// prepare at the same time wait for each other. log gets what Maven and Keycloak print.
func Prepare(ctx context.Context, log io.Writer) (string, error) {
	cache, err := toolcache.Folder(CacheVariable, "keycloak")
	if err != nil {
		return "", err
	}
	unlock, err := toolcache.Lock(cache)
	if err != nil {
		return "", fmt.Errorf("preparing Keycloak: %w", err)
	}
	defer unlock()
	folder := filepath.Join(cache, "keycloak-"+Version)
	if _, err := os.Stat(filepath.Join(folder, builtMarker)); err == nil {
		return folder, nil
	}
	if err := prepare(ctx, cache, folder, log); err != nil {
		return "", fmt.Errorf("preparing Keycloak: %w", err)
	}
	return folder, nil
}

func prepare(ctx context.Context, cache, folder string, log io.Writer) error {
	file, err := fetch(ctx, cache, log)
	if err != nil {
		return err
	}
	// Of an attempt that was interrupted nothing is used.
	if err := os.RemoveAll(folder); err != nil {
		return err
	}
	if err := unpack(file, cache); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(folder, "bin", "kc.sh"), "build")
	cmd.Env = append(inherited(), buildOptions()...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("building: expected Java 17 or later: %w", err)
	}
	if err := os.WriteFile(filepath.Join(folder, builtMarker), []byte(checksum+"\n"), 0o644); err != nil {
		return err
	}
	return os.Remove(file) // Maven keeps its own copy
}

// inherited is what Keycloak may know of the environment: where Java is.
func inherited() []string {
	var out []string
	for _, name := range []string{"PATH", "HOME", "JAVA_HOME", "TMPDIR"} {
		if value, ok := os.LookupEnv(name); ok {
			out = append(out, name+"="+value)
		}
	}
	return out
}

// home makes a folder from which Keycloak can be started: the programs are those of the
// distribution, the data is its own.
func home(distribution string, realm []byte) (string, error) {
	folder, err := os.MkdirTemp("", "keycloak-")
	if err != nil {
		return "", err
	}
	if err := fillHome(folder, distribution, realm); err != nil {
		return "", errors.Join(err, os.RemoveAll(folder))
	}
	return folder, nil
}

func fillHome(folder, distribution string, realm []byte) error {
	for _, name := range []string{"conf", "lib", "providers", "themes", "version.txt"} {
		if err := os.Symlink(filepath.Join(distribution, name), filepath.Join(folder, name)); err != nil {
			return err
		}
	}
	// A copy, because the script takes the folder above the real path of itself as home.
	script, err := os.ReadFile(filepath.Join(distribution, "bin", "kc.sh"))
	if err != nil {
		return err
	}
	imports := filepath.Join(folder, "data", "import")
	return errors.Join(
		os.Mkdir(filepath.Join(folder, "bin"), 0o755),
		os.WriteFile(filepath.Join(folder, "bin", "kc.sh"), script, 0o755),
		os.MkdirAll(imports, 0o755),
		os.WriteFile(filepath.Join(imports, "realm.json"), realm, 0o600),
	)
}
