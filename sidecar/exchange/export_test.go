package exchange

// CacheBytes is how much memory the cache accounts for.
func (x *Exchanger) CacheBytes() int64 { return x.cache.Bytes() }
