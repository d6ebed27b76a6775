package caller

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"strings"
)

const (
	// minSecret is the length in bytes below which a secret could be guessed (RFC 6749
	// §10.10). Nothing slows guessing down: a secret of this length, if random, needs no
	// more.
	minSecret = 16
	// maxSecret bounds a secret, and so what is read of a file with one.
	maxSecret = 4 << 10
)

// ReadSecret reads the secret in the file at path, which only its owner may write: 1 to 4096
// bytes, of which a line break at the end does not count. What the secret is worth is not
// looked at. No error has the path or the secret in it.
func ReadSecret(path string) (string, error) {
	data, err := readFile(path, "the secret", maxSecret)
	if err != nil {
		return "", err
	}
	secret := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	if secret == "" {
		return "", errors.New("expected a file with the secret, got an empty line")
	}
	return secret, nil
}

// checkSecret refuses what can be guessed, and references that somebody else should have
// resolved: everybody who reads the deployment files knows those.
func checkSecret(secret string) error {
	switch {
	case strings.ContainsAny(secret, "\r\n\x00"):
		return errors.New("expected a secret of one line, got several")
	case strings.TrimSpace(secret) != secret:
		return errors.New("expected a secret without blanks around it, got some")
	case strings.HasPrefix(secret, "{vault://"), strings.HasPrefix(secret, "$(") && strings.HasSuffix(secret, ")"), strings.HasPrefix(secret, "${") && strings.HasSuffix(secret, "}"):
		return errors.New("expected a secret, got a reference that nobody resolved")
	case len(secret) < minSecret:
		return fmt.Errorf("expected at least %d random bytes, got %d", minSecret, len(secret))
	case len(secret) > maxSecret:
		return fmt.Errorf("expected at most %d bytes, got %d", maxSecret, len(secret))
	}
	return nil
}

// digest makes secrets comparable in constant time whatever their length.
func digest(secret string) [sha256.Size]byte {
	var room [256]byte // on the stack; longer secrets cost an allocation
	return sha256.Sum256(append(room[:0], secret...))
}

// hasSecret compares with every secret, whichever it is.
func (r *registered) hasSecret(digest [sha256.Size]byte) bool {
	match := 0
	for i := range r.secrets {
		match |= subtle.ConstantTimeCompare(digest[:], r.secrets[i][:])
	}
	return match == 1
}
