package telemetry

import (
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"phantomtoken/sidecar/egress"
	"phantomtoken/sidecar/exchange"
)

// Metrics counts what the sidecar does. Create it with [NewMetrics]; it is safe for
// concurrent use.
type Metrics struct {
	registry *prometheus.Registry

	exchanges      *prometheus.CounterVec
	duration       *prometheus.HistogramVec
	egress         *prometheus.CounterVec
	egressDuration *prometheus.HistogramVec
	reloads        *prometheus.CounterVec
	policy         *prometheus.GaugeVec
}

// NewMetrics makes metrics that have a registry of their own.
func NewMetrics() *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		exchanges: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "token_exchange_decisions_total",
			Help: "Decisions about requests for a token of an API.",
		}, []string{"via", "caller", "audience", "issue", "outcome", "reason", "cached"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "token_exchange_decision_duration_seconds",
			Help:    "Time from reading a request to the decision about it.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"via", "outcome", "cached"}),
		egress: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "token_exchange_egress_requests_total",
			Help: "Requests of the application through the egress proxy.",
		}, []string{"audience", "outcome", "status", "retried"}),
		egressDuration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "token_exchange_egress_duration_seconds",
			Help:    "Time from a request of the application to the end of the API's answer.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300},
		}, []string{"audience"}),
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "token_exchange_policy_reloads_total",
			Help: "Attempts to read the policy file again.",
		}, []string{"outcome"}),
		policy: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "token_exchange_policy_info",
			Help: "1 for the policy in use, by the version that audit lines name.",
		}, []string{"version"}),
	}
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "token_exchange_build_info",
		Help: "1, labelled by the version of the program.",
	}, []string{"version", "go_version"})
	if info, ok := debug.ReadBuildInfo(); ok {
		build.WithLabelValues(info.Main.Version, info.GoVersion).Set(1)
	}
	for _, outcome := range []string{reloadUsed, reloadRefused} {
		m.reloads.WithLabelValues(outcome) // there from the start: the first refusal must be an increase
	}
	m.registry.MustRegister(m.exchanges, m.duration, m.egress, m.egressDuration, m.reloads, m.policy, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Handler serves the metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second})
}

// Exchange counts a decision. It is for [exchange.Config].
func (m *Metrics) Exchange(o exchange.Observation) {
	cached := strconv.FormatBool(o.Cached)
	m.exchanges.WithLabelValues(string(o.Via), o.Caller, audienceLabel(o.Audience), string(o.Issue), string(o.Outcome), string(o.Reason), cached).Inc()
	m.duration.WithLabelValues(string(o.Via), string(o.Outcome), cached).Observe(o.Duration.Seconds())
}

// audienceLabel is one of the audiences of the policy file, or a word: callers can ask for
// several in as many orders as they like.
func audienceLabel(names string) string {
	switch {
	case names == "":
		return "none"
	case strings.Contains(names, " "):
		return "several"
	}
	return names
}

// Egress counts a request through the proxy to the API of that audience, empty where there
// was no route.
func (m *Metrics) Egress(audience string, o egress.Outcome) {
	audience = audienceLabel(audience)
	m.egress.WithLabelValues(audience, string(o.Result), statusLabel(o), strconv.FormatBool(o.Retried)).Inc()
	m.egressDuration.WithLabelValues(audience).Observe(o.Duration.Seconds())
}

// statusLabel is the status of an answer of ours, and the class of one that the API chose: it
// could choose among hundreds.
func statusLabel(o egress.Outcome) string {
	class := o.Status / 100
	switch {
	case o.Status == 0:
		return "none"
	case o.Result != egress.ResultPassed && o.Result != egress.ResultUpstreamAborted && o.Result != egress.ResultCanceled:
		return strconv.Itoa(o.Status)
	case class >= 1 && class <= 5:
		return strconv.Itoa(class) + "xx"
	}
	return "other"
}

// Policy notes that the policy of version is in use.
func (m *Metrics) Policy(version string) {
	m.policy.Reset()
	m.policy.WithLabelValues(version).Set(1)
}

// PolicyUsed counts a policy file that was read again and is in use.
func (m *Metrics) PolicyUsed() { m.reloads.WithLabelValues(reloadUsed).Inc() }

// PolicyRefused counts a policy file that was read again and refused.
func (m *Metrics) PolicyRefused() { m.reloads.WithLabelValues(reloadRefused).Inc() }

// The values of the label outcome of reloads.
const (
	reloadUsed    = "used"
	reloadRefused = "refused"
)
