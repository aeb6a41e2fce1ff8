package gateway

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/matrix-uia/uia"
)

const (
	// abandoned is how long a claim is left to Recover, which decides those for which a
	// token was used, before Sweep decides it.
	abandoned = time.Hour
	// forgotten is how long a claim of which nothing became is kept: longer than any
	// session lasts.
	forgotten = 48 * time.Hour
	// sweepBatch bounds how many claims one Sweep looks at of each kind.
	sweepBatch = 1000
)

// Resolve is the Resolve of a register.Registration. "Not done" means that no
// account was made under the key and none will be. It is safe to be asked by several
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
		return uia.Outcome{Done: true, UserID: userID(claim.Localpart, a.serverName)}, nil
	}
	return uia.Outcome{}, nil
}

// decide asks the upstream what became of a claim that is Sent, and saves it: as Made,
// or in the given state if nothing did.
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

// Sweep does what has to be done now and then, in one gateway or in all of them: it
// settles registrations that nobody has come back to and that used no token, so that
// no name stays blocked, and forgets those of which nothing became, two days later.
// Before that it looks whether an account has appeared after its registration was
// given up (see the package's documentation), and logs an error if one has.
//
// It returns how many claims it has decided or forgotten. Its work is bounded; what it
// leaves, the next call finds. The error joins what could not be done.
func (a *Accounts) Sweep(ctx context.Context) (int, error) {
	var failures []error
	n := 0
	for _, s := range []State{Reserved, Sent} {
		claims, err := a.claims.List(ctx, ClaimQuery{State: s, Before: a.now().Add(-abandoned), Limit: sweepBatch})
		failures = append(failures, err)
		for _, c := range claims {
			if _, err := a.Resolve(ctx, c.Key); err != nil {
				failures = append(failures, err)
				continue
			}
			n++
		}
	}
	for _, s := range []State{Free, Buried} {
		claims, err := a.claims.List(ctx, ClaimQuery{State: s, Before: a.now().Add(-forgotten), Limit: sweepBatch})
		failures = append(failures, err)
		for _, c := range claims {
			if err := a.forget(ctx, c); err != nil {
				failures = append(failures, err)
				continue
			}
			n++
		}
	}
	return n, errors.Join(failures...)
}

// forget deletes a claim of which nothing became. If a request was sent for it, this
// is the time to see whether the upstream has made the account after all.
func (a *Accounts) forget(ctx context.Context, c Claim) error {
	if c.State == Buried && c.Sealed != nil {
		err := a.upstream.Available(ctx, c.Localpart)
		if err != nil && !isRefusal(err) {
			return fmt.Errorf("gateway: looking for a late account: %w", err)
		}
		if isInUse(err) {
			others, err := a.claims.List(ctx, ClaimQuery{State: Made, Localpart: c.Localpart, Limit: 1})
			if err != nil {
				return err
			}
			if len(others) == 0 {
				a.log.ErrorContext(ctx, "gateway: there is an account whose registration was given up: the upstream may have made it late, after the use of its token was given back",
					"user", userID(c.Localpart, a.serverName), "session", c.Key)
			}
		}
	}
	return a.claims.Delete(ctx, c)
}
