package kongconfig

import (
	"fmt"
	"net/url"
	"strings"
)

// IsReference reports whether a text is a reference to a vault, {vault://…}.
func IsReference(s string) bool {
	return strings.HasPrefix(s, "{vault://") && strings.HasSuffix(s, "}")
}

// Environment is Kong's only vault in its open edition: the variables of the gateway's own
// environment.
type Environment map[string]string

// Lookup reads {vault://env/NAME[/KEY][?prefix=…]}: the variable NAME in upper case with
// underscores, or the member KEY of the JSON object in it.
func (e Environment) Lookup(reference string) (string, error) {
	u, err := url.Parse(reference[1 : len(reference)-1])
	if err != nil {
		return "", fmt.Errorf("reference is not url [%s]", reference)
	}
	if u.Host != "env" {
		return "", fmt.Errorf("could not find vault (%s)", u.Host)
	}
	resource := strings.Trim(u.Path, "/")
	if resource == "" {
		return "", fmt.Errorf("reference url has empty path [%s]", reference)
	}
	key := ""
	if i := strings.LastIndexByte(resource, '/'); i >= 0 && !strings.HasSuffix(u.Path, "/") {
		resource, key = resource[:i], resource[i+1:]
	}
	name := strings.ToUpper(strings.ReplaceAll(u.Query().Get("prefix")+resource, "-", "_"))
	if u.Fragment == "2" {
		name += "_PREVIOUS"
	}
	value, ok := e[name]
	if !ok {
		return "", fmt.Errorf("could not get value from external vault (no value found)")
	}
	if key == "" {
		return value, nil
	}
	return jsonMember(value, key)
}

// jsonMember picks a member of a JSON object, which must be a string.
func jsonMember(text, key string) (string, error) {
	parsed, err := parseJSON([]byte(text))
	object, ok := parsed.(map[string]any)
	if err != nil || !ok {
		return "", fmt.Errorf("could not get subfield value: unable to json decode value")
	}
	member, ok := object[key]
	if !ok {
		return "", fmt.Errorf("could not get subfield value: subfield %s not found in JSON secret", key)
	}
	s, ok := member.(string)
	if !ok {
		return "", fmt.Errorf("could not get subfield value: unexpected %s value in JSON secret for subfield %s", luaType(member), key)
	}
	return s, nil
}
