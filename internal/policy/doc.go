// Package policy is the policy file of the token exchange sidecar: who may exchange which
// tokens, for what, with which scopes. Parse reads the file and finds all its problems at
// once, each with line, column and path. Decide answers one question by it:
//
//	caller → chain of actors → tool → targets → scopes → what is granted
//
// A grant is never wider than the scopes of the subject token and what named rules of the
// file add, and never wider than what the file lists for the target. Explain takes the same
// way as Decide and says which line of the file decided each step.
//
// One description of the file, in file.go, is what Parse checks by, what Schema prints, and
// what the table of docs/policy.md is made from.
//
// The package reads no file but the bytes it is given, asks nobody and holds no secret: the
// policy file says where secrets are.
package policy
