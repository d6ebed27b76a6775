package testenv

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// Ports of a stack that people use, so that kong.yml can be read beside it.
const (
	portGateway    = 8000
	portAuthServer = 8180
	portControl    = 8181
	portMCPServer  = 9000
	portStocksAPI  = 9100
	portSidecar    = 9200
	portEgress     = 9201
	portAdvisor    = 9300
)

// Other ports are taken from below the range that systems use for outgoing connections.
const (
	firstFreePort   = 10_000
	lastFreePort    = 30_000
	attemptsForPort = 100
)

// ports reserves addresses of 127.0.0.1. Some parts must be known to others before they
// listen, so an address is held here until its part takes it over.
type ports struct {
	fixed bool // prefer the well-known one
	held  map[string]net.Listener
}

// FreeAddress returns an address of 127.0.0.1 that is free now, for a part that is started
// later.
func FreeAddress() (string, error) {
	p := &ports{held: map[string]net.Listener{}}
	addr, err := p.reserve(0)
	if err != nil {
		return "", err
	}
	return addr, p.release(addr)
}

// reserve holds an address, at the preferred port if that is wanted and free.
func (p *ports) reserve(preferred int) (string, error) {
	if p.fixed {
		if addr, err := p.hold(preferred); err == nil {
			return addr, nil
		}
	}
	for range attemptsForPort {
		if addr, err := p.hold(firstFreePort + rand.IntN(lastFreePort-firstFreePort)); err == nil {
			return addr, nil
		}
	}
	return "", errors.New("finding a free port: expected one of 127.0.0.1 between 10000 and 30000, found none")
}

func (p *ports) hold(port int) (string, error) {
	addr := address(port)
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return "", err
	}
	p.held[addr] = l
	return addr, nil
}

// release gives an address to the part that listens on it now.
func (p *ports) release(addr string) error {
	l, ok := p.held[addr]
	if !ok {
		return nil
	}
	delete(p.held, addr)
	if err := l.Close(); err != nil {
		return fmt.Errorf("releasing %s: %w", addr, err)
	}
	return nil
}

// releaseAll gives up what no part has taken.
func (p *ports) releaseAll() error {
	var errs []error
	for addr := range p.held {
		errs = append(errs, p.release(addr))
	}
	return errors.Join(errs...)
}

func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
