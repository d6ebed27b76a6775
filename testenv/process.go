package testenv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"phantomtoken/testenv/subprocess"
)

// process is a running program of ours. Ours stop when asked, with exit status 0.
type process struct {
	path string
	run  *subprocess.Process
	stop func() error
}

const (
	readyTimeout = 10 * time.Second
	stopTimeout  = 5 * time.Second
)

// startProcess runs a program with an environment of its own: what it needs and nothing
// that happens to be set here.
func startProcess(path string, env []string, output io.Writer) (*process, error) {
	run, err := subprocess.Start(subprocess.Config{Path: path, Env: env, Output: output})
	if err != nil {
		return nil, err
	}
	p := &process{path: path, run: run}
	p.stop = sync.OnceValue(p.terminate)
	return p, nil
}

// ready waits until url answers 200.
func (p *process) ready(ctx context.Context, client *http.Client, url string) error {
	return p.run.Ready(ctx, client, url, readyTimeout)
}

// terminate asks the program to end and waits. One that had ended before, that has to be
// killed or that ends with another status is an error.
func (p *process) terminate() error {
	select {
	case <-p.run.Exited():
		return fmt.Errorf("stopping %s: it had ended before: %w", p.path, errors.Join(p.run.Err(), errors.New("see the log for its last words")))
	default:
	}
	if err := p.run.Stop(stopTimeout); err != nil {
		return err
	}
	if err := p.run.Err(); err != nil {
		return fmt.Errorf("stopping %s: expected exit status 0: %w", p.path, err)
	}
	return nil
}
