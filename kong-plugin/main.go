// Command phantom-token is a plugin for Kong Gateway that introspects the opaque access
// token of a request, decides whether it opens the route, and sends a phantom token, a
// short-lived JWT for the upstream alone, in its place.
//
// Kong starts it (pluginserver_phantom_token_start_cmd) with -kong-prefix and asks it for
// its schema (pluginserver_phantom_token_query_cmd) with -dump. Kong takes the plugin's
// name from the file name of the binary. The command
//
//	phantom-token keys -out FILE [-alg ES256]
//
// makes the key that phantom tokens are signed with and prints its public half,
//
//	phantom-token keys rotate -dir FOLDER -every 720h
//	phantom-token keys list -dir FOLDER
//
// make and remove the keys of a folder when they are due, and say what each of them is at now,
//
//	phantom-token check FILE
//
// finds what is wrong with the plugin's blocks in a kong.yml, and
//
//	phantom-token doctor -url URL
//
// walks the way of an MCP client through a running gateway and says what stops it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"phantomtoken/kong-plugin/pluginserver"
)

const (
	version = "0.1.0"
	// priority puts the plugin behind cors, bot detection and correlation ids, and before
	// ip-restriction, acl and rate-limiting.
	priority = 1000

	// eventTimeout leaves room for the longest call to the provider (30 s) and ends before
	// Kong gives up on the plugin (60 s).
	eventTimeout = 40 * time.Second

	parentCheck = time.Second
)

func main() {
	err := run(os.Args, os.Stdout, os.Stderr)
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return
	}
	var status exitStatus
	if errors.As(err, &status) { // all is said
		os.Exit(int(status))
	}
	fmt.Fprintln(os.Stderr, "phantom-token:", err)
	if errors.Is(err, errUsage) {
		os.Exit(2)
	}
	os.Exit(1)
}

// errUsage is wrapped by errors of the command line.
var errUsage = errors.New("usage")

// exitStatus is the end of a command that has said everything.
type exitStatus int

func (s exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// parse reads flags and allows nothing behind them.
func parse(flags *flag.FlagSet, args []string, stderr io.Writer) error {
	flags.SetOutput(io.Discard) // errors are printed once, by main
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		flags.SetOutput(stderr)
		flags.Usage()
		return err
	case err != nil:
		return fmt.Errorf("%w: %w", errUsage, err)
	case flags.NArg() > 0:
		return fmt.Errorf("%w: expected flags or one of the commands keys, check and doctor, got %q", errUsage, flags.Arg(0))
	}
	return nil
}

func run(args []string, stdout, stderr io.Writer) error {
	executable, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding the plugin's name: %w", err)
	}
	name := filepath.Base(executable)
	if len(args) > 1 {
		switch args[1] {
		case "keys":
			return keysCommand(args[2:], stdout, stderr)
		case "check":
			return checkCommand(args[2:], stdout, stderr)
		case "doctor":
			return doctorCommand(args[2:], stdout, stderr)
		}
	}

	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	prefix := flags.String("kong-prefix", "/usr/local/kong", "Kong's prefix directory, where the socket goes")
	dump := flags.Bool("dump", false, "print the plugin's description and schema for Kong, and exit")
	level := flags.String("log-level", "info", "least level that is logged: debug, info, warn or error")
	if err := parse(flags, args[1:], stderr); err != nil {
		return err
	}
	socket := pluginserver.SocketPath(*prefix, name)
	if *dump {
		return pluginserver.Dump(stdout, socket, pluginserver.PluginInfo{
			Name: name, Version: version, Priority: priority, Schema: pluginSchema(name),
		})
	}
	log, err := newLogger(stderr, *level)
	if err != nil {
		return fmt.Errorf("%w: -log-level: %w", errUsage, err)
	}
	return serve(socket, log)
}

// serve runs the plugin until it is told to stop or Kong has gone.
func serve(socket string, log *slog.Logger) error {
	parent := os.Getppid() // before anything that takes time
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	shared, err := newParts(time.Now, log)
	if err != nil {
		return err
	}
	server, err := pluginserver.Listen(pluginserver.Config{
		Socket:       socket,
		Start:        starter(shared, time.Now, log),
		EventTimeout: eventTimeout,
		Logger:       log,
	})
	if err != nil {
		return err
	}
	go watchParent(ctx, cancel, parent, os.Getppid, parentCheck)
	log.Info("listening", "socket", socket, "version", version)
	err = server.Serve(ctx)
	log.Info("stopped")
	return err
}

// watchParent calls gone when this process has another parent than first: Kong's worker,
// which started it, has died without telling it.
func watchParent(ctx context.Context, gone func(), first int, parent func() int, every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if parent() != first {
				gone()
				return
			}
		}
	}
}

// newLogger writes lines without a time: Kong puts its own before each.
func newLogger(w io.Writer, level string) (*slog.Logger, error) {
	var least slog.Level
	if err := least.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("expected debug, info, warn or error, got %q", level)
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{
		Level: least,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	})), nil
}
