package main

import (
	"context"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"phantomtoken/kong-plugin/doctor"
)

const maxTokenFile = 64 << 10

// doctorCommand visits an MCP server as a client does. Its error is an exitStatus when
// something is wrong there.
func doctorCommand(args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("phantom-token doctor", flag.ContinueOnError)
	var cfg doctor.Config
	flags.StringVar(&cfg.URL, "url", "", "`URL` of the MCP server, as users type it")
	flags.StringVar(&cfg.Token, "token", "", "access `token` for it; -token-file keeps it out of the list of processes")
	tokenFile := flags.String("token-file", "", "`file` with an access token; - reads standard input")
	flags.StringVar(&cfg.Origin, "origin", "", "web `origin` of a client in a browser (default that of MCP Inspector)")
	flags.BoolVar(&cfg.SharedHost, "shared-host", false, "the host has several resources, so the root has no metadata")
	flags.BoolVar(&cfg.Register, "register", false, "register a client at the authorization server, and remove it again where that is possible")
	caFile := flags.String("ca-file", "", "`file` of authorities in PEM that are trusted beside the system's")
	flags.DurationVar(&cfg.Timeout, "timeout", 10*time.Second, "time for every single request")
	asJSON := flags.Bool("json", false, "print one JSON object")
	if err := parse(flags, args, stderr); err != nil {
		return err
	}
	if cfg.URL == "" {
		return fmt.Errorf("%w: expected phantom-token doctor -url URL [-token-file FILE] [-register] [-json] …", errUsage)
	}
	var err error
	if *tokenFile != "" {
		if cfg.Token != "" {
			return fmt.Errorf("%w: expected -token or -token-file, got both", errUsage)
		}
		if cfg.Token, err = readToken(*tokenFile); err != nil {
			return fmt.Errorf("%w: -token-file: %w", errUsage, err)
		}
	}
	if *caFile != "" {
		if cfg.CAs, err = authoritiesWith(*caFile); err != nil {
			return fmt.Errorf("%w: -ca-file: %w", errUsage, err)
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	report, err := doctor.Run(ctx, cfg)
	if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	write := report.WriteText
	if *asJSON {
		write = report.WriteJSON
	}
	if err := write(stdout); err != nil {
		return fmt.Errorf("printing the report: %w", err)
	}
	if code := report.ExitCode(); code != doctor.ExitWell {
		return exitStatus(code)
	}
	return nil
}

func readToken(file string) (string, error) {
	in := os.Stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return "", err
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, maxTokenFile+1))
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(b))
	if token == "" || len(b) > maxTokenFile {
		return "", errors.New("expected a file with one access token, got another")
	}
	return token, nil
}

// authoritiesWith are those of the system and those of a file.
func authoritiesWith(file string) (*x509.CertPool, error) {
	data, err := readBounded(file)
	if err != nil {
		return nil, err
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(data) {
		return nil, errors.New("expected certificates in PEM, got none")
	}
	return pool, nil
}
