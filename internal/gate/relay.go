package gate

import "context"

// Relay passes on the JWT that the provider put into its introspection answer, which
// [introspection.Client] has verified.
type Relay struct {
	// Fallback mints where the answer had no JWT; nil refuses such a request.
	Fallback *Mint
}

func (r *Relay) check() error {
	if r.Fallback != nil {
		return r.Fallback.check()
	}
	return nil
}

func (r *Relay) profile() func() [32]byte {
	if r.Fallback != nil {
		return r.Fallback.profile()
	}
	return func() [32]byte { return [32]byte{} }
}

func (r *Relay) room() int { return 0 } // the JWT is a part of the answer

func (r *Relay) issue(ctx context.Context, a *admitted) (string, *refusal) {
	switch {
	case a.entry.JWT != "":
		return a.entry.JWT, nil
	case r.Fallback != nil:
		return r.Fallback.issue(ctx, a)
	default:
		return "", misconfigured("phantom_token.mode: the provider sent no JWT with its introspection answer; switch that on there, or set phantom_token.signing_key_file to mint one")
	}
}
