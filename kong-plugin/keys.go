package main

import (
	"flag"
	"fmt"
	"io"

	"phantomtoken/internal/keyring"
)

// keysCommand makes the key file that plugin and sidecar sign with, and prints what others
// may know of it. An existing file stays as it is.
func keysCommand(args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("phantom-token keys", flag.ContinueOnError)
	out := flags.String("out", "", "key file, made with mode 0600 when absent")
	alg := flags.String("alg", "", "signature algorithm of a new key: ES256 (default), RS256, PS256 or EdDSA")
	if err := parse(flags, args, stderr); err != nil {
		return err
	}
	if *out == "" {
		return fmt.Errorf("%w: expected phantom-token keys -out FILE [-alg ALGORITHM]", errUsage)
	}
	key, err := keyring.LoadOrCreate(*out, *alg)
	if err != nil {
		return fmt.Errorf("making the key: %w", err)
	}
	ring, err := keyring.NewRing(key)
	if err != nil {
		return fmt.Errorf("making the key: %w", err)
	}
	if _, err := fmt.Fprintf(stdout, "kid %s\nalg %s\n%s\n", key.ID(), key.Algorithm(), ring.JWKS()); err != nil {
		return fmt.Errorf("printing the public key: %w", err)
	}
	return nil
}
