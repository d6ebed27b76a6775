// Package oidcprovider runs a second real authorization server on loopback, for tests: the
// npm package oidc-provider, whose access tokens are opaque and for one resource each. It
// needs Node 20 or later with npm.
//
// The path of it: the program (server.mjs) and its dependencies (package.json, each with
// version and checksum in package-lock.json) are carried in this package and installed once
// into the user's cache folder (install.go); then started, stopped and started again
// (server.go).
package oidcprovider
