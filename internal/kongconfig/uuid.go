package kongconfig

import (
	"crypto/rand"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
)

// entityNamespace is the root of the ids that Kong derives from names in a kong.yml.
const entityNamespace = "fd02801f-0957-4a15-a55a-c8d9606f30b5"

// EntityID derives the id of an entity without explicit id, as Kong does: it depends on
// names only and so survives reloads.
func EntityID(entity, key string) string {
	return uuid5(uuid5(entityNamespace, entity), key)
}

// uuid5 is the name-based UUID of RFC 9562 §5.5. namespace must be a UUID.
func uuid5(namespace, name string) string {
	raw := make([]byte, 0, 16)
	for _, part := range []string{namespace[0:8], namespace[9:13], namespace[14:18], namespace[19:23], namespace[24:36]} {
		b, _ := hex.DecodeString(part)
		raw = append(raw, b...)
	}
	sum := sha1.Sum(append(raw, name...))
	return formatUUID(sum[:16], 5)
}

// RandomUUID is a UUID of version 4.
func RandomUUID() string {
	var b [16]byte
	rand.Read(b[:])
	return formatUUID(b[:], 4)
}

func formatUUID(b []byte, version byte) string {
	b[6] = b[6]&0x0f | version<<4
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:16])
}
