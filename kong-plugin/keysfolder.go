package main

import (
	"flag"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"phantomtoken/internal/keyring"
)

// rotateKeysCommand does once what is due in a key folder: for a cron job or an init
// container. It may run as often and in as many places as one likes.
func rotateKeysCommand(args []string, stdout, stderr io.Writer, now time.Time) error {
	flags := flag.NewFlagSet("phantom-token keys rotate", flag.ContinueOnError)
	dir := flags.String("dir", "", "key `folder`, made with mode 0700 when absent")
	var schedule keyring.Schedule
	flags.DurationVar(&schedule.Every, "every", 0, "how `long` a key signs, for example 720h; at least 2h")
	flags.DurationVar(&schedule.Lead, "lead", 0, "how `long` a key is published before it signs: 2h to -every; 24h when absent, or -every if that is less")
	lifetimeFlag(flags, &schedule)
	alg := flags.String("alg", "", "signature `algorithm` of new keys: ES256 (default), RS256, PS256 or EdDSA")
	dryRun := flags.Bool("n", false, "say what would be done, and do nothing")
	force := flags.Bool("force", false, "remove dead keys also when nobody rotated for two periods; compare the clocks first")
	if err := parse(flags, args, stderr); err != nil {
		return err
	}
	if *dir == "" || schedule.Every == 0 {
		return fmt.Errorf("%w: expected phantom-token keys rotate -dir FOLDER -every DURATION [-lead DURATION] [-lifetime DURATION] [-alg ALGORITHM] [-n] [-force]", errUsage)
	}
	if err := schedule.Check(); err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	rotate := keyring.Rotate
	if *force {
		rotate = keyring.ForceRotate
	}
	done, err := rotate(*dir, *alg, schedule, now, *dryRun)
	if printed := printRotation(stdout, done, *dryRun); err == nil && printed != nil {
		err = fmt.Errorf("printing what was done: %w", printed)
	}
	return err
}

func printRotation(w io.Writer, done keyring.Rotation, dryRun bool) error {
	created, removed := "created", "removed"
	if dryRun {
		created, removed = "would create", "would remove"
	}
	var text []byte
	for _, name := range done.Created {
		text = fmt.Appendf(text, "%s %s\n", created, name)
	}
	for _, name := range done.Removed {
		text = fmt.Appendf(text, "%s %s\n", removed, name)
	}
	for _, name := range done.Kept {
		text = fmt.Appendf(text, "not removed, though it looks dead: %s\n", name)
	}
	if len(done.Kept) > 0 {
		text = fmt.Appendf(text, "nobody rotated for two periods, or this clock is ahead; a later rotation removes it, -force does so now\n")
	}
	if len(text) == 0 && !done.Next.IsZero() {
		text = fmt.Appendf(text, "nothing is due\n")
	}
	if !done.Next.IsZero() {
		text = fmt.Appendf(text, "next change %s\n", utc(done.Next))
	}
	_, err := w.Write(text)
	return err
}

// listKeysCommand says what each key of a folder is. Its error is exitStatus(1) when a file
// cannot be used, or none can.
func listKeysCommand(args []string, stdout, stderr io.Writer, now time.Time) error {
	flags := flag.NewFlagSet("phantom-token keys list", flag.ContinueOnError)
	dir := flags.String("dir", "", "key `folder`")
	var schedule keyring.Schedule
	lifetimeFlag(flags, &schedule)
	if err := parse(flags, args, stderr); err != nil {
		return err
	}
	if *dir == "" {
		return fmt.Errorf("%w: expected phantom-token keys list -dir FOLDER [-lifetime DURATION]", errUsage)
	}
	files, err := keyring.List(*dir, schedule, now)
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	usable, unusable := false, false
	for _, file := range files {
		if file.Key == nil {
			unusable = true
			fmt.Fprintf(table, "%s\tcannot be used: %v\n", file.Name, file.Err)
			continue
		}
		usable = true
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", file.Name, file.Key.Algorithm(), file.Key.ID(), state(file, now))
	}
	if !usable {
		fmt.Fprintf(table, "there is no key that signs\n")
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("printing the keys: %w", err)
	}
	if unusable || !usable {
		return exitStatus(1)
	}
	return nil
}

// state says in words what a key is at now.
func state(file keyring.KeyFile, now time.Time) string {
	var text string
	switch {
	case file.Signs:
		text = "signs now"
	case file.Starts.After(now):
		text = "published, signs from " + utc(file.Starts)
	default:
		text = "signed until " + utc(file.Ends)
	}
	switch {
	case file.Ends.IsZero():
		return text + ", has no successor yet"
	case file.Signs:
		text += " until " + utc(file.Ends)
	}
	if !file.PublishedUntil.After(now) {
		return text + ", may be removed"
	}
	return text + ", published until " + utc(file.PublishedUntil)
}

func lifetimeFlag(flags *flag.FlagSet, schedule *keyring.Schedule) {
	flags.DurationVar(&schedule.Lifetime, "lifetime", 0, "longest `life` of a token that these keys sign; 1h when absent, at most 24h")
}

func utc(t time.Time) string { return t.UTC().Format(time.RFC3339) }
