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
)

var errBroken = errors.New("connection lost: a detail that no client must see")

// failure is a way in which an operation does not succeed.
type failure struct {
	name    string
	operate func(t *testing.T, h *homeserver) uia.Operate
	status  int
	done    bool // whether the account is made all the same
}

// These leave it open whether the operation took effect.
var doubtful = []failure{
	{"an error before the effect", func(*testing.T, *homeserver) uia.Operate {
		return func(context.Context, *uia.Session) (uia.Effect, error) { return uia.Effect{}, errBroken }
	}, 500, false},
	{"an error after the effect", func(_ *testing.T, h *homeserver) uia.Operate {
		return func(ctx context.Context, s *uia.Session) (uia.Effect, error) {
			r, _ := h.accounts.create(ctx, s)
			return r, errBroken
		}
	}, 500, true},
	{"a panic before the effect", func(*testing.T, *homeserver) uia.Operate {
		return func(context.Context, *uia.Session) (uia.Effect, error) { panic(errBroken) }
	}, 500, false},
	{"a panic after the effect", func(_ *testing.T, h *homeserver) uia.Operate {
		return func(ctx context.Context, s *uia.Session) (uia.Effect, error) {
			_, _ = h.accounts.create(ctx, s)
			panic(errBroken)
		}
	}, 500, true},
	{"a timeout", func(*testing.T, *homeserver) uia.Operate {
		return func(ctx context.Context, _ *uia.Session) (uia.Effect, error) {
			<-ctx.Done()
			return uia.Effect{}, ctx.Err()
		}
	}, 500, false},
	{"no user to book the use to", func(_ *testing.T, h *homeserver) uia.Operate {
		return func(ctx context.Context, s *uia.Session) (uia.Effect, error) {
			_, err := h.accounts.create(ctx, s)
			return uia.Effect{}, err
		}
	}, 500, true},
	{"a body that does not encode", func(_ *testing.T, h *homeserver) uia.Operate {
		return func(ctx context.Context, s *uia.Session) (uia.Effect, error) {
			r, err := h.accounts.create(ctx, s)
			r.Body = func() {}
			return r, err
		}
	}, 500, true},
}

// eachDoubt sets the stage: a final request has failed in each of the ways.
func eachDoubt(t *testing.T, test func(t *testing.T, h *homeserver, f failure, final dict)) {
	for _, f := range doubtful {
		t.Run(f.name, func(t *testing.T) {
			bothFlows(t, func(t *testing.T, flow uia.Flow) {
				synctest.Test(t, func(t *testing.T) {
					h := newHomeserver(t, setup{flows: []uia.Flow{flow}})
					h.token("abc", 1)
					_, final := h.ready(flow, "alice", "abc")
					h.operate = f.operate(t, h)
					a := h.post(final)
					require.Equal(t, f.status, a.Status)
					require.JSONEq(t, `{"errcode":"M_UNKNOWN","error":"Internal server error","flows":[]}`, a.Body)
					h.operate = h.accounts.create
					test(t, h, f, final)
				})
			})
		})
	}
}

// state returns the state of the one use of a token, zero if there is none.
func (h *homeserver) state(token string) uia.UseState {
	h.t.Helper()
	uses := h.uses(token)
	if len(uses) == 0 {
		return 0
	}
	require.Len(h.t, uses, 1)
	return uses[0].State
}

func TestDoubtKeepsTheUsePinned(t *testing.T) {
	eachDoubt(t, func(t *testing.T, h *homeserver, _ failure, final dict) {
		assert.Equal(t, uia.Pinned, h.state("abc"))
		wait(t, 24*time.Hour)
		assert.Equal(t, uia.Pinned, h.state("abc"), "time does not decide it")
		assert.Equal(t, 401, h.register("bob", "abc").Status, "nor does somebody else who wants it")
	})
}

func TestDoubtIsSettledByTryingAgain(t *testing.T) {
	eachDoubt(t, func(t *testing.T, h *homeserver, f failure, final dict) {
		a := h.post(final)
		assert.Equal(t, 200, a.Status, a.Body)
		assert.Equal(t, "@alice:test", a.JSON["user_id"])
		assert.Equal(t, a.Body, h.post(final).Body)
		h.oneAccount("abc")
	})
}

// A second run that refuses says nothing of the first one: Resolve decides.
func TestDoubtThenRefusal(t *testing.T) {
	eachDoubt(t, func(t *testing.T, h *homeserver, f failure, final dict) {
		h.operate = func(context.Context, *uia.Session) (uia.Effect, error) {
			return uia.Effect{}, uia.NewError(400, spec.InvalidUsername("no such name"))
		}
		a := h.post(final)
		if f.done {
			a.is(t, 401, "M_FORBIDDEN") // it is finished, and its response lost
			assert.NotEmpty(t, a.completed())
			h.oneAccount("abc")
			return
		}
		assert.Equal(t, 400, a.Status)
		assert.Equal(t, "M_INVALID_USERNAME", a.errcode())
		assert.Zero(t, h.state("abc"), "the use is given back")
		h.operate = h.accounts.create
		a = h.post(final)
		assert.Equal(t, 400, a.Status, "under this key it can never succeed: %s", a.Body)
		assert.Equal(t, "M_UNKNOWN", a.errcode())
		assert.Equal(t, 200, h.register("bob", "abc").Status)
		h.oneAccount("abc")
	})
}

func TestRefusalLeavesTheSessionComplete(t *testing.T) {
	bothFlows(t, func(t *testing.T, flow uia.Flow) {
		synctest.Test(t, func(t *testing.T) {
			h := newHomeserver(t, setup{flows: []uia.Flow{flow}})
			h.token("abc", 1)
			_, final := h.ready(flow, "alice", "abc")
			h.operate = func(context.Context, *uia.Session) (uia.Effect, error) {
				return uia.Effect{}, uia.NewError(403, spec.Forbidden("not on a Sunday"))
			}
			a := h.post(final)
			assert.Equal(t, 403, a.Status)
			assert.JSONEq(t, `{"errcode":"M_FORBIDDEN","error":"not on a Sunday","flows":[]}`, a.Body)
			assert.Equal(t, uia.Held, h.state("abc"))
			wait(t, time.Hour/2) // longer than a hold lasts
			h.operate = h.accounts.create
			final["username"] = "bob"
			a = h.post(final)
			assert.Equal(t, 200, a.Status, a.Body)
			assert.Equal(t, "@bob:test", a.JSON["user_id"])
			h.oneAccount("abc")
		})
	})
}

// An operation that ignores its context and outlives its lease still counts if
// nobody has taken over.
func TestLateOperationThatNobodyOvertook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHomeserver(t, setup{})
		h.token("abc", 1)
		h.operate = func(ctx context.Context, s *uia.Session) (uia.Effect, error) {
			deadline, ok := ctx.Deadline()
			assert.True(t, ok && time.Until(deadline) < time.Minute, "it is told to end before its lease does")
			wait(t, time.Hour/2)
			return h.accounts.create(ctx, s)
		}
		_, final := h.ready(flowTD, "alice", "abc")
		a := h.post(final)
		assert.Equal(t, 200, a.Status, a.Body)
		assert.Equal(t, a.Body, h.post(final).Body)
		h.oneAccount("abc")
	})
}

func TestHangUpDoesNotCancelTheOperation(t *testing.T) {
	bothFlows(t, func(t *testing.T, flow uia.Flow) {
		synctest.Test(t, func(t *testing.T) {
			h := newHomeserver(t, setup{flows: []uia.Flow{flow}})
			h.token("abc", 1)
			_, final := h.ready(flow, "alice", "abc")
			ctx, hangUp := context.WithCancel(t.Context())
			h.operate = func(ctx context.Context, s *uia.Session) (uia.Effect, error) {
				hangUp()
				wait(t, time.Second)
				assert.NoError(t, ctx.Err())
				return h.accounts.create(ctx, s)
			}
			first := h.postCtx(ctx, final)
			assert.Equal(t, 200, first.Status, first.Body)
			assert.Equal(t, first.Body, h.post(final).Body, "the client that comes back finds the response")
			assert.Equal(t, 1, h.accounts.runs)
			h.oneAccount("abc")
		})
	})
}
