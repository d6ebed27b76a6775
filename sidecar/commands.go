package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"

	"phantomtoken/internal/oauth"
	"phantomtoken/internal/policy"
)

// command runs one of the commands that look at a policy file and serve nothing.
func command(name string, args []string, stdout, stderr io.Writer) int {
	switch name {
	case "check":
		return checkPolicy(args, stdout, stderr)
	case "explain":
		return explain(args, stdout, stderr)
	case "schema":
		if len(args) > 0 {
			fmt.Fprintf(stderr, "schema: expected no arguments, got %d\n", len(args))
			return exitUsage
		}
		_, _ = stdout.Write(policy.Schema())
		return exitOK
	}
	fmt.Fprintf(stderr, "expected check, explain, schema or flags, got another command; -help lists them\n")
	return exitUsage
}

// checkPolicy says what is wrong with a policy file, or what is in a good one.
func checkPolicy(args []string, stdout, stderr io.Writer) int {
	if len(args) != 1 || strings.HasPrefix(args[0], "-") {
		fmt.Fprintln(stderr, "check: expected the path of one policy file")
		return exitUsage
	}
	p, err := readPolicy(args[0])
	if err != nil {
		fmt.Fprintln(stderr, err)
		return exitFailed
	}
	routes := 0
	if egress, ok := p.Egress(); ok {
		routes = len(egress.Routes)
	}
	fmt.Fprintf(stdout, "%s is good: version %s, %d callers, %d audiences, %d egress routes\n", args[0], p.Version(), len(p.Callers()), len(p.Audiences()), routes)
	return exitOK
}

// explain says what a policy file would decide, by the code that decides.
func explain(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("explain", flag.ContinueOnError)
	flags.SetOutput(stderr)
	var (
		path     = flags.String("policy", "", "policy file; required")
		caller   = flags.String("caller", "", "id of the caller; required")
		audience listFlag
		scope    = flags.String("scope", "", "scopes asked for, separated by spaces; none leaves the choice to the policy")
		granted  = flags.String("granted", "", "scopes of the subject token, separated by spaces; as -scope when left out")
		tool     = flags.String("tool", "", "MCP tool that the call is made for")
		actors   = flags.Int("actors", 1, "actors in the subject token, its client included")
		asJSON   = flags.Bool("json", false, "print JSON")
	)
	flags.Var(&audience, "audience", "audience or resource asked for; may be repeated")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return exitOK
		}
		return exitUsage
	}
	if *path == "" || *caller == "" || flags.NArg() > 0 {
		fmt.Fprintln(stderr, "explain: expected -policy and -caller, and no further arguments; explain -help lists the flags")
		return exitUsage
	}
	asked, err := oauth.ParseScopes(*scope)
	if err != nil {
		fmt.Fprintf(stderr, "-scope: %v\n", err)
		return exitUsage
	}
	has := asked
	if isSet(flags, "granted") {
		if has, err = oauth.ParseScopes(*granted); err != nil {
			fmt.Fprintf(stderr, "-granted: %v\n", err)
			return exitUsage
		}
	}
	p, err := readPolicy(*path)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return exitUsage
	}
	explanation := p.Explain(policy.Question{
		Caller: *caller, Tool: *tool, Audience: audience, Scope: asked, Granted: has, Actors: *actors,
	})
	if *asJSON {
		out := json.NewEncoder(stdout)
		out.SetIndent("", "  ")
		if err := out.Encode(explanation); err != nil {
			fmt.Fprintln(stderr, err)
			return exitFailed
		}
	} else {
		fmt.Fprintln(stdout, strings.TrimSuffix(explanation.String(), "\n"))
	}
	if explanation.Refusal != nil {
		return exitFailed
	}
	return exitOK
}

func isSet(flags *flag.FlagSet, name string) bool {
	set := false
	flags.Visit(func(f *flag.Flag) { set = set || f.Name == name })
	return set
}

// listFlag is a flag that may be repeated.
type listFlag []string

func (l *listFlag) String() string { return strings.Join(*l, " ") }

func (l *listFlag) Set(value string) error {
	*l = append(*l, value)
	return nil
}
