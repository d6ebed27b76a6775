package discovery

// ParseMetadata is parseMetadata for tests of this package.
func ParseMetadata(data []byte, issuer string) error {
	_, err := parseMetadata(data, issuer)
	return err
}

// Wait waits for the fetch under way.
func (i *Issuer) Wait() { i.fetches.Wait() }
