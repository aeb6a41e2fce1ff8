package uia_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
)

// TestOvertakenInTransaction lets another process, whose clock is ahead, recover
// the use while the operation runs in a transaction, and another session take it:
// the account that the transaction makes must not be.
func TestOvertakenInTransaction(t *testing.T) {
	for _, defers := range []bool{false, true} {
		name := "refused at once"
		if defers {
			name = "refused by the save"
		}
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, flowT, true)
			w.db.defers = defers
			w.token("a-secret-token", 1)
			direct := func(_ call, do func() error) error { return do() }
			ahead := w.process(direct, func(c *uia.Config) { c.Now = func() time.Time { return time.Now().Add(2 * time.Minute) } })
			overtaken := false
			first := w.process(func(c call, do func() error) error {
				if err := do(); c.name != "create" || overtaken {
					return err
				}
				overtaken = true
				report, err := ahead.engine.Recover(context.Background())
				require.NoError(t, err)
				require.Equal(t, 1, report.Released)
				bob := dict{"username": "bob"}
				a := ahead.post(with(bob, submitToken(ahead.open(bob), "a-secret-token")))
				require.Equal(t, 200, a.Status, a.Body)
				return nil
			})
			alice := dict{"username": "alice"}
			a := first.post(with(alice, submitToken(first.open(alice), "a-secret-token")))
			require.True(t, overtaken)
			assert.NotEqual(t, 200, a.Status, "the use went to bob: %s", a.Body)
			w.checkAccounts()
			assert.Equal(t, 1, w.accounts.count())
		})
	}
}

// TestFailedSaveIsNotDone lets the save of the response fail in the transaction:
// then nothing has happened, and the next try is told what it has done.
func TestFailedSaveIsNotDone(t *testing.T) {
	w := newWorld(t, flowT, true)
	w.token("a-secret-token", 1)
	failed := false
	h := w.process(func(c call, do func() error) error {
		if r, ok := record(c); ok && r.State == uia.Done && !failed {
			failed = true
			return errors.New("the save fails")
		}
		return do()
	})
	session := h.open(dict{"username": "alice"})
	final := with(dict{"username": "alice"}, submitToken(session, "a-secret-token"))
	a := h.post(final)
	require.True(t, failed)
	a.is(t, 500, "M_UNKNOWN")
	assert.Zero(t, w.accounts.count(), "a client that was told of an error has an account")
	again := h.post(final)
	require.Equal(t, 200, again.Status, again.Body)
	assert.Equal(t, again.Body, h.post(final).Body)
	w.checkAccounts()
}

// record returns what a call saves.
func record(c call) (uia.Record, bool) {
	if c.name != "SaveSession" {
		return uia.Record{}, false
	}
	return c.args[0].(uia.Record), true
}
