package telemetry_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"

	"go.opentelemetry.io/otel"

	"phantomtoken/sidecar/telemetry"
)

// TestErrorsOfOpenTelemetry are one line a minute in words of ours, whatever they hold.
func TestErrorsOfOpenTelemetry(t *testing.T) {
	for _, tc := range []struct {
		name string
		err  error
		want string
	}{
		{name: "answer", err: errors.New("400: MARKED"), want: "refused, or not understood"},
		{name: "connection", err: &net.OpError{Op: "dial", Err: errors.New("MARKED")}, want: "no connection"},
		{name: "time", err: context.DeadlineExceeded, want: "no answer in time"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var log bytes.Buffer
			env := map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
			tracing, err := telemetry.NewTracing(t.Context(), func(name string) string { return env[name] }, slog.New(slog.NewJSONHandler(&log, nil)))
			if err != nil {
				t.Fatal(err)
			}
			otel.Handle(tc.err)
			otel.Handle(tc.err)
			if err := tracing.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
			if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, tc.want) || strings.Contains(got, "MARKED") {
				t.Errorf("got %s, want one line with %q", got, tc.want)
			}
		})
	}
}

// TestValuesOfResourceAttributesAreInNoError: somebody may have put a secret there.
func TestValuesOfResourceAttributesAreInNoError(t *testing.T) {
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "MARKED")
	_, err := telemetry.NewTracing(t.Context(), func(variable string) string {
		if variable == "OTEL_EXPORTER_OTLP_ENDPOINT" {
			return "http://127.0.0.1:1"
		}
		return ""
	}, slog.New(slog.DiscardHandler))
	if err == nil || !strings.HasPrefix(err.Error(), "OTEL_RESOURCE_ATTRIBUTES: expected names and values") || strings.Contains(err.Error(), "MARKED") {
		t.Errorf("got %v, want an error about OTEL_RESOURCE_ATTRIBUTES without its value", err)
	}
}

// TestEndpointMustBeURL: the exporter would send to its default otherwise.
func TestEndpointMustBeURL(t *testing.T) {
	for _, name := range []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"} {
		_, err := telemetry.NewTracing(t.Context(), func(variable string) string {
			if variable == name {
				return "user:MARKED@collector"
			}
			return ""
		}, slog.New(slog.DiscardHandler))
		if err == nil || !strings.HasPrefix(err.Error(), name+": ") || strings.Contains(err.Error(), "MARKED") {
			t.Errorf("got %v, want an error about %s", err, name)
		}
	}
}
