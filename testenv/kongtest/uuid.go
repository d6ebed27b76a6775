package kongtest

import (
	"crypto/rand"
	"encoding/hex"
)

// defaultWorkspace is the id of Kong's workspace "default" without a database.
const defaultWorkspace = "0dc6f45b-8f8d-40d2-a504-473544ee190b"

// requestID is $kong_request_id: 32 hexadecimal digits.
func requestID() string {
	var b [16]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
