package oauth

import (
	"fmt"
	"strings"
)

// SchemeBearer is the authentication scheme of RFC 6750. Some clients compare it with
// its capital letter.
const SchemeBearer = "Bearer"

// ParamResourceMetadata is the parameter of a challenge that names the metadata of the
// resource (RFC 9728 §5.1).
const ParamResourceMetadata = "resource_metadata"

// Challenge is one challenge of a WWW-Authenticate field (RFC 9110 §11.6.1) with the
// parameters of RFC 6750 §3 and RFC 9728 §5.1. Zero fields are left out. The zero value
// is not a challenge: RFC 6750 §3 wants at least one parameter.
type Challenge struct {
	Scheme           string // SchemeBearer when empty
	Realm            string
	Error            string
	ErrorDescription string
	ResourceMetadata string // absolute URL of the protected resource metadata
	Scope            Scopes
}

// String is the challenge as it goes on the wire. Equal challenges give equal bytes:
// clients compare the whole value to find out that they are going round in a loop.
//
// insufficient_scope puts scope before resource_metadata and error_description last;
// every other challenge has error, error_description, resource_metadata, scope. All
// values are quoted and none is empty, because real parsers fail on other forms.
func (c Challenge) String() string {
	scheme := c.Scheme
	if scheme == "" {
		scheme = SchemeBearer
	}
	var b strings.Builder
	b.WriteString(scheme)
	sep := " "
	add := func(name, value string) {
		if value == "" {
			return
		}
		b.WriteString(sep)
		b.WriteString(name)
		b.WriteString(`="`)
		b.WriteString(value)
		b.WriteString(`"`)
		sep = ", "
	}
	add("realm", c.Realm)
	add("error", c.Error)
	if c.Error == ErrorInsufficientScope {
		add("scope", c.Scope.String())
		add(ParamResourceMetadata, c.ResourceMetadata)
		add("error_description", c.ErrorDescription)
	} else {
		add("error_description", c.ErrorDescription)
		add(ParamResourceMetadata, c.ResourceMetadata)
		add("scope", c.Scope.String())
	}
	return b.String()
}

// CheckDescription reports why s cannot stand in a challenge: RFC 6750 §3 allows
// %x20-21 / %x23-5B / %x5D-7E; '=' is refused as well, because clients that search for
// "scope=" with a regular expression would find it inside the description.
func CheckDescription(s string) error {
	for i := range len(s) {
		switch c := s[i]; {
		case c < 0x20 || c > 0x7e:
			return fmt.Errorf("byte %#02x at position %d: expected printable ASCII (RFC 6750 §3)", c, i)
		case c == '"' || c == '\\' || c == '=':
			return fmt.Errorf("%q at position %d: expected text without quote, backslash or equals sign", c, i)
		}
	}
	return nil
}

// Challenges joins several challenges into one field value, first things first. One
// value, because Kong sends only the last of several WWW-Authenticate fields.
func Challenges(cs ...Challenge) string {
	parts := make([]string, len(cs))
	for i, c := range cs {
		parts[i] = c.String()
	}
	return strings.Join(parts, ", ")
}
