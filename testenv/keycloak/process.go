package keycloak

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

const (
	readyTimeout = 3 * time.Minute // a busy machine with two cores takes a quarter of it
	stopTimeout  = 20 * time.Second
)

// process is a running kc.sh with its Java child, in a process group of their own.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{}
	err    error // of Wait; read after exited
	stop   func() error
}

// guarded runs kc.sh and ends it when standard input ends: when this process dies without
// having stopped it, as tests do that take too long.
const guarded = `exec 3<&0
./bin/kc.sh start --optimized --import-realm </dev/null 3<&- & server=$!
{ read -r _ <&3; kill -TERM $server; } &
wait $server`

func startProcess(home string, env []string, log io.Writer) (*process, error) {
	cmd := exec.Command("/bin/sh", "-c", guarded)
	cmd.Dir = home
	cmd.Env = env
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if _, err := cmd.StdinPipe(); err != nil { // closed by Wait, or with this process
		return nil, fmt.Errorf("starting Keycloak: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting Keycloak: %w", err)
	}
	p := &process{cmd: cmd, exited: make(chan struct{})}
	go func() {
		p.err = cmd.Wait() // ends when the pipes do: when Java has gone as well
		close(p.exited)
	}()
	p.stop = sync.OnceValue(p.terminate)
	return p, nil
}

// ready waits until url answers 200.
func (p *process) ready(ctx context.Context, client *http.Client, url string) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return fmt.Errorf("asking whether Keycloak is ready: %w", err)
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
			return fmt.Errorf("waiting for Keycloak: it ended, and its log says why: %w", errors.Join(p.err, errors.New("expected it to stay up")))
		case <-ctx.Done():
			return fmt.Errorf("waiting for Keycloak to answer 200 at %s: %w", url, context.Cause(ctx))
		}
	}
}

// terminate asks the group to end, waits, and kills what has not ended in time.
func (p *process) terminate() error {
	group := -p.cmd.Process.Pid
	if err := syscall.Kill(group, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("stopping Keycloak: %w", err)
	}
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case <-p.exited: // with the status of the signal, which says nothing
		return nil
	case <-timer.C:
		_ = syscall.Kill(group, syscall.SIGKILL)
		<-p.exited
		return fmt.Errorf("stopping Keycloak: it was killed after %s", stopTimeout)
	}
}
