package kongconfig

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
)

// Service is a service of the declarative configuration.
type Service struct {
	ID             string   `json:"id"`
	Name           string   `json:"name"`
	Retries        int      `json:"retries"`
	Protocol       string   `json:"protocol"`
	Host           string   `json:"host"`
	Port           int      `json:"port"`
	Path           string   `json:"path"`
	ConnectTimeout int      `json:"connect_timeout"` // milliseconds
	WriteTimeout   int      `json:"write_timeout"`   // milliseconds
	ReadTimeout    int      `json:"read_timeout"`    // milliseconds
	Tags           []string `json:"tags"`
	TLSVerify      *bool    `json:"tls_verify"`
	Enabled        bool     `json:"enabled"`

	At string `json:"-"` // where it stands: services[0]
}

// Route is a route of the declarative configuration.
type Route struct {
	ID                      string              `json:"id"`
	Name                    string              `json:"name"`
	Protocols               []string            `json:"protocols"`
	HTTPSRedirectStatusCode int                 `json:"https_redirect_status_code"`
	StripPath               bool                `json:"strip_path"`
	PreserveHost            bool                `json:"preserve_host"`
	RequestBuffering        bool                `json:"request_buffering"`
	Tags                    []string            `json:"tags"`
	SNIs                    []string            `json:"snis"`
	Methods                 []string            `json:"methods"`
	Hosts                   []string            `json:"hosts"`
	Paths                   []string            `json:"paths"`
	Headers                 map[string][]string `json:"headers"`
	RegexPriority           int                 `json:"regex_priority"`
	PathHandling            string              `json:"path_handling"`
	Service                 string              `json:"service"` // its id

	Upstream *Service `json:"-"` // nil without one
	At       string   `json:"-"` // where it stands: services[0].routes[0]
}

// Only reports whether the route takes this protocol alone.
func (r *Route) Only(protocol string) bool {
	return !slices.ContainsFunc(r.Protocols, func(p string) bool { return p != protocol })
}

// Plugin is a plugin of the declarative configuration.
type Plugin struct {
	ID           string   `json:"id"`
	Name         string   `json:"name"`
	InstanceName string   `json:"instance_name"`
	Route        string   `json:"route"`   // its id
	Service      string   `json:"service"` // its id
	Consumer     string   `json:"-"`       // its name or id, as it stands there
	Protocols    []string `json:"protocols"`
	Enabled      bool     `json:"enabled"`

	Config map[string]any `json:"-"` // with defaults and references; nil without a schema
	At     string         `json:"-"` // where it stands: services[0].plugins[0]
}

// Types that Kong's entities share.

// serviceFields are the fields of a service.
func serviceFields() fieldList {
	timeout := func() *schema { return integerField(1, 1<<31-2, 60000.0) }
	return append(fieldList{
		{"id", uuidField()}, {"created_at", timestampField()}, {"updated_at", timestampField()}, {"name", nameField()},
		{"retries", integerField(0, 32767, 5.0)},
		{"protocol", &schema{Type: "string", OneOf: protocols(), Required: new(true), Default: some("http")}},
		{"host", &schema{Type: "string", Required: new(true), custom: invalidHost}},
		{"port", &schema{Type: "integer", Between: []float64{0, 65535}, Required: new(true), Default: some(80.0)}},
		{"path", pathField()},
		{"connect_timeout", timeout()}, {"write_timeout", timeout()}, {"read_timeout", timeout()},
		{"tags", tagsField()},
		{"client_certificate", foreignField(false)},
		{"tls_verify", &schema{Type: "boolean"}},
		{"tls_verify_depth", &schema{Type: "integer", Between: []float64{0, 64}}},
		{"ca_certificates", &schema{Type: "array", Elements: &schema{Type: "string", UUID: true}}},
		{"enabled", booleanField(true)},
	}, extraFields()...)
}

// serviceChecks: what only some protocols can have.
func serviceChecks() []entityCheck {
	unlessTLS := func(field string) entityCheck {
		return entityCheck{Name: "conditional", Conditional: &conditional{
			IfField: "protocol", IfMatch: &schema{NotOneOf: []any{"https", "tls"}},
			ThenField: field, ThenMatch: &schema{Eq: some(null{})},
		}}
	}
	return []entityCheck{
		{Name: "conditional", Conditional: &conditional{
			IfField: "protocol", IfMatch: &schema{OneOf: []any{"tcp", "tls", "udp", "grpc", "grpcs"}},
			ThenField: "path", ThenMatch: &schema{Eq: some(null{})},
		}},
		unlessTLS("client_certificate"), unlessTLS("tls_verify"), unlessTLS("tls_verify_depth"), unlessTLS("ca_certificates"),
	}
}

// serviceURL expands the field url of a service.
func serviceURL(v any) map[string]any {
	u, err := url.Parse(text(v))
	if err != nil {
		return map[string]any{"host": null{}}
	}
	orNull := func(s string) any {
		if s == "" {
			return null{}
		}
		return s
	}
	port, hasPort := 0.0, u.Port() != ""
	if hasPort {
		port, _ = strconv.ParseFloat(u.Port(), 64)
	}
	protocol := u.Scheme
	switch {
	case protocol != "":
	case port == 443:
		protocol = "https"
	default:
		protocol = "http"
	}
	if !hasPort {
		port = 80
		if protocol == "https" {
			port = 443
		}
	}
	return map[string]any{"protocol": protocol, "host": orNull(u.Hostname()), "port": port, "path": orNull(u.EscapedPath())}
}

// routeFields are the fields of a route.
func (f *Format) routeFields(nested bool) fieldList {
	return append(fieldList{
		{"id", uuidField()}, {"created_at", timestampField()}, {"updated_at", timestampField()}, {"name", nameField()},
		{"protocols", &schema{
			Type: "set", LenMin: new(1), Required: new(true), Elements: protocolField(), Default: some([]any{"http", "https"}),
			Subsets: [][]string{{"http", "https"}, {"tcp", "tls", "udp"}, {"tls_passthrough"}, {"grpc", "grpcs"}},
		}},
		{"https_redirect_status_code", &schema{Type: "integer", OneOf: []any{426.0, 301.0, 302.0, 307.0, 308.0}, Default: some(426.0), Required: new(true)}},
		{"strip_path", booleanField(true)}, {"preserve_host", booleanField(false)},
		{"request_buffering", booleanField(true)}, {"response_buffering", booleanField(true)},
		{"tags", tagsField()},
		{"service", foreignField(nested)},
		{"snis", &schema{Type: "set", Elements: &schema{Type: "string", custom: invalidHost}}},
		{"sources", &schema{Type: "set", Elements: &schema{Type: "any"}}},
		{"destinations", &schema{Type: "set", Elements: &schema{Type: "any"}}},
		{"methods", &schema{Type: "set", Elements: &schema{Type: "string", Match: new("^%u+$")}}},
		{"hosts", &schema{Type: "array", Elements: routerHostField()}},
		{"paths", &schema{Type: "array", Elements: &schema{
			Type:      "string",
			MatchAny:  &patternRules{Patterns: []string{"^/", "^~/"}, Err: "should start with: / (fixed path) or ~/ (regex path)"},
			MatchNone: []patternRule{{Pattern: "//", Err: "must not have empty segments"}},
			custom:    f.invalidRouterPath,
		}}},
		{"headers", &schema{Type: "map", Keys: headerNameField(), Values: &schema{Type: "array", Elements: stringField()}}},
		{"regex_priority", &schema{Type: "integer", Default: some(0.0)}},
		{"path_handling", &schema{Type: "string", Default: some("v0"), OneOf: []any{"v0", "v1"}}},
	}, extraFields()...)
}

// routeRecord is the definition of a route, with what its protocols forbid and require.
func (f *Format) routeRecord(nested bool) *schema {
	none := func(err string) *schema {
		return &schema{Type: "set", Elements: &schema{Type: "any"}, Eq: some(null{}), Err: err}
	}
	matchers := []string{"methods", "hosts", "headers", "paths"}
	overHTTP := &schema{
		Type: "record",
		Fields: fieldList{
			{"sources", none("cannot set 'sources' when 'protocols' is 'http' or 'https'")},
			{"destinations", none("cannot set 'destinations' when 'protocols' is 'http' or 'https'")},
		},
		EntityChecks: []entityCheck{{Name: "conditional_at_least_one_of", AtLeast: &conditionalAtLeast{
			IfField: "protocols", IfMatch: &schema{Contains: some("https")},
			ThenAtLeastOneOf: append(slices.Clone(matchers), "snis"), ThenErr: "must set one of %s when 'protocols' is 'https'",
			ElseMatch:            &schema{Contains: some("http")},
			ElseThenAtLeastOneOf: matchers, ElseThenErr: "must set one of %s when 'protocols' is 'http'",
		}}},
	}
	others := &schema{Type: "record", Fields: fieldList{{"protocols", &schema{
		Type: "set", Elements: protocolField(),
		custom: f.unplayed("%s models routes for http and https only"),
	}}}}
	return &schema{
		Type: "record", Fields: f.routeFields(nested),
		subschemaKey: "protocols",
		subschemas: map[string]*schema{
			"http": overHTTP, "https": overHTTP,
			"grpc": others, "grpcs": others, "tcp": others, "tls": others, "udp": others, "tls_passthrough": others,
		},
		EntityChecks: []entityCheck{{Name: "conditional", Conditional: &conditional{
			IfField:   "protocols",
			IfMatch:   &schema{Elements: &schema{Type: "string", NotOneOf: []any{"grpcs", "https", "tls", "tls_passthrough"}}},
			ThenField: "snis", ThenMatch: &schema{LenEq: new(0)},
			ThenErr: "'snis' can only be set when 'protocols' is 'grpcs', 'https', 'tls' or 'tls_passthrough'",
		}}},
	}
}

// pluginFields are the fields of a plugin; foreign makes those that refer to others.
func pluginFields(foreign func() *schema) fieldList {
	return append(fieldList{
		{"id", uuidField()}, {"name", &schema{Type: "string", Required: new(true)}}, {"instance_name", nameField()},
		{"created_at", timestampField()}, {"updated_at", timestampField()},
		{"route", foreign()}, {"service", foreign()}, {"consumer", foreign()},
		{"config", &schema{Type: "record", Abstract: true}},
		{"protocols", &schema{Type: "set", Required: new(true), Elements: protocolField(), Default: some([]any{"grpc", "grpcs", "http", "https"})}},
		{"enabled", booleanField(true)},
		{"tags", tagsField()},
	}, extraFields()...)
}

// pluginRecord is the definition of a plugin with the enabled plugins' configurations.
func (f *Format) pluginRecord(nested bool) *schema {
	s := &schema{
		Type: "record", Fields: pluginFields(func() *schema { return foreignField(nested) }), subschemaKey: "name", subschemas: map[string]*schema{},
		subschemaError: "plugin '%s' not enabled; add it to the 'plugins' configuration property",
	}
	for name, p := range f.Plugins {
		s.subschemas[name] = p.schema
	}
	if f.Player == "" {
		s.subschemaDefault = &schema{Type: "record", Fields: fieldList{{"config", &schema{Type: "any"}}}}
	}
	return s
}

// arrayOf is a list of records with these further fields.
func arrayOf(record *schema, nested ...namedSchema) *schema {
	record.Fields = append(record.Fields, nested...)
	return &schema{Type: "array", Elements: record}
}

// unplayed is a validator that refuses what the player does not know; without a player it
// is none.
func (f *Format) unplayed(text string) func(any) string {
	if f.Player == "" {
		return nil
	}
	return func(any) string { return fmt.Sprintf(text, f.Player) }
}

// schema is the format of a kong.yml: services, routes and plugins, nested or
// not.
func (f *Format) schema() *schema {
	nestedPlugins := func() namedSchema { return namedSchema{"plugins", arrayOf(f.pluginRecord(true))} }
	service := &schema{
		Type: "record", Fields: serviceFields(), EntityChecks: serviceChecks(),
		shorthands: map[string]shorthand{"url": {schema: stringField(), expand: serviceURL}},
	}
	fields := fieldList{
		{"_format_version", &schema{Type: "string", Required: new(true), OneOf: []any{"1.1", "2.1", "3.0"}, custom: func(v any) string {
			return unless(v == "3.0" || f.Player == "", "%s models the format version 3.0 only", f.Player)
		}}},
		{"_transform", &schema{Type: "boolean"}},
		{"services", arrayOf(service, namedSchema{"routes", arrayOf(f.routeRecord(true), nestedPlugins())}, nestedPlugins())},
		{"routes", arrayOf(f.routeRecord(false), nestedPlugins())},
		{"plugins", arrayOf(f.pluginRecord(false))},
		{"consumers", f.consumersField()},
	}
	for _, name := range unmodelledEntities() {
		fields = append(fields, namedSchema{name, &schema{Type: "any", custom: f.unplayed("%s does not model this entity")}})
	}
	return &schema{Type: "record", Fields: append(fields, extraFields()...)}
}

// unmodelledEntities are those that Kong knows beside services, routes, plugins
// and consumers.
func unmodelledEntities() []string {
	return []string{
		"workspaces", "certificates", "snis", "upstreams", "targets", "ca_certificates",
		"clustering_data_planes", "parameters", "vaults", "key_sets", "keys", "filter_chains",
	}
}
