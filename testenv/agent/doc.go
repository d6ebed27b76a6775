// Package agent is the outside of the gateway: an MCP client that knows nothing but a URL,
// and the person in front of it. The client is the official Go SDK with its own OAuth code
// (agent.go). The person reads the login and consent pages as a browser gets them, fills in
// the forms and sends them (browser.go, forms.go); the redirect at the end arrives at a
// listener on loopback, as with any native application (callback.go). The person is also to
// be had alone, for other clients (person.go).
package agent
