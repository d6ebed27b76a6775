//go:build race

package testenv_test

// buildFlags build the programs under test with the race detector when the tests run with it.
func buildFlags() []string { return []string{"-race"} }
