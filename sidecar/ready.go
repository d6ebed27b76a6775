package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"phantomtoken/internal/policy"
)

// readyTimeout bounds a readiness check: probes give up after a second or two.
const readyTimeout = time.Second

// ready says whether tokens can be exchanged now. Without the keys of the subject issuer, or
// without the provider where every audience needs it, none can. Where only some audiences
// need the provider, the others are still served: the text says so.
func (s *sidecar) ready(ctx context.Context) (int, string) {
	// The cause is in the log of the key source; who probes learns that it is not us.
	if _, err := s.subject.source.Keys(ctx, ""); err != nil {
		return http.StatusServiceUnavailable, "keys of the subject issuer are unavailable"
	}
	delegated, all := 0, 0
	for _, a := range s.exchanger.Policy().Audiences() {
		all++
		if a.Issue == policy.IDP {
			delegated++
		}
	}
	switch {
	case delegated == 0 || s.provider.answers():
		return http.StatusOK, "ready"
	case delegated == all:
		return http.StatusServiceUnavailable, "the identity provider does not answer"
	default:
		return http.StatusOK, fmt.Sprintf("ready for %d of %d audiences: the identity provider does not answer", all-delegated, all)
	}
}
