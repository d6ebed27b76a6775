package kongtest

import (
	"bufio"
	"io"

	"phantomtoken/internal/kongconfig"
)

// SetServer replaces the process of a plugin by a socket that the test serves.
func (cfg *Config) SetServer(name string, dump []byte, socket string) {
	if cfg.servers == nil {
		cfg.servers = map[string]externalServer{}
	}
	cfg.servers[name] = externalServer{dump: dump, socket: socket}
}

// Head is a request head as the reader understood it.
type Head struct {
	URI, Host string
	Fields    [][2]string
}

// ReadHead reads one request head.
func ReadHead(r *bufio.Reader, buffers HeaderBuffers) (*Head, error) {
	head, err := readHead(r, buffers)
	out := &Head{URI: head.uri, Host: head.host}
	for _, f := range head.headers {
		out.Fields = append(out.Fields, [2]string{f.name, f.value})
	}
	return out, err
}

// ReadChunked reads a chunked body to its end.
func ReadChunked(r *bufio.Reader) ([]byte, error) {
	return io.ReadAll(&bodyReader{r: r, chunked: true})
}

// What fuzz targets and tables look at by itself.
var (
	ReadFrame     = readFrame
	WriteFrame    = writeFrame
	EncodeConfig  = encodeConfig
	LuaMatch      = kongconfig.LuaMatch
	NormalizePath = kongconfig.NormalizePath
	ResponseType  = responseType
	ParseYAML     = kongconfig.ParseYAML
	EntityID      = kongconfig.EntityID
)

// Null is a null in a configuration.
type Null = kongconfig.Null
