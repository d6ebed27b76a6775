package loopback

import (
	"cmp"
	"context"
	"flag"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
)

// Main is main of a sample server, called name in its log, and returns its exit status. It
// calls serve until the process is told to end; with -healthcheck it asks the server that runs with the same environment whether
// it does. listen is where that one listens unless the variable PREFIX_LISTEN says otherwise.
func Main(name, prefix, listen string, serve func(context.Context, *slog.Logger) error) int {
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	check := flag.Bool("healthcheck", false, "ask the running server whether it runs, and exit")
	flag.Parse()
	var err error
	if *check {
		err = CheckHealth(ctx, cmp.Or(os.Getenv(prefix+"LISTEN"), listen))
	} else {
		err = serve(ctx, logger)
	}
	if err != nil {
		logger.Error(name+" ended", "err", err)
		return 1
	}
	return 0
}
