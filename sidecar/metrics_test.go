package main

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"phantomtoken/tokenexchange"
)

// families reads the metrics.
func (p *process) families(t testing.TB) (map[string]*dto.MetricFamily, string) {
	t.Helper()
	status, text := get(t, p.plain(t), "http://"+p.address["metrics"]+"/metrics")
	if status != http.StatusOK {
		t.Fatalf("got %d", status)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	out, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return out, text
}

// plain is a client that dials what the URL says.
func (p *process) plain(t testing.TB) *http.Client {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience}
}

// count is the value of the one series of a counter that has all these labels; 0 without.
func count(t testing.TB, families map[string]*dto.MetricFamily, name string, labels ...string) float64 {
	t.Helper()
	sum := 0.0
	for _, m := range families[name].GetMetric() {
		match := true
		for i := 0; i < len(labels); i += 2 {
			match = match && slices.ContainsFunc(m.GetLabel(), func(l *dto.LabelPair) bool { return l.GetName() == labels[i] && l.GetValue() == labels[i+1] })
		}
		if match {
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return sum
}

// TestMetrics: what is counted, by which names and labels, and that nothing a caller makes up
// becomes a label.
//
// Covers: BT-14
func TestMetrics(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil)
	environ := environment(t, withReports()+strings.TrimPrefix(routed(a.URL), usual), map[string]string{
		"TOKEN_EXCHANGE_METRICS_LISTEN": "127.0.0.1:0", "TOKEN_EXCHANGE_EGRESS_LISTEN": "127.0.0.1:0",
	})
	p := start(t, environ)
	subject := mint(t, environ, nil)
	token := p.exchange(t, subject, api).AccessToken
	p.exchange(t, subject, api)
	ask := func(request tokenexchange.Request) { _, _ = p.tokens(t, nil).Exchange(t.Context(), request) }
	ask(tokenexchange.Request{SubjectToken: subject, Audience: []string{"https://MARKED-audience.example"}})
	ask(tokenexchange.Request{SubjectToken: subject, Audience: []string{api, reports}})
	ask(tokenexchange.Request{SubjectToken: subject, Audience: []string{reports, api}})
	ask(tokenexchange.Request{SubjectToken: subject})
	ask(tokenexchange.Request{SubjectToken: "MARKED-subject", Audience: []string{api}, Scope: []string{"MARKED"}})
	_, _ = p.tokens(t, func(c *tokenexchange.Config) { c.ClientID = "MARKED-client" }).Exchange(t.Context(), tokenexchange.Request{SubjectToken: subject})
	call(t, p.through(t), "/MARKED/none", subject)
	mark := p.mark()
	rewrite(t, variable(environ, "TOKEN_EXCHANGE_POLICY_FILE"), "version: MARKED\n")
	p.await(t, mark, "a refusal", func(l line) bool { return l["level"] == "ERROR" })

	families, text := p.families(t)
	for _, tc := range []struct {
		name   string
		labels []string
		want   float64
	}{
		{"token_exchange_decisions_total", []string{"via", "token_endpoint", "caller", "mcp-server", "audience", api, "issue", "mint", "outcome", "granted", "reason", "", "cached", "false"}, 1},
		{"token_exchange_decisions_total", []string{"audience", api, "outcome", "granted", "cached", "true"}, 1},
		{"token_exchange_decisions_total", []string{"audience", "unknown", "caller", "mcp-server", "outcome", "refused"}, 1},
		{"token_exchange_decisions_total", []string{"audience", "several"}, 2},
		{"token_exchange_decisions_total", []string{"audience", "none"}, 1},
		{"token_exchange_decisions_total", []string{"caller", "unknown", "outcome", "refused"}, 1},
		{"token_exchange_decision_duration_seconds", []string{"via", "token_endpoint"}, 8},
		{"token_exchange_egress_requests_total", []string{"audience", "none", "outcome", "no_route", "status", "404", "retried", "false"}, 1},
		{"token_exchange_egress_duration_seconds", []string{"audience", "none"}, 1},
		{"token_exchange_policy_reloads_total", []string{"outcome", "refused"}, 1},
		{"token_exchange_policy_reloads_total", []string{"outcome", "used"}, 0},
		{"token_exchange_policy_info", nil, 1},
		{"token_exchange_build_info", nil, 1},
	} {
		if got := count(t, families, tc.name, tc.labels...); got != tc.want {
			t.Errorf("%s %q: got %v, want %v", tc.name, tc.labels, got, tc.want)
		}
	}
	for _, name := range []string{"process_resident_memory_bytes", "go_goroutines"} {
		if families[name] == nil {
			t.Errorf("no %s", name)
		}
	}
	withoutSecrets(t, "metrics", text, subject, token, "john", "dyn-123")
	if status, _ := get(t, p.plain(t), "http://"+p.address["metrics"]+"/token"); status != http.StatusNotFound {
		t.Errorf("the token endpoint is at the metrics' address: got %d", status)
	}
	p.stop(t)
}
