package oauth_test

import (
	"testing"

	"phantomtoken/internal/oauth"
)

func TestIdentityFields(t *testing.T) {
	for _, test := range []struct {
		name                 string
		identity, forwarding bool
	}{
		{name: "Authorization", identity: true},
		{name: "authorization", identity: true},
		{name: "Authorization-Hint"},
		{name: "X-User", identity: true},
		{name: "X_USER", identity: true},
		{name: "X-User-Agent"},
		{name: "x_consumer-Id", identity: true},
		{name: "Phantom_tool", identity: true},
		{name: "Remote-User", identity: true},
		{name: "X-Forwarded-Email", identity: true, forwarding: true},
		{name: "x_forwarded_for", forwarding: true},
		{name: "X-Real-Ip", forwarding: true},
		{name: "Forwarded", forwarding: true},
		{name: "Accept"},
		{name: "Traceparent"},
		{name: "X-Request-Id"},
		{name: ""},
	} {
		if got := oauth.IsIdentityField(test.name); got != test.identity {
			t.Errorf("IsIdentityField(%q): expected %t, got %t", test.name, test.identity, got)
		}
		if got := oauth.IsForwardingField(test.name); got != test.forwarding {
			t.Errorf("IsForwardingField(%q): expected %t, got %t", test.name, test.forwarding, got)
		}
	}
}
