package discovery

// ParseMetadata is parseMetadata for tests of this package.
func ParseMetadata(data []byte, issuer string) error {
	_, err := parseMetadata(data, issuer)
	return err
}

// Wait waits for the fetch under way.
func (i *Issuer) Wait() { i.fetches.Wait() }

// Location is what becomes of a URL in the metadata of issuer, which is reached at internal.
func Location(issuer, internal, found string) (string, error) {
	i, err := New(Config{Issuer: issuer, InternalURL: internal})
	if err != nil {
		return "", err
	}
	defer i.Close()
	return i.location("token_endpoint", "phantom_token.token_endpoint", found)
}
