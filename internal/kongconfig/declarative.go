package kongconfig

import (
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"strings"
)

// Error is a declarative configuration that Kong refuses. Its text begins as that of kong
// start and lists every fault in one line each.
type Error struct {
	Faults []Fault
}

// Fault is one error in a declarative configuration.
type Fault struct {
	// Path names the field, like services[0].routes[0].plugins[0].config.ttl. Empty for
	// the configuration as a whole.
	Path string
	// Text is what is wrong with it, in Kong's words.
	Text string
}

// Error lists the faults, each with its path.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("error parsing declarative config file:")
	for _, f := range e.Faults {
		b.WriteString("\n")
		if f.Path != "" {
			b.WriteString(f.Path + ": ")
		}
		b.WriteString(f.Text)
	}
	return b.String()
}

// newError lists the faults of a tree by their paths.
func newError(f faults) *Error {
	e := new(Error)
	var walk func(path string, fault any)
	walk = func(path string, fault any) {
		switch fault := fault.(type) {
		case faults:
			for _, name := range sortedKeys(fault) {
				next := path
				switch {
				case name == entityFaults:
				case strings.HasPrefix(name, "["), path == "":
					next += name
				default:
					next += "." + name
				}
				walk(next, fault[name])
			}
		case []string:
			for _, text := range fault {
				e.Faults = append(e.Faults, Fault{path, text})
			}
		default:
			e.Faults = append(e.Faults, Fault{path, fmt.Sprint(fault)})
		}
	}
	walk("", f)
	sort.SliceStable(e.Faults, func(i, j int) bool { return e.Faults[i].Path < e.Faults[j].Path })
	return e
}

// Format says what a declarative configuration may hold.
type Format struct {
	// Plugins are the enabled plugins by name.
	Plugins map[string]*Schema
	// Player names the program that is to play the configuration and knows less than Kong:
	// what it does not know is refused in its name. Empty accepts what Kong accepts:
	// entities and plugins that are not known here are left unchecked.
	Player string
	// Warn hears of deprecated fields; nil hears nothing.
	Warn func(text string)
}

// Declarative is a declarative configuration, checked and flattened: nested entities stand
// beside each other, names are replaced by ids.
type Declarative struct {
	Services  []*Service
	Routes    []*Route
	Plugins   []*Plugin
	Consumers []*Consumer
}

// Parse reads a kong.yml. An *Error lists what Kong refuses in it; what could be read
// comes with it all the same. Of any other error nothing comes.
func Parse(text []byte, f Format) (*Declarative, error) {
	value, err := ParseYAML(text)
	if err != nil {
		return nil, err
	}
	doc, ok := value.(map[string]any)
	if !ok {
		return nil, errors.New("failed parsing declarative configuration: expected an object")
	}
	format := f.schema()
	found := newValidator(f.Warn).validateEntity(format, doc)
	filled, f2 := newValidator(nil).fill(format, doc)
	if found == nil {
		found = f2
	}
	l := flattener{
		Format: f, out: new(Declarative),
		byName: map[string]map[string]string{"services": {}, "routes": {}, "plugins": {}, "consumers": {}},
		byID:   map[string]map[string]bool{"services": {}, "routes": {}, "plugins": {}, "consumers": {}},
	}
	l.consumers(filled["consumers"])
	l.services(filled["services"])
	l.routes("", "", filled["routes"])
	l.plugins("", scope{stable: true}, filled["plugins"])
	l.resolve()
	switch {
	case found != nil:
		return l.out, newError(found)
	case len(l.faults) > 0:
		return l.out, &Error{Faults: l.faults}
	case l.err != nil:
		return nil, l.err
	}
	return l.out, nil
}

// flattener takes nested entities apart, gives them their ids and resolves references.
type flattener struct {
	Format
	out    *Declarative
	byName map[string]map[string]string // ids by entity and name
	byID   map[string]map[string]bool
	faults []Fault
	err    error
}

// scope is what nested plugins belong to.
type scope struct {
	route, service string // ids
	// stable says that the id is given or derived from a name: only then are the ids of
	// the plugins derived from it.
	stable bool
}

func (l *flattener) fault(path, format string, args ...any) {
	l.faults = append(l.faults, Fault{path, fmt.Sprintf(format, args...)})
}

// records returns the elements of a list of records.
func records(v any) []map[string]any {
	list, _ := v.([]any)
	out := make([]map[string]any, 0, len(list))
	for _, e := range list {
		if m, ok := e.(map[string]any); ok {
			out = append(out, m)
		}
	}
	return out
}

// into turns a record into an entity.
func (l *flattener) into(record map[string]any, entity any) {
	plain := map[string]any{}
	for k, v := range record {
		if _, isNull := v.(null); !isNull && k != "routes" && k != "plugins" && k != "config" {
			plain[k] = withoutNulls(v)
		}
	}
	data, err := json.Marshal(plain)
	if err == nil {
		err = json.Unmarshal(data, entity)
	}
	l.err = errors.Join(l.err, err)
}

// register notes an entity's id and name and refuses a second of either. key is what its
// id is derived from, empty for a random one.
func (l *flattener) register(path, entity, id, name, key string) string {
	if id == "" && key != "" {
		id = EntityID(entity, key)
	}
	if id == "" {
		id = RandomUUID()
	}
	if name != "" {
		if _, dup := l.byName[entity][name]; dup {
			field := "name"
			switch entity {
			case "plugins":
				field = "instance_name"
			case "consumers":
				field = "username"
			}
			l.fault(path, "uniqueness violation: '%s' entity with %s set to '%s' already declared", entity, field, name)
			return id
		}
		l.byName[entity][name] = id
	}
	if l.byID[entity][id] {
		l.fault(path, "uniqueness violation: '%s' entity with primary key set to '%s' already declared", entity, id)
	}
	l.byID[entity][id] = true
	return id
}

func (l *flattener) services(list any) {
	for i, record := range records(list) {
		path := fmt.Sprintf("services[%d]", i)
		s := new(Service)
		l.into(record, s)
		s.At = path
		if s.Protocol != "http" && s.Protocol != "https" && l.Player != "" {
			l.fault(path+".protocol", "%s models services of http and https only", l.Player)
		}
		stable := s.Name != "" || s.ID != ""
		s.ID = l.register(path, "services", s.ID, s.Name, s.Name)
		l.out.Services = append(l.out.Services, s)
		l.routes(path+".", s.ID, record["routes"])
		l.plugins(path+".", scope{service: s.ID, stable: stable}, record["plugins"])
	}
}

// routes takes in the routes of a service, whose id is given, or those at the top level.
func (l *flattener) routes(prefix, service string, list any) {
	for i, record := range records(list) {
		path := fmt.Sprintf("%sroutes[%d]", prefix, i)
		r := new(Route)
		l.into(record, r)
		r.At = path
		if r.PathHandling == "v1" && l.Player != "" {
			l.fault(path+".path_handling", "%s models v0 only", l.Player)
		}
		stable := r.Name != "" || r.ID != ""
		r.ID = l.register(path, "routes", r.ID, r.Name, r.Name)
		if service != "" {
			r.Service = service
		}
		l.out.Routes = append(l.out.Routes, r)
		l.plugins(path+".", scope{route: r.ID, stable: stable}, record["plugins"])
	}
}

// plugins takes in the plugins of a route or a service, or those at the top level.
func (l *flattener) plugins(prefix string, of scope, list any) {
	for i, record := range records(list) {
		path := fmt.Sprintf("%splugins[%d]", prefix, i)
		p := new(Plugin)
		l.into(record, p)
		p.At = path
		p.Config, _ = record["config"].(map[string]any)
		if of.route != "" {
			p.Route = of.route
		}
		if of.service != "" {
			p.Service = of.service
		}
		p.Consumer, _ = record["consumer"].(string)
		if p.Consumer != "" && l.Player != "" {
			if l.byName["consumers"][p.Consumer] == "" && !l.byID["consumers"][p.Consumer] {
				l.fault(path, "invalid reference 'consumer: %s' (no such entry in 'consumers')", p.Consumer)
			} else {
				l.fault(path+".consumer", "%s models plugins of services and routes only", l.Player)
			}
		}
		key := ""
		if of.stable {
			// Of a plugin at the top level the names, not the ids, of what it refers to.
			key = fmt.Sprintf("plugins:*:%s:%s:%s:", p.Name, p.Route, p.Service)
		}
		p.ID = l.register(path, "plugins", p.ID, p.InstanceName, key)
		l.out.Plugins = append(l.out.Plugins, p)
	}
}

// resolve replaces the names of services and routes by their ids and by the entities.
func (l *flattener) resolve() {
	lookup := func(path, field, entity, name string) string {
		if name == "" || l.byID[entity][name] {
			return name
		}
		id, ok := l.byName[entity][name]
		if !ok {
			l.fault(path, "invalid reference '%s: %s' (no such entry in '%s')", field, name, entity)
		}
		return id
	}
	services := map[string]*Service{}
	for _, s := range l.out.Services {
		services[s.ID] = s
	}
	for _, r := range l.out.Routes {
		r.Service = lookup(r.At, "service", "services", r.Service)
		r.Upstream = services[r.Service]
	}
	for _, p := range l.out.Plugins {
		p.Route = lookup(p.At, "route", "routes", p.Route)
		p.Service = lookup(p.At, "service", "services", p.Service)
	}
}
