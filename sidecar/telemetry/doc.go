// Package telemetry is what the sidecar tells those who operate it, beside its log: metrics in
// the format of Prometheus and traces for OpenTelemetry.
//
// Labels hold names of the policy file and words of this program, never a token, a user or
// anything that a caller made up, so that their number is bounded by the configuration.
package telemetry
