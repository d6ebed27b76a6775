package exchange

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"phantomtoken/internal/keyring"
	"phantomtoken/internal/oauth"
	"phantomtoken/tokenexchange"
)

// maxActBytes bounds the act claim as JSON: an API has to store and log it.
const maxActBytes = 4 << 10

// party is somebody who acts: a name and who gave it.
type party struct {
	subject, issuer string
	expiry          time.Time // of the token that proves it; zero for the caller itself
}

// acting is who acts for the subject, as the issued token will say it.
type acting struct {
	act     json.RawMessage // the act claim: the token, the cache and the audit line need nothing else
	earlier int             // actors before the current one
	expiry  time.Time       // end of the proof that the current actor acts; zero: none
}

// actor makes the act claim of the issued token (RFC 8693 §4.1): the current actor, and
// nested in it those who acted before. Ids are told apart by who gave them: iss.
func (x *Exchanger) actor(ctx context.Context, c *caller, subject *oauth.Introspection, actorToken string, now time.Time) (_ acting, err error) {
	current := party{subject: c.ID, issuer: x.cfg.Issuer}
	act := map[string]any{"sub": current.subject, "iss": current.issuer}
	if actorToken != "" {
		if current, err = x.verifyActor(ctx, c, actorToken, now); err != nil {
			return acting{}, err
		}
		// The caller showed the token, so it stays in the picture.
		act = map[string]any{"sub": current.subject, "iss": current.issuer, "client_id": c.ID}
	}
	if err := x.checkMayAct(c, current, subject); err != nil {
		return acting{}, err
	}
	before, earlier, err := chain(subject.Claims["act"])
	if err != nil {
		return acting{}, invalidSubject(ReasonActors, err.Error())
	}
	if before == nil {
		// Nobody acted so far but the client to which the token was issued. It is named even
		// where it is the subject itself: that tells its tokens from a user's. It counts where
		// the token does not name it.
		earlier = 1
		if subject.ClientID != "" {
			before = map[string]any{"sub": subject.ClientID, "iss": subject.Issuer}
		}
	}
	if before != nil {
		act["act"] = before
	}
	out, err := json.Marshal(act)
	if err != nil || len(out) > maxActBytes {
		return acting{}, invalidSubject(ReasonActors, fmt.Sprintf("expected an act of at most %d bytes together with the client, got more", maxActBytes))
	}
	return acting{act: out, earlier: earlier, expiry: current.expiry}, nil
}

// verifyActor checks an actor token: a token for this caller, whose sub the policy names.
func (x *Exchanger) verifyActor(ctx context.Context, c *caller, token string, now time.Time) (party, error) {
	refused := func(why string) error {
		return refuse(ReasonActorToken, tokenexchange.ErrorInvalidRequest, "actor_token was not accepted: "+why)
	}
	if len(c.Actors) == 0 {
		return party{}, refused("the authenticated client is the actor, leave actor_token and actor_token_type out (actors of callers." + c.ID + " names those who may be shown)")
	}
	verified, err := x.verify(ctx, c, token)
	switch {
	case errors.Is(err, keyring.ErrKeysUnavailable):
		return party{}, unavailable(ReasonKeys, "the keys of the gateway cannot be had at the moment", 0, err)
	case err != nil:
		return party{}, refused(fmt.Sprintf("%s (%s, subject_audience of callers.%s)", why(err), x.cfg.Subject.Setting, c.ID))
	}
	in := verified.Introspection
	switch {
	case in.Expiry.Sub(now) < time.Second:
		return party{}, refused("expected a token that has not expired")
	case in.Claims["cnf"] != nil:
		return party{}, refused("expected a bearer token, got one that is bound to a key (cnf)")
	case !slices.Contains(c.Actors, in.Subject):
		return party{}, refused("expected a sub that actors of callers." + c.ID + " names, got another")
	}
	return party{subject: in.Subject, issuer: in.Issuer, expiry: in.Expiry}, nil
}

// checkMayAct wants the current actor to be the one that the subject token allows (RFC 8693
// §4.4), if it allows one. iss has to be there beside sub or client_id. Without it a name is
// one of the issuer of the token that carries it (RFC 7519 §4.1.2), the gateway's, and whoever
// is called mcp-server there need not be the mcp-server of this service.
func (x *Exchanger) checkMayAct(c *caller, current party, subject *oauth.Introspection) error {
	claim, present := subject.Claims["may_act"]
	if !present {
		return nil
	}
	refused := invalidSubject(ReasonMayAct, "its may_act names another actor than "+quote(current.subject)+" of "+quote(current.issuer))
	may, ok := claim.(map[string]any)
	if !ok {
		return refused
	}
	named, issued := false, false
	for member, value := range may {
		switch {
		case member == "sub" && value == current.subject:
			named = true
		// Without an actor token, the client is the actor.
		case member == "client_id" && value == c.ID:
			named = named || current.subject == c.ID
		case member == "iss" && value == current.issuer:
			issued = true
		default:
			return refused
		}
	}
	if !named || !issued {
		return refused
	}
	return nil
}

// maxDepth bounds the recursion; the policy may want less.
const maxDepth = 8

// chain copies an act claim and counts its actors. Only what names an actor is copied:
// anything else, such as scope or cnf, has no meaning there (RFC 8693 §4.1), and somebody
// might read one into it.
func chain(claim any) (map[string]any, int, error) { return chainBelow(claim, maxDepth) }

func chainBelow(claim any, depth int) (map[string]any, int, error) {
	if claim == nil {
		return nil, 0, nil
	}
	if depth == 0 {
		return nil, 0, fmt.Errorf("expected at most %d actors in act before the client, got more", maxDepth-1)
	}
	act, ok := claim.(map[string]any)
	if !ok {
		return nil, 0, errors.New("expected act to be a chain of objects")
	}
	out := make(map[string]any, 4)
	for _, name := range []string{"sub", "iss", "client_id"} {
		if value, ok := act[name].(string); ok && value != "" {
			out[name] = value
		}
	}
	if out["sub"] == nil && out["client_id"] == nil {
		return nil, 0, errors.New("expected each actor in act to have a sub or a client_id")
	}
	before, actors, err := chainBelow(act["act"], depth-1)
	if err != nil {
		return nil, 0, err
	}
	if before != nil {
		out["act"] = before
	}
	return out, actors + 1, nil
}
