// Package subprocess runs a program beside the tests: started in a process group of its own,
// waited for until it answers, and ended together with everything that it has started.
package subprocess

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

// Config is a program to be started. Path is required.
type Config struct {
	// Name is what errors call the program; empty means its path.
	Name string
	// Path is the program, looked up in PATH when it has no slash; Args are its arguments.
	Path string
	Args []string
	// Dir is its working directory; empty means that of this process.
	Dir string
	// Env is its whole environment: what it needs and nothing that happens to be set here.
	Env []string
	// Output gets what it prints on both streams; nil discards it.
	Output io.Writer
	// Leash gives it a standard input that ends with this process, however this process ends.
	// It is for programs that end then; without it standard input is empty.
	Leash bool
}

// Process is a started program. Create it with Start and end it with Stop. It is safe for
// concurrent use.
type Process struct {
	name   string
	cmd    *exec.Cmd
	exited chan struct{}
	err    error // of Wait; read after exited
	mu     sync.Mutex
}

// Start starts a program. It does not wait until the program is ready; see Ready.
func Start(cfg Config) (*Process, error) {
	if cfg.Name == "" {
		cfg.Name = cfg.Path
	}
	cmd := exec.Command(cfg.Path, cfg.Args...)
	cmd.Dir = cfg.Dir
	cmd.Env = cfg.Env
	if cmd.Env == nil {
		cmd.Env = []string{} // nil would mean: inherited
	}
	cmd.Stdout, cmd.Stderr = cfg.Output, cfg.Output
	// Ctrl-C on a terminal goes to everybody in the foreground; this one ends when it is told,
	// and whatever it has started with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if cfg.Leash {
		if _, err := cmd.StdinPipe(); err != nil { // closed by Wait, or with this process
			return nil, fmt.Errorf("starting %s: %w", cfg.Name, err)
		}
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", cfg.Name, err)
	}
	p := &Process{name: cfg.Name, cmd: cmd, exited: make(chan struct{})}
	go func() {
		p.err = cmd.Wait() // ends when Output does: when the last of the group has gone
		close(p.exited)
	}()
	return p, nil
}

// Exited is closed when the program has ended and all it has printed is written.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Err says how the program ended: nil for exit status 0, and while it runs.
func (p *Process) Err() error {
	select {
	case <-p.exited:
		return p.err
	default:
		return nil
	}
}

// Between two questions of Ready: short at first, for programs that start at once.
const (
	firstPause = 10 * time.Millisecond
	lastPause  = 500 * time.Millisecond
)

// Ready waits until url answers 200, for limit at the longest. It fails at once when the
// program ends.
func (p *Process) Ready(ctx context.Context, client *http.Client, url string, limit time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("it is not ready after %s", limit))
	defer cancel()
	for pause := firstPause; ; pause = min(pause*3/2, lastPause) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return fmt.Errorf("asking whether %s is ready: %w", p.name, err)
		}
		if res, err := client.Do(req); err == nil {
			_ = res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-p.exited:
			timer.Stop()
			return fmt.Errorf("waiting for %s: expected it to stay up, it ended, and its log says why: %w", p.name, errors.Join(p.err, errEnded))
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("waiting for %s to answer 200 at %s: %w", p.name, url, context.Cause(ctx))
		}
	}
}

// errEnded is the cause when a program ends by itself with exit status 0.
var errEnded = errors.New("ended by itself")

// Stop asks the group of the program to end and waits for it. What has not ended after grace
// is killed, and that is an error. How the program ended otherwise, Err says. A program that
// has ended is stopped already.
func (p *Process) Stop(grace time.Duration) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.exited: // its id may be somebody else's by now
		return nil
	default:
	}
	group := -p.cmd.Process.Pid
	if err := syscall.Kill(group, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("stopping %s: %w", p.name, err)
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.exited:
		return nil
	case <-timer.C:
		_ = syscall.Kill(group, syscall.SIGKILL)
		<-p.exited
		return fmt.Errorf("stopping %s: it was killed after %s", p.name, grace)
	}
}
