// Package deploy holds what a deployment is made of: Dockerfiles, the realm of the identity
// provider and configurations of Kong. The only Go in it are tests that hold these files
// against each other and against the programs; none of them needs a container engine.
package deploy
