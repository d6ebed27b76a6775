package oidcprovider

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"syscall"
	"time"
)

const (
	readyTimeout = 30 * time.Second // a second, but for a busy machine
	stopTimeout  = 10 * time.Second
)

// process is a running server.mjs. It ends when its standard input does: with this process
// at the latest.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{}
	err    error // of Wait; read after exited
}

func startProcess(folder string, env []string, log io.Writer) (*process, error) {
	cmd := exec.Command("node", "server.mjs")
	cmd.Dir = folder
	cmd.Env = env
	cmd.Stdout, cmd.Stderr = log, log
	if _, err := cmd.StdinPipe(); err != nil { // closed by Wait, or with this process
		return nil, fmt.Errorf("starting oidc-provider: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting oidc-provider: %w", err)
	}
	p := &process{cmd: cmd, exited: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.exited)
	}()
	return p, nil
}

// ready waits until url answers 200.
func (p *process) ready(ctx context.Context, client *http.Client, url string) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return fmt.Errorf("asking whether oidc-provider is ready: %w", err)
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
			return fmt.Errorf("waiting for oidc-provider: it ended, and its log says why: %w", errors.Join(p.err, errors.New("expected it to stay up")))
		case <-ctx.Done():
			return fmt.Errorf("waiting for oidc-provider to answer 200 at %s: %w", url, context.Cause(ctx))
		}
	}
}

// stop asks the process to end, waits, and kills it when it has not ended in time. Call it
// once.
func (p *process) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // an error says that it has ended already
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case <-p.exited:
		return nil
	case <-timer.C:
		_ = p.cmd.Process.Kill()
		<-p.exited
		return fmt.Errorf("stopping oidc-provider: it was killed after %s", stopTimeout)
	}
}
