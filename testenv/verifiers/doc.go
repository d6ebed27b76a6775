// Package verifiers holds programs that people copy, and the tests that run them:
//
//   - an API that checks exchanged tokens, in Go, Node, Python and Java, as
//     docs/upstream-apis.md shows it (verifier.*);
//   - what a server does to reach an API through the sidecar, as docs/sidecar.md shows it
//     (folder callers).
//
// Each document quotes the files word for word, which a test checks. With Go alone the tests
// run what is written in Go; with the build tag verifiers they need Node, Python, Java and
// Maven, and run everything. The packages that the programs use are pinned with checksums
// and installed into the user's cache folder.
package verifiers
