package main

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"phantomtoken/internal/policy"
)

// firstPolicy reads the policy file for the start.
func (s *sidecar) firstPolicy() (*policy.Policy, error) {
	if s.cfg.PolicyFile == "" {
		return nil, errors.New(envPrefix + "POLICY_FILE: expected the path of the policy file, got nothing")
	}
	s.watch.look() // the first of the two that find a change
	data, _, err := s.watch.read(true)
	if err != nil {
		return nil, err
	}
	return parsePolicy(s.cfg.PolicyFile, data)
}

// pollInterval is how often the policy file is looked at. A change is used after the second
// look that finds it.
const pollInterval = time.Second

// run does what goes on behind the requests, until ctx ends.
func (s *sidecar) run(ctx context.Context, hup <-chan os.Signal) {
	var background sync.WaitGroup
	defer background.Wait()
	if folder := s.keys.folder(); folder != nil {
		background.Go(func() { folder.Run(ctx) })
	}
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	s.watchPolicy(ctx, tick.C, hup)
}

// watchPolicy reloads the policy for as long as ctx lasts: at a tick if the file has changed
// and rests, and whenever somebody asks on hup, changed or not. After a refusal it tries at
// every tick at which the file rests: what was wrong may be another file, that of a secret
// which comes a moment later.
func (s *sidecar) watchPolicy(ctx context.Context, tick <-chan time.Time, hup <-chan os.Signal) {
	refused := "" // why the file was refused, "" while the last one was good
	for {
		asked := false
		select {
		case <-ctx.Done():
			return
		case <-hup:
			asked = true
			s.reloadKeys()
		case <-tick:
			if rests, changed := s.watch.look(); !rests || !changed && refused == "" {
				continue
			}
		}
		refused = s.reload(refused, asked)
	}
}

// reloadKeys reads keys and certificates of this service again. What cannot be read is logged
// there, and what was in use before stays.
func (s *sidecar) reloadKeys() {
	if folder := s.keys.folder(); folder != nil {
		_ = folder.Reload()
	}
	if s.reloadTLS != nil {
		_ = s.reloadTLS()
	}
}

// reload puts the policy file in the place of the policy in use, with the secrets and keys of
// callers and the routes, or says in the log why it cannot, and everything stays. Requests
// that are under way end as they began. It returns why the file was refused, "" if it was
// not. The same refusal as before is not logged again, unless somebody asked.
func (s *sidecar) reload(before string, asked bool) string {
	data, taken, err := s.watch.read(asked)
	if !taken {
		return before
	}
	if err == nil {
		err = s.apply(data)
	}
	if err != nil {
		why := err.Error()
		if asked || why != before {
			s.metrics.PolicyRefused()
			s.logger.Error("policy file refused, the last good one stays in use", "file", s.cfg.PolicyFile, "policy", s.exchanger.Policy().Version(), "err", err)
		}
		return why
	}
	p := s.exchanger.Policy()
	s.metrics.Policy(p.Version())
	s.metrics.PolicyUsed()
	s.logger.Info("policy in use", "file", s.cfg.PolicyFile, "policy", p.Version())
	s.warnPolicy(s.logger, p)
	return ""
}

// apply puts the policy of the text data in the place of the one in use, or changes nothing.
func (s *sidecar) apply(data []byte) error {
	p, err := parsePolicy(s.cfg.PolicyFile, data)
	if err != nil {
		return err
	}
	problem := inFile(s.cfg.PolicyFile, s.exchanger.Check(p))
	callers, proxy, err := s.fromPolicy(p)
	if err = errors.Join(problem, err); err == nil {
		err = inFile(s.cfg.PolicyFile, s.exchanger.Use(p))
	}
	if err != nil {
		closePolicy(callers, proxy)
		return err
	}
	if err := s.service.UseCallers(callers); err != nil {
		closePolicy(callers, proxy)
		return err
	}
	old := s.callers
	s.callers = callers
	closePolicy(old, s.proxy.Swap(proxy))
	return nil
}
