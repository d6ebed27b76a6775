//go:build race

package tokencache_test

// manyTokens is a tenth of what it is without the race detector, which slows each of them
// down by as much.
const manyTokens = 100_000
