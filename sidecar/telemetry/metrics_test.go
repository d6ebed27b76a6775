package telemetry_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"phantomtoken/sidecar/egress"
	"phantomtoken/sidecar/telemetry"
)

func scrape(m *telemetry.Metrics) string {
	rec := httptest.NewRecorder()
	m.Handler().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return rec.Body.String()
}

// TestAPIDoesNotChooseTheNumberOfSeries: whatever an API answers counts by its class.
func TestAPIDoesNotChooseTheNumberOfSeries(t *testing.T) {
	m := telemetry.NewMetrics()
	results := []egress.Result{egress.ResultPassed, egress.ResultUpstreamAborted, egress.ResultCanceled}
	for status := range 1000 {
		for _, result := range results {
			m.Egress("api", egress.Outcome{Status: status, Result: result})
		}
	}
	got := scrape(m)
	if n := strings.Count(got, "token_exchange_egress_requests_total{"); n != 7*len(results) {
		t.Errorf("%d series, want 1xx to 5xx, none and other for each of %v", n, results)
	}
	for _, want := range []string{`outcome="passed",retried="false",status="2xx"} 100`, `outcome="canceled",retried="false",status="none"} 1`} {
		if !strings.Contains(got, want) {
			t.Errorf("metrics are without %s", want)
		}
	}
}

// TestStatusOfOurAnswers is told exactly.
func TestStatusOfOurAnswers(t *testing.T) {
	m := telemetry.NewMetrics()
	m.Egress("", egress.Outcome{Status: http.StatusNotFound, Result: egress.ResultNoRoute})
	if got := scrape(m); !strings.Contains(got, `audience="none",outcome="no_route",retried="false",status="404"} 1`) {
		t.Errorf("metrics are\n%s\nwant status 404", got)
	}
}
