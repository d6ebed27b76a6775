package kongtest

import (
	"fmt"
	"io"
	"os"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"
)

// level is a level of nginx's error log.
type level int

const (
	levelDebug level = iota
	levelInfo
	levelNotice
	levelWarn
	levelError
	levelCrit
	levelAlert
)

func levelNames() []string {
	return []string{"debug", "info", "notice", "warn", "error", "crit", "alert"}
}

func (l level) String() string { return levelNames()[l] }

func parseLevel(name string) (level, bool) {
	i := slices.Index(levelNames(), name)
	return level(max(i, 0)), i >= 0
}

// errorLog writes nginx's error.log. It is safe for concurrent use.
type errorLog struct {
	min level
	now func() time.Time

	mu sync.Mutex
	w  io.Writer
}

func newErrorLog(w io.Writer, least string, now func() time.Time) *errorLog {
	l, _ := parseLevel(least)
	return &errorLog{min: l, now: now, w: w}
}

// printf writes a line of the gateway itself.
func (l *errorLog) printf(lv level, format string, args ...any) {
	l.write(lv, 0, fmt.Sprintf(format, args...), "")
}

// write writes one line about connection conn (0: about none); suffix is what nginx says
// of the request.
func (l *errorLog) write(lv level, conn uint64, text, suffix string) {
	if lv < l.min {
		return
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s [%s] %d#0: ", l.now().Format("2006/01/02 15:04:05"), lv, os.Getpid())
	if conn != 0 {
		fmt.Fprintf(&b, "*%d ", conn)
	}
	b.WriteString(text)
	b.WriteString(suffix)
	b.WriteByte('\n')
	l.mu.Lock()
	defer l.mu.Unlock()
	// A log that cannot be written is nginx's problem no more than ours.
	_, _ = io.WriteString(l.w, b.String())
}

// longestFirst returns the keys of m, longer ones first, so that no key is replaced by
// one that is its prefix.
func longestFirst[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Slice(keys, func(i, j int) bool {
		if len(keys[i]) != len(keys[j]) {
			return len(keys[i]) > len(keys[j])
		}
		return keys[i] < keys[j]
	})
	return keys
}
