package kongtest

import "phantomtoken/internal/kongconfig"

// vault is the environment of the gateway with Kong's log line. One is made for every
// loading of the configuration; it is used by one goroutine.
type vault struct {
	env    kongconfig.Environment
	log    *errorLog
	logged map[string]bool // references that could not be resolved
}

// resolve returns the value of a reference. As in Kong, one that cannot be resolved is the
// empty string and a line in the log.
func (v *vault) resolve(reference string) string {
	value, err := v.env.Lookup(reference)
	if err != nil && !v.logged[reference] {
		v.logged[reference] = true
		v.log.printf(levelNotice, "[kong] init.lua:1703 unable to resolve reference %s (%v)", reference, err)
	}
	return value
}
