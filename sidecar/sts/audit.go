package sts

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"phantomtoken/internal/oauth"
	"phantomtoken/tokenexchange"
)

// event is what the audit line of one decision says. It is filled as the request goes on.
// Nothing in it was made up by the caller: ids, targets and scopes are logged when they are
// configured or signed by the gateway, and as "unknown" otherwise. A token or a secret in
// the wrong parameter does not get into the log that way.
type event struct {
	started  time.Time
	remote   string // address of the peer, logged of callers that did not prove themselves
	caller   *client
	token    string // fingerprint of the subject token
	audience []string
	asked    []string // scopes asked for
	subject  *oauth.Introspection
	scope    oauth.Scopes
	actor    map[string]any
	issuedID string
}

const unknown = "unknown"

// received notes what was asked for.
func (ev *event) received(caller *client, req *tokenexchange.Request) {
	ev.token = fingerprint(req.SubjectToken)
	note := func(list []string, name string, known bool) []string {
		if !known {
			name = unknown
		}
		if slices.Contains(list, name) {
			return list
		}
		return append(list, name)
	}
	for _, name := range slices.Concat(req.Audience, req.Resource) {
		_, known := caller.targets[name]
		ev.audience = note(ev.audience, name, known)
	}
	for _, scope := range req.Scope {
		ev.asked = note(ev.asked, scope, slices.ContainsFunc(caller.Audiences, func(a Audience) bool { return slices.Contains(a.Scopes, scope) }))
	}
}

// fingerprint names a value without telling it: 16 hexadecimal digits of its SHA-256, the
// same in every process, so that the lines of several sidecars can be joined. For the sub
// of a user it is a pseudonym: who knows the user can compute it.
func fingerprint(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:8])
}

// newID is a fresh jti, made here to be in the audit line too.
func newID() string { return rand.Text() }

const (
	outcomeGranted     = "granted"
	outcomeRefused     = "refused"
	outcomeUnavailable = "unavailable" // nothing was decided
	outcomeFailed      = "failed"      // a fault of ours
)

func (s *Service) grant(ctx context.Context, w http.ResponseWriter, ev *event, res *tokenexchange.Response) {
	if err := writeSuccess(w, res); err != nil {
		s.refuse(ctx, w, ev, err)
		return
	}
	s.log(ctx, slog.LevelInfo, ev, outcomeGranted,
		slog.Any("scope", ev.scope),
		slog.String("jti", ev.issuedID),
		slog.Int64("expires_in_seconds", int64(res.ExpiresIn/time.Second)),
	)
}

func (s *Service) logRefusal(ctx context.Context, ev *event, ref *refusal) {
	level, outcome := slog.LevelInfo, outcomeRefused
	switch {
	case ref.reason == reasonFault:
		level, outcome = slog.LevelError, outcomeFailed
	case ref.answer.Status == http.StatusServiceUnavailable:
		level, outcome = slog.LevelWarn, outcomeUnavailable
	}
	attrs := []slog.Attr{
		slog.String("reason", string(ref.reason)),
		slog.String("error", ref.answer.Code),
		slog.Int("status", ref.answer.Status),
		slog.Any("scope", ev.asked),
	}
	if ref.cause != nil {
		attrs = append(attrs, slog.Any("err", ref.cause))
	}
	s.log(ctx, level, ev, outcome, attrs...)
}

// log writes the one line of a decision.
func (s *Service) log(ctx context.Context, level slog.Level, ev *event, outcome string, further ...slog.Attr) {
	caller := unknown
	if ev.caller != nil {
		caller = ev.caller.ID
	} else {
		further = append(further, slog.String("remote_address", ev.remote))
	}
	attrs := []slog.Attr{
		slog.String("outcome", outcome),
		slog.String("caller", caller),
		slog.Any("audience", ev.audience),
	}
	if ev.token != "" {
		attrs = append(attrs, slog.String("subject_token_fingerprint", ev.token))
	}
	if in := ev.subject; in != nil {
		attrs = append(attrs,
			slog.String("subject_fingerprint", fingerprint(in.Issuer+"\x00"+in.Subject)),
			slog.String("subject_jti", in.ID),
			slog.String("subject_client_id", in.ClientID),
		)
		if txn, ok := in.Claims["txn"].(string); ok {
			attrs = append(attrs, slog.String("txn", txn))
		}
	}
	if ev.actor != nil {
		attrs = append(attrs, slog.Any("act", ev.actor))
	}
	attrs = append(attrs, further...)
	attrs = append(attrs, slog.Int64("duration_microseconds", s.cfg.Now().Sub(ev.started).Microseconds()))
	s.cfg.Logger.LogAttrs(ctx, level, "token exchange decided", attrs...)
}
