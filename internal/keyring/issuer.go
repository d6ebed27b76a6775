package keyring

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"phantomtoken/internal/oauth"
)

// JWKSPath is where the JWK Set of an issuer is served, below the issuer's own path.
const JWKSPath = "/jwks.json"

// Issuer is what an issuer of tokens tells the world: its metadata (RFC 8414 §3, OpenID
// Connect Discovery §4) and its public keys, so that any OpenID Connect library can
// verify what it signs. The documents are made once; an Issuer is immutable and safe for
// concurrent use.
type Issuer struct {
	url       string
	documents map[string][]byte // by request path
}

// NewIssuer makes the documents of metadata.Issuer, an absolute http or https URL
// without query and fragment; whether http is acceptable is the caller's policy. The
// keys of all rings are published, those of the first ring first.
//
// Empty fields of metadata are filled: JWKSURI with the issuer and JWKSPath, the signing
// algorithms with those of the rings, and the two members that OpenID Connect Discovery
// §3 requires of everybody, with what is true of an issuer without an authorization
// endpoint.
func NewIssuer(metadata oauth.IssuerMetadata, rings ...*Ring) (*Issuer, error) {
	all := &published{}
	for _, r := range rings {
		if r == nil {
			return nil, errors.New("making issuer documents: expected key rings, got nil")
		}
		for _, k := range r.keys {
			all.add(k.public)
		}
	}
	return newIssuer(metadata, all)
}

// NewPublicIssuer is NewIssuer for somebody who serves the documents of an issuer without
// having its private keys.
func NewPublicIssuer(metadata oauth.IssuerMetadata, keys PublicKeys) (*Issuer, error) {
	all := &published{}
	for _, k := range keys {
		all.add(k)
	}
	return newIssuer(metadata, all)
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

func newIssuer(metadata oauth.IssuerMetadata, all *published) (*Issuer, error) {
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
	return &Issuer{
		url: metadata.Issuer,
		documents: map[string][]byte{
			oauth.WellKnownAuthorizationServer + path: document,
			oauth.WellKnownOpenIDConfiguration + path: document,
			path + oauth.WellKnownAuthorizationServer: document,
			path + oauth.WellKnownOpenIDConfiguration: document,
			path + JWKSPath: jwks,
		},
	}, nil
}

// URL is the issuer identifier, byte for byte as in the metadata.
func (i *Issuer) URL() string { return i.url }

// Document returns the JSON document that is served at path, the path of a request
// without its query, and reports whether there is one. JWK Sets are the documents whose
// path ends in JWKSPath.
func (i *Issuer) Document(path string) (body []byte, ok bool) {
	body, ok = i.documents[path]
	return bytes.Clone(body), ok
}
