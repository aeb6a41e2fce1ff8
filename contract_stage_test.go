package uia_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"
	"github.com/stretchr/testify/assert"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/limit"
)

// probed is a homeserver whose registration takes the stages "first" and
// "second", in this order.
type probed struct {
	*homeserver
	first, second *probe
	meter         *meter
	clock         *handClock
}

func newProbed(t testing.TB, change func(*uia.Config)) *probed {
	p := &probed{first: &probe{typ: "first"}, second: &probe{typ: "second"}, meter: newMeter(), clock: newClock()}
	p.homeserver = newHomeserver(t, setup{
		store: p.meter, flows: []uia.Flow{{"first", "second"}},
		change: func(c *uia.Config) {
			c.Stages, c.Now = append(c.Stages, p.first, p.second), p.clock.Now
			if change != nil {
				change(c)
			}
		},
	})
	return p
}

func submit(session, typ string) dict { return dict{"type": typ, "session": session} }

// refusing makes an attempt fail with err.
func refusing(err error) func(*uia.Session, json.RawMessage) (json.RawMessage, error) {
	return func(*uia.Session, json.RawMessage) (json.RawMessage, error) { return nil, err }
}

// limited gives each client this many failures.
func limited(burst int) func(*uia.Config) {
	return func(c *uia.Config) {
		l, err := limit.New(&limit.Options{Burst: burst, Now: c.Now})
		if err != nil {
			panic(err)
		}
		c.Limiter = l
	}
}

func TestTableAttempt(t *testing.T) {
	t.Run("stage passed, more to do", func(t *testing.T) {
		h := newProbed(t, nil)
		s := h.open(dict{})
		a := h.post(dict{"auth": submit(s, "first")})
		a.challenges(t, "flows", "params", "session", "completed") // and no errcode
		assert.Equal(t, []string{"first"}, a.completed())
		assert.Equal(t, s, a.session())
	})

	t.Run("stage failed", func(t *testing.T) {
		h := newProbed(t, nil)
		s := h.open(dict{})
		no := &uia.Error{Status: 401, MatrixError: spec.MatrixError{ErrCode: "M_NOPE", Err: "Try again."}, Cause: errors.New("a secret reason")}
		h.first.attempt = refusing(no)
		a := h.post(dict{"auth": submit(s, "first")})
		a.challenges(t, "flows", "params", "session", "completed", "errcode", "error")
		a.is(t, 401, "M_NOPE")
		assert.Equal(t, "Try again.", a.JSON["error"])
		assert.NotContains(t, a.Body, "a secret reason")
		h.meter.unwritten(t)
		h.first.attempt = nil
		h.post(dict{"auth": submit(s, "first")}).is(t, 401, "")
		h.second.attempt = refusing(no)
		a = h.post(dict{"auth": submit(s, "second")})
		a.challenges(t, "flows", "params", "session", "completed", "errcode", "error")
		h.second.attempt = nil
		h.post(dict{"auth": submit(s, "second")}).is(t, 200, "")
	})

	t.Run("stage refused", func(t *testing.T) {
		h := newProbed(t, nil)
		s := h.open(dict{})
		for status, code := range map[int]spec.MatrixErrorCode{400: "M_UNKNOWN", 403: spec.ErrorThreePIDAuthFailed, 429: "M_LIMIT_EXCEEDED", 503: "M_UNKNOWN"} {
			h.first.attempt = refusing(uia.NewError(status, spec.MatrixError{ErrCode: code, Err: "no"}))
			a := h.post(dict{"auth": submit(s, "first")})
			a.is(t, status, string(code))
			assert.Equal(t, dict{"errcode": string(code), "error": "no", "flows": []any{}}, a.JSON)
		}
		h.meter.unwritten(t)
	})

	t.Run("failure budget spent", func(t *testing.T) {
		h := newProbed(t, func(c *uia.Config) { limited(2)(c) })
		s := h.open(dict{})
		h.first.attempt = refusing(uia.NewError(401, spec.Forbidden("wrong")))
		h.post(dict{"auth": submit(s, "first")}).is(t, 401, "M_FORBIDDEN")
		h.first.attempt = refusing(uia.NewError(403, spec.Forbidden("wrong"))) // counts as well
		h.post(dict{"auth": submit(s, "first")}).is(t, 403, "M_FORBIDDEN")
		h.first.attempt = nil // even the right answer is not looked at
		h.clock.advance(1500 * time.Millisecond)
		a := h.post(dict{"auth": submit(s, "first")})
		a.is(t, 429, "M_LIMIT_EXCEEDED")
		assert.Equal(t, 8500.0, a.JSON["retry_after_ms"])
		assert.Equal(t, "9", a.Header.Get("Retry-After"))
		assert.Len(t, a.JSON, 4)
		assert.Equal(t, 2, h.first.count())
		h.meter.unwritten(t)
		h.post(dict{"auth": dict{"session": s}}).is(t, 401, "") // it may still poll
		h.clock.advance(8500 * time.Millisecond)
		h.post(dict{"auth": submit(s, "first")}).is(t, 401, "")
	})

	t.Run("nobody is charged for what is no guess", func(t *testing.T) {
		h := newProbed(t, limited(1))
		s := h.open(dict{})
		for _, err := range []error{uia.NewError(400, spec.MissingParam("no token")), errors.New("broken"), &uia.Continue{}} {
			h.first.attempt = refusing(err)
			for range 3 {
				assert.NotEqual(t, 429, h.post(dict{"auth": submit(s, "first")}).Status)
			}
		}
		assert.Equal(t, 9, h.first.count())
	})

	t.Run("stage broke", func(t *testing.T) {
		logger, out := logged()
		h := newProbed(t, func(c *uia.Config) { c.Logger = logger })
		s := h.open(dict{})
		h.first.attempt = refusing(errors.New("the disk is on fire"))
		a := h.post(dict{"auth": submit(s, "first")})
		a.is(t, 500, "M_UNKNOWN")
		assert.Len(t, a.JSON, 3)
		assert.NotContains(t, a.Body, "fire")
		assert.Contains(t, out.String(), "the disk is on fire")
		assert.Contains(t, out.String(), slog.LevelError.String())
		h.meter.unwritten(t)
		h.first.attempt = nil
		assert.Len(t, h.post(dict{"auth": submit(s, "first")}).completed(), 1)
	})

	t.Run("store down", func(t *testing.T) {
		for _, method := range []string{"LoadSession", "SaveSession"} {
			logger, out := logged()
			h := newProbed(t, func(c *uia.Config) { c.Logger = logger })
			s := h.open(dict{})
			h.meter.fail = func(m string) error {
				if m == method {
					return errors.New("no connection")
				}
				return nil
			}
			a := h.post(dict{"auth": submit(s, "first")})
			a.is(t, 500, "M_UNKNOWN")
			assert.NotContains(t, a.Body, "connection")
			assert.Contains(t, out.String(), "no connection")
			h.meter.fail = nil
			assert.Empty(t, h.post(dict{"auth": dict{"session": s}}).completed(), "something was recorded")
		}
	})

	t.Run("nobody knows who is asking", func(t *testing.T) {
		h := newProbed(t, func(c *uia.Config) {
			limited(5)(c)
			c.Client = func(*http.Request) netip.Addr { return netip.Addr{} }
		})
		s := h.open(dict{})
		h.post(dict{"auth": submit(s, "first")}).is(t, 500, "M_UNKNOWN")
		assert.Zero(t, h.first.count())
	})

	t.Run("Check refuses", func(t *testing.T) {
		h := newProbed(t, nil)
		h.operate = func(context.Context, *uia.Session) (uia.Effect, error) { return uia.Effect{}, nil }
		h.accounts.byName["@taken:test"] = "x"
		h.post(dict{"username": "taken"}).is(t, 400, "M_USER_IN_USE")
		h.post(dict{"username": 7}).is(t, 400, "M_BAD_JSON")
		h.post(with(dict{"username": "taken"}, dict{"type": "first"})).is(t, 400, "M_USER_IN_USE")
		s := h.open(dict{"username": "free"})
		a := h.post(with(dict{"username": "taken"}, submit(s, "first")))
		a.is(t, 400, "M_USER_IN_USE")
		assert.Equal(t, []any{}, a.JSON["flows"], "else matrix-js-sdk repeats it for ever")
		assert.Zero(t, h.first.count(), "a stage was attempted")
		h.meter.unwritten(t)
		h.accounts.byName["@free:test"] = "x" // the remembered ones are looked at as well
		h.post(dict{"auth": submit(s, "first")}).is(t, 400, "M_USER_IN_USE")
		assert.Zero(t, h.first.count())
	})
}
