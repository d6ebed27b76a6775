package testenv

import (
	"bytes"
	"io"
	"log/slog"
	"sync"
)

// maxLog bounds the memory of a Log; beyond it the older half is forgotten.
const maxLog = 16 << 20

// Log collects what every part of a stack writes to its log or to its standard streams.
// Safe for concurrent use.
type Log struct {
	mu   sync.Mutex
	text bytes.Buffer
	also io.Writer
}

// Write implements io.Writer. It never fails.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.text.Len() > maxLog {
		l.text.Next(maxLog / 2)
	}
	l.text.Write(p)
	if l.also != nil {
		_, _ = l.also.Write(p) // a terminal that is gone is no reason to stop
	}
	return len(p), nil
}

// String is everything written so far.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// logger returns the logger of one part. Every level is written: what must not be in a log
// must not be in a debug log either.
func (l *Log) logger(part string) *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug})).With("part", part)
}
