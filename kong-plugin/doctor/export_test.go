package doctor

import (
	"fmt"
	"net/url"
	"strings"
)

// DescribeChallenges reads a WWW-Authenticate field and writes what was understood.
func DescribeChallenges(value string) string {
	var all []string
	for _, c := range parseChallenges([]string{value}) {
		var params []string
		for _, p := range c.params {
			written := p.value
			if p.quoted {
				written = fmt.Sprintf("%q", p.value)
			}
			if p.escaped {
				written = "escaped " + written
			}
			params = append(params, p.name+"="+written)
		}
		all = append(all, c.scheme+"["+strings.Join(params, " ")+"]")
	}
	return strings.Join(all, " ")
}

// MayBeNamed reports whether a visit of visited goes to location.
func MayBeNamed(visited, location string) bool {
	u, err := url.Parse(visited)
	return err == nil && (&visit{url: u}).checkLocation(location) == nil
}
