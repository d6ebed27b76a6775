//go:build !race

package tokencache_test

// manyTokens is how many invented tokens the tests present.
const manyTokens = 1_000_000
