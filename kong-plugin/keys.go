package main

import (
	"flag"
	"fmt"
	"io"
	"time"

	"phantomtoken/internal/keyring"
)

// keysCommand makes and shows the keys that plugin and sidecar sign with.
func keysCommand(args []string, stdout, stderr io.Writer) error {
	if len(args) > 0 {
		switch args[0] {
		case "rotate":
			return rotateKeysCommand(args[1:], stdout, stderr, time.Now())
		case "list":
			return listKeysCommand(args[1:], stdout, stderr, time.Now())
		}
	}
	return makeKeyCommand(args, stdout, stderr)
}

// makeKeyCommand makes a single key file and prints what others may know of it. An existing
// file stays as it is.
func makeKeyCommand(args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("phantom-token keys", flag.ContinueOnError)
	out := flags.String("out", "", "key `file`, made with mode 0600 when absent")
	alg := flags.String("alg", "", "signature `algorithm` of a new key: ES256 (default), RS256, PS256 or EdDSA")
	if err := parse(flags, args, stderr); err != nil {
		return err
	}
	if *out == "" {
		return fmt.Errorf("%w: expected phantom-token keys -out FILE [-alg ALGORITHM], or phantom-token keys rotate or list", errUsage)
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
