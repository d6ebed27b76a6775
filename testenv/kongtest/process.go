package kongtest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

const (
	// respawnInterval is how often at most Kong starts a plugin server that dies.
	respawnInterval = time.Second
	// stopGrace is how long a plugin server may take to obey SIGTERM.
	stopGrace = 2 * time.Second
	// startupTimeout bounds -dump and the wait for a plugin server's socket.
	startupTimeout = 20 * time.Second
	// maxLogLine is where a line of a plugin without end is broken.
	maxLogLine = 64 << 10
	// maxDump bounds what -dump prints.
	maxDump = 4 << 20
)

// process keeps the server of one plugin running until it is closed.
type process struct {
	name   string
	path   string
	prefix string   // -kong-prefix, where its socket is
	env    []string // all of it
	log    *errorLog

	cancel context.CancelFunc
	done   chan struct{}
	died   chan struct{} // closed when the first run has ended

	mu  sync.Mutex
	pid int
}

// startProcess starts the plugin server and waits until its socket takes connections.
func startProcess(ctx context.Context, name, path, prefix, socket string, env []string, log *errorLog) (*process, error) {
	runCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	p := &process{
		name: name, path: path, prefix: prefix, env: env, log: log,
		cancel: cancel, done: make(chan struct{}), died: make(chan struct{}),
	}
	go p.supervise(runCtx)
	if err := p.waitForSocket(ctx, socket); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// supervise runs the server again and again, at most once a second, until ctx ends.
func (p *process) supervise(ctx context.Context) {
	defer close(p.done)
	for first := true; ctx.Err() == nil; first = false {
		next := time.NewTimer(respawnInterval)
		p.run(ctx)
		if first {
			close(p.died)
		}
		select {
		case <-next.C:
		case <-ctx.Done():
			next.Stop()
		}
	}
}

// run starts the server once and waits for its end.
func (p *process) run(ctx context.Context) {
	p.log.printf(levelNotice, "[kong] process.lua:163 [pluginserver] starting pluginserver process for %s", p.name)
	cmd := exec.CommandContext(ctx, p.path, "-kong-prefix", p.prefix)
	cmd.Env = p.env
	cmd.Dir = "/"
	// Of its own process group, so that Ctrl-C reaches the gateway alone, which then
	// ends the server in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopGrace
	output := &lineLogger{log: p.log, name: p.name, pid: func() int { return cmd.Process.Pid }}
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Start(); err != nil {
		p.log.printf(levelError, "[kong] process.lua:182 [pluginserver] external pluginserver %q start command %q failed: %v", p.name, p.path, err)
		return
	}
	p.setPID(cmd.Process.Pid)
	p.log.printf(levelNotice, "[kong] process.lua:170 [pluginserver] started, pid %d", cmd.Process.Pid)
	err := cmd.Wait()
	p.setPID(0)
	output.flush()
	reason := "exit 0"
	if err != nil {
		reason = err.Error()
	}
	p.log.printf(levelNotice, "[kong] process.lua:188 external pluginserver '%s' terminated: %s", p.name, reason)
}

// waitForSocket waits until socket takes a connection. Kong does not wait and answers 500
// meanwhile; here a binary that cannot start shall fail the start.
func (p *process) waitForSocket(ctx context.Context, socket string) error {
	ctx, cancel := context.WithTimeout(ctx, startupTimeout)
	defer cancel()
	poll := time.NewTicker(2 * time.Millisecond)
	defer poll.Stop()
	var dialer net.Dialer
	for {
		if conn, err := dialer.DialContext(ctx, "unix", socket); err == nil {
			return conn.Close()
		}
		select {
		case <-p.died:
			return fmt.Errorf("starting plugin %q: expected it to listen on %s, but it ended: see the log", p.name, socket)
		case <-ctx.Done():
			return fmt.Errorf("starting plugin %q: waiting for %s: %w", p.name, socket, ctx.Err())
		case <-poll.C:
		}
	}
}

func (p *process) setPID(pid int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pid = pid
}

// currentPID returns the process id of the running server, 0 between two runs.
func (p *process) currentPID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pid
}

// close ends the server with SIGTERM, and with SIGKILL if that does not help.
func (p *process) close() {
	p.cancel()
	<-p.done
}

// lineLogger writes what a plugin prints into the error log, line by line, at info. The
// os/exec package writes to it from one goroutine.
type lineLogger struct {
	log     *errorLog
	name    string
	pid     func() int
	partial []byte
}

func (l *lineLogger) Write(data []byte) (int, error) {
	l.partial = append(l.partial, data...)
	for {
		end := bytes.IndexByte(l.partial, '\n')
		rest := end + 1
		if end < 0 {
			if len(l.partial) < maxLogLine {
				return len(data), nil
			}
			end, rest = maxLogLine, maxLogLine
		}
		l.line(l.partial[:end])
		l.partial = l.partial[rest:]
	}
}

func (l *lineLogger) line(line []byte) {
	if len(line) > 0 {
		l.log.printf(levelInfo, "[%s:%d] %s", l.name, l.pid(), line)
	}
}

// flush writes a last line without newline.
func (l *lineLogger) flush() {
	l.line(l.partial)
	l.partial = nil
}

// query runs the plugin's -dump as Kong does at its start and returns what it printed.
func query(ctx context.Context, name, path, prefix string, env []string, log *errorLog) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, startupTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "-dump", "-kong-prefix", prefix)
	cmd.Env = env
	cmd.Dir = "/"
	cmd.WaitDelay = stopGrace
	var stdout bytes.Buffer
	cmd.Stdout = &boundedWriter{w: &stdout, left: maxDump}
	stderr := &lineLogger{log: log, name: name, pid: func() int { return cmd.Process.Pid }}
	cmd.Stderr = stderr
	err := cmd.Run()
	stderr.flush()
	if err != nil && stdout.Len() == 0 {
		return nil, fmt.Errorf("error loading plugins info from [%s -dump -kong-prefix %s]: %w", path, prefix, err)
	}
	return stdout.Bytes(), nil
}

// boundedWriter fails when more than left bytes are written.
type boundedWriter struct {
	w    io.Writer
	left int
}

func (b *boundedWriter) Write(data []byte) (int, error) {
	if len(data) > b.left {
		return 0, fmt.Errorf("expected at most %d bytes", maxDump)
	}
	b.left -= len(data)
	return b.w.Write(data)
}
