package mcpclients

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"phantomtoken/testenv/subprocess"
)

// stopTimeout is for a client that has said everything.
const stopTimeout = 5 * time.Second

func node(script string) func(context.Context, string, Call) (string, error) {
	return func(ctx context.Context, folder string, call Call) (string, error) {
		return drive(ctx, folder, "node", filepath.Join(folder, script), call)
	}
}

func python(script string) func(context.Context, string, Call) (string, error) {
	return func(ctx context.Context, folder string, call Call) (string, error) {
		return drive(ctx, folder, pythonIn(folder), filepath.Join(folder, script), call)
	}
}

// event is a line that a driver prints: one of its members.
type event struct {
	Authorize string  `json:"authorize"`
	Text      *string `json:"text"`
}

// drive runs one of our own small applications on an SDK.
func drive(ctx context.Context, folder, interpreter, script string, call Call) (_ string, err error) {
	events := make(chan event)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p, err := subprocess.Start(subprocess.Config{
		Name: filepath.Base(script), Path: interpreter, Args: []string{script, call.URL, call.Credentials, call.Tool}, Dir: folder,
		Env: call.environment("PYTHONDONTWRITEBYTECODE=1"), Leash: true,
		Output: &lines{each: func(line []byte) {
			var e event
			if json.Unmarshal(line, &e) != nil || e.Authorize == "" && e.Text == nil {
				_, _ = fmt.Fprintf(call.Log, "%s\n", line)
				return
			}
			select {
			case events <- e:
			case <-ctx.Done(): // nobody listens any more
			}
		}},
	})
	if err != nil {
		return "", err
	}
	defer func() {
		cancel()
		err = errors.Join(err, p.Stop(stopTimeout))
	}()
	for {
		select {
		case e := <-events:
			if e.Text != nil {
				return *e.Text, nil
			}
			if err := call.Browse(ctx, e.Authorize); err != nil {
				return "", fmt.Errorf("sending its user to a browser: %w", err)
			}
		case <-p.Exited():
			return "", fmt.Errorf("it ended without an answer, and its log says why: %w", p.Err())
		case <-ctx.Done():
			return "", fmt.Errorf("waiting for its answer: %w", context.Cause(ctx))
		}
	}
}

// maxLine bounds what is kept of a line.
const maxLine = 1 << 20

// lines calls each for every line that is written, without its end. Safe for concurrent use.
type lines struct {
	each func(line []byte)

	mu   sync.Mutex
	rest []byte
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest = append(l.rest, p...)
	for {
		line, rest, ok := bytes.Cut(l.rest, []byte("\n"))
		if !ok {
			break
		}
		l.each(line)
		l.rest = rest
	}
	if len(l.rest) > maxLine {
		l.rest = nil
	}
	return len(p), nil
}
