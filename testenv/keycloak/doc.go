// Package keycloak runs a real Keycloak on loopback, as a process of its own, for tests and
// for trying things by hand: one pinned version, fetched by its Maven coordinates, with a
// realm imported from a file. It needs Java 17 or later; to fetch the distribution the first
// time it needs Maven.
//
// The path of a Keycloak: fetched and checked (fetch.go), unpacked (unpack.go) and built for
// quick starts once per machine (distribution.go); then started with ports and a data folder
// of its own, stopped and started again (server.go); and changed like an
// administrator would change it (admin.go).
package keycloak
