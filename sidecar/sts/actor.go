package sts

import (
	"encoding/json"
	"errors"
	"fmt"

	"phantomtoken/internal/oauth"
)

const (
	// maxActors is the longest chain of actors in an issued token, the caller included.
	maxActors = 8
	// maxActBytes bounds the chain as JSON.
	maxActBytes = 4 << 10
)

// checkMayAct refuses a caller that the subject token does not want as actor (RFC 8693
// §4.4). Every member has to fit: one that is not understood might be the one that rules
// the caller out.
//
// iss is required beside sub or client_id. Without it a name is one of the issuer of the
// token that carries it (RFC 7519 §4.1.2), the gateway's, and whoever is called mcp-server
// there need not be the mcp-server of this service.
func (s *Service) checkMayAct(caller *client, subject *oauth.Introspection) error {
	claim, present := subject.Claims["may_act"]
	if !present {
		return nil
	}
	refused := invalidSubject(reasonMayAct, "its may_act names another actor than client "+quote(caller.ID)+" of "+quote(s.cfg.Issuer))
	may, ok := claim.(map[string]any)
	if !ok {
		return refused
	}
	named, ours := false, false
	for member, value := range may {
		switch {
		case member == "sub" && value == caller.ID, member == "client_id" && value == caller.ID:
			named = true
		case member == "iss" && value == s.cfg.Issuer:
			ours = true
		default:
			return refused
		}
	}
	if !named || !ours {
		return refused
	}
	return nil
}

// actor is the act claim of the issued token (RFC 8693 §4.1): the caller, and nested in it
// those who acted before. Ids are told apart by who gave them: iss.
func (s *Service) actor(caller *client, subject *oauth.Introspection) (map[string]any, error) {
	act := map[string]any{"sub": caller.ID, "iss": s.cfg.Issuer}
	earlier, actors, err := chain(subject.Claims["act"])
	if err != nil {
		return nil, invalidSubject(reasonActors, err.Error())
	}
	if earlier == nil {
		// Nobody acted so far but the client to which the token was issued. It is named even
		// where it is the subject itself: that tells its tokens from a user's.
		earlier, actors = map[string]any{"sub": subject.ClientID, "iss": subject.Issuer}, 1
	}
	if earlier != nil {
		act["act"] = earlier
	}
	if actors+1 > maxActors {
		return nil, invalidSubject(reasonActors, fmt.Sprintf("expected at most %d actors in act before the client, got more", maxActors-1))
	}
	if size, err := json.Marshal(act); err != nil || len(size) > maxActBytes {
		return nil, invalidSubject(reasonActors, fmt.Sprintf("expected an act of at most %d bytes together with the client, got more", maxActBytes))
	}
	return act, nil
}

// chain copies an act claim and counts its actors. Only what names an actor is copied:
// anything else, such as scope or cnf, has no meaning there (RFC 8693 §4.1), and somebody
// might read one into it.
func chain(claim any) (map[string]any, int, error) {
	if claim == nil {
		return nil, 0, nil
	}
	act, ok := claim.(map[string]any)
	if !ok {
		return nil, 0, errors.New("expected act to be a chain of objects")
	}
	out := make(map[string]any)
	for _, name := range []string{"sub", "iss", "client_id"} {
		if value, ok := act[name].(string); ok && value != "" {
			out[name] = value
		}
	}
	if out["sub"] == nil && out["client_id"] == nil {
		return nil, 0, errors.New("expected each actor in act to have a sub or a client_id")
	}
	earlier, actors, err := chain(act["act"])
	if err != nil {
		return nil, 0, err
	}
	if earlier != nil {
		out["act"] = earlier
	}
	return out, actors + 1, nil
}
