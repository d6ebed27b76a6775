package tokencache

// MintedTokens is how many phantom tokens the entry keeps.
func (e *Entry) MintedTokens() int {
	if list := e.minted.Load(); list != nil {
		return len(*list)
	}
	return 0
}

// Flights is how many fetches are under way.
func (c *Cache) Flights() int { return c.entries.Flights() }
