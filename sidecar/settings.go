package main

import (
	"fmt"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// setting is one environment variable as -help shows it. In the names of repeated settings
// N and M stand for numbers that count from 0.
type setting struct {
	name string
	kind string
	need string // "required", "default …", another word, or "optional"
	help string
}

// settings lists the variables in the order of config.
func settings() []setting {
	return fieldSettings(reflect.TypeFor[config](), envPrefix, []string{"N", "M"})
}

func fieldSettings(t reflect.Type, prefix string, letters []string) []setting {
	var out []setting
	for field := range t.Fields() {
		if list := field.Tag.Get("envPrefix"); list != "" {
			out = append(out, fieldSettings(field.Type.Elem(), prefix+list+letters[0]+"_", letters[1:])...)
			continue
		}
		s := setting{
			name: prefix + field.Tag.Get("env"),
			kind: field.Tag.Get("kind"),
			need: "optional",
			help: field.Tag.Get("help"),
		}
		if value := field.Tag.Get("envDefault"); value != "" {
			s.need = "default " + value
		} else if need := field.Tag.Get("need"); need != "" {
			s.need = need
		}
		out = append(out, s)
	}
	return out
}

// printHelp writes two lines for each setting: its name with kind and need between
// parentheses, separated by a semicolon, and below it its meaning.
func printHelp(w io.Writer) {
	fmt.Fprint(w, `Usage: token-exchange-sidecar [-check | -healthcheck]

Exchanges phantom tokens of the gateway for tokens of APIs (RFC 8693).
  -check        check the settings and exit
  -healthcheck  ask the running sidecar whether it is ready, and exit with 0 or 1
  -help         print this

Settings are environment variables. N and M count from 0.

/readyz is about the start: it says 200 once the keys of the gateway were to be had, and goes
on saying so if they no longer are. Requests that lack a key are then answered with 503.

`)
	for _, s := range settings() {
		fmt.Fprintf(w, "  %s (%s; %s)\n      %s\n", s.name, s.kind, s.need, s.help)
	}
}

// injected matches variables that Kubernetes sets for a service called token-exchange or
// the like, beside ours.
var injected = regexp.MustCompile(`(^|_)(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT(_[0-9]+_.*)?)$`)

// unknownVariables finds names that nobody reads: a slip in a name would otherwise leave
// out a scope or a claim without a word.
func unknownVariables(variables map[string]string) []error {
	var names []string
	for _, s := range settings() {
		name := regexp.QuoteMeta(s.name)
		names = append(names, strings.NewReplacer("_N_", "_(0|[1-9][0-9]*)_", "_M_", "_(0|[1-9][0-9]*)_").Replace(name))
	}
	known, err := regexp.Compile("^(" + strings.Join(names, "|") + ")$")
	if err != nil {
		return []error{fmt.Errorf("reading settings: %w", err)}
	}
	var problems []error
	for name := range variables {
		own := strings.TrimPrefix(name, envPrefix)
		// No service has a name that makes Kubernetes write into our lists.
		if !known.MatchString(name) && (strings.HasPrefix(own, "CLIENTS_") || !injected.MatchString(own)) {
			problems = append(problems, fmt.Errorf("%s: expected one of the variables that -help lists, got another; is it a slip?", name))
		}
	}
	problems = append(problems, gaps(variables)...)
	slices.SortFunc(problems, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return problems
}

// Numbers of repeated settings, with what stands before them.
var numbers = []*regexp.Regexp{
	regexp.MustCompile(`^(` + envPrefix + `CLIENTS_)([0-9]+)_`),
	regexp.MustCompile(`^(` + envPrefix + `CLIENTS_[0-9]+_AUDIENCES_)([0-9]+)_`),
}

// gaps finds numbers that do not count from 0: the parser stops at the first one that is
// missing and would leave out the rest.
func gaps(variables map[string]string) []error {
	lists := make(map[string]map[string]bool) // what stands before → numbers in use
	for name := range variables {
		for _, pattern := range numbers {
			if m := pattern.FindStringSubmatch(name); m != nil {
				if lists[m[1]] == nil {
					lists[m[1]] = make(map[string]bool)
				}
				lists[m[1]][m[2]] = true
			}
		}
	}
	var problems []error
	for list, used := range lists {
		for i := range len(used) {
			if !used[fmt.Sprint(i)] {
				problems = append(problems, fmt.Errorf("%s%d_...: expected numbers that count from 0 without a gap, got one here", list, i))
				break
			}
		}
	}
	return problems
}
