package pluginserver

import (
	"encoding/json"
	"fmt"
	"io"
)

// Info is what Kong learns about a plugin before it starts it. Kong uses the first plugin
// only.
type Info struct {
	Protocol   string // always "ProtoBuf:1"
	SocketPath string
	Plugins    []PluginInfo
}

// PluginInfo describes one plugin.
type PluginInfo struct {
	Name     string
	Phases   []string
	Version  string
	Priority int // plugins of higher priority run first
	Schema   Schema
}

// Schema is a Kong plugin schema: fields holds maps of one entry, in order.
type Schema struct {
	Name   string           `json:"name"`
	Fields []map[string]any `json:"fields"`
}

// Dump writes what Kong expects from a plugin that is started with -dump.
func Dump(w io.Writer, socketPath string, plugin PluginInfo) error {
	plugin.Phases = []string{phaseAccess}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(Info{Protocol: "ProtoBuf:1", SocketPath: socketPath, Plugins: []PluginInfo{plugin}}); err != nil {
		return fmt.Errorf("writing the description of the plugin: %w", err)
	}
	return nil
}
