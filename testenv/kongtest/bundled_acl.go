package kongtest

import (
	"slices"
	"strings"

	"phantomtoken/internal/kongconfig"
)

// accessList is Kong's plugin acl: who is in one of the groups that are allowed, or in none
// of those that are denied, passes.
//
// Whose groups count is the trap. Those of the token count where nobody knows a consumer.
// A credential knows one even when the id of its consumer is empty, since Kong decodes what
// is not there as an empty text; that cannot be looked up, and the request ends with a 500.
func accessList(x *exchange, config map[string]any) error {
	const refused = "You cannot consume this service"
	allow, deny := groupSet(config["allow"]), groupSet(config["deny"])
	consumer, known := x.consumerID()
	groups, told := x.authenticatedGroups()
	header, ofToken := "X-Authenticated-Groups", true
	switch {
	case !known && !told:
		x.delayed = x.errorResponse(401, "Unauthorized")
		return nil
	case !known, told && (x.credential == nil || config["always_use_authenticated_groups"] == true):
	case !kongconfig.IsUUID(consumer):
		return luaErrorf("[acl] invalid primary key of a consumer: %q", consumer)
	default:
		header, ofToken = "X-Consumer-Groups", false
		groups = x.consumerGroups(consumer)
		if len(groups) == 0 && len(deny) == 0 {
			x.delayed = x.errorResponse(403, refused)
			if x.credential == nil {
				x.delayed = x.errorResponse(401, "Unauthorized")
			}
			return nil
		}
	}
	in := func(set []string) bool {
		return slices.ContainsFunc(groups, func(g string) bool { return slices.Contains(set, g) })
	}
	if len(deny) > 0 && in(deny) || len(deny) == 0 && !in(allow) {
		x.delayed = x.errorResponse(403, refused)
		return nil
	}
	// Of the token's groups a deny list tells the upstream nothing.
	if config["hide_groups_header"] != true && (len(deny) == 0 || !ofToken) {
		return x.setRequestHeader(header, []string{strings.Join(groups, ", ")})
	}
	return nil
}

// consumerID is the id of the consumer, or of the one to whom the credential belongs.
func (x *exchange) consumerID() (id string, known bool) {
	switch {
	case x.consumer != nil:
		return x.consumer.GetId(), true
	case x.credential != nil:
		return x.credential.GetConsumerId(), true
	}
	return "", false
}

// authenticatedGroups are the groups that an earlier plugin has told of.
func (x *exchange) authenticatedGroups() (groups []string, told bool) {
	list, told := x.shared["authenticated_groups"].([]any)
	if !told {
		list, told = x.nginxCtx["authenticated_groups"].([]any)
	}
	for _, group := range list {
		groups = append(groups, tostring(group))
	}
	return groups, told
}

func (x *exchange) consumerGroups(id string) []string {
	for _, c := range x.worker.loaded.Load().consumers {
		if c.ID == id {
			return c.Groups
		}
	}
	return nil
}

func groupSet(list any) []string {
	var set []string
	elements, _ := list.([]any)
	for _, e := range elements {
		set = append(set, tostring(e))
	}
	return set
}
