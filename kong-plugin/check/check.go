// Package check finds what is wrong with the blocks of one plugin in a declarative
// configuration of Kong, before Kong does and beyond what Kong looks at: the schema in
// Kong's own words, what the plugin itself would refuse, references to variables that are
// not set, and routes that never reach the plugin. It connects to nothing.
package check

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"phantomtoken/internal/kongconfig"
)

// Config says which plugin is checked and how.
type Config struct {
	// Plugin is the plugin's name in the file.
	Plugin string
	// Schema is the plugin's schema as it is given to Kong.
	Schema []byte
	// Build tries a configuration as the plugin gets it from Kong: a JSON object with
	// defaults filled in and references resolved.
	Build func(config []byte) Built
	// Environment is that of the Kong process, which vault references read.
	Environment kongconfig.Environment
}

// Built is what the plugin says of one configuration.
type Built struct {
	Problems []Complaint // the configuration cannot work
	Warnings []string    // it works and gives something away
}

// Complaint is about one field, or about all of them when Field is empty. Elements of
// lists count from 1.
type Complaint struct{ Field, Text string }

// Severity says whether a configuration can work as it is.
type Severity string

const (
	// Problem keeps Kong from loading the file, or the plugin from working as configured.
	Problem Severity = "problem"
	// Warning is something that an operator should know of and may want.
	Warning Severity = "warning"
)

// Finding is one thing that was found.
type Finding struct {
	File     string   `json:"file"`
	Line     int      `json:"line"`            // from 1
	Field    string   `json:"field,omitempty"` // services[0].plugins[0].config.resource; empty for the file as a whole
	Severity Severity `json:"severity"`
	Text     string   `json:"message"` // what was expected and what came
}

// String is the finding as compilers write theirs: file:line: field: text.
func (f Finding) String() string {
	parts := []string{fmt.Sprintf("%s:%d", f.File, f.Line)}
	if f.Severity == Warning {
		parts = append(parts, "warning")
	}
	if f.Field != "" {
		parts = append(parts, f.Field)
	}
	return strings.Join(append(parts, f.Text), ": ")
}

// Report is all that was found in one file, in the order of the file.
type Report struct {
	File     string    `json:"file"`
	Blocks   int       `json:"blocks"` // blocks of the plugin
	Problems int       `json:"problems"`
	Warnings int       `json:"warnings"`
	Findings []Finding `json:"findings"`
}

// maxFile bounds what is read of a file.
const maxFile = 32 << 20

// File checks a file. The error says that it cannot be read.
func File(name string, cfg Config) (*Report, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("reading the declarative configuration: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("reading the declarative configuration: %w", err)
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("reading the declarative configuration: expected at most %d bytes in %s", maxFile, name)
	}
	return Text(name, text, cfg)
}

// Text checks the text of a file of that name. The error says that the schema is not one.
func Text(name string, text []byte, cfg Config) (*Report, error) {
	schema, err := kongconfig.NewSchema(cfg.Schema)
	if err != nil {
		return nil, fmt.Errorf("reading the plugin's own schema: %w", err)
	}
	c := &checker{
		Config: cfg, schema: schema, places: kongconfig.Locate(text),
		report: &Report{File: name, Findings: []Finding{}},
	}
	doc, err := kongconfig.Parse(text, kongconfig.Format{
		Plugins: map[string]*kongconfig.Schema{cfg.Plugin: schema},
		Warn:    func(text string) { c.add(Warning, "", "%s", text) },
	})
	var refused *kongconfig.Error
	switch {
	case errors.As(err, &refused):
		for _, f := range refused.Faults {
			c.add(Problem, f.Path, "%s", f.Text)
		}
	case err != nil:
		c.unreadable(err)
		return c.done(), nil
	}
	c.doc = doc
	c.blocks()
	return c.done(), nil
}

// checker checks one file.
type checker struct {
	Config
	schema *kongconfig.Schema
	places *kongconfig.Positions
	doc    *kongconfig.Declarative
	report *Report
}

func (c *checker) add(severity Severity, field, format string, args ...any) {
	c.report.Findings = append(c.report.Findings, Finding{
		File: c.report.File, Line: max(1, c.places.At(field).Line), Field: field,
		Severity: severity, Text: fmt.Sprintf(format, args...),
	})
}

var lineOfError = regexp.MustCompile(`line (\d+): `)

// unreadable notes an error of the YAML parser, which says in its text where it is.
func (c *checker) unreadable(err error) {
	line := 1
	if m := lineOfError.FindStringSubmatch(err.Error()); m != nil {
		line, _ = strconv.Atoi(m[1]) // digits
	}
	c.report.Findings = append(c.report.Findings, Finding{
		File: c.report.File, Line: line, Severity: Problem, Text: err.Error(),
	})
}

func (c *checker) done() *Report {
	r := c.report
	slices.SortStableFunc(r.Findings, func(a, b Finding) int { return a.Line - b.Line })
	r.Findings = slices.Compact(r.Findings)
	for _, f := range r.Findings {
		if f.Severity == Problem {
			r.Problems++
		} else {
			r.Warnings++
		}
	}
	return r
}

// blocks checks every block of the plugin, and what they are to each other.
func (c *checker) blocks() {
	var good []*block
	for _, p := range c.doc.Plugins {
		if p.Name != c.Plugin {
			continue
		}
		c.report.Blocks++
		if c.refused(p) || !p.Enabled {
			continue // its values may be anything
		}
		if b := c.block(p); b != nil {
			good = append(good, b)
		}
	}
	if c.report.Blocks == 0 && len(c.report.Findings) == 0 {
		c.add(Warning, "", "expected a block of the plugin %s, got none: nothing was checked but the form of the file", c.Plugin)
	}
	r := newRouting(c.doc, c.Plugin)
	for _, b := range good {
		c.reachable(b, r)
		c.beside(b, r)
	}
	c.roots(good, r)
}

// refused reports whether Kong refuses something in this block.
func (c *checker) refused(p *kongconfig.Plugin) bool {
	return slices.ContainsFunc(c.report.Findings, func(f Finding) bool {
		return f.Severity == Problem && (f.Field == p.At || strings.HasPrefix(f.Field, p.At+"."))
	})
}

// block is one configuration of the plugin, with what matters for its routes.
type block struct {
	plugin    *kongconfig.Plugin
	unreached bool // its metadata is not reached: told, and reason enough for what follows
	settings  struct {
		Resource             string   `json:"resource"`
		AuthorizationServers []string `json:"authorization_servers"`
		Metadata             struct {
			AtRoot bool `json:"at_root"`
		} `json:"metadata"`
		Token struct {
			Issuer        string   `json:"issuer"`
			Audience      []string `json:"audience"`
			AudienceCheck string   `json:"audience_check"`
		} `json:"token"`
		PhantomToken struct {
			Issuer         string `json:"issuer"`
			SigningKey     string `json:"signing_key"`
			SigningKeyFile string `json:"signing_key_file"`
		} `json:"phantom_token"`
		CORS struct {
			Enabled bool `json:"enabled"`
		} `json:"cors"`
		Identity struct {
			ConsumerClaim    string `json:"consumer_claim"`
			ConsumerTag      string `json:"consumer_tag"`
			ConsumerOptional bool   `json:"consumer_optional"`
			CredentialClaim  string `json:"credential_claim"`
			GroupsClaim      string `json:"groups_claim"`
		} `json:"identity"`
	}
}

// field is the path of a setting of the block.
func (b *block) field(name string) string {
	if name == "" {
		return b.plugin.At + ".config"
	}
	return b.plugin.At + ".config." + name
}

// unset stands for the value of a reference that could not be resolved, so that one
// missing variable is one problem.
const unset = "unset"

// block checks the values of one block.
func (c *checker) block(p *kongconfig.Plugin) *block {
	b := &block{plugin: p}
	values, missing := map[string]string{}, map[string]bool{}
	for _, ref := range c.schema.References(p) {
		if !ref.Resolved {
			c.add(Warning, b.field(ref.Field), "expected a value, got the reference %s: this field is not referenceable, so the text itself arrives", ref.Text)
			continue
		}
		value, err := c.Environment.Lookup(ref.Text)
		switch {
		case err != nil:
			c.add(Problem, b.field(ref.Field), "%s: %v; Kong starts all the same and the field arrives empty: expected %s in the environment of the Kong process", ref.Text, err, variable(ref.Text))
		case value == "":
			c.add(Problem, b.field(ref.Field), "%s: expected a value in %s, got an empty one", ref.Text, variable(ref.Text))
		}
		if err != nil || value == "" {
			missing[ref.Field] = true
			value = unset
		}
		values[ref.Text] = value
	}
	loaded := c.schema.Load(p, func(reference string) string { return values[reference] })
	config, err := json.Marshal(loaded)
	if err == nil {
		err = json.Unmarshal(config, &b.settings)
	}
	if err != nil {
		c.add(Problem, b.field(""), "expected a configuration that can be written as JSON, got another")
		return nil
	}
	built := c.Build(config)
	for _, p := range built.Problems {
		if field := zeroBased(p.Field); !missing[field] {
			c.add(Problem, b.field(element(loaded, field, p.Text)), "%s", p.Text)
		}
	}
	for _, w := range built.Warnings {
		field, _, _ := strings.Cut(w, " ")
		if !fieldName.MatchString(field) {
			field = ""
		}
		c.add(Warning, b.field(field), "%s", w)
	}
	return b
}

var (
	fieldName    = regexp.MustCompile(`^[a-z_]+(\.[a-z_]+)*$`)
	elementIndex = regexp.MustCompile(`\[(\d+)\]`)
	referenceTo  = regexp.MustCompile(`^\{vault://env/([^/}?#]+)`)
)

// variable names the variable of the environment that a reference reads.
func variable(reference string) string {
	if m := referenceTo.FindStringSubmatch(reference); m != nil {
		return strings.ToUpper(strings.ReplaceAll(m[1], "-", "_"))
	}
	return "a variable"
}

// zeroBased turns the numbers of elements into Kong's.
func zeroBased(field string) string {
	return elementIndex.ReplaceAllStringFunc(field, func(s string) string {
		n, err := strconv.Atoi(strings.Trim(s, "[]"))
		if err != nil || n < 1 {
			return s
		}
		return fmt.Sprintf("[%d]", n-1)
	})
}

// element finds the element of a list that a complaint about the list quotes, as a whole
// or by its host.
func element(config map[string]any, field, text string) string {
	var value any = config
	for name := range strings.SplitSeq(field, ".") {
		record, ok := value.(map[string]any)
		if !ok {
			return field
		}
		value = record[name]
	}
	list, _ := value.([]any)
	for i, e := range list {
		s, ok := e.(string)
		if !ok || s == "" {
			continue
		}
		u, err := url.Parse(s)
		if strings.Contains(text, strconv.Quote(s)) || err == nil && u.Host != "" && strings.Contains(text, strconv.Quote(u.Host)) {
			return fmt.Sprintf("%s[%d]", field, i)
		}
	}
	return field
}
