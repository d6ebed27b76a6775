// Package kongconfig reads Kong's declarative configuration (kong.yml) and checks it as Kong
// does, in Kong's words: YAML as Kong's parser takes it, services, routes and plugins
// nested or not, defaults, the schema language of plugins with its Lua patterns and entity
// checks, references to vaults, and the ids that Kong derives from names. Beyond Kong it
// knows where in the file everything stands.
//
// The model is Kong Gateway 3.9 without a database.
package kongconfig
