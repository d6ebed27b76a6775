package main

import (
	"strings"
	"testing"

	"phantomtoken/kong-plugin/check"
)

// besideYAML is the good file with identity settings and further members.
func besideYAML(identity, further string) string {
	return strings.Replace(goodYAML, "      scope: stocks/read", "      scope: stocks/read\n      identity: {"+identity+"}", 1) + further
}

const (
	aclBlock  = "plugins:\n- name: acl\n  config: {allow: [staff]}\n"
	aclAlways = "plugins:\n- name: acl\n  config: {allow: [staff], always_use_authenticated_groups: true}\n"
	staff     = "consumers:\n- {username: john, tags: [mcp], acls: [{group: staff}]}\n"
)

// TestCheckFindsContradictionsBesideKongsPlugins: a finding only where nothing in the file
// makes the combination right.
func TestCheckFindsContradictionsBesideKongsPlugins(t *testing.T) {
	r := newCheckRig(t)
	const config, acl = "services[0].plugins[0].config", "plugins[0].config.always_use_authenticated_groups"
	for _, tt := range []struct {
		name, yaml string
		severity   check.Severity // empty: no finding
		line       int
		field      string
		want       string
	}{
		{name: "CredentialAlone", yaml: besideYAML("credential_claim: sub", "")},
		{name: "CredentialAndRateLimiting", yaml: besideYAML("credential_claim: sub", "plugins:\n- {name: rate-limiting, config: {minute: 5}}\n")},
		{name: "GroupsForACL", yaml: besideYAML("groups_claim: scope", aclBlock)},
		{name: "CredentialAndGroupsForACL", yaml: besideYAML("credential_claim: sub, groups_claim: scope", aclAlways)},
		{name: "ConsumerForACL", yaml: besideYAML("consumer_claim: sub, credential_claim: sub", aclBlock+staff)},
		{name: "AnotherPluginForACL", yaml: besideYAML("", aclBlock+"- name: key-auth\n")},
		{name: "OwnPluginForACL", yaml: besideYAML("", aclBlock+"- name: our-own\n")},
		{name: "ACLOfAnotherRoute", yaml: besideYAML("credential_claim: sub", "- name: other\n  url: http://other.internal\n  routes: [{name: other, hosts: [other.example.com]}]\n"+strings.Replace(aclBlock, "config", "route: other\n  config", 1))},
		{name: "ACLOfAConsumer", yaml: besideYAML("credential_claim: sub", strings.Replace(aclBlock, "config", "consumer: john\n  config", 1)+staff)},
		{name: "DisabledACL", yaml: besideYAML("credential_claim: sub", strings.Replace(aclBlock, "config", "enabled: false\n  config", 1))},
		{name: "ConsumerWithTag", yaml: besideYAML("consumer_claim: sub, consumer_tag: mcp", staff)},

		{
			name: "CredentialAndACL", yaml: besideYAML("credential_claim: sub, groups_claim: scope", aclBlock),
			severity: check.Problem, line: 29, field: acl, want: "every request ends with a 500",
		},
		{
			name: "CredentialWithoutGroupsAndACL", yaml: besideYAML("credential_claim: sub", aclAlways),
			severity: check.Warning, line: 14, field: config + ".identity.groups_claim", want: "every request ends with a 500",
		},
		{
			name: "NobodyAndACL", yaml: besideYAML("", aclBlock+"- {name: rate-limiting, config: {minute: 5}}\n"),
			severity: check.Warning, line: 14, field: config + ".identity.groups_claim", want: "acl answers 401 to every request",
		},
		{
			name: "ConsumersGroupsBeforeThoseOfTheToken", yaml: besideYAML("consumer_claim: sub, credential_claim: sub, groups_claim: scope", aclBlock+staff),
			severity: check.Warning, line: 29, field: acl, want: "acl uses the groups of the consumer",
		},
		{
			name: "NoConsumers", yaml: besideYAML("consumer_claim: sub", ""),
			severity: check.Warning, line: 14, field: config + ".identity.consumer_claim", want: "every request is refused",
		},
		{
			name: "ConsumersByCustomIDAlone", yaml: besideYAML("consumer_claim: sub", "consumers:\n- {custom_id: john}\n"),
			severity: check.Warning, line: 14, field: config + ".identity.consumer_claim", want: "got none",
		},
		{
			name: "NoConsumerWithTheTag", yaml: besideYAML("consumer_claim: sub, consumer_tag: other, consumer_optional: true, credential_claim: sub", staff),
			severity: check.Warning, line: 14, field: config + ".identity.consumer_tag", want: "no request has a consumer",
		},
		{
			name: "ClaimThatUsersChange", yaml: besideYAML("consumer_claim: preferred_username", staff),
			severity: check.Warning, line: 14, field: config + ".identity.consumer_claim", want: "a claim that users can change",
		},
		{
			name: "TagWithoutConsumer", yaml: besideYAML("consumer_tag: mcp", ""),
			severity: check.Problem, line: 14, field: config + ".identity", want: "this identity setting needs",
		},
		{
			name: "TagThatKongRefuses", yaml: besideYAML("consumer_claim: sub, consumer_tag: 'a,b'", staff),
			severity: check.Problem, line: 14, field: config + ".identity.consumer_tag", want: "expected one tag",
		},
		{
			name: "OptionalWithoutCredential", yaml: besideYAML("consumer_claim: sub, consumer_optional: true", staff),
			severity: check.Problem, line: 14, field: config + ".identity", want: "this identity setting needs",
		},
		{
			name: "UsernamesOfTwoIssuers", yaml: strings.Replace(besideYAML("consumer_claim: sub", staff), "[https://idp.example.com]", "[https://idp.example.com, https://idp.example.org]", 1),
			severity: check.Problem, line: 14, field: config + ".identity.consumer_claim", want: "expected one issuer",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			report, _ := r.run(t, tt.yaml)
			if tt.severity == "" {
				if len(report.Findings) > 0 {
					t.Errorf("got findings, want none\n%s", list(report))
				}
				return
			}
			if len(report.Findings) != 1 {
				t.Fatalf("one mistake gave %d findings\n%s", len(report.Findings), list(report))
			}
			if f := report.Findings[0]; f.Severity != tt.severity || f.Line != tt.line || f.Field != tt.field || !strings.Contains(f.Text, tt.want) {
				t.Errorf("got %s, want a %s of line %d, %s, with %q", f, tt.severity, tt.line, tt.field, tt.want)
			}
		})
	}
}
