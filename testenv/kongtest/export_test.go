package kongtest

// SetServer replaces the process of a plugin by a socket that the test serves.
func (cfg *Config) SetServer(name string, dump []byte, socket string) {
	if cfg.servers == nil {
		cfg.servers = map[string]externalServer{}
	}
	cfg.servers[name] = externalServer{dump: dump, socket: socket}
}
