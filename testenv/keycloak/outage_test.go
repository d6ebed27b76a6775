//go:build keycloak

package keycloak_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"phantomtoken/testenv"
	"phantomtoken/testenv/probe"
)

// prepareOutage starts a sidecar while Keycloak is well and has it exchange one of two phantom
// tokens.
func prepareOutage(t *testing.T, w *world) {
	t.Helper()
	w.outage = w.startSidecar(w.whole, documentedPolicy(t), nil)
	w.phantom.seen, w.phantom.unseen = w.freshPhantom(t, john, exchanged), w.freshPhantom(t, jane, exchanged)
	probe.WantStatus(t, w.outage.exchange(t, w.phantom.seen, testenv.APIAudience, "stocks/read"), http.StatusOK)
}

func sidecarWithoutKeycloak(t *testing.T, w *world) {
	probe.WantStatus(t, w.outage.exchange(t, w.phantom.seen, testenv.APIAudience, "stocks/read"), http.StatusOK)
	before := len(w.Log.String())
	const untilItPauses = 5 // failures in a row
	for range untilItPauses {
		a := w.outage.exchange(t, w.phantom.unseen, testenv.APIAudience, "stocks/read")
		probe.WantTrouble(t, a)
		if a.Text("error") != "temporarily_unavailable" || a.Text("error_description") != "the identity provider does not answer at the moment" {
			t.Errorf("the caller: got %s, want temporarily_unavailable and who does not answer", a.Body)
		}
	}
	probe.WantLog(t, w.Log, before, "token exchange decided", "the provider cannot be asked for an exchange now; if that lasts, check TOKEN_EXCHANGE_IDP_TOKEN_ENDPOINT", "connection refused")
	probe.WantLog(t, w.Log, before, "token endpoint does not answer, calls are paused")
	ready := w.outside.Do(t, http.MethodGet, w.outage.url+"/readyz", "")
	probe.WantStatus(t, ready, http.StatusServiceUnavailable)
	if got := strings.TrimSpace(ready.Body); got != "the identity provider does not answer" {
		t.Errorf("readyz: got %q, want who does not answer", got)
	}
}

// sidecarWithKeycloakAgain asks with a token of the new realm keys until it is exchanged. Keys
// are fetched half a minute after the last time at the earliest; until then the sidecar takes
// the token for one of another issuer. Calls are paused for ten seconds at most.
func sidecarWithKeycloakAgain(t *testing.T, w *world) {
	phantom := w.freshPhantom(t, john, exchanged)
	const patience = 45 * time.Second
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		a := w.outage.exchange(t, phantom, testenv.APIAudience, "stocks/read")
		if a.Status == http.StatusOK {
			break
		}
		if strings.Contains(a.Text("error_description"), "got unknown kid") {
			probe.WantStatus(t, a, http.StatusBadRequest)
		} else {
			probe.WantTrouble(t, a)
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("no exchange after %s", patience)
		}
	}
	probe.WantStatus(t, w.outside.Do(t, http.MethodGet, w.outage.url+"/readyz", ""), http.StatusOK)
}
