package gate

import (
	"crypto/sha1"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"phantomtoken/internal/oauth"
)

// Identity says what the gateway's own plugins, those for rate limits, access lists and
// logs, are told of the caller. The zero value tells them nothing.
//
// Claims are paths into the answer, members joined by dots. They name the caller to the
// gateway and never to the upstream, for which the phantom token does.
type Identity struct {
	// ConsumerClaim holds the username of a consumer that the gateway knows. A token
	// without one is refused; empty looks for none.
	ConsumerClaim string
	// ConsumerTag is a tag that the consumer must have. It keeps tokens from naming a
	// consumer that was made for other callers.
	ConsumerTag string
	// ConsumerOptional lets tokens through that name no known consumer.
	ConsumerOptional bool
	// CredentialClaim holds what tells one caller from another. Its value never leaves this
	// package: the credential is a name-based UUID of it, of its claim and of the issuer.
	// With sub, a token without a user counts for its client. Empty makes none.
	CredentialClaim string
	// GroupsClaim holds the caller's groups: one as a string, or several as a list. With
	// scope they are the scopes. Empty tells of no groups.
	GroupsClaim string
	// Issuer is whose tokens these are where an answer has no iss.
	Issuer string
}

// Consumer is a consumer that the gateway knows, with what it says of it. The zero value
// is nobody.
type Consumer struct {
	ID, Username, CustomID string
	CreatedAt              int64 // Unix time
	Tags                   []string
}

// Caller is who a request that goes upstream comes from, for the gateway's own plugins.
type Caller struct {
	// Consumer is nil when there is none.
	Consumer *Consumer
	// Credential is a UUID; empty when there is none.
	Credential string
	// CredentialConsumer is the id of the consumer to whom the credential belongs: that of
	// Consumer, [NoConsumer], or empty where consumers play no role.
	CredentialConsumer string
	// Groups is not nil where groups are told, though there may be none.
	Groups []string
}

// NoConsumer is the id of the consumer of a credential whose owner could have been a
// consumer and is none: the nil UUID (RFC 9562 §5.9). To Kong's acl, an empty id is one
// that it cannot look up, which ends the request with a 500; one that nobody has is
// somebody without groups.
//
// Where consumers play no role the id stays empty all the same: an acl that was not told
// to use the token's groups would find no groups for the nil UUID, and let a caller through
// whom its deny list names. A 500 is found with the first request.
const NoConsumer = "00000000-0000-0000-0000-000000000000"

const (
	// maxName bounds what becomes a name for the gateway.
	maxName = 1024
	// maxGroups bounds the groups of one caller, with their commas: acl writes them into
	// one header field, and servers commonly read no more than this.
	maxGroups = 8 << 10
)

const (
	claimSubject = "sub"
	claimScope   = "scope"
	claimClient  = "client_id"
)

// caller is what the gateway's own plugins are told of the caller; nil for nothing.
func (g *Gate) caller(in *oauth.Introspection, gw Gateway) (*Caller, *refusal) {
	id := &g.cfg.Identity
	if id.ConsumerClaim == "" && id.CredentialClaim == "" && id.GroupsClaim == "" {
		return nil, nil
	}
	c := &Caller{}
	var refused *refusal
	if id.GroupsClaim != "" {
		if c.Groups, refused = id.groups(in); refused != nil {
			return nil, refused
		}
	}
	if id.CredentialClaim != "" {
		if c.Credential, refused = id.credential(in); refused != nil {
			return nil, refused
		}
	}
	if id.ConsumerClaim == "" {
		return c, nil
	}
	if c.Consumer, refused = id.consumer(in, gw); refused != nil {
		return nil, refused
	}
	switch {
	case c.Credential == "":
	case c.Consumer != nil:
		c.CredentialConsumer = c.Consumer.ID
	default:
		c.CredentialConsumer = NoConsumer
	}
	return c, nil
}

// What clients read when they are known to the provider and not, or not well enough, here.
const textUnknownCaller = "The user or client of the access token is not known to this gateway"

// consumer finds the consumer that the token names. The gateway looks a name that has the
// form of a UUID up as an id first, so what it finds is compared with what was asked for.
func (id *Identity) consumer(in *oauth.Introspection, gw Gateway) (*Consumer, *refusal) {
	none := func(cause string) (*Consumer, *refusal) {
		if id.ConsumerOptional {
			return nil, nil
		}
		return nil, denied(cause, textUnknownCaller)
	}
	name, fault := nameIn(in, id.ConsumerClaim)
	if fault != "" {
		return none(fmt.Sprintf("claim %q %s, so it names no consumer (identity.consumer_claim)", id.ConsumerClaim, fault))
	}
	found, err := gw.Consumer(name)
	switch {
	case err != nil:
		return nil, unavailable("looking up the consumer", err)
	case found.ID == "":
		return none(fmt.Sprintf("claim %q names no consumer that Kong knows (identity.consumer_claim)", id.ConsumerClaim))
	case found.Username != name:
		return none(fmt.Sprintf("claim %q holds the id of a consumer, expected its username (identity.consumer_claim)", id.ConsumerClaim))
	case id.ConsumerTag != "" && !slices.Contains(found.Tags, id.ConsumerTag):
		return none(fmt.Sprintf("claim %q names a consumer without the tag %q (identity.consumer_tag)", id.ConsumerClaim, id.ConsumerTag))
	}
	return &found, nil
}

// credential is the name-based UUID of the caller: uuid5(uuid5(URL, issuer), "claim=value").
// It is bound to the issuer, so that the john of one provider is not that of another, and
// says nothing of the value to whoever reads a log. Other plugins make keys of it for
// counters and databases: its length and its characters are always the same.
func (id *Identity) credential(in *oauth.Introspection) (string, *refusal) {
	claim := id.CredentialClaim
	name, fault := nameIn(in, claim)
	if fault != "" && claim == claimSubject && in.Subject == "" && in.ClientID != "" {
		claim, name, fault = claimClient, in.ClientID, ""
	}
	if fault != "" {
		return "", denied(fmt.Sprintf("claim %q %s, so it tells nobody apart (identity.credential_claim)", claim, fault), textUnknownCaller)
	}
	issuer := in.Issuer
	if issuer == "" {
		issuer = id.Issuer
	}
	u := uuid5(uuid5(namespaceURL, issuer), claim+"="+name)
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[0:4], u[4:6], u[6:8], u[8:10], u[10:16]), nil
}

// groups are the caller's groups, none as an empty list. What could be read as another
// group, or as two, refuses the token: leaving it out would let a member of a denied group
// through.
func (id *Identity) groups(in *oauth.Introspection) ([]string, *refusal) {
	unfit := func(fault string) ([]string, *refusal) {
		return nil, denied("claim "+strconv.Quote(id.GroupsClaim)+" "+fault+" (identity.groups_claim)",
			"The access token has groups or scopes that this gateway cannot use")
	}
	groups := []string{}
	if id.GroupsClaim == claimScope {
		groups = append(groups, in.Scope...)
	} else {
		switch v := lookup(in.Claims, id.GroupsClaim).(type) {
		case nil:
		case string:
			groups = append(groups, v)
		case []any:
			for _, element := range v {
				group, ok := element.(string)
				if !ok {
					return unfit("has an element that is no string")
				}
				groups = append(groups, group)
			}
		default:
			return unfit("is neither a string nor a list of strings")
		}
	}
	size := 0
	for _, group := range groups {
		if fault := unfitName(group); fault != "" {
			return unfit("has a group that " + fault)
		}
		if strings.Contains(group, ",") {
			return unfit("has a group with a comma, which acl writes between two groups")
		}
		size += len(group) + len(", ")
	}
	if size > maxGroups {
		return unfit(fmt.Sprintf("has groups of more than %d bytes together", maxGroups))
	}
	return groups, nil
}

// nameIn reads a claim that is a name, or says what is wrong with it.
func nameIn(in *oauth.Introspection, claim string) (name, fault string) {
	switch v := lookup(in.Claims, claim).(type) {
	case nil:
		return "", "is missing"
	case string:
		return v, unfitName(v)
	default:
		return "", "is no string"
	}
}

// unfitName says why a value cannot become a name for the gateway, or "": nobody may look
// like another to a person or a program that reads logs and headers.
func unfitName(s string) string {
	switch {
	case s == "":
		return "is empty"
	case len(s) > maxName:
		return fmt.Sprintf("is longer than %d bytes", maxName)
	case strings.ContainsFunc(s, unseen):
		return "holds control characters, others that cannot be seen, or bytes that are no text"
	case strings.TrimSpace(s) != s:
		return "begins or ends with a space"
	}
	return ""
}

// unseen reports whether r shows nothing, changes how its neighbours show, or stands for bytes
// that are no text: zero-width and bidirectional characters, the byte order mark, line
// separators and every space but the usual one are not printable to package unicode; fillers
// and variation selectors are.
func unseen(r rune) bool {
	return !unicode.IsPrint(r) || r == utf8.RuneError || unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

// namespaceURL is the namespace of names that are URLs (RFC 9562 §6.6).
var namespaceURL = [16]byte{0x6b, 0xa7, 0xb8, 0x11, 0x9d, 0xad, 0x11, 0xd1, 0x80, 0xb4, 0x00, 0xc0, 0x4f, 0xd4, 0x30, 0xc8}

// uuid5 is the name-based UUID of RFC 9562 §5.5. Whoever wants to be taken for another
// needs a second preimage, which the weakness of SHA-1 does not give.
func uuid5(namespace [16]byte, name string) [16]byte {
	sum := sha1.Sum(append(namespace[:], name...))
	u := [16]byte(sum[:16])
	u[6] = u[6]&0x0f | 5<<4
	u[8] = u[8]&0x3f | 0x80
	return u
}
