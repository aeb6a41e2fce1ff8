package uia_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/memstore"
)

// world is a homeserver of several processes that share a database. What they ask
// of it passes through a function of each process, which can make it fail.
type world struct {
	t        *testing.T
	db       *txStore
	accounts *accounts
	tx       bool // operations run in a transaction
	flow     uia.Flow
	wrong    func(format string, args ...any) // reports a broken promise

	mu     sync.Mutex
	allows map[string]int64 // token to the number of its uses
	told   []answer         // all successes

	// unrecorded are the sessions that have a response which could not be recorded:
	// if another run was overtaken by the one that told it, its may be recorded still.
	unrecorded map[string]bool
	sessions   []string // their IDs, which are secret
	logged     int      // how many records
}

// Enabled and the other methods make a slog.Handler of the world, which knows from
// it what could not be recorded.
func (w *world) Enabled(context.Context, slog.Level) bool { return true }
func (w *world) WithAttrs([]slog.Attr) slog.Handler       { return w }
func (w *world) WithGroup(string) slog.Handler            { return w }

// Handle also checks that the log holds no secret. All tokens, passwords and access
// tokens of a world begin with "a-secret".
func (w *world) Handle(ctx context.Context, r slog.Record) error {
	var line strings.Builder
	_ = slog.NewTextHandler(&line, nil).Handle(ctx, r)
	w.mu.Lock()
	for _, secret := range append([]string{"a-secret"}, w.sessions...) {
		if strings.Contains(line.String(), secret) {
			w.wrong("the log says %q", line.String())
		}
	}
	w.logged++
	w.mu.Unlock()
	if strings.Contains(r.Message, "the response of a finished session could not be recorded") {
		r.Attrs(func(a slog.Attr) bool {
			if a.Key == "session" {
				w.mu.Lock()
				w.unrecorded[a.Value.String()] = true
				w.mu.Unlock()
			}
			return true
		})
	}
	return nil
}

func newWorld(t *testing.T, flow uia.Flow, tx bool) *world {
	return &world{
		t: t, db: &txStore{Store: memstore.New(nil)}, flow: flow, tx: tx, wrong: t.Errorf, allows: map[string]int64{},
		unrecorded: map[string]bool{},
		accounts:   &accounts{byKey: map[string]string{}, byName: map[string]string{}},
	}
}

func (w *world) token(value string, uses int64) {
	require.NoError(w.t, w.db.CreateTokens(context.Background(), uia.Token{Value: value, UsesAllowed: &uses}))
	w.allows[value] = uses
}

// process starts a process. around makes the calls that it makes of the database.
func (w *world) process(around func(c call, do func() error) error, change ...func(*uia.Config)) *homeserver {
	watched := func(_ context.Context, c call, do func() error) error {
		err := around(c, do)
		if c.write {
			w.checkLimits()
		}
		return err
	}
	store := &txTap{&tap{w.db, watched}, func(ctx context.Context, fn func(context.Context) error) error {
		return w.db.inTx(ctx, fn, func(do func() error) error { return watched(ctx, call{"COMMIT", true, nil}, do) })
	}}
	h := newHomeserver(w.t, setup{store: store, flows: []uia.Flow{w.flow}, change: func(c *uia.Config) {
		c.Logger = slog.New(w)
		op := &c.Operations[0]
		op.Check = w.accounts.check
		op.Resolve = func(ctx context.Context, key string) (o uia.Outcome, err error) {
			err = watched(ctx, call{"resolve", true, []any{key}}, func() (err error) {
				o, err = w.accounts.resolve(ctx, key)
				return err
			})
			return kept(o, err)
		}
		if w.tx {
			op.Resolve, op.Tx = nil, true
		}
		for _, change := range change {
			change(c)
		}
	}})
	h.accounts = w.accounts
	create := w.accounts.create
	if w.tx {
		create = w.accounts.createTx
	}
	h.operate = func(ctx context.Context, s *uia.Session) (r uia.Effect, err error) {
		err = watched(ctx, call{"create", true, []any{s.Key}}, func() (err error) {
			r, err = create(ctx, s)
			return err
		})
		return kept(r, err)
	}
	return h
}

// checkLimits checks the promise that holds at every moment.
func (w *world) checkLimits() {
	for value, allowed := range w.allows {
		page, err := w.db.ListUses(context.Background(), uia.UseQuery{Token: value})
		if err == nil && int64(len(page.Uses)) > allowed {
			w.wrong("token %s has %d uses of %d", value, len(page.Uses), allowed)
		}
	}
}

// note notes a session ID.
func (w *world) note(session string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sessions = append(w.sessions, session)
}

// tell notes a success that a client was told of.
func (w *world) tell(a answer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.told = append(w.told, a)
}

// checkAccounts checks what must hold when all is settled: accounts and spent uses
// are the same, nothing is pinned, and no client was told of an account that is
// not there, or two different things of one.
func (w *world) checkAccounts() {
	w.checkLimits()
	w.accounts.mu.Lock()
	defer w.accounts.mu.Unlock()
	spent := map[string]string{}
	for value := range w.allows {
		page, err := w.db.ListUses(context.Background(), uia.UseQuery{Token: value})
		if err != nil && !errors.Is(err, uia.ErrNotFound) {
			w.wrong("%v", err)
		}
		for _, u := range page.Uses {
			switch u.State {
			case uia.Pinned:
				w.wrong("a use of %s is pinned for ever", value)
			case uia.Spent:
				if spent[u.Session] != "" {
					w.wrong("session %s has spent two uses", u.Session)
				}
				spent[u.Session] = u.UserID
				if w.accounts.byKey[u.Session] != u.UserID {
					w.wrong("a use of %s is spent for %s, and the account is %q", value, u.UserID, w.accounts.byKey[u.Session])
				}
			}
		}
	}
	for key, user := range w.accounts.byKey {
		if user != "" && spent[key] != user {
			w.wrong("the account %s was made from no use: %q", user, spent[key])
		}
	}
	bodies := map[any]string{}
	for _, a := range w.told {
		user := a.JSON["user_id"]
		if _, ok := w.accounts.byName[user.(string)]; !ok {
			w.wrong("a client was told of %v, who is not there", user)
		}
		if before, ok := bodies[user]; ok && before != a.Body && !w.unrecorded[w.accounts.byName[user.(string)]] {
			w.wrong("clients were told two things of %v: %s and %s", user, before, a.Body)
		}
		bodies[user] = a.Body
	}
}
