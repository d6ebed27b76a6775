package keyring

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"phantomtoken/internal/oauth"
)

// JWKSPath is where the JWK Set of an issuer is served, below the issuer's own path.
const JWKSPath = "/jwks.json"

// Issuer is what an issuer of tokens tells the world: its metadata (RFC 8414 §3, OpenID
// Connect Discovery §4) and its public keys, so that any OpenID Connect library can
// verify what it signs. The documents are made anew when its keys have changed. An Issuer
// is safe for concurrent use.
type Issuer struct {
	metadata oauth.IssuerMetadata
	keys     []Keys
	current  atomic.Pointer[documents]
}

// documents are what an issuer serves while it has these rings.
type documents struct {
	rings  []*Ring
	byPath map[string][]byte // the same paths, whatever the keys
}

// NewIssuer makes the documents of metadata.Issuer, an absolute http or https URL
// without query and fragment; whether http is acceptable is the caller's policy. All keys
// are published, those of the first ring first, and as they are at the time of a request.
//
// Empty fields of metadata are filled: JWKSURI with the issuer and JWKSPath, the signing
// algorithms with those of the keys, and the two members that OpenID Connect Discovery
// §3 requires of everybody, with what is true of an issuer without an authorization
// endpoint.
func NewIssuer(metadata oauth.IssuerMetadata, keys ...Keys) (*Issuer, error) {
	i := &Issuer{metadata: metadata, keys: slices.Clone(keys)}
	rings := make([]*Ring, len(keys))
	for n, k := range keys {
		if k != nil {
			rings[n] = k.Ring()
		}
		if rings[n] == nil {
			return nil, errors.New("making issuer documents: expected keys, got nil")
		}
	}
	if err := i.remake(rings); err != nil {
		return nil, err
	}
	return i, nil
}

// remake makes the documents for other rings.
func (i *Issuer) remake(rings []*Ring) error {
	all := &published{}
	for _, r := range rings {
		for _, k := range r.keys {
			all.add(k.public)
		}
	}
	byPath, err := makeDocuments(i.metadata, all)
	if err != nil {
		return err
	}
	i.current.Store(&documents{rings, byPath})
	return nil
}

// NewPublicIssuer is NewIssuer for somebody who serves the documents of an issuer without
// having its private keys.
func NewPublicIssuer(metadata oauth.IssuerMetadata, keys PublicKeys) (*Issuer, error) {
	all := &published{}
	for _, k := range keys {
		all.add(k)
	}
	byPath, err := makeDocuments(metadata, all)
	if err != nil {
		return nil, err
	}
	i := &Issuer{metadata: metadata}
	i.current.Store(&documents{byPath: byPath})
	return i, nil
}

// published is the keys of an issuer, each once.
type published struct {
	keys PublicKeys
	err  error
}

func (p *published) add(key PublicKey) {
	switch i := slices.IndexFunc(p.keys, func(have PublicKey) bool { return have.ID == key.ID }); {
	case i < 0:
		p.keys = append(p.keys, key)
	case p.keys[i].Algorithm != key.Algorithm || !samePublicKey(p.keys[i].Key, key.Key):
		p.err = fmt.Errorf("expected one key and one algorithm for id %q, got several", clip(key.ID))
	}
}

func makeDocuments(metadata oauth.IssuerMetadata, all *published) (map[string][]byte, error) {
	base, err := oauth.ParseResource(metadata.Issuer)
	if err == nil && strings.Contains(metadata.Issuer, "?") {
		err = errors.New("expected a URL without query")
	}
	if err != nil {
		return nil, fmt.Errorf("making issuer documents: issuer: %w", err)
	}
	if len(all.keys) == 0 && all.err == nil {
		all.err = errors.New("expected at least one key, got none")
	}
	if all.err != nil {
		return nil, fmt.Errorf("making issuer documents: %w", all.err)
	}
	jwks, err := marshalJWKS(all.keys)
	if err != nil {
		return nil, fmt.Errorf("making issuer documents: %w", err)
	}
	var algorithms []string
	for _, k := range all.keys {
		if !slices.Contains(algorithms, k.Algorithm) {
			algorithms = append(algorithms, k.Algorithm)
		}
	}

	if metadata.JWKSURI == "" {
		metadata.JWKSURI = strings.TrimSuffix(metadata.Issuer, "/") + JWKSPath
	}
	if len(metadata.IDTokenAlgorithms) == 0 {
		metadata.IDTokenAlgorithms = algorithms
	}
	if len(metadata.ResponseTypesSupported) == 0 {
		metadata.ResponseTypesSupported = []string{"none"}
	}
	if len(metadata.SubjectTypesSupported) == 0 {
		metadata.SubjectTypesSupported = []string{"public"}
	}
	document, err := json.Marshal(metadata)
	if err != nil {
		return nil, fmt.Errorf("making issuer documents: %w", err)
	}

	// RFC 8414 §3.1 puts the well-known part between host and path, OpenID Connect
	// Discovery §4.1 behind the path. Libraries mix the two, so both are served for both.
	path := base.Path()
	return map[string][]byte{
		oauth.WellKnownAuthorizationServer + path: document,
		oauth.WellKnownOpenIDConfiguration + path: document,
		path + oauth.WellKnownAuthorizationServer: document,
		path + oauth.WellKnownOpenIDConfiguration: document,
		path + JWKSPath: jwks,
	}, nil
}

// URL is the issuer identifier, byte for byte as in the metadata.
func (i *Issuer) URL() string { return i.metadata.Issuer }

// Document returns the JSON document that is served at path, the path of a request
// without its query, and reports whether there is one. JWK Sets are the documents whose
// path ends in JWKSPath. Nobody may keep one longer than DocumentMaxAge.
func (i *Issuer) Document(path string) (body []byte, ok bool) {
	current := i.current.Load()
	if _, ok := current.byPath[path]; !ok {
		return nil, false // the keys are not asked for: this may be any request
	}
	if !current.upToDate(i.keys) {
		rings := make([]*Ring, len(i.keys))
		for n, k := range i.keys {
			rings[n] = k.Ring()
		}
		// Keys that do not go together leave the documents as they are.
		if i.remake(rings) == nil {
			current = i.current.Load()
		}
	}
	return bytes.Clone(current.byPath[path]), true
}

func (d *documents) upToDate(keys []Keys) bool {
	for n, k := range keys {
		if k.Ring() != d.rings[n] {
			return false
		}
	}
	return true
}
