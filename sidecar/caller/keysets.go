package caller

import (
	"sync"

	"phantomtoken/internal/keyring"
)

// KeySets keeps the key sets that callers publish at URLs. One KeySets serves all
// Authenticators of a process, so that a new policy goes on with the keys that the one before
// has fetched, and with the fetch that a request waits for. The zero value is ready to use. It
// is safe for concurrent use.
type KeySets struct {
	mu   sync.Mutex
	sets map[string]*keySet // by URL
}

type keySet struct {
	keys  *keyring.RemoteKeys
	users int // callers of Authenticators that are not closed
}

// take finds or makes the key set at cfg.URL. The rest of cfg must be the same every time.
// Call release when done.
func (k *KeySets) take(cfg keyring.RemoteConfig) (*keyring.RemoteKeys, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	set := k.sets[cfg.URL]
	if set == nil {
		keys, err := keyring.NewRemoteKeys(cfg)
		if err != nil {
			return nil, err
		}
		set = &keySet{keys: keys}
		if k.sets == nil {
			k.sets = make(map[string]*keySet)
		}
		k.sets[cfg.URL] = set
	}
	set.users++
	return set.keys, nil
}

// release forgets the key set at url once nobody uses it any more. It is not closed: a request
// of the policy before may wait for it. Its fetch ends by itself, and it holds nothing else
// that would have to be given back.
func (k *KeySets) release(url string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if set := k.sets[url]; set != nil {
		if set.users--; set.users == 0 {
			delete(k.sets, url)
		}
	}
}

// Close ends fetches that are under way and waits for them. It is for the end of the process:
// later, Authenticators find only what was fetched before.
func (k *KeySets) Close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, set := range k.sets {
		set.keys.Close() // a fetch that is cut off ends at once
	}
}
