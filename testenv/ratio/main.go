// Command ratio reads the output of go test -bench on standard input and prints each
// benchmark beside the baseline that ran with it, as a Markdown table.
//
// A baseline is the sub-benchmark called baseline, or one whose name begins with
// "baseline-"; it is compared with its siblings: BenchmarkHit/gate with
// BenchmarkHit/baseline. Lines of other kinds go through unchanged to standard error, so
// that a failing run is seen.
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
)

func main() {
	if err := run(os.Stdin, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "ratio:", err)
		os.Exit(1)
	}
}

type result struct {
	pkg         string // shown without the module
	group, name string
	ns          float64
	further     string // other metrics, as printed
}

// benchLine is a result: name, iterations, ns/op and further metrics.
var benchLine = regexp.MustCompile(`^Benchmark(\S+?)(?:-\d+)?\s+\d+\s+([\d.e+]+) ns/op(.*)$`)

func parse(line string) (result, bool) {
	m := benchLine.FindStringSubmatch(line)
	if m == nil {
		return result{}, false
	}
	ns, err := strconv.ParseFloat(m[2], 64)
	if err != nil {
		return result{}, false
	}
	group, name := m[1], ""
	if i := strings.LastIndexByte(m[1], '/'); i >= 0 {
		group, name = m[1][:i], m[1][i+1:]
	}
	return result{group: group, name: name, ns: ns, further: strings.Join(strings.Fields(m[3]), " ")}, true
}

// String is the benchmark by package and name.
func (r result) String() string {
	return strings.Trim(r.pkg+" "+r.group+"/"+r.name, " /")
}

func (r result) baseline() bool {
	return r.name == "baseline" || strings.HasPrefix(r.name, "baseline-")
}

func run(in io.Reader, out, other io.Writer) error {
	var results []result
	pkg, failed := "", false
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		if name, ok := strings.CutPrefix(lines.Text(), "pkg: "); ok {
			_, pkg, _ = strings.Cut(name, "/")
		}
		if r, ok := parse(lines.Text()); ok {
			r.pkg = pkg
			results = append(results, r)
			continue
		}
		failed = failed || strings.HasPrefix(lines.Text(), "FAIL") || strings.HasPrefix(lines.Text(), "--- FAIL")
		fmt.Fprintln(other, lines.Text())
	}
	if err := lines.Err(); err != nil {
		return err
	}
	fmt.Fprintln(out, "| benchmark | µs/op | baseline | µs/op | time ÷ baseline | further |")
	fmt.Fprintln(out, "|---|---:|---|---:|---:|---|")
	for _, r := range results {
		if r.baseline() {
			continue
		}
		found := false
		for _, b := range results {
			if b.pkg == r.pkg && b.group == r.group && b.baseline() {
				found = true
				fmt.Fprintf(out, "| %s | %.2f | %s | %.2f | %.2f | %s |\n", r, r.ns/1000, strings.TrimPrefix(b.name, "baseline-"), b.ns/1000, r.ns/b.ns, r.further)
			}
		}
		if !found {
			fmt.Fprintf(out, "| %s | %.2f | – | – | – | %s |\n", r, r.ns/1000, r.further)
		}
	}
	if failed {
		return fmt.Errorf("a benchmark failed")
	}
	return nil
}
