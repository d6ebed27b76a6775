package kongtest

import "phantomtoken/internal/kongconfig"

// ConfigError is a declarative configuration that Kong refuses. Its text begins as that of
// kong start and lists every fault in one line each.
type ConfigError = kongconfig.Error

// Fault is one error in a declarative configuration.
type Fault = kongconfig.Fault

// Entities of the declarative configuration.
type (
	declarative   kongconfig.Declarative
	serviceEntity = kongconfig.Service
	routeEntity   = kongconfig.Route
)

// parseDeclarative reads a kong.yml. warn hears of deprecated fields.
func parseDeclarative(text []byte, plugins map[string]*plugin, warn func(string)) (*declarative, error) {
	format := kongconfig.Format{Plugins: map[string]*kongconfig.Schema{}, Player: "kongtest", Warn: warn}
	for name, p := range plugins {
		format.Plugins[name] = p.schema
	}
	d, err := kongconfig.Parse(text, format)
	if err != nil {
		return nil, err
	}
	return (*declarative)(d), nil
}
