package gateway

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	// abandoned is how long a claim is left to Recover, which decides those for which a
	// token was used, before Sweep decides it.
	abandoned = time.Hour
	// forgotten is how long a claim that made no account is kept: longer than any session
	// lasts.
	forgotten = 48 * time.Hour
	// sweepBatch bounds how many claims one Sweep looks at of each kind.
	sweepBatch = 1000
	// maintenance is how often Maintain calls Sweep.
	maintenance = 10 * time.Minute
)

// Maintain calls Sweep every few minutes until ctx ends, and logs what it cannot do. It
// is run beside uia's Engine.Maintain.
func (a *Accounts) Maintain(ctx context.Context) {
	ticker := time.NewTicker(maintenance)
	defer ticker.Stop()
	for {
		if _, err := a.Sweep(ctx); err != nil && ctx.Err() == nil {
			a.log.WarnContext(ctx, "gateway: some registrations could not be settled or forgotten", "error", err)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// Sweep does what has to be done now and then, in one gateway or in all of them: it
// settles registrations that nobody has come back to and that used no token, so that no
// name stays blocked, and forgets claims that made no account, two days later. Before
// that it looks whether an account has appeared after its registration was given up (see
// the package's documentation), and logs an error if one has.
//
// It returns how many claims it has decided or forgotten. One call does a bounded amount
// of work; the next call finds the rest. The error joins what could not be done.
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

// forget deletes a claim that made no account. If a request was sent for it, forget first
// checks whether the upstream has made the account after all.
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
