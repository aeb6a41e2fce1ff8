package uia_test

import (
	"bytes"
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/memstore"
)

// hanging returns a homeserver and a context which is cancelled just before or
// just after the store's next call of this name, as if the client hung up then.
// The call itself goes through, but after it the driver notices.
func hanging(t *testing.T, flow uia.Flow, name string, after bool) (*homeserver, func() context.Context) {
	var hangUp context.CancelFunc
	store := &tap{memstore.New(nil), func(ctx context.Context, c call, do func() error) error {
		if c.name != name || hangUp == nil {
			return do()
		}
		cancel := hangUp
		hangUp = nil
		if !after {
			cancel()
		}
		err := do()
		if after {
			cancel()
			err = ctx.Err()
		}
		return err
	}}
	h := newHomeserver(t, setup{store: store, flows: []uia.Flow{flow}})
	h.token("abc", 1)
	return h, func() (ctx context.Context) {
		ctx, hangUp = context.WithCancel(t.Context())
		return ctx
	}
}

// The use that was held for a client that has gone before it could be recorded is
// anybody's at once.
func TestHangUpBetweenHoldAndRecord(t *testing.T) {
	bothFlows(t, func(t *testing.T, flow uia.Flow) {
		h, ctx := hanging(t, flow, "SaveSession", false)
		session, _ := h.ready(uia.Flow{uia.TokenType}, "alice", "abc")
		leg := dict{"username": "alice", "auth": dict{"type": uia.TokenType, "session": session, "token": "abc"}}
		a := h.postCtx(ctx(), leg)
		assert.Equal(t, 503, a.Status, a.Body)
		for _, u := range h.uses("abc") {
			assert.False(t, u.Until.After(time.Now()), "somebody else can have it")
		}
		a = h.post(leg)
		if len(flow) == 2 {
			a = h.post(with(nil, dict{"type": "m.login.dummy", "session": session}))
		}
		assert.Equal(t, 200, a.Status, a.Body)
		h.oneAccount("abc")
	})
}

// A record that was written just before its client hung up is found, and what it
// shows is kept.
func TestHangUpJustAfterRecord(t *testing.T) {
	bothFlows(t, func(t *testing.T, flow uia.Flow) {
		synctest.Test(t, func(t *testing.T) {
			h, ctx := hanging(t, flow, "SaveSession", true)
			session := h.post(dict{"username": "alice"}).session()
			leg := dict{"username": "alice", "auth": dict{"type": uia.TokenType, "session": session, "token": "abc"}}
			h.postCtx(ctx(), leg)
			assert.Len(t, h.uses("abc"), 1)
			a := h.post(leg)
			if len(flow) == 2 {
				require.Equal(t, []string{uia.TokenType}, a.completed())
				a = h.post(with(nil, dict{"type": "m.login.dummy", "session": session}))
			}
			assert.Equal(t, 200, a.Status, a.Body)
			h.oneAccount("abc")
		})
	})
}

// Nobody is told of an error when the client has gone: all the more it is logged.
func TestHangUpDoesNotHideWhatWentWrong(t *testing.T) {
	var log bytes.Buffer
	h := newHomeserver(t, setup{change: func(c *uia.Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) }})
	h.token("abc", 1)
	_, final := h.ready(flowTD, "alice", "abc")
	ctx, hangUp := context.WithCancel(t.Context())
	h.operate = func(context.Context, *uia.Session) (uia.Effect, error) {
		hangUp()
		return uia.Effect{}, errBroken
	}
	h.postCtx(ctx, final)
	assert.Contains(t, log.String(), errBroken.Error())
}
