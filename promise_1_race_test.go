package uia_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/memstore"
)

// together calls fn n times at once and returns what the calls returned.
func together[T any](n int, fn func(i int) T) []T {
	out, start := make([]T, n), make(chan struct{})
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			<-start
			out[i] = fn(i)
		})
	}
	close(start)
	all.Wait()
	return out
}

// register goes through a whole registration and returns the last answer.
func (h *homeserver) register(username, token string) answer {
	params := dict{"username": username, "password": "pw"}
	session := h.post(params).session()
	a := h.post(with(params, dict{"type": uia.TokenType, "session": session, "token": token}))
	if a.Status != 401 || a.errcode() != "" {
		return a
	}
	return h.post(with(params, dict{"type": "m.login.dummy", "session": session}))
}

// uses returns the uses of a token.
func (h *homeserver) uses(token string) []uia.Use {
	h.t.Helper()
	page, err := h.store.ListUses(context.Background(), uia.UseQuery{Token: token})
	require.NoError(h.t, err)
	return page.Uses
}

// oneAccount checks that there is one account, made from the one use of the token.
func (h *homeserver) oneAccount(token string) {
	h.t.Helper()
	require.Equal(h.t, 1, h.accounts.count())
	uses := h.uses(token)
	require.Len(h.t, uses, 1)
	assert.Equal(h.t, uia.Spent, uses[0].State)
	assert.Equal(h.t, h.accounts.byKey[uses[0].Session], uses[0].UserID)
}

func bothFlows(t *testing.T, test func(t *testing.T, flow uia.Flow)) {
	t.Run("T", func(t *testing.T) { test(t, flowT) })
	t.Run("TD", func(t *testing.T) { test(t, flowTD) })
}

func TestSingleUseTokenMakesOneAccount(t *testing.T) {
	bothFlows(t, func(t *testing.T, flow uia.Flow) {
		for range 100 {
			h := newHomeserver(t, setup{flows: []uia.Flow{flow}})
			h.token("abc", 1)
			made := 0
			for _, a := range together(32, func(i int) answer { return h.register(fmt.Sprint("u", i), "abc") }) {
				if a.Status == 200 {
					made++
				} else {
					require.Equal(t, 401, a.Status, a.Body)
					require.Equal(t, "M_UNAUTHORIZED", a.errcode())
				}
			}
			require.Equal(t, 1, made)
			h.oneAccount("abc")
		}
	})
}

// ready returns the session and the final request of a registration that lacks
// nothing else.
func (h *homeserver) ready(flow uia.Flow, username, token string) (string, dict) {
	h.t.Helper()
	params := dict{"username": username, "password": "pw"}
	session := h.post(params).session()
	tokenLeg := with(params, dict{"type": uia.TokenType, "session": session, "token": token})
	if len(flow) == 1 {
		return session, tokenLeg
	}
	a := h.post(tokenLeg)
	require.Equal(h.t, []string{uia.TokenType}, a.completed(), a.Body)
	return session, with(params, dict{"type": "m.login.dummy", "session": session})
}

func TestConcurrentFinalRequests(t *testing.T) {
	bothFlows(t, func(t *testing.T, flow uia.Flow) {
		for range 100 {
			h := newHomeserver(t, setup{flows: []uia.Flow{flow}})
			h.token("abc", 1)
			_, final := h.ready(flow, "alice", "abc")
			answers := together(32, func(int) answer { return h.post(final) })
			for _, a := range answers {
				require.Equal(t, 200, a.Status, a.Body)
				require.Equal(t, answers[0].Body, a.Body)
			}
			require.Equal(t, 1, h.accounts.runs)
			h.oneAccount("abc")
		}
	})
}

// Those that come while the operation is at work wait for it.
func TestConcurrentFinalRequestsOfASlowOperation(t *testing.T) {
	bothFlows(t, func(t *testing.T, flow uia.Flow) {
		synctest.Test(t, func(t *testing.T) {
			h := newHomeserver(t, setup{flows: []uia.Flow{flow}})
			h.token("abc", 1)
			h.operate = func(ctx context.Context, s *uia.Session) (uia.Effect, error) {
				wait(t, 20*time.Second)
				return h.accounts.create(ctx, s)
			}
			_, final := h.ready(flow, "alice", "abc")
			answers := together(32, func(i int) answer {
				wait(t, time.Duration(i)*time.Second) // the last ones come too late to wait
				return h.post(final)
			})
			for _, a := range answers {
				assert.Equal(t, 200, a.Status, a.Body)
				assert.Equal(t, answers[0].Body, a.Body)
			}
			assert.Equal(t, 1, h.accounts.runs)
			h.oneAccount("abc")
		})
	})
}

// Of final requests that differ, one makes the account: another gets either that
// one's response, because it waited for it, or none.
func TestConcurrentFinalRequestsThatDiffer(t *testing.T) {
	for range 100 {
		h := newHomeserver(t, setup{})
		h.token("abc", 1)
		session, _ := h.ready(flowTD, "nobody", "abc")
		made := map[string]bool{}
		for _, a := range together(32, func(i int) answer {
			return h.post(with(dict{"username": fmt.Sprint("u", i)}, dict{"type": "m.login.dummy", "session": session}))
		}) {
			if a.Status == 200 {
				made[a.Body] = true
			} else {
				require.Equal(t, 401, a.Status, a.Body)
				require.Len(t, a.completed(), 2)
			}
		}
		require.Len(t, made, 1)
		require.Equal(t, 1, h.accounts.runs)
		h.oneAccount("abc")
	}
}

// Each of three requests runs longer than its lease lasts, so that the next one
// takes over while it is still at it.
func TestSlowOwnersMakeOneAccount(t *testing.T) {
	for _, creates := range []time.Duration{0, 30 * time.Second, 70 * time.Second, 90 * time.Second} {
		t.Run(fmt.Sprint("account after ", creates), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHomeserver(t, setup{})
				h.token("abc", 1)
				h.operate = func(ctx context.Context, s *uia.Session) (uia.Effect, error) {
					wait(t, creates)
					r, err := h.accounts.create(ctx, s)
					wait(t, 90*time.Second-creates)
					return r, err
				}
				h.threeSlowOwners(func(answers []answer) {
					assert.Equal(t, 200, answers[2].Status, "nobody overtakes the last one: %s", answers[2].Body)
				})
				h.oneAccount("abc")
				assert.Equal(t, 3, h.accounts.runs)
			})
		})
	}
}

// threeSlowOwners sends three final requests of one session, a minute and a second
// apart, each for another username.
func (h *homeserver) threeSlowOwners(look func([]answer)) {
	session, _ := h.ready(flowTD, "nobody", "abc")
	answers := together(3, func(i int) answer {
		t, _ := h.t.(*testing.T)
		wait(t, time.Duration(i)*61*time.Second)
		return h.post(with(dict{"username": fmt.Sprint("u", i)}, dict{"type": "m.login.dummy", "session": session}))
	})
	told := map[any]bool{}
	for _, a := range answers {
		if a.Status == 200 {
			told[a.JSON["user_id"]] = true
		} else {
			assert.Contains(h.t, []int{401, 503}, a.Status, a.Body)
		}
	}
	assert.Len(h.t, told, 1, "who is told of an account is told of the same")
	look(answers)
}

// Both requests hold a use, each of its own token, before one of them is recorded.
func TestTwoTokensRaceInOneSession(t *testing.T) {
	for range 50 {
		held := make(chan struct{}, 2)
		var both sync.WaitGroup
		both.Add(2)
		store := &tap{memstore.New(nil), func(_ context.Context, c call, do func() error) error {
			err := do()
			if c.name == "Reserve" {
				select {
				case held <- struct{}{}:
					both.Done()
					both.Wait()
				default:
				}
			}
			return err
		}}
		h := newHomeserver(t, setup{store: store})
		h.token("x", 1)
		h.token("y", 1)
		session := h.post(dict{}).session()
		for _, a := range together(2, func(i int) answer {
			return h.post(dict{"auth": dict{"type": uia.TokenType, "session": session, "token": "xy"[i : i+1]}})
		}) {
			require.Equal(t, []string{uia.TokenType}, a.completed(), a.Body)
			require.Empty(t, a.errcode())
		}
		s, err := h.engine.Session(t.Context(), session)
		require.NoError(t, err)
		recorded, ok := s.Token()
		require.True(t, ok)
		for _, token := range []string{"x", "y"} {
			uses := h.uses(token)
			if token == recorded.Token {
				require.Len(t, uses, 1, "what is recorded is held")
			} else {
				require.Empty(t, uses, "the other is given back")
			}
		}
	}
}
