package testenv

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
)

// Ports of a stack that people use, so that kong.yml can be read beside it.
const (
	portGateway     = 8000
	portAuthServer  = 8180
	portControl     = 8181
	portMCPServer   = 9000
	portStocksAPI   = 9100
	portSidecar     = 9200
	firstFreePort   = 10_000 // below the range from which systems take ports for
	lastFreePort    = 30_000 // outgoing connections
	attemptsForPort = 100
)

// ports hands out addresses of 127.0.0.1 that are free now. Some parts must be known to
// others before they listen, so an address is chosen first and listened on later.
type ports struct {
	fixed bool // prefer the well-known one
	taken map[int]bool
}

func (p *ports) addr(preferred int) (string, error) {
	if p.fixed && p.free(preferred) {
		return p.take(preferred), nil
	}
	for range attemptsForPort {
		if port := firstFreePort + rand.IntN(lastFreePort-firstFreePort); p.free(port) {
			return p.take(port), nil
		}
	}
	return "", errors.New("finding a free port: expected one of 127.0.0.1 between 10000 and 30000, found none")
}

func (p *ports) free(port int) bool {
	if p.taken[port] {
		return false
	}
	l, err := net.Listen("tcp", address(port))
	if err != nil {
		return false
	}
	return l.Close() == nil
}

func (p *ports) take(port int) string {
	p.taken[port] = true
	return address(port)
}

func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
