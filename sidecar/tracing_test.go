package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"phantomtoken/tokenexchange"
)

// testCollector takes spans by OTLP over HTTP.
type testCollector struct {
	*httptest.Server
	mu    sync.Mutex
	spans []*trace.Span
	raw   strings.Builder
}

func newCollector(t testing.TB) *testCollector {
	t.Helper()
	c := &testCollector{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var request collector.ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(body, &request)
		}
		if err != nil || r.URL.Path != "/v1/traces" {
			t.Errorf("%s: %v", r.URL.Path, err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.raw.Write(body)
		for _, resource := range request.GetResourceSpans() {
			for _, scope := range resource.GetScopeSpans() {
				c.spans = append(c.spans, scope.GetSpans()...)
			}
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(c.Close)
	return c
}

const (
	traceID     = "4bf92f3577b34da6a3ce929d0e0e4736"
	traceparent = "00-" + traceID + "-00f067aa0ba902b7-01"
)

// traced adds a trace context to requests, as an instrumented client does.
type traced struct{ next http.RoundTripper }

func (t traced) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Traceparent", traceparent)
	r.Header.Set("Baggage", "user=MARKED")
	return t.next.RoundTrip(r)
}

// TestTraces: the trace of a request goes on in the sidecar, at the identity provider and at
// the API, with spans that a collector gets, or without any where there is none.
//
// Covers: BT-14
func TestTraces(t *testing.T) {
	for _, exported := range []bool{true, false} {
		name := "without a collector"
		if exported {
			name = "with a collector"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, idp, a := newCollector(t), newProviderServer(t), newAPI(t, nil)
			change := map[string]string{"TOKEN_EXCHANGE_EGRESS_LISTEN": "127.0.0.1:0"}
			if exported {
				change["OTEL_EXPORTER_OTLP_ENDPOINT"] = c.URL
			}
			p := idp.start(t, delegated+strings.TrimPrefix(routed(a.URL), usual), change)
			subject := mint(t, p.environ, nil)
			client := p.tokens(t, func(cfg *tokenexchange.Config) { cfg.Transport = traced{p.client.Transport} })
			res, err := client.Exchange(t.Context(), tokenexchange.Request{SubjectToken: subject, Audience: []string{api}})
			if err != nil {
				t.Fatal(err)
			}
			call(t, p.through(t), "/stocks/prices?q=MARKED", subject, "Traceparent", traceparent)
			p.stop(t)

			parents := make(map[string]string)
			for where, header := range map[string]http.Header{"provider": <-idp.headers, "API": <-a.headers} {
				parent := header.Get("Traceparent")
				if !strings.HasPrefix(parent, "00-"+traceID+"-") || (parent == traceparent) == exported {
					t.Errorf("%s: got traceparent %q, want that of the request going on, with a span of ours: %t", where, parent, exported)
				}
				if where == "provider" && header.Get("Baggage") != "" {
					t.Error("the provider got what the caller carries for others")
				}
				parents[where] = parent
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			if !exported {
				if len(c.spans) > 0 {
					t.Errorf("got %d spans without being asked to", len(c.spans))
				}
				return
			}
			var names []string
			ids := make(map[string]*trace.Span)
			for _, span := range c.spans {
				names = append(names, span.GetName())
				ids[hexOf(span.GetSpanId())] = span
				if hexOf(span.GetTraceId()) != traceID {
					t.Errorf("%s is of another trace", span.GetName())
				}
			}
			slices.Sort(names)
			if want := []string{"egress", "token exchange at the identity provider", "token exchange at the identity provider", "token service"}; !slices.Equal(names, want) && !slices.Equal(names, slices.Compact(want)) {
				t.Errorf("spans: got %q", names)
			}
			for where, parent := range parents {
				if ids[strings.Split(parent, "-")[2]] == nil {
					t.Errorf("%s: its parent %s is no span that was sent", where, parent)
				}
			}
			withoutSecrets(t, "spans", c.raw.String(), subject, res.AccessToken, "john")
			withoutSecrets(t, "log", p.log(), subject, res.AccessToken)
		})
	}
}

func hexOf(id []byte) string {
	const digits = "0123456789abcdef"
	var out strings.Builder
	for _, b := range id {
		out.WriteByte(digits[b>>4])
		out.WriteByte(digits[b&15])
	}
	return out.String()
}

// TestCollectorInTrouble costs a line in the log, which has nothing of what the collector
// wrote, and no more.
func TestCollectorInTrouble(t *testing.T) {
	c := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "MARKED words of the collector", http.StatusBadRequest)
	}))
	defer c.Close()
	p := start(t, environment(t, usual, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": c.URL, "OTEL_BSP_SCHEDULE_DELAY": "10", "OTEL_EXPORTER_OTLP_HEADERS": "MARKED"}))
	for range 20 {
		p.exchange(t, mint(t, p.environ, nil), api)
	}
	p.await(t, 0, "the collector", func(l line) bool { return l.is("traces cannot be sent") })
	p.stop(t)
	if n := strings.Count(p.log(), "traces cannot be sent"); n != 1 {
		t.Errorf("%d lines about it, want one", n)
	}
	for text := range strings.Lines(p.log()) {
		if !strings.HasPrefix(text, "{") {
			t.Errorf("a line that is no JSON: %s", text)
		}
	}
	withoutSecrets(t, "log", p.log())
}

// TestCollectorThatIsNoURL is a mistake in the settings; its value may hold a password.
func TestCollectorThatIsNoURL(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "MARKED:4318")
	var stdout, stderr strings.Builder
	if status := run([]string{"-check"}, environment(t, usual, nil), &stdout, &stderr); status != exitUsage || !strings.Contains(stderr.String(), "\nOTEL_EXPORTER_OTLP_ENDPOINT: expected an http or https URL") {
		t.Errorf("got %d %s", status, stderr.String())
	}
	withoutSecrets(t, "message", stderr.String())
}
