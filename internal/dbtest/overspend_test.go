package dbtest

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/sqlstore"
)

// TestRecoverDuringTransaction lets a process whose clock is two minutes ahead
// recover the use of a registration that is in its transaction, and another session
// take it: the single-use token makes one account. On SQLite the other process waits
// for the transaction, so there is nothing to see.
func TestRecoverDuringTransaction(t *testing.T) {
	for _, b := range backends() {
		if b.dialect != sqlstore.PostgreSQL {
			continue
		}
		t.Run(b.name, func(t *testing.T) {
			db, first := newTestApp(t, b)
			store := first.store
			require.NoError(t, store.CreateTokens(t.Context(), uia.Token{Value: "single", UsesAllowed: new(int64(1))}))
			ahead, err := newApp(store, nil, appConfig{Skew: 2 * time.Minute})
			require.NoError(t, err)

			_, err = first.post(t.Context(), body("alice", "single", ""))
			challenge, ok := errors.AsType[*uia.Challenge](err)
			require.True(t, ok, "%v", err)
			text, err := json.Marshal(body("alice", "single", challenge.Session))
			require.NoError(t, err)
			grant, err := first.engine.Authenticate(t.Context(), uia.Request{Operation: "register", Body: text})
			require.NoError(t, err)
			overtaken := false
			_, err = grant.Finish(t.Context(), func(ctx context.Context, s *uia.Session) (uia.Effect, error) {
				result, err := first.create(ctx, s)
				if !overtaken {
					overtaken = true
					report, err := ahead.engine.Recover(t.Context())
					require.NoError(t, err)
					require.Equal(t, 1, report.Released)
					require.NoError(t, ahead.register(t.Context(), "bob", "single"), "the use is free, and so it is bob's")
				}
				return result, err
			})
			assert.Error(t, err, "alice's use went to bob")
			var accounts int
			require.NoError(t, db.QueryRowContext(t.Context(), `SELECT count(*) FROM accounts`).Scan(&accounts))
			assert.Equal(t, 1, accounts, "accounts made with a single-use token")
			token, err := store.Token(t.Context(), "single", time.Now())
			require.NoError(t, err)
			assert.EqualValues(t, 1, token.Completed)
		})
	}
}
