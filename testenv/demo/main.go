// Command demo starts the whole chain on loopback and drives a real MCP client through it:
// from a bare URL to stock prices, through the plugin and the sidecar, in both ways in which a
// server can call an API, and through a server that calls another one. It prints who says what
// to whom, shows what is refused, and checks every step; a step that differs from what
// it should be ends it with exit status 1.
//
//	go run ./testenv/demo          the conversation
//	go run ./testenv/demo -serve   stay up for clients of your own
//
// Tokens, codes and secrets appear as fingerprints only.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"phantomtoken/testenv"
	"phantomtoken/testenv/recorder"
)

// most is how long the conversation may take, starting and stopping included.
const most = 55 * time.Second

func main() {
	var o options
	flag.BoolVar(&o.serve, "serve", false, "stay up for clients of your own instead of showing the conversation")
	flag.BoolVar(&o.log, "log", false, "show on standard error what the parts write to their logs")
	flag.StringVar(&o.bin, "bin", "", "folder with phantom-token and token-exchange-sidecar; built when not given")
	flag.StringVar(&o.keys, "keys", ".demo", "folder of the signing keys, made when absent")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	out := newPrinter(os.Stdout)
	if err := run(ctx, o, out); err != nil {
		out.line("%s", out.paint(red, "demo: "+err.Error()))
		stop()
		os.Exit(1)
	}
}

type options struct {
	serve, log bool
	bin, keys  string
}

func run(ctx context.Context, o options, out *printer) (err error) {
	began := time.Now()
	opts := testenv.Options{Folder: o.keys, DefaultPorts: o.serve}
	if o.bin != "" {
		opts.Binaries = testenv.BinariesIn(o.bin)
	}
	if o.log {
		opts.Log = io.Writer(os.Stderr)
	}
	if o.serve {
		opts.Observe = func(e *recorder.Exchange) { out.conversation([]*recorder.Exchange{e}) }
	} else {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, most, fmt.Errorf("expected to be done in %s", most))
		defer cancel()
	}
	stack, err := testenv.Start(ctx, opts)
	if err != nil {
		return err
	}
	if o.serve {
		return serve(ctx, stack, out)
	}
	d := &demo{stack: stack, out: out}
	err = d.run(ctx)
	if closing := stack.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return err
	}
	out.line("\n%s", out.paint(green, fmt.Sprintf("%d exchanges and refusals shown, %d facts checked, all as they should be, in %.1f s.", out.number, d.facts, time.Since(began).Seconds())))
	d.prices()
	return nil
}
