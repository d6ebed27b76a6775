package main

import (
	"log/slog"
	"net"

	"phantomtoken/internal/policy"
)

// warn logs what works and is probably not what was meant.
func (s *sidecar) warn(logger *slog.Logger, address net.Addr) {
	s.warnPolicy(logger, s.exchanger.Policy())
	if s.tls == nil {
		warnPlain(logger, address, "LISTEN")
	}
	warnPlain(logger, s.metricsAddress, "METRICS_LISTEN") // never over TLS
}

// warnPlain is for plain http at address, the value of variable.
func warnPlain(logger *slog.Logger, address net.Addr, variable string) {
	if tcp, ok := address.(*net.TCPAddr); ok && !tcp.IP.IsLoopback() {
		logger.Warn("serving plain http beyond this machine", "address", address.String(), "setting", envPrefix+variable)
	}
}

// warnPolicy is the part of warn that a policy file can change.
func (s *sidecar) warnPolicy(logger *slog.Logger, p *policy.Policy) {
	for _, caller := range p.Callers() {
		if caller.AllowWithoutUser {
			logger.Warn("caller may exchange tokens without a user", "caller", caller.ID, "setting", "callers."+caller.ID+".allow_without_user", "line", caller.Line)
		}
	}
	if egress, ok := p.Egress(); ok && len(egress.Routes) > 0 && s.cfg.EgressListen == "" {
		logger.Warn("egress routes are not served, since nobody listens", "setting", envPrefix+"EGRESS_LISTEN")
	}
}
