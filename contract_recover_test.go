package uia_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/memstore"
)

// recovered runs Recover and returns its report.
func (h *homeserver) recovered() uia.RecoverReport {
	h.t.Helper()
	report, err := h.engine.Recover(context.Background())
	require.NoError(h.t, err)
	return report
}

// resolving makes h a homeserver whose Resolve is not its accounts'.
func resolving(t *testing.T, resolve func(h *homeserver, key string) (uia.Outcome, error)) *homeserver {
	var h *homeserver
	h = newHomeserver(t, setup{change: func(c *uia.Config) {
		c.Operations[0].Resolve = func(_ context.Context, key string) (uia.Outcome, error) { return resolve(h, key) }
	}})
	h.token("abc", 1)
	return h
}

func TestRecover(t *testing.T) {
	eachDoubt(t, func(t *testing.T, h *homeserver, f failure, final dict) {
		assert.Zero(t, h.recovered(), "a run that may still be at work is left alone")
		assert.Equal(t, uia.Pinned, h.state("abc"))
		wait(t, time.Minute+time.Millisecond)
		if f.done {
			assert.Equal(t, uia.RecoverReport{Committed: 1}, h.recovered())
			h.oneAccount("abc")
			a := h.post(final)
			a.is(t, 401, "M_FORBIDDEN") // the response is lost
			h.oneAccount("abc")
		} else {
			assert.Equal(t, uia.RecoverReport{Released: 1}, h.recovered())
			assert.Zero(t, h.state("abc"))
			a := h.post(final)
			assert.Equal(t, 400, a.Status, "this key can never succeed: %s", a.Body)
			assert.Equal(t, "M_UNKNOWN", a.errcode())
			assert.Equal(t, 200, h.register("alice", "abc").Status)
			h.oneAccount("abc")
		}
		wait(t, time.Minute+time.Millisecond)
		assert.Zero(t, h.recovered(), "nothing is left")
	})
}

// Resolve may know the response, and then the client gets it.
func TestRecoverOfAnOperationThatCanBeTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := resolving(t, func(h *homeserver, key string) (uia.Outcome, error) {
			o, err := h.accounts.resolve(t.Context(), key)
			o.Body = dict{"user_id": o.UserID}
			return o, err
		})
		h.operate = doubtful[1].operate(t, h)
		_, final := h.ready(flowTD, "alice", "abc")
		require.Equal(t, 500, h.post(final).Status)
		wait(t, 2*time.Minute)
		assert.Equal(t, uia.RecoverReport{Committed: 1}, h.recovered())
		for range 2 {
			a := h.post(final)
			assert.Equal(t, 200, a.Status)
			assert.JSONEq(t, `{"user_id":"@alice:test"}`, a.Body)
		}
		h.oneAccount("abc")
	})
}

func TestRecoverLeavesWhatCannotBeResolved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errBroken
		h := resolving(t, func(h *homeserver, key string) (uia.Outcome, error) {
			if broken != nil {
				return uia.Outcome{}, broken
			}
			return h.accounts.resolve(t.Context(), key)
		})
		h.operate = doubtful[1].operate(t, h)
		_, final := h.ready(flowTD, "alice", "abc")
		require.Equal(t, 500, h.post(final).Status)
		for range 3 {
			wait(t, 2*time.Minute)
			report, err := h.engine.Recover(t.Context())
			assert.ErrorIs(t, err, errBroken)
			assert.Equal(t, uia.RecoverReport{Unresolved: 1}, report)
			assert.Equal(t, uia.Pinned, h.state("abc"))
		}
		broken = nil
		wait(t, 2*time.Minute)
		assert.Equal(t, uia.RecoverReport{Committed: 1}, h.recovered())
		h.oneAccount("abc")
	})
}

func TestRecoverTwiceAtOnce(t *testing.T) {
	eachDoubt(t, func(t *testing.T, h *homeserver, f failure, final dict) {
		wait(t, 2*time.Minute)
		decided := 0
		for _, r := range together(8, func(int) uia.RecoverReport { return h.recovered() }) {
			if f.done {
				assert.Zero(t, r.Released)
			} else {
				assert.Zero(t, r.Committed)
			}
			assert.Zero(t, r.Unresolved)
			decided += r.Released + r.Committed
		}
		assert.NotZero(t, decided)
		if f.done {
			h.oneAccount("abc")
		} else {
			assert.Zero(t, h.state("abc"))
		}
	})
}

// The client tries again just when Recover has asked what became of its operation.
func TestRecoverMeetsATakeover(t *testing.T) {
	for _, f := range doubtful {
		t.Run(f.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var final dict
				var second answer
				h := resolving(t, func(h *homeserver, key string) (uia.Outcome, error) {
					o, err := h.accounts.resolve(t.Context(), key)
					if retry := final; retry != nil {
						final = nil
						second = h.post(retry)
					}
					return o, err
				})
				h.operate = f.operate(t, h)
				_, final2 := h.ready(flowTD, "alice", "abc")
				require.Equal(t, 500, h.post(final2).Status)
				h.operate = h.accounts.create
				wait(t, 2*time.Minute)
				final = final2
				report := h.recovered()
				assert.Zero(t, report, "the session was taken over")
				if f.done {
					assert.Equal(t, 200, second.Status, second.Body)
					h.oneAccount("abc")
					assert.Equal(t, second.Body, h.post(final2).Body)
					return
				}
				assert.Equal(t, 400, second.Status, "the tombstone was there before: %s", second.Body)
				assert.Zero(t, h.state("abc"))
				assert.Zero(t, h.accounts.count())
				assert.Equal(t, 200, h.register("bob", "abc").Status)
				h.oneAccount("abc")
			})
		})
	}
}

// An operation that outlives its lease finds that Recover has decided.
func TestRecoverWhileTheOperationRuns(t *testing.T) {
	for _, created := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			h := newHomeserver(t, setup{})
			h.token("abc", 1)
			h.operate = func(ctx context.Context, s *uia.Session) (r uia.Effect, err error) {
				if created {
					r, err = h.accounts.create(ctx, s)
				}
				wait(t, 90*time.Second)
				if !created {
					r, err = h.accounts.create(ctx, s)
				}
				return r, err
			}
			_, final := h.ready(flowTD, "alice", "abc")
			answers := make(chan answer, 1)
			go func() { answers <- h.post(final) }()
			wait(t, 59*time.Second)
			assert.Zero(t, h.recovered())
			wait(t, 10*time.Second)
			report := h.recovered()
			a := <-answers
			h.operate = h.accounts.create
			if created {
				assert.Equal(t, uia.RecoverReport{Committed: 1}, report)
				assert.Equal(t, 200, a.Status, a.Body)
				assert.Equal(t, a.Body, h.post(final).Body)
			} else {
				assert.Equal(t, uia.RecoverReport{Released: 1}, report)
				assert.Equal(t, 400, a.Status, a.Body)
				assert.Zero(t, h.accounts.count())
				assert.Zero(t, h.state("abc"))
				again := h.post(final)
				assert.Equal(t, 400, again.Status, again.Body)
				assert.Equal(t, "M_UNKNOWN", again.errcode(), "the client is told to start again")
				assert.Equal(t, 200, h.register("bob", "abc").Status)
			}
			h.oneAccount("abc")
		})
	}
}

// A response that could not be recorded is told all the same, because nobody else
// can be told another one: unless Recover has booked the use, when another run that
// it overtook may be recorded.
func TestResponseThatCannotBeRecorded(t *testing.T) {
	for _, overtaken := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			broken := false
			store := &tap{memstore.New(nil), func(_ context.Context, c call, do func() error) error {
				if broken && c.name == "SaveSession" {
					return errDown
				}
				return do()
			}}
			h := newHomeserver(t, setup{store: store})
			h.token("abc", 1)
			_, final := h.ready(flowTD, "alice", "abc")
			h.operate = func(ctx context.Context, s *uia.Session) (uia.Effect, error) {
				broken = true // what the lease has written is there
				defer wait(t, 70*time.Second)
				return h.accounts.create(ctx, s)
			}
			answers := make(chan answer, 1)
			go func() { answers <- h.post(final) }()
			wait(t, 65*time.Second)
			if overtaken {
				assert.Equal(t, uia.RecoverReport{Committed: 1}, h.recovered())
			}
			a := <-answers
			if overtaken {
				assert.Equal(t, 500, a.Status, a.Body)
			} else {
				assert.Equal(t, 200, a.Status, a.Body)
			}
			broken = false
			h.post(final).is(t, 401, "M_FORBIDDEN")
			h.oneAccount("abc")
		})
	}
}

func TestRecoverSweeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHomeserver(t, setup{})
		h.token("abc", 5)
		h.ready(flowTD, "alice", "abc")
		wait(t, 2*time.Hour)
		assert.Equal(t, uia.RecoverReport{Swept: 1}, h.recovered(), "the record")
		assert.Equal(t, uia.Held, h.state("abc"), "the hold has lapsed, but a session that was opened when it did may be open yet")
		wait(t, uia.DefaultHoldTTL+time.Minute)
		assert.Equal(t, uia.RecoverReport{Swept: 1}, h.recovered())
		assert.Empty(t, h.uses("abc"))
	})
}

func TestRecoverTellsEveryFailure(t *testing.T) {
	h := newHomeserver(t, setup{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := h.engine.Recover(ctx)
	assert.True(t, errors.Is(err, context.Canceled), err)
}

// A refusal whose use could not be given back leaves it to Recover, which buries
// the key: the client has to be told to start again, and not to try another token.
func TestRecoverAfterARollbackThatFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &tap{Store: memstore.New(nil)}
		down := false
		store.around = func(_ context.Context, c call, do func() error) error {
			if down && c.name == "Unpin" {
				return errors.New("connection lost")
			}
			return do()
		}
		h := newHomeserver(t, setup{flows: []uia.Flow{flowT}, store: store})
		h.token("abc", 1)
		params := dict{"username": "alice", "password": "pw"}
		s := h.open(params)
		create := h.operate
		h.operate = func(context.Context, *uia.Session) (uia.Effect, error) {
			down = true
			return uia.Effect{}, uia.NewError(400, spec.UserInUse("taken"))
		}
		final := with(params, submitToken(s, "abc"))
		assert.Equal(t, "M_USER_IN_USE", h.post(final).errcode())
		h.operate, down = create, false
		wait(t, time.Minute+time.Millisecond)
		assert.Equal(t, uia.RecoverReport{Released: 1}, h.recovered())
		a := h.post(final)
		assert.Equal(t, 400, a.Status, a.Body)
		assert.Equal(t, "M_UNKNOWN", a.errcode())
		assert.Equal(t, 200, h.register("alice", "abc").Status)
		h.oneAccount("abc")
	})
}
