package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync/atomic"

	"phantomtoken/internal/delegation"
	"phantomtoken/internal/keyring"
	"phantomtoken/internal/policy"
	"phantomtoken/sidecar/caller"
	"phantomtoken/sidecar/egress"
	"phantomtoken/sidecar/exchange"
	"phantomtoken/sidecar/sts"
	"phantomtoken/sidecar/telemetry"
)

// sidecar is the running parts.
type sidecar struct {
	cfg            *config
	logger         *slog.Logger
	address        net.Addr // where to listen
	metricsAddress net.Addr // nil without

	keys      signingKeys
	subject   *issuerKeys
	cluster   *issuerKeys // of Kubernetes; nil without
	provider  *provider   // nil without
	tls       *tls.Config // nil for plain http
	reloadTLS func() error
	exchanger *exchange.Exchanger
	service   *sts.Service
	replay    *caller.Replay
	keySets   caller.KeySets // of callers
	metrics   *telemetry.Metrics
	tracing   *telemetry.Tracing // nil until it was made

	// What comes from the policy file beside the exchanger's part. Only apply replaces it, and
	// may be at it at the time of close, if the end of a reload could not be waited for.
	watch   policyWatch
	callers *caller.Authenticator
	proxy   atomic.Pointer[egress.Proxy] // nil while the policy has no routes
}

// build makes the parts that cfg describes. It writes nothing and sends nothing: a signing key
// that does not exist yet is made by open. The error has all problems in it, each with its
// variable or its line of the policy file.
func build(ctx context.Context, cfg *config, logger *slog.Logger) (_ *sidecar, err error) {
	s := &sidecar{cfg: cfg, logger: logger, replay: caller.NewReplay(0, 0), metrics: telemetry.NewMetrics(), watch: policyWatch{path: cfg.PolicyFile}}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	environment := s.buildEnvironment(ctx)
	p, err := s.firstPolicy()
	if environment != nil {
		s.standIn()
	}
	if p != nil {
		err = s.buildPolicy(p)
	}
	if err := errors.Join(environment, err); err != nil {
		return nil, err
	}
	if s.service, err = sts.New(sts.Config{
		Issuer: cfg.Issuer, Keys: &s.keys, Exchange: s.exchanger, Callers: s.callers,
		SubjectDocuments: s.subject.documents, InsecureHosts: cfg.InsecureHTTPHosts,
	}); err != nil {
		return nil, err
	}
	s.metrics.Policy(p.Version())
	return s, checkPaths(s.service)
}

// buildEnvironment makes what the environment alone describes.
func (s *sidecar) buildEnvironment(ctx context.Context) error {
	var problems []error
	note := func(variable string, err error) {
		if err != nil {
			problems = append(problems, fmt.Errorf("%s%s: %w", envPrefix, variable, err))
		}
	}
	found := func(err error) { problems = append(problems, err) }

	var err error
	note("ISSUER", sts.CheckIssuer(s.cfg.Issuer, s.cfg.InsecureHTTPHosts))
	s.address, err = checkAddress(s.cfg.Listen)
	note("LISTEN", err)
	if s.cfg.EgressListen != "" {
		note("EGRESS_LISTEN", checkEgressAddress(s.cfg.EgressListen))
	}
	if s.cfg.MetricsListen != "" {
		s.metricsAddress, err = checkAddress(s.cfg.MetricsListen)
		note("METRICS_LISTEN", err)
	}
	if n := s.cfg.CacheEntries; n < 1 || n > maxCacheEntries {
		note("CACHE_ENTRIES", fmt.Errorf("expected 1 to %d, got %d", maxCacheEntries, n))
	}
	if s.cfg.LogLevel > slog.LevelInfo { // who decided what has to be in the log
		note("LOG_LEVEL", fmt.Errorf("expected info or debug, got %s", strings.ToLower(s.cfg.LogLevel.String())))
	}
	s.tracing, err = telemetry.NewTracing(ctx, os.Getenv, s.logger)
	found(err)
	s.tls, s.reloadTLS, err = openTLS(&s.cfg.TLS, s.logger)
	found(err)
	s.keys, err = openSigningKeys(s.cfg, s.logger)
	found(err)
	s.subject, err = openSubject(s.cfg, s.logger)
	found(err)
	found(checkKeysDiffer(&s.keys, s.subject))
	s.cluster, err = openCluster(s.cfg, s.logger)
	found(err)
	s.provider, err = newProvider(s.cfg, s.subject, s.tracing, s.logger)
	found(err)
	return errors.Join(problems...)
}

// standIn puts something in the place of what the environment fails to describe, so that the
// policy is checked all the same: nothing is served with it, and a problem that follows from
// another one is not reported.
func (s *sidecar) standIn() {
	const somebody = "https://stand-in.invalid"
	cfg := *s.cfg
	cfg.Issuer, cfg.SubjectIssuer, cfg.CacheEntries = somebody, somebody+"/subject", 1
	s.cfg = &cfg
	if s.subject.source == nil {
		s.subject.source = keyring.PublicKeys{}
	}
	if cfg.Kubernetes != (kubernetesConfig{}) {
		cfg.Kubernetes = kubernetesConfig{Issuer: somebody + "/cluster"}
		if s.cluster == nil {
			s.cluster = &issuerKeys{source: keyring.PublicKeys{}}
		}
	}
}

// buildPolicy makes what p describes. It returns all problems of the policy file.
func (s *sidecar) buildPolicy(p *policy.Policy) (err error) {
	var problems []error
	if s.exchanger, err = exchange.New(s.exchangeConfig(), p); err != nil {
		problems = append(problems, inFile(s.cfg.PolicyFile, err))
	}
	callers, proxy, err := s.fromPolicy(p)
	s.callers = callers
	s.proxy.Store(proxy)
	return errors.Join(append(problems, err)...)
}

// fromPolicy makes what p describes beside the exchanger's part: both, or neither and all
// problems. proxy is nil without routes.
func (s *sidecar) fromPolicy(p *policy.Policy) (*caller.Authenticator, *egress.Proxy, error) {
	callers, callersErr := s.newCallers(p)
	proxy, proxyErr := s.newProxy(p)
	err := errors.Join(inFile(s.cfg.PolicyFile, callersErr), inFile(s.cfg.PolicyFile, proxyErr))
	if err == nil {
		return callers, proxy, nil
	}
	closePolicy(callers, proxy)
	return nil, nil, err
}

// closePolicy ends what fromPolicy made; either may be nil.
func closePolicy(callers *caller.Authenticator, proxy *egress.Proxy) {
	if callers != nil {
		callers.Close()
	}
	if proxy != nil {
		proxy.Close()
	}
}

const (
	maxCacheEntries = 10_000_000
	// cacheEntryBytes is what a cached token takes, about; -help says so too.
	cacheEntryBytes = 2560
)

func (s *sidecar) exchangeConfig() exchange.Config {
	cfg := exchange.Config{
		Issuer: s.cfg.Issuer,
		Keys:   &s.keys,
		Subject: exchange.Subject{
			Issuer: s.cfg.SubjectIssuer, Keys: s.subject.source, Setting: envPrefix + "SUBJECT_ISSUER", Minted: s.cfg.SubjectMode == modeMint,
			Exchanger: s.cfg.Provider.ClientID,
		},
		CacheEntries: s.cfg.CacheEntries,
		CacheBytes:   int64(s.cfg.CacheEntries) * cacheEntryBytes,
		Observe:      s.metrics.Exchange,
		Logger:       s.logger,
	}
	if s.cfg.SubjectMode != modeMint {
		// Tokens of the provider: few follow RFC 9068.
		cfg.Subject.Types = []string{keyring.TypeAccessToken, "JWT"}
	}
	switch {
	case s.provider != nil:
		cfg.Provider = s.provider.target
	case s.cfg.Provider.configured(): // it could not be made, which was reported
		cfg.Provider = func(string) (*delegation.Target, error) { return nil, nil }
	}
	return cfg
}

// close ends what the parts have under way. It is for parts that were made, whole or not.
func (s *sidecar) close() {
	s.keySets.Close()
	closePolicy(nil, s.proxy.Load())
	if s.provider != nil {
		s.provider.close()
	}
	s.subject.close()
	s.cluster.close()
	if s.tracing == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), tracesTimeout)
	defer cancel()
	if err := s.tracing.Shutdown(ctx); err != nil {
		s.logger.Warn("the last traces could not be sent")
	}
}
