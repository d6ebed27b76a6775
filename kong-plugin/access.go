package main

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/Kong/go-pdk/server/kong_plugin_protocol"

	"phantomtoken/internal/gate"
	"phantomtoken/internal/oauth"
	"phantomtoken/kong-plugin/pluginserver"
)

// Access reads the request from Kong, asks the gate and writes its decision: two writes to
// Kong for a request that goes through. A return without a decision is answered with a 500
// by the server.
func (i *instance) Access(ctx context.Context, e *pluginserver.Event) {
	if err := i.access(ctx, e); err != nil && !errors.Is(err, pluginserver.ErrGone) {
		i.log.Error("handling a request failed", "err", err)
	}
}

func (i *instance) access(ctx context.Context, e *pluginserver.Event) error {
	replies, err := e.Ask(pluginserver.GetHeaders(pluginserver.MaxHeaders), pluginserver.GetPathWithQuery())
	if err != nil {
		return err
	}
	headers, err := replies[0].Headers()
	if err != nil {
		return err
	}
	target, err := replies[1].Text()
	if err != nil {
		return err
	}
	if len(headers) >= pluginserver.MaxHeaders {
		// Kong hands out no more than these: what lies behind could be a second credential
		// or an identity header that nobody removes.
		return answer(e, http.StatusRequestHeaderFieldsTooLarge, (&oauth.Error{
			Code: oauth.ErrorInvalidRequest, Description: "The request has too many header fields",
		}).Body())
	}
	request := gate.Request{Headers: make([]gate.Header, len(headers)), Target: target}
	for n, h := range headers {
		request.Headers[n] = gate.Header(h)
	}
	decision := i.gate.Decide(ctx, request, gateway{e, i.route, i.consumers})
	if a := decision.Answer; a != nil {
		headers := make([]pluginserver.Header, len(a.Headers))
		for n, h := range a.Headers {
			headers[n] = pluginserver.Header(h)
		}
		return e.Exit(a.Status, headers, a.Body)
	}
	if decision.Forward == nil {
		return errors.New("expected an answer or a request to forward from the gate, got neither")
	}
	return e.Continue(changes(decision.Forward)...)
}

// changes are the changes to a request that goes upstream.
func changes(f *gate.Forward) []pluginserver.Call {
	calls := make([]pluginserver.Call, 0, len(f.Clear)+3+len(f.Response))
	for _, name := range f.Clear {
		calls = append(calls, pluginserver.ClearServiceHeader(name))
	}
	calls = append(calls, pluginserver.SetServiceHeader("Authorization", f.Authorization))
	for _, h := range f.Response {
		calls = append(calls, pluginserver.SetResponseHeader(h.Name, h.Value))
	}
	return append(calls, identity(f.Caller)...)
}

// gateway answers the gate's further questions by asking Kong.
type gateway struct {
	event     *pluginserver.Event
	route     *routeMemo
	consumers *consumerMemo
}

func (g gateway) Method() (string, error)        { return g.text(pluginserver.GetMethod()) }
func (g gateway) Host() (string, error)          { return g.text(pluginserver.GetHost()) }
func (g gateway) ClientAddress() (string, error) { return g.text(pluginserver.GetForwardedIP()) }

func (g gateway) text(question pluginserver.Call) (string, error) {
	replies, err := g.event.Ask(question)
	if err != nil {
		return "", err
	}
	return replies[0].Text()
}

func (g gateway) Route() (gate.Route, error) {
	if route, err, known := g.route.get(); known {
		return route, err
	}
	route, err := g.askRoute()
	g.route.set(route, err)
	return route, err
}

func (g gateway) askRoute() (gate.Route, error) {
	replies, err := g.event.Ask(pluginserver.GetRoute())
	if err != nil {
		return gate.Route{}, err
	}
	var route kong_plugin_protocol.Route
	if err := replies[0].Message(&route); err != nil {
		return gate.Route{}, err
	}
	return gate.Route{Hosts: route.Hosts, Paths: route.Paths}, nil
}

// routeMemo remembers the route of an instance that belongs to one. An error is remembered
// for a while: Kong ends the request when it cannot encode its route, and it must not end
// all.
type routeMemo struct {
	scoped bool // the plugin is configured on a route, so the route is always the same
	now    func() time.Time

	mu    sync.Mutex
	known bool
	route gate.Route
	err   error
	until time.Time // of err
}

const routeRetry = 10 * time.Second

func (m *routeMemo) get() (route gate.Route, err error, known bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil && !m.now().Before(m.until) {
		return gate.Route{}, nil, false
	}
	return m.route, m.err, m.known
}

func (m *routeMemo) set(route gate.Route, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.scoped {
		m.route, m.err, m.known, m.until = route, err, true, m.now().Add(routeRetry)
	}
}
