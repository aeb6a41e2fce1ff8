package gateway

import (
	"context"
	"errors"
	"fmt"

	"github.com/matrix-uia/uia"
)

// Resolve is the Resolve of a register.Registration. "Not done" means that no
// account was made under the key and none will be. A client that comes back for an account
// whose response was lost is logged in once more. It is safe to be asked by several
// processes at once.
func (a *Accounts) Resolve(ctx context.Context, key string) (uia.Outcome, error) {
	claim, err := a.claims.Bury(ctx, key, a.now())
	for tries := 1; err == nil && claim.State == Sent; tries++ {
		claim, err = a.decide(ctx, claim, Buried)
		if errors.Is(err, ErrOvertaken) && tries < 3 { // by a run, or by another process that resolves
			claim, err = a.claims.Bury(ctx, key, a.now())
		}
	}
	if err != nil {
		return uia.Outcome{}, err
	}
	if claim.State == Made {
		return uia.Outcome{Done: true, UserID: userID(claim.Localpart, a.serverName), Again: true}, nil
	}
	return uia.Outcome{}, nil
}

// decide asks the upstream whether a claim that is Sent has made its account. It saves
// the claim as Made or, if nothing was made, in the given state.
func (a *Accounts) decide(ctx context.Context, claim Claim, otherwise State) (Claim, error) {
	was, err := a.sealer.open(ctx, a.now(), claim)
	if err != nil && !errors.Is(err, errSealed) {
		return claim, err
	} else if err != nil {
		a.log.WarnContext(ctx, "gateway: a registration is settled without what it has kept", "session", claim.Key, "error", err)
	}
	made, err := a.upstream.Settle(ctx, Pending{Localpart: claim.Localpart, Resume: was.Resume, Since: claim.Changed})
	if err != nil {
		return claim, fmt.Errorf("gateway: what became of a registration is not known: %w", err)
	}
	next := claim
	next.State = otherwise // what is sealed stays, as a sign that something was sent
	if made {
		next.State, next.Sealed = Made, nil
	}
	return a.claims.Save(ctx, next, a.now())
}
