package uia

import (
	"context"
	"errors"
)

// Authenticate takes a request one step further. It returns a Grant if the
// operation may run, or has run already: call its Finish. Otherwise it returns a
// *Challenge or an *Error, to be answered as [Answer] says.
func (e *Engine) Authenticate(ctx context.Context, r Request) (*Grant, error) {
	g, err := e.authenticate(ctx, r)
	if err != nil {
		return nil, e.told(ctx, err)
	}
	return g, nil
}

func (e *Engine) authenticate(ctx context.Context, r Request) (*Grant, error) {
	v, err := e.newVisit(r)
	if err != nil {
		return nil, err
	}
	if v.auth.session != "" {
		if err := v.resume(ctx, v.auth.session); err != nil {
			return nil, err
		}
		return v.proceed(ctx)
	}
	if err := v.open(ctx, r); err != nil {
		return nil, err
	}
	if v.auth.typ == "" {
		return nil, v.challenge(ctx, nil)
	}
	return v.step(ctx, nil, true)
}

// proceed handles a request of a session that exists.
func (v *visit) proceed(ctx context.Context) (*Grant, error) {
	for range maxConflicts {
		if v.rec.State == Done {
			return v.replay()
		}
		known, err := v.settleParams()
		if err != nil {
			return nil, err
		}
		if v.rec.State == Running {
			return v.step(ctx, nil, true)
		}
		// Check never sees a session whose operation runs, is done or may be: the
		// account just made would be in use.
		if v.op.Check != nil && !v.data.Doubt && !(known && v.poll()) {
			if err := v.op.Check(ctx, v.s); err != nil {
				if changed, loadErr := v.changed(ctx); loadErr != nil {
					return nil, loadErr
				} else if changed {
					continue // it may have been made just now, by another request of this session
				}
				return nil, err
			}
		}
		lost, err := v.renew(ctx)
		if err != nil {
			return nil, err
		}
		return v.step(ctx, lost, true)
	}
	return nil, errBusy
}

// step attempts the stage that the request is for, if it is one that can be
// attempted, and says what comes next. With claim a completed flow ends in a
// grant, otherwise in the challenge like any other step. lost is why an earlier
// stage does not hold any more; nil if all do.
func (v *visit) step(ctx context.Context, lost *Error, claim bool) (*Grant, error) {
	for range maxConflicts {
		typ := v.auth.typ
		switch done := typ == "" || v.s.Has(typ); {
		case v.rec.State == Done && done && claim:
			return v.replay()
		case v.rec.State == Running && done && claim:
			return &Grant{v: v}, nil
		case done && claim && complete(v.flows, v.s.Completed, v.op.AnyOrder):
			err := v.takeLease(ctx)
			if err == nil {
				return &Grant{v: v, owned: true}, nil
			}
			if !errors.Is(err, ErrConflict) {
				return nil, err
			}
			if err := v.loadRecord(ctx); err != nil {
				return nil, err
			}
			if err := v.resettle(); err != nil {
				return nil, err
			}
		case done:
			return nil, v.challenge(ctx, lost)
		case v.rec.State != Open && v.rec.Revision > 0, !isNext(v.flows, v.s.Completed, v.op.AnyOrder, typ):
			if lost == nil {
				lost = errOutOfOrder
			}
			return nil, v.challenge(ctx, lost)
		default:
			if err := v.attempt(ctx, v.e.stages[typ], claim); err != nil {
				return nil, err
			}
			if v.rec.State == Running && v.mine {
				return &Grant{v: v, owned: true}, nil
			}
			if err := v.resettle(); err != nil {
				return nil, err
			}
			lost = nil
		}
	}
	return nil, errBusy
}
