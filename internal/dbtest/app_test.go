package dbtest

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/sqlstore"
)

// app is the least homeserver: registration with a token, and accounts in a
// table, which is in the store's own database or in another one.
type app struct {
	store    *sqlstore.Store
	engine   *uia.Engine
	clock    atomic.Int64 // milliseconds since 1970: the time, if requests tell it
	accounts *sql.DB      // nil: in the store's database, written in its transaction
	close    func()
}

// appConfig is what a test may want to change.
type appConfig struct {
	Rotate   time.Duration // see sqlstore.Store.Secrets
	LeaseTTL time.Duration
	Skew     time.Duration // how far this process's clock is ahead
	Log      *slog.Logger
}

// accountsTable holds at most one account per session. A row without a user is a
// tombstone: for this key there never will be an account.
const accountsTable = `CREATE TABLE IF NOT EXISTS accounts (key VARCHAR(100) PRIMARY KEY, user_id TEXT UNIQUE, token TEXT)`

func newApp(store *sqlstore.Store, accounts *sql.DB, c appConfig) (*app, error) {
	a := &app{store: store, accounts: accounts}
	op := uia.Operation{Name: "register", Flows: []uia.Flow{{uia.TokenType}}, Mutable: true, Tx: accounts == nil}
	if accounts != nil {
		op.Resolve = a.resolve
	}
	var err error
	a.engine, err = uia.New(uia.Config{
		Secrets: store.Secrets(c.Rotate), Stages: []uia.Stage{&uia.TokenStage{Store: store}}, Operations: []uia.Operation{op},
		Sessions: store, SessionTTL: 4 * time.Hour, LeaseTTL: c.LeaseTTL, Logger: c.Log,
		Now: func() time.Time {
			if told := a.clock.Load(); told > 0 {
				return time.UnixMilli(told)
			}
			return time.Now().Add(c.Skew)
		},
	})
	return a, err
}

// create makes the account, at most one for each session key.
func (a *app) create(ctx context.Context, s *uia.Session) (uia.Effect, error) {
	var name string
	if _, err := s.Param("username", &name); err != nil {
		return uia.Effect{}, err
	}
	token, ok := s.Token()
	if !ok {
		return uia.Effect{}, errors.New("no token")
	}
	user := "@" + name + ":test"
	const insert = `INSERT INTO accounts (key, user_id, token) VALUES ($1, $2, $3)`
	if tx, ok := a.store.Tx(ctx); ok {
		if _, err := tx.ExecContext(ctx, insert, s.Key, user, token.Token); err != nil {
			return uia.Effect{}, err
		}
		return uia.Effect{UserID: user, Body: map[string]string{"user_id": user, "access_token": "access-" + name}}, nil
	}
	if _, err := a.accounts.ExecContext(ctx, insert+` ON CONFLICT (key) DO NOTHING`, s.Key, user, token.Token); err != nil {
		return uia.Effect{}, err
	}
	var made sql.NullString
	if err := a.accounts.QueryRowContext(ctx, `SELECT user_id FROM accounts WHERE key = $1`, s.Key).Scan(&made); err != nil {
		return uia.Effect{}, err
	}
	if !made.Valid {
		return uia.Effect{}, uia.NewError(http.StatusBadRequest, spec.Unknown("too late"))
	}
	return uia.Effect{UserID: made.String, Body: map[string]string{"user_id": made.String, "access_token": "access-" + name}}, nil
}

// resolve tells whether the account exists, and if not makes sure that it never
// will.
func (a *app) resolve(ctx context.Context, key string) (uia.Outcome, error) {
	_, err := a.accounts.ExecContext(ctx, `INSERT INTO accounts (key) VALUES ($1) ON CONFLICT (key) DO NOTHING`, key)
	if err != nil {
		return uia.Outcome{}, err
	}
	var user sql.NullString
	err = a.accounts.QueryRowContext(ctx, `SELECT user_id FROM accounts WHERE key = $1`, key).Scan(&user)
	return uia.Outcome{Done: user.Valid, UserID: user.String}, err
}

// post is POST /register without the network.
func (a *app) post(ctx context.Context, body any) (json.RawMessage, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	grant, err := a.engine.Authenticate(ctx, uia.Request{Operation: "register", Body: text})
	if err != nil {
		return nil, err
	}
	return grant.Finish(ctx, a.create)
}

// timeHeader tells a worker the time, in milliseconds since 1970.
const timeHeader = "X-Now"

// ServeHTTP is POST /register.
func (a *app) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if told, err := strconv.ParseInt(r.Header.Get(timeHeader), 10, 64); err == nil {
		for known := a.clock.Load(); known < told && !a.clock.CompareAndSwap(known, told); known = a.clock.Load() {
		}
	}
	var body bytes.Buffer
	if _, err := body.ReadFrom(http.MaxBytesReader(w, r.Body, 1<<16)); err != nil {
		return
	}
	response, err := a.post(r.Context(), json.RawMessage(body.Bytes()))
	if err != nil {
		a.engine.WriteError(w, r, err)
		return
	}
	a.engine.WriteJSON(w, r, http.StatusOK, response)
}

// body is a registration request; an empty session leaves auth out.
func body(user, token, session string) map[string]any {
	b := map[string]any{"username": user, "password": "password-" + user}
	if session != "" {
		b["auth"] = map[string]string{"type": uia.TokenType, "token": token, "session": session}
	}
	return b
}

// register registers an account in two requests, as clients do.
func (a *app) register(ctx context.Context, user, token string) error {
	_, err := a.post(ctx, body(user, token, ""))
	challenge, ok := errors.AsType[*uia.Challenge](err)
	if !ok {
		return fmt.Errorf("no challenge: %w", err)
	}
	_, err = a.post(ctx, body(user, token, challenge.Session))
	return err
}

// newTestApp is an app on a fresh database, with the accounts in it.
func newTestApp(t testing.TB, b backend) (*sql.DB, *app) {
	t.Helper()
	db, store := b.fresh(t)
	if _, err := db.ExecContext(t.Context(), accountsTable); err != nil {
		t.Fatal(err)
	}
	a, err := newApp(store, nil, appConfig{Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	return db, a
}
