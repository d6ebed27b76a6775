//go:build !race

package testenv_test

func buildFlags() []string { return nil }
