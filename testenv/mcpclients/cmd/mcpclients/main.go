// Command mcpclients installs the MCP clients that the tests run, or says whether they are
// installed.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"phantomtoken/testenv/mcpclients"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "mcpclients:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("mcpclients", flag.ContinueOnError)
	flags.SetOutput(stderr)
	install := flags.Bool("install", false, "install what is missing")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *install {
		if _, err := mcpclients.Install(ctx, stderr); err != nil {
			return err
		}
	}
	if _, err := mcpclients.Find(); err != nil {
		return err
	}
	for _, c := range mcpclients.Clients() {
		fmt.Fprintf(stdout, "%-20s %s %s\n", c.Name, c.Package, c.Version)
	}
	return nil
}
