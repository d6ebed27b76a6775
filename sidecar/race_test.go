//go:build race

package main

// raceFlags builds the program with the race detector when the tests have it.
func raceFlags() []string { return []string{"-race"} }
