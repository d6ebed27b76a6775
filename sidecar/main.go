// Command token-exchange-sidecar stands beside a service and exchanges the phantom tokens
// that the service receives from the gateway for tokens that the APIs behind it accept
// (OAuth 2.0 Token Exchange, RFC 8693). The sidecar issues these tokens itself: it is a
// security token service with its own keys, metadata and policy.
//
// It is configured by environment variables, which -help lists; -check looks for mistakes
// in them and exits, and -healthcheck asks the running sidecar whether it can exchange
// tokens. Problems and one JSON line per decision go to standard error. SIGTERM
// and SIGINT end it: requests that are being answered get their answer first.
//
//	POST /token                                  token exchange
//	GET  /.well-known/oauth-authorization-server metadata (RFC 8414), also as openid-configuration
//	GET  /jwks.json                              public keys
//	GET  /healthz                                200 while the process runs
//	GET  /readyz                                 200 once tokens can be exchanged
//
// Where the keys of the gateway come from files, its metadata and keys are served too, at
// the paths of its issuer.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
)

// Exit statuses.
const (
	exitOK     = 0
	exitFailed = 1 // could not serve
	exitUsage  = 2 // wrong flags or settings
)

func main() {
	os.Exit(run(os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}

func run(args, environ []string, stdout, stderr io.Writer) int {
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

	logger := slog.New(slog.NewJSONHandler(stderr, nil))
	cfg, err := readConfig(environ)
	if *health { // the sidecar that runs has complained about its settings
		if err := checkHealth(context.Background(), cfg.Listen); err != nil {
			fmt.Fprintf(stderr, "token-exchange-sidecar: %v\n", err)
			return exitFailed
		}
		return exitOK
	}
	// Tried even if reading failed, to find the other problems too.
	sidecar, buildErr := build(cfg, false, logger)
	if err := errors.Join(err, buildErr); err != nil {
		if buildErr == nil {
			sidecar.close()
		}
		return complain(stderr, err)
	}
	if *check {
		sidecar.close()
		cfg.warn(logger, sidecar.address)
		fmt.Fprintln(stdout, "the settings are good")
		return exitOK
	}
	if sidecar.keyMissing { // made only now, by a sidecar that will run with it
		sidecar.close()
		if sidecar, err = build(cfg, true, logger); err != nil {
			return complain(stderr, err)
		}
	}
	defer sidecar.close()

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	listener, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return complain(stderr, fmt.Errorf("%sLISTEN: %w", envPrefix, err))
	}
	cfg.warn(logger, listener.Addr())
	if err := serve(ctx, listener, sidecar, logger); err != nil {
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
