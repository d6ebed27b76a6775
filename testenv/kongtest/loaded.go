package kongtest

import (
	"slices"

	"phantomtoken/internal/kongconfig"
)

// loadedConfig is a declarative configuration as one worker has loaded it.
type loadedConfig struct {
	router  *router
	order   []*plugin                             // by priority
	configs map[string]map[scopeKey]*pluginConfig // by plugin name

	consumers []*kongconfig.Consumer
}

// scopeKey says what a plugin configuration is for: a route, a service, both or, with
// neither, everything.
type scopeKey struct{ route, service string }

// load makes a worker's own copy of the configuration: every loading gives every plugin
// configuration a new number.
func (d *declarative) load(g *Gateway, rt *router, secrets *vault) *loadedConfig {
	c := &loadedConfig{router: rt, order: g.order, configs: map[string]map[scopeKey]*pluginConfig{}, consumers: d.Consumers}
	for _, p := range d.Plugins {
		if !p.Enabled || !slices.ContainsFunc(p.Protocols, isHTTP) {
			continue
		}
		kind := g.plugins[p.Name]
		config := kind.schema.Load(p, secrets.resolve)
		seq := g.sequence.Add(1)
		config["__seq__"] = seq
		config["__plugin_id"] = p.ID
		config["__ws_id"] = defaultWorkspace
		config["__key__"] = "plugins:" + p.Name + ":" + p.Route + ":" + p.Service + ":::" + defaultWorkspace
		for key, value := range map[string]string{"route_id": p.Route, "service_id": p.Service, "plugin_instance_name": p.InstanceName} {
			if value != "" {
				config[key] = value
			}
		}
		if c.configs[p.Name] == nil {
			c.configs[p.Name] = map[scopeKey]*pluginConfig{}
		}
		c.configs[p.Name][scopeKey{p.Route, p.Service}] = &pluginConfig{plugin: kind, id: p.ID, seq: seq, json: encodeConfig(config), config: config}
	}
	return c
}

// isHTTP reports whether a protocol is one of the HTTP part of Kong.
func isHTTP(protocol string) bool {
	return slices.Contains([]string{"http", "https", "grpc", "grpcs"}, protocol)
}

// pluginsFor returns the plugin configurations for requests of a route, in the order in
// which they run: of every plugin the one that says most about where it belongs.
func (c *loadedConfig) pluginsFor(r *routeEntity) []*pluginConfig {
	service := ""
	if r.Upstream != nil {
		service = r.Upstream.ID
	}
	var configs []*pluginConfig
	for _, p := range c.order {
		for _, key := range []scopeKey{{r.ID, service}, {r.ID, ""}, {"", service}, {"", ""}} {
			if config := c.configs[p.name][key]; config != nil {
				configs = append(configs, config)
				break
			}
		}
	}
	return configs
}
