// Package house keeps the rules of the house true: who may import whom, what code and
// documents may say, and that README, configuration tables and the conformance table
// agree with the code. It has tests only.
//
// Some cells of the documents are filled from the code:
//
//	go test ./testenv/house -update
//
// writes the test column of docs/conformance.md from the "Covers:" lines of the tests,
// and the type and default columns of README.md from the plugin's schema and the
// sidecar's settings.
package house
