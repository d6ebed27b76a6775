package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"phantomtoken/internal/gate"
	"phantomtoken/internal/kongconfig"
	"phantomtoken/kong-plugin/check"
)

// checkCommand checks the blocks of this plugin in a kong.yml. Its error is exitStatus(1)
// when there are problems.
func checkCommand(args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("phantom-token check FILE", flag.ContinueOnError)
	given := kongconfig.Environment{}
	flags.Func("env", "`NAME=VALUE` of Kong's environment, for vault references; may be repeated. Without -env and -env-file the environment of this command is used", func(s string) error {
		name, value, ok := strings.Cut(s, "=")
		if !ok || name == "" {
			return fmt.Errorf("expected NAME=VALUE")
		}
		given[name] = value
		return nil
	})
	envFile := flags.String("env-file", "", "`file` of lines NAME=VALUE, the environment of Kong")
	asJSON := flags.Bool("json", false, "print one JSON object")
	file, err := parseWithFile(flags, args, stderr)
	if err != nil {
		return err
	}
	if file == "" {
		return fmt.Errorf("%w: expected phantom-token check FILE [-env NAME=VALUE …] [-env-file FILE] [-json]", errUsage)
	}
	environment, err := checkEnvironment(given, *envFile)
	if err != nil {
		return fmt.Errorf("%w: -env-file: %w", errUsage, err)
	}
	schema, err := json.Marshal(pluginSchema(pluginName))
	if err != nil {
		return fmt.Errorf("encoding the schema: %w", err)
	}
	report, err := check.File(file, check.Config{
		Plugin: pluginName, Schema: schema, Build: tryBuild, Environment: environment,
	})
	if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	write := report.WriteText
	if *asJSON {
		write = report.WriteJSON
	}
	if err := write(stdout); err != nil {
		return fmt.Errorf("printing the findings: %w", err)
	}
	if report.Problems > 0 {
		return exitStatus(1)
	}
	return nil
}

// pluginName is what blocks of this plugin are called in a kong.yml.
const pluginName = "phantom-token"

// parseWithFile reads flags that may stand before and after the name of a file.
func parseWithFile(flags *flag.FlagSet, args []string, stderr io.Writer) (file string, err error) {
	flags.SetOutput(io.Discard)
	if flags.Parse(args) == nil && flags.NArg() > 0 {
		file, args = flags.Arg(0), flags.Args()[1:]
	}
	return file, parse(flags, args, stderr)
}

// checkEnvironment is what the command line says of Kong's environment; what stands there
// counts before what the file says.
func checkEnvironment(given kongconfig.Environment, file string) (kongconfig.Environment, error) {
	environment := kongconfig.Environment{}
	if file == "" && len(given) == 0 {
		for _, pair := range os.Environ() {
			name, value, _ := strings.Cut(pair, "=")
			environment[name] = value
		}
		return environment, nil
	}
	if file != "" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		if environment, err = kongconfig.ReadEnvironment(f); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	}
	for name, value := range given {
		environment[name] = value
	}
	return environment, nil
}

// tryBuild builds a configuration as an instance would, and lets go of it.
func tryBuild(config []byte) check.Built {
	var built check.Built
	log := slog.New(warningHandler{&built.Warnings})
	cfg, _, err := decodeConfig(config)
	if err == nil {
		err = tryParts(&cfg, log)
	}
	for _, problem := range split(err) {
		field, text, found := strings.Cut(problem.Error(), ": ")
		if !found || strings.ContainsAny(field, " ") {
			field, text = "", problem.Error()
		}
		built.Problems = append(built.Problems, check.Complaint{Field: field, Text: text})
	}
	return built
}

func tryParts(cfg *Config, log *slog.Logger) error {
	shared, err := newParts(time.Now, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	gateConfig, release, err := cfg.build(shared, log)
	if err != nil {
		return err
	}
	defer release()
	_, err = gate.New(gateConfig)
	return err
}

// split returns the errors that err joins.
func split(err error) []error {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}

// warningHandler keeps the messages of warnings.
type warningHandler struct{ messages *[]string }

// Enabled implements slog.Handler.
func (h warningHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn
}

// Handle implements slog.Handler.
func (h warningHandler) Handle(_ context.Context, r slog.Record) error {
	*h.messages = append(*h.messages, r.Message)
	return nil
}

// WithAttrs implements slog.Handler.
func (h warningHandler) WithAttrs([]slog.Attr) slog.Handler { return h }

// WithGroup implements slog.Handler.
func (h warningHandler) WithGroup(string) slog.Handler { return h }
