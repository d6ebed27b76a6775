package main

import (
	"strings"
	"testing"
)

func TestRatios(t *testing.T) {
	const in = `goos: linux
pkg: module/gate
BenchmarkHit/gate-2         	  319785	      2000 ns/op	     792 B/op	       4 allocs/op
BenchmarkHit/baseline-2     	 4509516	       100.0 ns/op
pkg: module/other
BenchmarkHit/other-2         	  100	      7000 ns/op
BenchmarkAlone-2            	     100	      5000 ns/op
PASS
`
	const want = `| benchmark | µs/op | baseline | µs/op | time ÷ baseline | further |
|---|---:|---|---:|---:|---|
| gate Hit/gate | 2.00 | baseline | 0.10 | 20.00 | 792 B/op 4 allocs/op |
| other Hit/other | 7.00 | – | – | – |  |
| other Alone | 5.00 | – | – | – |  |
`
	var out, other strings.Builder
	if err := run(strings.NewReader(in), &out, &other); err != nil {
		t.Fatal(err)
	}
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
	if other.String() != "goos: linux\npkg: module/gate\npkg: module/other\nPASS\n" {
		t.Errorf("other lines = %q", other.String())
	}
}

func TestFailedBenchmarkIsAnError(t *testing.T) {
	var out, other strings.Builder
	if err := run(strings.NewReader("--- FAIL: BenchmarkX\nFAIL\n"), &out, &other); err == nil {
		t.Error("got no error, want one")
	}
}
