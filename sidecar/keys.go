package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"phantomtoken/internal/keyring"
)

// signingKeys are the keys of this issuer: one file, which never changes, or a folder. Where
// the first key has yet to be made, another one that is never written stands in until create
// was called, so that all the rest can be checked before anything is written.
type signingKeys struct {
	source keyring.Keys                 // nil when they could not be opened
	make   func() (keyring.Keys, error) // nil when nothing has to be made
}

// Ring implements keyring.Keys.
func (k *signingKeys) Ring() *keyring.Ring { return k.source.Ring() }

// Keys implements keyring.KeySource.
func (k *signingKeys) Keys(ctx context.Context, kid string) ([]keyring.PublicKey, error) {
	return k.source.Keys(ctx, kid)
}

// folder is nil where the keys are no folder.
func (k *signingKeys) folder() *keyring.Folder {
	folder, _ := k.source.(*keyring.Folder)
	return folder
}

// create makes what is missing. It must be called before anything is served.
func (k *signingKeys) create() error {
	if k.make == nil {
		return nil
	}
	source, err := k.make()
	if err != nil {
		return err
	}
	k.source, k.make = source, nil
	return nil
}

// openSigningKeys opens the keys that sign. It writes nothing.
func openSigningKeys(cfg *config, logger *slog.Logger) (signingKeys, error) {
	if cfg.SigningKeyFile == "" {
		return signingKeys{}, errors.New(envPrefix + "SIGNING_KEY_FILE: expected the path of a key file or of a folder of keys, got nothing")
	}
	published, problem := publishedKeys(cfg)
	var (
		keys signingKeys
		err  error
	)
	switch {
	case cfg.KeyRotation != 0:
		keys, err = openRotation(cfg, published, logger)
	case keyring.IsFolder(cfg.SigningKeyFile):
		keys.source, err = openFolder(cfg, keyring.FolderConfig{Published: published, Logger: logger})
	default:
		keys, err = openKeyFile(cfg, published, logger)
	}
	return keys, errors.Join(err, problem)
}

// openFolder opens the folder that cfg names; what has no place in cfg stands in folder.
func openFolder(cfg *config, folder keyring.FolderConfig) (keyring.Keys, error) {
	folder.Dir, folder.Algorithm = cfg.SigningKeyFile, cfg.SigningAlgorithm
	keys, err := keyring.OpenFolder(folder)
	if err != nil { // not a nil *Folder in an interface
		return nil, algorithmProblem(cfg, err)
	}
	return keys, nil
}

// openRotation opens keys that take turns by themselves. What there is now is looked at
// without a schedule, which would write.
func openRotation(cfg *config, published []*keyring.Key, logger *slog.Logger) (signingKeys, error) {
	schedule := keyring.Schedule{Every: cfg.KeyRotation}
	if err := schedule.Check(); err != nil {
		return signingKeys{}, fmt.Errorf("%sKEY_ROTATION: %w", envPrefix, err)
	}
	if err := checkCreatable(filepath.Join(cfg.SigningKeyFile, "key")); err != nil {
		return signingKeys{}, fmt.Errorf("%sSIGNING_KEY_FILE, a folder with %sKEY_ROTATION: %w", envPrefix, envPrefix, err)
	}
	keys := signingKeys{make: func() (keyring.Keys, error) {
		return openFolder(cfg, keyring.FolderConfig{Published: published, Schedule: schedule, Logger: logger})
	}}
	var err error
	if keys.source, err = openFolder(cfg, keyring.FolderConfig{Published: published}); err == nil {
		return keys, nil
	}
	// A folder that is empty, or not there, is one for the first start.
	if _, err := keyring.Rotate(cfg.SigningKeyFile, cfg.SigningAlgorithm, schedule, time.Now(), true); err != nil {
		return signingKeys{}, algorithmProblem(cfg, err)
	}
	keys.source, err = generate(cfg, published)
	return keys, err
}

// openKeyFile loads one signing key.
func openKeyFile(cfg *config, published []*keyring.Key, logger *slog.Logger) (keys signingKeys, err error) {
	key, err := keyring.Load(cfg.SigningKeyFile, cfg.SigningAlgorithm)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := checkCreatable(cfg.SigningKeyFile); err != nil {
			return keys, fmt.Errorf("%sSIGNING_KEY_FILE: %w", envPrefix, err)
		}
		keys.make = func() (keyring.Keys, error) { return createKeyFile(cfg, published, logger) }
		keys.source, err = generate(cfg, published)
	case err != nil:
		err = algorithmProblem(cfg, err)
	default:
		keys.source, err = newRing(key, published)
	}
	return keys, err
}

func createKeyFile(cfg *config, published []*keyring.Key, logger *slog.Logger) (keyring.Keys, error) {
	key, err := keyring.LoadOrCreate(cfg.SigningKeyFile, cfg.SigningAlgorithm)
	if err != nil {
		return nil, algorithmProblem(cfg, err)
	}
	logger.Info("signing key created", "file", cfg.SigningKeyFile, "kid", key.ID())
	return newRing(key, published)
}

// generate makes a key that is never written.
func generate(cfg *config, published []*keyring.Key) (keyring.Keys, error) {
	key, err := keyring.Generate(cfg.SigningAlgorithm)
	if err != nil {
		return nil, algorithmProblem(cfg, err)
	}
	return newRing(key, published)
}

func newRing(key *keyring.Key, published []*keyring.Key) (keyring.Keys, error) {
	ring, err := keyring.NewRing(append([]*keyring.Key{key}, published...)...)
	if err != nil {
		return nil, fmt.Errorf("%sPUBLISHED_KEY_FILES: %w", envPrefix, err)
	}
	return ring, nil
}

func publishedKeys(cfg *config) ([]*keyring.Key, error) {
	var (
		keys     []*keyring.Key
		problems []error
	)
	for _, path := range cfg.PublishedKeyFiles {
		key, err := keyring.Load(path, "")
		if err != nil {
			problems = append(problems, fmt.Errorf("%sPUBLISHED_KEY_FILES: %w", envPrefix, err))
			continue
		}
		keys = append(keys, key)
	}
	return keys, errors.Join(problems...)
}

// algorithmProblem names the variables that can be the cause of err.
func algorithmProblem(cfg *config, err error) error {
	if cfg.SigningAlgorithm != "" {
		return fmt.Errorf("%sSIGNING_KEY_FILE, %sSIGNING_ALGORITHM: %w", envPrefix, envPrefix, err)
	}
	return fmt.Errorf("%sSIGNING_KEY_FILE: %w", envPrefix, err)
}

// checkCreatable reports why the file at path cannot be made. It tries in the nearest folder
// that exists and leaves nothing there: neither mode bits nor a look at the mounts would tell
// as surely.
func checkCreatable(path string) error {
	folder := filepath.Dir(path)
	for {
		info, err := os.Stat(folder)
		if err == nil && !info.IsDir() {
			return fmt.Errorf("expected %s to be a folder, in which the key file can be made", folder)
		}
		if err == nil {
			break
		}
		parent := filepath.Dir(folder)
		if !errors.Is(err, fs.ErrNotExist) || parent == folder {
			return fmt.Errorf("expected a folder in which the key file can be made: %w", err)
		}
		folder = parent
	}
	f, err := os.CreateTemp(folder, ".token-exchange-*")
	if err != nil {
		return fmt.Errorf("expected a folder in which the key file can be made: %w", err)
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}
