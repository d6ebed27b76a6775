package caller

import "time"

// Comparisons is the number of digests that a secret sent for id is compared with.
func (a *Authenticator) Comparisons(id string) int {
	known, ok := a.callers[id]
	if !ok {
		known = a.nobody
	}
	return len(known.secrets)
}

// Use is use.
func (r *Replay) Use(caller, jti string, until, now time.Time) error {
	return r.use(caller, jti, until, now)
}

// Len is the number of assertions that are remembered.
func (r *Replay) Len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.used)
}

// Callers is the number of callers that assertions are remembered of.
func (r *Replay) Callers() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.count)
}

// Len is the number of key sets that are kept.
func (k *KeySets) Len() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.sets)
}
