package exchange

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"phantomtoken/internal/oauth"
	"phantomtoken/internal/policy"
)

// Outcome is what became of a request.
type Outcome string

// The outcomes.
const (
	Granted     Outcome = "granted"
	Refused     Outcome = "refused"
	Unavailable Outcome = "unavailable" // nothing was decided
	Failed      Outcome = "failed"      // a fault of ours or of the configuration
)

// Observation is what is counted of a decision. All names in it are configured ones.
type Observation struct {
	Via      Via
	Caller   string // "unknown" when it did not prove who it is
	Audience string // names joined by spaces; "unknown" where one is not configured
	Issue    policy.Issue
	Outcome  Outcome
	Reason   Reason // of a refusal
	Cached   bool
	Duration time.Duration
}

// unknown stands for what the caller made up. A token or a secret in the wrong parameter does
// not get into the log that way: ids, targets and scopes are logged when they are configured
// or signed by an issuer.
const unknown = "unknown"

// record is what the audit line says of an issued token, kept with it.
type record struct {
	at       time.Time // of the decision
	id       string    // jti of the issued token
	issue    policy.Issue
	rules    []string
	act      json.RawMessage // nil: the token says nothing of it
	audience []string
	from     origin
}

// origin is what is logged of a verified subject token. The zero value is none.
type origin struct {
	subject string // fingerprint of the user and the issuer
	id      string
	client  string
	txn     string
}

// originOf says whose token it is. The user of a token that this service issued is the one of
// the token before it, so all links of a chain have one fingerprint.
func (x *Exchanger) originOf(subject *oauth.Introspection) origin {
	issuer := subject.Issuer
	if issuer == x.cfg.Issuer {
		issuer = x.cfg.Subject.Issuer
	}
	txn, _ := subject.Claims["txn"].(string)
	return origin{
		subject: Fingerprint(issuer + "\x00" + subject.Subject),
		id:      subject.ID,
		client:  subject.ClientID,
		txn:     txn,
	}
}

// size is about what the strings take in memory.
func (o origin) size() int { return len(o.subject) + len(o.id) + len(o.client) + len(o.txn) }

func (r *record) size() int { return len(r.act) + r.from.size() }

func (o origin) append(attrs []slog.Attr) []slog.Attr {
	if o.subject == "" {
		return attrs
	}
	attrs = append(attrs,
		slog.String("subject_fingerprint", o.subject),
		slog.String("subject_jti", o.id),
		slog.String("subject_client_id", o.client),
	)
	if o.txn != "" {
		attrs = append(attrs, slog.String("txn", o.txn))
	}
	return attrs
}

// Fingerprint names a value without telling it: 16 hexadecimal digits of its SHA-256, the
// same in every process, so that the lines of several sidecars can be joined. For the sub of
// a user it is a pseudonym: who knows the user can compute it.
func Fingerprint(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:8])
}

func (x *Exchanger) granted(ctx context.Context, at time.Time, st *state, c *caller, req *Request, issued *Issued, cached bool) {
	took := x.cfg.Now().Sub(at)
	if x.cfg.Logger.Enabled(ctx, slog.LevelInfo) {
		r := &issued.record
		attrs := make([]slog.Attr, 0, 20)
		attrs = append(attrs, slog.String("outcome", string(Granted)))
		attrs = x.appendRequest(attrs, st, c, req)
		attrs = r.from.append(attrs)
		if r.act != nil {
			attrs = append(attrs, slog.Any("act", r.act))
		}
		attrs = append(attrs, slog.String("issue", string(r.issue)), slog.Any("scope", issued.Scope))
		if len(r.rules) > 0 {
			attrs = append(attrs, slog.Any("rules", r.rules))
		}
		if r.id != "" {
			attrs = append(attrs, slog.String("jti", r.id))
		}
		attrs = append(attrs,
			slog.Int64("expires_in_seconds", int64(issued.Expiry.Sub(at)/time.Second)),
			slog.Bool("cached", cached),
			slog.Int64("duration_microseconds", took.Microseconds()),
		)
		x.cfg.Logger.LogAttrs(ctx, slog.LevelInfo, auditMessage, attrs...)
	}
	x.observe(Observation{
		Via: req.Via, Caller: req.Caller, Audience: strings.Join(issued.record.audience, " "), Issue: issued.record.issue,
		Outcome: Granted, Cached: cached, Duration: took,
	})
}

// auditMessage begins every audit line, of package sts too.
const auditMessage = "token exchange decided"

func (x *Exchanger) refused(ctx context.Context, at time.Time, st *state, c *caller, req *Request, r *Refusal) {
	var attrs []slog.Attr
	attrs = x.appendRequest(attrs, st, c, req)
	attrs = r.about.append(attrs)
	caller := unknown
	if c != nil {
		caller = c.ID
	}
	x.Refused(ctx, at, Observation{Via: req.Via, Caller: caller, Audience: strings.Join(audiences(c, req), " ")}, r, attrs...)
}

// Refused logs and counts a refusal. Doors use it for what they refuse themselves, before a
// Request exists; attrs says what they know.
func (x *Exchanger) Refused(ctx context.Context, at time.Time, o Observation, r *Refusal, attrs ...slog.Attr) {
	level := slog.LevelInfo
	o.Outcome, o.Reason = Refused, r.Reason
	switch {
	case r.Answer.Status == http.StatusServiceUnavailable:
		level, o.Outcome = slog.LevelWarn, Unavailable
	case r.Answer.Status >= http.StatusInternalServerError:
		level, o.Outcome = slog.LevelError, Failed
	}
	o.Duration = x.cfg.Now().Sub(at)
	line := []slog.Attr{slog.String("outcome", string(o.Outcome))}
	line = append(line, attrs...)
	line = append(line,
		slog.String("reason", string(r.Reason)),
		slog.String("error", r.Answer.Code),
		slog.Int("status", r.Answer.Status),
	)
	if r.Cause != nil {
		line = append(line, slog.Any("err", r.Cause))
	}
	line = append(line, slog.Int64("duration_microseconds", o.Duration.Microseconds()))
	x.cfg.Logger.LogAttrs(ctx, level, auditMessage, line...)
	x.observe(o)
}

func (x *Exchanger) observe(o Observation) {
	if x.cfg.Observe != nil {
		x.cfg.Observe(o)
	}
}

// appendRequest says what was asked for, by whom.
func (x *Exchanger) appendRequest(attrs []slog.Attr, st *state, c *caller, req *Request) []slog.Attr {
	caller := unknown
	if c != nil {
		caller = c.ID
	}
	attrs = append(attrs,
		slog.String("via", string(req.Via)),
		slog.String("caller", caller),
		slog.String("caller_authentication", req.Method),
		slog.Any("audience", audiences(c, req)),
		slog.Any("scope_asked", scopesAsked(c, req)),
	)
	if req.Tool != "" {
		attrs = append(attrs, slog.String("tool", tool(st, req)))
	}
	return append(attrs,
		slog.String("subject_token_fingerprint", Fingerprint(req.SubjectToken)),
		slog.String("policy", st.policy.Version()),
	)
}

func audiences(c *caller, req *Request) []string {
	return known(req.Audience, c.knows)
}

func scopesAsked(c *caller, req *Request) []string {
	return known(req.Scope, c.knowsScope)
}

// known is list without repetitions, and with one "unknown" for all that is not configured.
func known(list []string, knows func(string) bool) []string {
	var out []string
	for _, name := range list {
		if !knows(name) {
			name = unknown
		}
		if !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

func tool(st *state, req *Request) string {
	if st.policy.HasTool(req.Tool) {
		return req.Tool
	}
	return unknown
}
