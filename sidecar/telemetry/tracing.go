package telemetry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"
	api "go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// scope is the name under which spans are made.
const scope = "phantomtoken/sidecar"

const (
	variableEndpoint = "OTEL_EXPORTER_OTLP_ENDPOINT"
	variableTraces   = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
)

// Tracing makes spans and carries the trace context of W3C from one request to the next. It
// carries it too when no spans are made. It is safe for concurrent use.
type Tracing struct {
	tracer      api.Tracer
	propagation propagation.TraceContext
	shutdown    func(context.Context) error
}

// NewTracing makes a Tracing that sends spans where the variables of OpenTelemetry say
// (OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, OTLP over HTTP), or
// none when neither is set. logger
// gets a line when spans cannot be sent. lookup reads variables; the exporter reads further ones, for
// headers, certificates and sampling, from the environment of the process itself.
func NewTracing(ctx context.Context, lookup func(string) string, logger *slog.Logger) (*Tracing, error) {
	t := &Tracing{
		tracer:   noop.NewTracerProvider().Tracer(scope),
		shutdown: func(context.Context) error { return nil },
	}
	if lookup("OTEL_SDK_DISABLED") == "true" || lookup(variableEndpoint) == "" && lookup(variableTraces) == "" {
		return t, nil
	}
	for _, variable := range []string{variableEndpoint, variableTraces} {
		// The exporter would go on with its default instead. The value is not in the message:
		// some put a password there.
		if value := lookup(variable); value != "" {
			if u, err := url.Parse(value); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
				return nil, fmt.Errorf("%s: expected an http or https URL, got something else", variable)
			}
		}
	}
	report(logger)
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, fmt.Errorf("making the exporter of traces (OTEL_EXPORTER_OTLP_ENDPOINT): %w", err)
	}
	return t.export(ctx, exporter)
}

// export sends spans to exporter.
func (t *Tracing) export(ctx context.Context, exporter trace.SpanExporter) (*Tracing, error) {
	about, err := resource.New(ctx,
		resource.WithAttributes(attribute.String("service.name", "token-exchange-sidecar")),
		resource.WithFromEnv(), // OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win
		resource.WithTelemetrySDK(),
	)
	if err != nil {
		// Not err: what could not be read of the value is in there.
		return nil, errors.New("OTEL_RESOURCE_ATTRIBUTES: expected names and values like name=value, separated by commas, got something else")
	}
	provider := trace.NewTracerProvider(trace.WithBatcher(exporter), trace.WithResource(about))
	t.tracer, t.shutdown = provider.Tracer(scope), provider.Shutdown
	return t, nil
}

// Shutdown sends what was not sent yet.
func (t *Tracing) Shutdown(ctx context.Context) error { return t.shutdown(ctx) }

// Server makes a span of each request that h answers. The name is fixed: a path may hold
// anything. What h passes on of the request's header carries the span as parent.
func (t *Tracing) Server(name string, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := t.propagation.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
		ctx, span := t.tracer.Start(ctx, name, api.WithSpanKind(api.SpanKindServer), api.WithAttributes(
			attribute.String("http.request.method", method(r.Method))))
		defer span.End()
		if !span.IsRecording() {
			h.ServeHTTP(w, r.WithContext(ctx))
			return
		}
		r = r.WithContext(ctx)
		t.propagation.Inject(ctx, propagation.HeaderCarrier(r.Header))
		watched := &statusWriter{ResponseWriter: w}
		// Deferred: net/http ends a broken answer by a panic that must go on.
		defer func() { finish(span, cmp.Or(watched.status, http.StatusOK)) }()
		h.ServeHTTP(watched, r)
	})
}

// Client makes a span of each call over next and passes the trace context on. Trace context
// that the request carries already is replaced by that of the span, its child.
func (t *Tracing) Client(name string, next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		ctx, span := t.tracer.Start(r.Context(), name, api.WithSpanKind(api.SpanKindClient), api.WithAttributes(
			attribute.String("http.request.method", method(r.Method)),
			attribute.String("server.address", r.URL.Hostname())))
		defer span.End()
		if span.SpanContext().IsValid() {
			r = r.Clone(ctx)
			t.propagation.Inject(ctx, propagation.HeaderCarrier(r.Header))
		}
		res, err := next.RoundTrip(r)
		if err != nil {
			span.SetStatus(codes.Error, "no answer") // the error may hold an address with a query
			return nil, err
		}
		finish(span, res.StatusCode)
		return res, nil
	})
}

func finish(span api.Span, status int) {
	span.SetAttributes(attribute.Int("http.response.status_code", status))
	if status >= http.StatusInternalServerError {
		span.SetStatus(codes.Error, "")
	}
}

// method is a method that is known: others are the client's invention.
func method(m string) string {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return m
	}
	return "_OTHER"
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// statusWriter remembers the status. Everything else of the writer is reached by
// http.ResponseController, through Unwrap.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	if w.status < http.StatusOK { // informational ones come first
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(b []byte) (int, error) {
	if w.status < http.StatusOK {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
