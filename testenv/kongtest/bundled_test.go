package kongtest_test

import (
	"fmt"
	"testing"
	"time"

	"phantomtoken/testenv/kongtest"
)

const (
	bobID  = "1c8a7b0e-4a5f-4a3e-9a53-6f6c1b1d9c01"
	nobody = "00000000-0000-0000-0000-000000000000"
)

// startBundled puts one of Kong's own plugins behind the probe, with two consumers.
func startBundled(t *testing.T, name, config string, now func() time.Time) *gateway {
	t.Helper()
	yaml := probed + "plugins:\n- {name: " + name + ", config: {" + config + "}}\n" +
		"consumers:\n- {id: " + bobID + ", username: bob, custom_id: b-1, tags: [staff], acls: [{group: team}]}\n- {username: " + nobody + "}\n"
	return start(t, kongtest.Config{YAML: []byte(yaml), Plugins: map[string]string{"probe": plugin(t, "probe", definition{})}, Now: now}, newUpstream(t, nil))
}

// TestLoadConsumer: by id for what has the form of one, then by username; by custom_id never.
func TestLoadConsumer(t *testing.T) {
	g := startBundled(t, "rate-limiting", "minute: 1000", nil)
	for _, tt := range []struct {
		name, steps, want string
	}{
		{"Username", `["loadcons","bob",true]`, bobID},
		{"ID", `["loadcons","` + bobID + `",false]`, bobID},
		{"IDBeforeUsername", `["loadcons","` + bobID + `",true]`, bobID},
		{"CustomID", `["loadcons","b-1",true]`, ""},
		{"OtherCase", `["loadcons","Bob",true]`, ""},
		{"Empty", `["loadcons","",true]`, ""},
		{"UnknownID", `["loadcons","` + nobody + `",false]`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, _ := g.report("[" + tt.steps + "]")[0].(map[string]any)
			if id, _ := got["id"].(string); id != tt.want {
				t.Errorf("got %v, want the id %q", got, tt.want)
			}
			if tt.want != "" && (got["username"] != "bob" || got["custom_id"] != "b-1" || fmt.Sprint(got["tags"]) != "[staff]") {
				t.Errorf("got %v, want bob with his custom_id and tag", got)
			}
		})
	}
	if got, _ := g.report(`[["loadcons","` + nobody + `",true]]`)[0].(map[string]any); got["username"] != nobody {
		t.Errorf("a username that has the form of an id: got %v, want it found in the second try", got)
	}
}

// TestAccessList pins what was seen of Kong's acl for callers whom another plugin makes
// known (credential without consumer, with an invented one, groups told), and what its
// source says of the rest.
func TestAccessList(t *testing.T) {
	const (
		alone    = `["auth",null,{"id":"c"}]`
		invented = `["auth",null,{"id":"c","consumer_id":"` + nobody + `"}]`
		bob      = `["auth",{"id":"` + bobID + `","username":"bob"},{"id":"c","consumer_id":"` + bobID + `"}]`
		bobAlone = `["auth",{"id":"` + bobID + `","username":"bob"},null]`
		g1       = `["ctxset","authenticated_groups",["g1","g2"]]`
		none     = `["ctxset","authenticated_groups",[]]`
	)
	for _, tt := range []struct {
		name, config, steps string
		status              int
		header              string // of the upstream's request
	}{
		{"Nobody", "allow: [g1]", ``, 401, ""},
		{"NobodyDenied", "deny: [g1]", ``, 401, ""},
		{"GroupsAlone", "allow: [g1]", g1, 200, "X-Authenticated-Groups: g1, g2"},
		{"OtherGroupsAlone", "allow: [x]", g1, 403, ""},
		{"NoGroupsTold", "allow: [g1]", none, 403, ""},
		{"NoGroupsToldAndDenied", "deny: [g1]", none, 200, ""},
		{"DeniedGroup", "deny: [g1]", g1, 403, ""},
		{"HiddenGroups", "allow: [g1], hide_groups_header: true", g1, 200, ""},
		{"CredentialWithoutConsumer", "allow: [g1]", alone, 500, ""},
		{"CredentialAndGroups", "allow: [g1]", alone + "," + g1, 500, ""},
		{"CredentialAndGroupsDenied", "deny: [g1]", alone + "," + g1, 500, ""},
		{"CredentialAndGroupsAlways", "allow: [g1], always_use_authenticated_groups: true", alone + "," + g1, 200, "X-Authenticated-Groups: g1, g2"},
		{"CredentialAlwaysWithoutGroups", "allow: [g1], always_use_authenticated_groups: true", alone, 500, ""},
		{"InventedConsumer", "allow: [g1]", invented, 403, ""},
		{"InventedConsumerAndGroups", "allow: [g1]", invented + "," + g1, 403, ""},
		{"InventedConsumerEscapesTheDenyList", "deny: [g1]", invented + "," + g1, 200, "X-Consumer-Groups: "},
		{"ConsumersGroup", "allow: [team]", bob, 200, "X-Consumer-Groups: team"},
		{"ConsumersGroupDenied", "deny: [team]", bob, 403, ""},
		{"ConsumerBeforeGroups", "allow: [g1]", bob + "," + g1, 403, ""},
		{"GroupsBeforeConsumerAlways", "allow: [g1], always_use_authenticated_groups: true", bob + "," + g1, 200, "X-Authenticated-Groups: g1, g2"},
		{"GroupsOfAConsumerWithoutCredential", "allow: [g1]", bobAlone + "," + g1, 200, "X-Authenticated-Groups: g1, g2"},
		{"ConsumerWithoutCredential", "allow: [team]", bobAlone, 200, "X-Consumer-Groups: team"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := startBundled(t, "acl", tt.config, nil)
			got := g.script("[" + tt.steps + "]")
			if got.StatusCode != tt.status {
				t.Fatalf("got %d %s, want %d", got.StatusCode, got.body, tt.status)
			}
			if tt.status != 200 {
				return
			}
			up := g.upstream.got(t)
			header := ""
			for _, name := range []string{"X-Consumer-Groups", "X-Authenticated-Groups"} {
				if v := up.Header.Values(name); len(v) == 1 {
					header += name + ": " + v[0]
				}
			}
			if header != tt.header {
				t.Errorf("upstream got %q, want %q", header, tt.header)
			}
		})
	}
}

// TestRateLimiting: by consumer, who falls back to the credential; by credential; by address.
func TestRateLimiting(t *testing.T) {
	caller := func(consumer, credential string) string {
		if consumer == "" {
			return `[["auth",null,{"id":"` + credential + `"}]]`
		}
		return `[["auth",{"id":"` + consumer + `"},{"id":"` + credential + `","consumer_id":"` + consumer + `"}]]`
	}
	fixed := time.Now()
	for _, tt := range []struct {
		name, by     string
		first, other string
		apart        bool // are counted apart
	}{
		{"Consumers", "consumer", caller("c1", "x"), caller("c2", "x"), true},
		{"CredentialsOfOneConsumer", "consumer", caller("c1", "x"), caller("c1", "y"), false},
		{"CredentialsWithoutConsumer", "consumer", caller("", "x"), caller("", "y"), true},
		{"Credentials", "credential", caller("c1", "x"), caller("c1", "y"), true},
		{"OneCredential", "credential", caller("c1", "x"), caller("c2", "x"), false},
		{"Address", "ip", caller("c1", "x"), caller("c2", "y"), false},
		{"Nobody", "consumer", `[]`, `[]`, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := startBundled(t, "rate-limiting", "minute: 2, limit_by: "+tt.by, func() time.Time { return fixed })
			for i, want := range []int{200, 200, 429} {
				if got := g.script(tt.first); got.StatusCode != want {
					t.Fatalf("request %d: got %d, want %d", i, got.StatusCode, want)
				}
			}
			want := 429
			if tt.apart {
				want = 200
			}
			if got := g.script(tt.other); got.StatusCode != want {
				t.Errorf("the other caller: got %d, want %d", got.StatusCode, want)
			}
		})
	}
}
