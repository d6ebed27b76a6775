package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"phantomtoken/internal/delegation"
	"phantomtoken/internal/oauth"
	"phantomtoken/internal/policy"
	"phantomtoken/sidecar/egress"
	"phantomtoken/sidecar/exchange"
	"phantomtoken/tokenexchange"
)

// newProxy makes the proxy of p's routes, nil when it has none or nobody listens.
func (s *sidecar) newProxy(p *policy.Policy) (*egress.Proxy, error) {
	cfg, ok := p.Egress()
	if !ok || s.cfg.EgressListen == "" {
		return nil, nil
	}
	routes := make([]egress.Route, len(cfg.Routes))
	for i, r := range cfg.Routes {
		routes[i] = egress.Route{
			Host: r.Host, Path: r.Path, StripPath: r.StripPath, Upstream: r.Upstream, Audience: r.Audience, Scopes: r.Scopes,
			CAFile: r.CAFile, Addresses: r.Addresses, Timeout: r.Timeout, Line: r.Line,
		}
	}
	proxy, err := egress.New(egress.Config{
		Routes:        routes,
		Tokens:        &egressTokens{exchanger: s.exchanger, caller: cfg.Caller},
		InsecureHosts: s.cfg.InsecureHTTPHosts,
		Logger:        s.logger,
		Observe: func(o egress.Outcome) {
			audience := ""
			if o.Route >= 0 {
				audience = routes[o.Route].Audience
			}
			s.metrics.Egress(audience, o)
		},
	})
	if err != nil {
		return nil, atRoutes(err, routes)
	}
	return proxy, nil
}

// atRoutes puts the line of its route before each problem: package egress names routes by
// their numbers.
func atRoutes(err error, routes []egress.Route) error {
	var out []error
	for problem := range strings.SplitSeq(err.Error(), "\n") {
		problem = strings.TrimPrefix(problem, "configuring egress: ")
		var n int
		if _, err := fmt.Sscanf(problem, "egress.routes[%d]", &n); err == nil && n >= 0 && n < len(routes) {
			problem = fmt.Sprintf("%d: %s", routes[n].Line, problem)
		}
		out = append(out, errors.New(problem))
	}
	return errors.Join(out...)
}

// egressTokens is the exchanger as the proxy sees it. The caller is who the proxy is for:
// nobody else reaches its listener.
type egressTokens struct {
	exchanger *exchange.Exchanger
	caller    string
}

func (t *egressTokens) request(call egress.Call) *exchange.Request {
	return &exchange.Request{
		Caller: t.caller, SubjectToken: call.SubjectToken, Audience: []string{call.Audience}, Scope: oauth.Scopes(call.Scope), Tool: call.Tool,
		Via: exchange.ViaEgress, Method: "egress_listener",
	}
}

// Token implements egress.TokenSource.
func (t *egressTokens) Token(ctx context.Context, call egress.Call) (string, error) {
	issued, err := t.exchanger.Exchange(ctx, t.request(call))
	if err != nil {
		return "", unusable(err)
	}
	return issued.Token, nil
}

// unusable marks a refusal whose cause is an answer of the identity provider that must not be
// used: nothing is wrong with the request, and the proxy is only the messenger.
func unusable(err error) error {
	var refused *exchange.Refusal
	var cause *delegation.Error
	if errors.As(err, &refused) && errors.As(refused.Cause, &cause) && cause.Kind == delegation.KindUnacceptable {
		return fmt.Errorf("%w: %w", tokenexchange.ErrUnacceptable, cause)
	}
	return err
}

// Evict implements egress.TokenSource.
func (t *egressTokens) Evict(call egress.Call, token string) {
	t.exchanger.Evict(t.request(call), token)
}

// egressHandler is the proxy of the moment.
func (s *sidecar) egressHandler() http.Handler {
	return s.tracing.Server("egress", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		proxy := s.proxy.Load()
		if proxy == nil {
			writeStatus(w, http.StatusNotFound, "the policy file has no egress routes")
			return
		}
		proxy.ServeHTTP(w, r)
	}))
}
