package dbtest

import (
	"context"
	"database/sql"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/memstore"
	"github.com/matrix-uia/uia/sqlstore"
)

const (
	// chaosLease is short, so that faults and skewed clocks outlast it.
	chaosLease = 300 * time.Millisecond
	chaosSkew  = time.Second // how far a clock is ahead or behind, at most
)

// chaosWorld is a homeserver of two processes whose clocks differ.
type chaosWorld struct {
	inner    uia.Store // without faults
	faults   faults
	accounts chaosAccounts
	engines  [2]*uia.Engine
	skew     [2]atomic.Int64
}

// chaosAccounts keeps accounts.
type chaosAccounts interface {
	// create makes the account and returns the user: without transactions the one
	// that this key has already.
	create(ctx context.Context, key, user, token string) (string, error)
	resolve(ctx context.Context, key string) (uia.Outcome, error)
	all(t *testing.T) []chaosAccount
}

type chaosAccount struct{ key, user, token string }

// chaosKind is one way of keeping things.
type chaosKind struct {
	name         string
	backend      *backend // nil: memstore
	transactions bool
}

func chaosKinds() []chaosKind {
	kinds := []chaosKind{{name: "memstore"}}
	for _, b := range backends() {
		kinds = append(kinds, chaosKind{b.name, &b, false}, chaosKind{b.name + "-tx", &b, true})
	}
	return kinds
}

func newChaosWorld(t *testing.T, kind chaosKind) *chaosWorld {
	w := &chaosWorld{accounts: &otherPlace{users: map[string]chaosAccount{}}}
	if kind.backend == nil {
		w.inner = memstore.New(&memstore.Options{MaxSessions: 1 << 20, MaxUses: 1 << 20})
	} else {
		db, s := kind.backend.fresh(t)
		w.inner = s
		if kind.transactions {
			// No unique index: the transaction alone sees to it that a key has one.
			_, err := db.ExecContext(t.Context(), `CREATE TABLE accounts (key TEXT, user_id TEXT, token TEXT)`)
			require.NoError(t, err)
			w.accounts = &sameDatabase{db, s}
		}
	}
	store := withFaults(w.inner, &w.faults)
	for i := range w.engines {
		var err error
		w.engines[i], err = uia.New(uia.Config{
			Secrets: uia.FixedSecrets(make([]byte, 32)), Sessions: store, LeaseTTL: chaosLease,
			Now:    func() time.Time { return time.Now().Add(time.Duration(w.skew[i].Load())) },
			Stages: []uia.Stage{&uia.TokenStage{Store: store, HoldTTL: 2 * time.Second}, uia.DummyStage{}},
			Operations: []uia.Operation{{
				Name: "register", Flows: []uia.Flow{{uia.TokenType, "m.login.dummy"}}, Mutable: true,
				Resolve: w.accounts.resolve, Tx: kind.transactions,
			}},
		})
		require.NoError(t, err)
	}
	return w
}

func (w *chaosWorld) engine() *uia.Engine { return w.engines[rand.IntN(len(w.engines))] }

// sameDatabase keeps accounts in the store's own transactions.
type sameDatabase struct {
	db    *sql.DB
	store *sqlstore.Store
}

func (a *sameDatabase) create(ctx context.Context, key, user, token string) (string, error) {
	tx, _ := a.store.Tx(ctx)
	_, err := tx.ExecContext(ctx, `INSERT INTO accounts (key, user_id, token) VALUES ($1, $2, $3)`, key, user, token)
	return user, err
}

func (*sameDatabase) resolve(ctx context.Context, key string) (uia.Outcome, error) {
	return uia.NotDone(ctx, key)
}

func (a *sameDatabase) all(t *testing.T) (all []chaosAccount) {
	rows, err := a.db.QueryContext(t.Context(), `SELECT key, user_id, token FROM accounts`)
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var c chaosAccount
		require.NoError(t, rows.Scan(&c.key, &c.user, &c.token))
		all = append(all, c)
	}
	require.NoError(t, rows.Err())
	return all
}

// otherPlace keeps accounts in another place than the store, under a unique key. A
// key without a user never gets an account.
type otherPlace struct {
	faults
	mu    sync.Mutex
	users map[string]chaosAccount
}

func (a *otherPlace) create(_ context.Context, key, user, token string) (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	c, made := a.users[key]
	switch {
	case !made:
		a.users[key] = chaosAccount{key, user, token}
		return user, nil
	case c.user == "":
		return "", uia.NewError(http.StatusForbidden, spec.Forbidden("too late"))
	}
	return c.user, nil
}

func (a *otherPlace) resolve(_ context.Context, key string) (o uia.Outcome, err error) {
	return o, a.around(func() error {
		a.mu.Lock()
		defer a.mu.Unlock()
		c := a.users[key]
		a.users[key] = c // without a user it stands in the way from now on
		o = uia.Outcome{Done: c.user != "", UserID: c.user}
		return nil
	})
}

func (a *otherPlace) all(*testing.T) (all []chaosAccount) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range a.users {
		if c.user != "" {
			all = append(all, c)
		}
	}
	return all
}
