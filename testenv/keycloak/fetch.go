package keycloak

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

// Version is the one version that this project is tested with.
const Version = "26.7.5"

const (
	coordinates = "org.keycloak:keycloak-quarkus-dist:" + Version + ":zip"
	archive     = "keycloak-quarkus-dist-" + Version + ".zip"
	// checksum is the SHA-256 of the archive, whose SHA-1 is the one that is published
	// beside it. Maven checks the latter, we check the former.
	checksum = "30ef87fb7101c43d29688d1ae80c0588ff4a151b3330e9f664bf9692d398658a"
	// fetcher is the Maven plugin that copies an artefact into a folder.
	fetcher = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy"
)

// fetch puts the archive into folder, by Maven's ordinary client and from wherever its
// settings say, and returns its path. An archive with another checksum is removed.
func fetch(ctx context.Context, folder string, log io.Writer) (string, error) {
	cmd := exec.CommandContext(ctx, "mvn", "--batch-mode", "--quiet", "--strict-checksums", fetcher,
		"-Dartifact="+coordinates, "-DoutputDirectory="+folder, "-Dmdep.useBaseVersion=true")
	cmd.Dir = folder // no pom.xml here, and none wanted
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("fetching %s with mvn: %w", coordinates, err)
	}
	file := filepath.Join(folder, archive)
	if err := verify(file, checksum); err != nil {
		_ = os.Remove(file)
		return "", fmt.Errorf("fetching %s: %w", coordinates, err)
	}
	return file, nil
}

func verify(file, want string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		return fmt.Errorf("expected an archive with SHA-256 %s, got %s", want, got)
	}
	return nil
}
