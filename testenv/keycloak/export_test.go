package keycloak

// What is tested without a Keycloak.
var (
	Verify = verify
	Unpack = unpack
)
