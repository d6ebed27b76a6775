package main

import (
	"fmt"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// setting is one environment variable as -help shows it.
type setting struct {
	name string
	kind string
	need string // "required", "default …", another word, or "optional"
	help string
}

// settings lists the variables in the order of config.
func settings() []setting { return fieldSettings(reflect.TypeFor[config](), envPrefix) }

func fieldSettings(t reflect.Type, prefix string) []setting {
	var out []setting
	for field := range t.Fields() {
		if !field.IsExported() {
			continue
		}
		if group := field.Tag.Get("envPrefix"); group != "" {
			out = append(out, fieldSettings(field.Type, prefix+group)...)
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

const usage = `Usage: token-exchange-sidecar [-check | -healthcheck | -help]
       token-exchange-sidecar check POLICY_FILE
       token-exchange-sidecar explain [flags]
       token-exchange-sidecar schema

Exchanges phantom tokens of the gateway for tokens of APIs (RFC 8693).
  -check        check the settings and the policy file together, and exit
  -healthcheck  ask the running sidecar whether it is ready, and exit with 0 or 1
  -help         print this
  check         check a policy file by itself: every problem with line and column
  explain       say what a policy file would decide, and by which line; explain -help
  schema        print the JSON Schema of the policy file

Settings are environment variables. The policy file is read again when it changes; SIGHUP
does it at once, and is needed when only a file that it names has changed: the secret or the
keys of a caller, a CA file. It also reads a folder of signing keys and the TLS files again.
SIGTERM and SIGINT end the sidecar; requests that are being answered have ten seconds to end.

Traces are sent where OTEL_EXPORTER_OTLP_ENDPOINT says (OTLP over HTTP), and not without it.

/readyz is 200 while tokens can be exchanged: the keys of the gateway are to be had, and the
identity provider answers as far as audiences need it. Its text says what is missing.

`

// printHelp writes two lines for each setting: its name with kind and need between
// parentheses, separated by a semicolon, and below it its meaning.
func printHelp(w io.Writer) {
	fmt.Fprint(w, usage)
	for _, s := range settings() {
		fmt.Fprintf(w, "  %s (%s; %s)\n      %s\n", s.name, s.kind, s.need, s.help)
	}
}

// injected matches variables that Kubernetes sets for a service called token-exchange or
// the like, beside ours.
var injected = regexp.MustCompile(`(^|_)(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT(_[0-9]+_.*)?)$`)

// unknownVariables finds names that nobody reads: a slip in a name would otherwise leave
// out a setting without a word.
func unknownVariables(variables map[string]string) []error {
	known := make(map[string]bool)
	for _, s := range settings() {
		known[s.name] = true
	}
	var problems []error
	for name := range variables {
		own := strings.TrimPrefix(name, envPrefix)
		switch {
		case known[name], injected.MatchString(own):
		case strings.HasPrefix(own, "CLIENTS_"), own == "TOKEN_LIFETIME":
			problems = append(problems, fmt.Errorf("%s: expected callers, audiences and lifetimes in the policy file (%sPOLICY_FILE), got a variable", name, envPrefix))
		default:
			problems = append(problems, fmt.Errorf("%s: expected one of the variables that -help lists, got another; is it a slip?", name))
		}
	}
	slices.SortFunc(problems, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return problems
}
