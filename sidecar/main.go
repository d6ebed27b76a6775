// Command token-exchange-sidecar stands beside a service and exchanges the phantom tokens
// that the service receives from the gateway for tokens that the APIs behind it accept
// (OAuth 2.0 Token Exchange, RFC 8693). It issues these tokens itself, as a security token
// service with its own keys and metadata, or has the identity provider issue them. A policy
// file says who may have which.
//
// Services reach it in two ways: they send token requests, or they send their calls to its
// egress proxy, which exchanges and forwards.
//
// It is configured by environment variables, which -help lists; -check looks for mistakes in
// them and in the policy file, and exits; -healthcheck asks the running sidecar whether it can
// exchange tokens. The commands check, explain and schema are about a policy file alone.
// Problems and one JSON line per decision go to standard error. SIGHUP reads the policy file
// again, and the secrets and keys of callers with it. SIGTERM and SIGINT end it: requests that
// are being answered get their answer first, for ten seconds.
//
//	POST /token                                  token exchange
//	GET  /.well-known/oauth-authorization-server metadata (RFC 8414), also as openid-configuration
//	GET  /jwks.json                              public keys
//	GET  /healthz                                200 while the process runs
//	GET  /readyz                                 200 while tokens can be exchanged
//
// Where the keys of the gateway come from files, its metadata and keys are served too, at the
// paths of its issuer. Egress and metrics have addresses of their own.
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
	"strings"
	"syscall"
)

// Exit statuses.
const (
	exitOK     = 0
	exitFailed = 1 // could not serve; or a policy that is wrong, or refuses
	exitUsage  = 2 // wrong flags or settings
)

func main() {
	os.Exit(run(os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}

func run(args, environ []string, stdout, stderr io.Writer) int {
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		return command(args[0], args[1:], stdout, stderr)
	}
	flags := flag.NewFlagSet("token-exchange-sidecar", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {} // errors are one line; -help is printed below
	check := flags.Bool("check", false, "check the settings and exit")
	health := flags.Bool("healthcheck", false, "ask the running sidecar whether it is ready, and exit")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		printHelp(stdout)
		return exitOK
	case err != nil:
		return exitUsage // the flag set has said why
	case flags.NArg() > 0:
		fmt.Fprintf(stderr, "expected flags only, got %d arguments; -help lists the settings\n", flags.NArg())
		return exitUsage
	}

	cfg, err := readConfig(environ)
	logger := slog.New(slog.NewJSONHandler(stderr, &slog.HandlerOptions{Level: cfg.LogLevel}))
	if *health { // the sidecar that runs has complained about its settings
		if err := checkHealth(context.Background(), cfg); err != nil {
			fmt.Fprintf(stderr, "token-exchange-sidecar: %v\n", err)
			return exitFailed
		}
		return exitOK
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP) // before all else: unheard, it would end the process
	defer signal.Stop(hup)
	partsLogger := logger
	if *check {
		partsLogger = slog.New(slog.DiscardHandler) // a start says what it does, a check what is wrong
	}
	// Tried even if reading failed, to find the other problems too.
	s, buildErr := build(ctx, cfg, partsLogger)
	if err := errors.Join(err, buildErr); err != nil {
		if buildErr == nil {
			s.close()
		}
		return complain(stderr, err)
	}
	defer s.close()
	if *check {
		s.warn(logger, s.address)
		fmt.Fprintln(stdout, "the settings are good")
		return exitOK
	}
	doors, err := s.open()
	if err != nil {
		return complain(stderr, err)
	}
	s.warn(logger, doors[0].listener.Addr())
	if err := s.serve(ctx, doors, hup); err != nil {
		logger.Error("serving failed", "err", err)
		return exitFailed
	}
	return exitOK
}

// complain prints everything that is wrong with the settings.
func complain(stderr io.Writer, err error) int {
	fmt.Fprintf(stderr, "token-exchange-sidecar: the settings cannot work (-help lists them):\n%v\n", err)
	return exitUsage
}
