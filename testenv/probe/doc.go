// Package probe is for tests that look at a running chain from outside: it sends requests
// through the gateway, keeps the tokens that arrive behind it, and says what an answer must
// be. Its functions end or fail the test that they are given.
package probe
