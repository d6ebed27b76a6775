package exchange_test

import (
	"strings"
	"testing"

	"phantomtoken/internal/policy"
)

// TestPolicyMapsNoRights: no claim that says who somebody is or what the token is good for can
// be written or copied by the claim map of a policy.
func TestPolicyMapsNoRights(t *testing.T) {
	for _, name := range []string{
		"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "client_id", "scope", "act", "may_act", "cnf",
		"scp", "permissions", "authorization_details", "Sub", "SCOPE", "'*'", "region tenant",
	} {
		for _, mapping := range []string{name + ": region", "area: " + name} {
			if _, err := policy.Parse([]byte(strings.Replace(usual, "area: region", mapping, 1))); err == nil || !strings.Contains(err.Error(), ".claims") {
				t.Errorf("{%s}: got error %v, want one that names the key claims", mapping, err)
			}
		}
	}
}
