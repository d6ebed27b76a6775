package kongconfig

import (
	"strconv"
	"strings"
)

// reservedChars stay percent-encoded when Kong normalises a path.
const reservedChars = "!*'();:@&=+$,/?%#[]"

// NormalizePath is Kong's normalize(uri, true): percent-encoded unreserved and other
// characters are decoded, dot segments removed, slashes merged.
func NormalizePath(uri string) string {
	if uri == "" || uri == "/" {
		return uri
	}
	uri = decodeUnreserved(uri)
	if !strings.Contains(uri, ".") && !strings.Contains(uri, "//") {
		return uri
	}
	var out []string
	pop := func() {
		if len(out) > 0 {
			out = out[:len(out)-1]
		}
	}
	for uri != "" {
		switch {
		case uri == "/.":
			uri = "/"
		case uri == "/..":
			uri = "/"
			pop()
		case uri == "." || uri == "..":
			uri = ""
		case strings.HasPrefix(uri, "../"):
			uri = uri[3:]
		case strings.HasPrefix(uri, "./"), strings.HasPrefix(uri, "/./"):
			uri = uri[2:]
		case strings.HasPrefix(uri, "/../"):
			uri = uri[3:]
			pop()
		case strings.HasPrefix(uri, "//"):
			uri = uri[1:]
		default:
			end := strings.IndexByte(uri[1:], '/') + 1
			if end == 0 {
				end = len(uri)
			}
			out = append(out, uri[:end])
			uri = uri[end:]
		}
	}
	return strings.Join(out, "")
}

func decodeUnreserved(uri string) string {
	if !strings.Contains(uri, "%") {
		return uri
	}
	var b strings.Builder
	for i := 0; i < len(uri); i++ {
		if uri[i] == '%' && i+2 < len(uri) {
			if n, err := strconv.ParseUint(uri[i+1:i+3], 16, 8); err == nil {
				if strings.IndexByte(reservedChars, byte(n)) >= 0 {
					b.WriteString(strings.ToUpper(uri[i : i+3]))
				} else {
					b.WriteByte(byte(n))
				}
				i += 2
				continue
			}
		}
		b.WriteByte(uri[i])
	}
	return b.String()
}
