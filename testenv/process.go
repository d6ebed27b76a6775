package testenv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// process is a running program of ours.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{} // closed when the program has ended
	err    error         // of Wait; read after exited
	stop   func() error
}

const (
	readyTimeout = 10 * time.Second
	stopTimeout  = 5 * time.Second
)

// startProcess runs a program with an environment of its own: what it needs and nothing
// that happens to be set here.
func startProcess(path string, env []string, output io.Writer) (*process, error) {
	cmd := exec.Command(path)
	cmd.Env = env
	cmd.Stdout, cmd.Stderr = output, output
	// Ctrl-C on a terminal goes to everybody in the foreground; our programs end in order,
	// when they are told.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", path, err)
	}
	p := &process{cmd: cmd, exited: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.exited)
	}()
	p.stop = sync.OnceValue(p.terminate)
	return p, nil
}

// ready waits until url answers 200.
func (p *process) ready(ctx context.Context, client *http.Client, url string) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return fmt.Errorf("asking whether %s is ready: %w", p.cmd.Path, err)
		}
		if res, err := client.Do(req); err == nil {
			_ = res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-p.exited:
			return fmt.Errorf("waiting for %s: it ended: %w", p.cmd.Path, errors.Join(p.err, errors.New("see the log for its last words")))
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s to answer 200 at %s: %w", p.cmd.Path, url, context.Cause(ctx))
		}
	}
}

// terminate asks the program to end and waits. Whoever does not end in time is killed, and
// that is an error: our programs stop when asked.
func (p *process) terminate() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		<-p.exited
		return fmt.Errorf("stopping %s: it had ended before: %w", p.cmd.Path, errors.Join(err, p.err))
	}
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case <-p.exited:
		if p.err != nil {
			return fmt.Errorf("stopping %s: expected exit status 0: %w", p.cmd.Path, p.err)
		}
		return nil
	case <-timer.C:
		_ = p.cmd.Process.Kill()
		<-p.exited
		return fmt.Errorf("stopping %s: it was killed after %s", p.cmd.Path, stopTimeout)
	}
}
