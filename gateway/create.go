package gateway

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/register"
)

// making is one run that makes an account.
type making struct {
	*Accounts
	order Order
	typed bool // the client has chosen the localpart
	proof []byte
	claim Claim
	sent  bool   // this run has sent a request of which it does not know the end
	login *Login // that came with the account
}

// cleanupTime bounds what is done for a client that may have gone.
const cleanupTime = 10 * time.Second

var errGivenUp = uia.NewError(http.StatusForbidden, spec.Forbidden("This registration has been given up. Please start again."))

// Create implements register.Accounts. If the error says that the account was not made,
// then no earlier call with this key has made it either.
func (a *Accounts) Create(ctx context.Context, acc register.Account) (register.Created, error) {
	order, err := a.order(acc)
	if err != nil {
		return register.Created{}, err
	}
	m := &making{Accounts: a, order: order}
	if s := acc.Session; s != nil {
		m.proof = proof(s.ID, order.Password)
		var typed string
		_, err := s.Param("username", &typed)
		m.typed = err == nil && typed != "" // else each run may have made another name up
	}
	if err := m.take(ctx, Claim{Key: acc.Key, Localpart: order.Localpart, Run: runOf(acc)}); err != nil {
		return register.Created{}, err
	}
	return m.created(ctx, acc.InhibitLogin)
}

// take takes the claim, and makes the account unless it is there.
func (m *making) take(ctx context.Context, want Claim) (err error) {
	m.claim, err = m.claims.Reserve(ctx, want, m.now())
	if err == nil && m.claim.State == Sent && !m.sameAsSent(ctx) {
		// An earlier run has asked for an account with another name or password. Settle
		// that first, and do not go on with it.
		if m.claim, err = m.decide(ctx, m.claim, Free); err != nil {
			return undecided(err)
		}
		if m.claim.State == Free {
			m.claim, err = m.claims.Reserve(ctx, want, m.now())
		}
	}
	if errors.Is(err, ErrTaken) {
		return notMade(errInUse())
	} else if err != nil {
		return err
	}
	m.order.Localpart = m.claim.Localpart
	switch m.claim.State {
	case Reserved:
		return m.first(ctx)
	case Sent:
		return m.again(ctx)
	case Buried:
		return errGivenUp
	}
	return nil
}

// sameAsSent reports whether this run asks for the account that an earlier one may
// have made.
func (m *making) sameAsSent(ctx context.Context) bool {
	if m.typed && m.order.Localpart != m.claim.Localpart {
		return false
	}
	was, err := m.sealer.open(ctx, m.now(), m.claim)
	return err == nil && sameProof(was.Proof, m.proof)
}

// move saves the claim in another state.
func (m *making) move(ctx context.Context, to State, keep []byte) error {
	next := m.claim
	next.State, next.Sealed = to, keep
	saved, err := m.claims.Save(ctx, next, m.now())
	if err == nil {
		m.claim = saved
	}
	return err
}

// make makes the account at the upstream. A run that is overtaken stops at the
// claim, before it sends anything.
func (m *making) make(ctx context.Context) error {
	for tries := 1; ; tries++ {
		resume, err := m.upstream.Begin(ctx, m.order)
		if err != nil {
			return err
		}
		keep, err := m.sealer.seal(ctx, m.now(), m.claim.Key, kept{resume, m.proof})
		if err != nil {
			return err
		}
		if err := m.move(ctx, Sent, keep); err != nil {
			return err
		}
		m.login, err = m.upstream.Make(ctx, m.order, resume)
		stale := errors.Is(err, ErrStale)
		m.sent = err != nil && !stale && !isRefusal(err)
		if !stale || tries == 2 {
			return err
		}
	}
}

// first makes the account of a claim under which nothing was sent.
func (m *making) first(ctx context.Context) error {
	err := m.make(ctx)
	switch {
	case err == nil:
		return m.move(ctx, Made, nil)
	case m.sent:
		return undecided(err)
	case errors.Is(err, ErrOvertaken):
		return err
	case !isRefusal(err):
		err = unreachable(err)
	}
	return m.refuse(ctx, err)
}

// again makes an account that an earlier run has asked for with the same name and
// password, where it is not known whether the upstream made it. If a login with this
// password succeeds, the account is there and the client gets it. Otherwise again asks
// for it once more: if the earlier request is still under way, one of the two gets the
// name, and the account has this password either way.
func (m *making) again(ctx context.Context) error {
	var err error
	if m.login, err = m.upstream.Login(ctx, m.order); errors.Is(err, ErrWrongPassword) {
		err = m.make(ctx)
	}
	if isInUse(err) {
		m.login, err = m.upstream.Login(ctx, m.order)
		if errors.Is(err, ErrWrongPassword) {
			// Somebody else has the name, so that the earlier request cannot get it.
			return m.refuse(ctx, errInUse())
		}
	}
	switch {
	case errors.Is(err, ErrOvertaken):
		return err
	case err != nil:
		return undecided(err)
	}
	return m.move(ctx, Made, nil)
}

// refuse gives the name back: nothing was made, and nothing will be by this run or an
// earlier one.
func (m *making) refuse(ctx context.Context, why error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	if err := m.move(ctx, Free, nil); err != nil {
		return errors.Join(err, errors.New(why.Error())) // not as an *uia.Error: that would say too much
	}
	return notMade(why)
}

// created answers for an account that exists, with a login unless that is inhibited.
// No error says that it was not made.
func (m *making) created(ctx context.Context, inhibited bool) (register.Created, error) {
	out := register.Created{UserID: userID(m.claim.Localpart, m.serverName)}
	if inhibited {
		return out, nil
	}
	if m.login == nil {
		var err error
		if m.login, err = m.upstream.Login(ctx, m.order); err != nil {
			return out, undecided(err)
		}
	}
	if m.login.UserID != "" {
		out.UserID = m.login.UserID
	}
	out.DeviceID, out.AccessToken = m.login.DeviceID, m.login.AccessToken
	out.RefreshToken, out.ExpiresIn = m.login.RefreshToken, m.login.ExpiresIn
	return out, nil
}

func isRefusal(err error) bool {
	_, ok := errors.AsType[*uia.Error](err)
	return ok
}

func isInUse(err error) bool {
	e, ok := errors.AsType[*uia.Error](err)
	return ok && e.ErrCode == spec.ErrorUserInUse
}
