package uia_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/internal/wire"
	"github.com/matrix-uia/uia/limit"
)

// watcher collects what an observer is told.
type watcher struct {
	mu     sync.Mutex
	events []uia.Event
}

func (w *watcher) observe(_ context.Context, ev uia.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, ev)
}

// kinds returns the kinds of what was told since the last call.
func (w *watcher) kinds() []uia.EventKind {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := []uia.EventKind{}
	for _, ev := range w.events {
		out = append(out, ev.Kind)
	}
	w.events = nil
	return out
}

func watched(t *testing.T, change func(*uia.Config)) (*homeserver, *watcher) {
	w := &watcher{}
	h := newHomeserver(t, setup{change: func(c *uia.Config) {
		c.Observer = w.observe
		if change != nil {
			change(c)
		}
	}})
	return h, w
}

func TestEventsOfARegistration(t *testing.T) {
	var log bytes.Buffer
	audit := uia.AuditLog(slog.New(slog.NewTextHandler(&log, nil)))
	h, w := watched(t, nil)
	h.token("the-whole-value", 1)
	alice := dict{"username": "alice", "password": "pw"}

	s := h.post(alice).session()
	h.post(with(alice, dict{"session": s}))
	assert.Empty(t, w.kinds(), "what proves nothing is no event")

	h.post(with(alice, dict{"type": uia.TokenType, "session": s, "token": "wrong-value"}))
	require.Len(t, w.events, 1)
	failed := w.events[0]
	assert.Equal(t, uia.EventStageFailed, failed.Kind)
	assert.Equal(t, "not found", failed.Reason)
	assert.Equal(t, wire.CodeUnauthorized, failed.ErrCode)
	assert.Equal(t, uia.TokenType, failed.Stage)
	assert.Equal(t, "192.0.2.1", failed.Client.String())
	audit(t.Context(), failed)

	w.kinds()
	h.post(with(alice, dict{"type": uia.TokenType, "session": s, "token": "the-whole-value"}))
	require.Len(t, w.events, 1)
	held := w.events[0]
	assert.Equal(t, uia.EventUseHeld, held.Kind)
	assert.Equal(t, uia.Fingerprint("the-whole-value"), held.Token)
	audit(t.Context(), held)

	w.kinds()
	final := with(alice, dict{"type": "m.login.dummy", "session": s})
	require.Equal(t, 200, h.post(final).Status)
	require.Equal(t, 200, h.post(final).Status)
	require.Len(t, w.events, 1, "a replay spends nothing")
	spent := w.events[0]
	want := held
	want.Kind, want.UserID = uia.EventUseSpent, "@alice:test"
	assert.Equal(t, want, spent)
	audit(t.Context(), spent)

	for _, secret := range []string{"the-whole-value", "wrong-value", s} {
		assert.NotContains(t, log.String(), secret)
	}
	assert.Contains(t, log.String(), "msg=use_spent token="+uia.Fingerprint("the-whole-value")+" user=@alice:test operation=register")
}

func TestEventsOfFailures(t *testing.T) {
	limiter, err := limit.New(&limit.Options{Burst: 1})
	require.NoError(t, err)
	h, w := watched(t, func(c *uia.Config) { c.Limiter = limiter })
	guess := dict{"auth": dict{"type": uia.TokenType, "token": "wrong"}}
	h.post(guess)
	require.Equal(t, 429, h.post(guess).Status)
	assert.Equal(t, []uia.EventKind{uia.EventStageFailed, uia.EventLimitHit}, w.kinds())
}

func TestSpentIsToldAfterTheCommit(t *testing.T) {
	var store *txTap
	h, w := watched(t, func(c *uia.Config) {
		store = &txTap{Store: c.Sessions.(uia.Store)}
		c.Sessions, c.Stages[0] = store, &uia.TokenStage{Store: store}
		c.Operations[0].Tx = true
	})
	h.token("abc", 3)
	errLost := errors.New("the connection is gone")
	register := func(username string, inTx func(context.Context, func(context.Context) error) error) error {
		body := `{"username":"` + username + `","auth":{"type":"m.login.registration_token","token":"abc"}}`
		req := uia.Request{Operation: "register", Body: []byte(body)}
		_, err := h.engine.Authenticate(t.Context(), req)
		challenge, ok := errors.AsType[*uia.Challenge](err)
		require.True(t, ok, "%v", err)
		req.Body = []byte(`{"username":"` + username + `","auth":{"type":"m.login.dummy","session":"` + challenge.Session + `"}}`)
		grant, err := h.engine.Authenticate(t.Context(), req)
		require.NoError(t, err)
		w.kinds()
		store.inTx = inTx
		_, err = grant.Finish(t.Context(), h.accounts.create)
		return err
	}

	require.NoError(t, register("alice", func(ctx context.Context, f func(context.Context) error) error {
		err := f(ctx)
		assert.Empty(t, w.kinds(), "not committed yet")
		return err
	}))
	assert.Equal(t, []uia.EventKind{uia.EventUseSpent}, w.kinds())

	// A transaction that fails has spent nothing.
	require.Error(t, register("bob", func(ctx context.Context, f func(context.Context) error) error { return errLost }))
	assert.Empty(t, w.kinds())

	// One that commits and whose answer is lost has.
	require.NoError(t, register("carol", func(ctx context.Context, f func(context.Context) error) error {
		require.NoError(t, f(ctx))
		return errLost
	}))
	assert.Equal(t, []uia.EventKind{uia.EventUseSpent}, w.kinds())
}

func TestEventsOfRecover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, w := watched(t, nil)
		h.token("abc", 2)
		crash := func(username string, made bool) {
			body := dict{"username": username, "auth": dict{"type": uia.TokenType, "token": "abc"}}
			s := h.post(body).session()
			h.operate = func(ctx context.Context, s *uia.Session) (uia.Effect, error) {
				if made {
					_, _ = h.accounts.create(ctx, s)
				}
				return uia.Effect{}, errors.New("the database is gone")
			}
			require.Equal(t, 500, h.post(dict{"username": username, "auth": dict{"type": "m.login.dummy", "session": s}}).Status)
		}
		crash("alice", true)
		crash("bob", false)
		assert.Equal(t, []uia.EventKind{uia.EventUseHeld, uia.EventUseHeld}, w.kinds())
		wait(t, 2*time.Minute)
		_, err := h.engine.Recover(t.Context())
		require.NoError(t, err)
		assert.ElementsMatch(t, []uia.EventKind{uia.EventUseSpent, uia.EventUseReleased}, w.kinds())
	})
}

func TestAnObserversPanicEndsThere(t *testing.T) {
	var log bytes.Buffer
	h := newHomeserver(t, setup{change: func(c *uia.Config) {
		c.Observer = func(context.Context, uia.Event) { panic("a full disk") }
		c.Logger = slog.New(slog.NewTextHandler(&log, nil))
	}})
	h.token("abc", 1)
	a := h.post(dict{"username": "a", "auth": dict{"type": uia.TokenType, "token": "abc"}})
	assert.Equal(t, []string{uia.TokenType}, a.completed())
	a = h.post(dict{"username": "a", "auth": dict{"type": "m.login.dummy", "session": a.session()}})
	assert.Equal(t, 200, a.Status)
	assert.Contains(t, log.String(), `event.kind=use_held event.token=`+uia.Fingerprint("abc")+" event.operation=register")
	assert.Contains(t, log.String(), `panic="a full disk"`)
}

func TestAnEventLogsTheFieldsThatAreSet(t *testing.T) {
	logged := func(ev uia.Event) string {
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("x", "event", ev)
		_, fields, _ := strings.Cut(log.String(), "msg=x")
		return strings.TrimSpace(fields)
	}
	assert.Equal(t, "event.kind=limit_hit event.client=192.0.2.7", logged(uia.Event{Kind: uia.EventLimitHit, Client: netip.MustParseAddr("192.0.2.7")}))
	assert.Equal(t, "event.kind=token_created event.token=01234567 event.by=@op:test event.uses_allowed=0 event.expires=2026-01-02T03:04:05.000Z", logged(uia.Event{
		Kind: uia.EventTokenCreated, Token: "01234567", By: "@op:test", UsesAllowed: new(int64(0)),
		Expires: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}))
}
