package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"database/sql"
	"errors"
	"net/http"
	"strings"

	"github.com/matrix-org/gomatrixserverlib/spec"
	"golang.org/x/crypto/bcrypt"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/register"
	"github.com/matrix-uia/uia/sqlstore"
)

// accounts keeps accounts in the database of the tokens, so that an account and the
// use of its token are written in one transaction.
type accounts struct {
	store *sqlstore.Store
	db    *sql.DB
}

func newAccounts(ctx context.Context, store *sqlstore.Store, db *sql.DB) (accounts, error) {
	_, err := db.ExecContext(ctx, `
		CREATE TABLE IF NOT EXISTS accounts (name TEXT PRIMARY KEY, password TEXT NOT NULL);
		CREATE TABLE IF NOT EXISTS devices (token BLOB PRIMARY KEY, id TEXT NOT NULL, name TEXT NOT NULL)`)
	return accounts{store, db}, err
}

var errTaken = uia.NewError(http.StatusBadRequest, spec.UserInUse("That username is taken."))

// Available implements [register.Accounts].
func (a accounts) Available(ctx context.Context, r register.UsernameRequest) error {
	var name string
	err := a.db.QueryRowContext(ctx, `SELECT name FROM accounts WHERE name = $1`, r.Localpart).Scan(&name)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	return errTaken
}

// Create implements [register.Accounts].
func (a accounts) Create(ctx context.Context, n register.Account) (register.Created, error) {
	tx, _ := a.store.Tx(ctx)
	done, err := tx.ExecContext(ctx, `INSERT INTO accounts (name, password) VALUES ($1, $2) ON CONFLICT DO NOTHING`, n.Localpart, n.PasswordHash)
	if err != nil {
		return register.Created{}, err
	}
	if rows, err := done.RowsAffected(); err != nil || rows == 0 {
		return register.Created{}, cmp.Or(err, errTaken)
	}
	made := register.Created{UserID: "@" + n.Localpart + ":example.org"}
	if n.InhibitLogin {
		return made, nil
	}
	made.DeviceID, made.AccessToken = cmp.Or(n.DeviceID, rand.Text()[:10]), rand.Text()
	digest := sha256.Sum256([]byte(made.AccessToken))
	_, err = tx.ExecContext(ctx, `INSERT INTO devices (token, id, name) VALUES ($1, $2, $3)`, digest[:], made.DeviceID, n.Localpart)
	return made, err
}

// hash is what is kept of a password. bcrypt takes 72 bytes of it at most.
func hash(_ context.Context, password string) (string, error) {
	out, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.DefaultCost)
	if errors.Is(err, bcrypt.ErrPasswordTooLong) {
		err = uia.NewError(http.StatusBadRequest, spec.InvalidParam("The password is too long."))
	}
	return string(out), err
}

// administrator knows the one access token that administers registration tokens.
func administrator(token string) func(*http.Request) (string, error) {
	return func(r *http.Request) (string, error) {
		got := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		if subtle.ConstantTimeCompare([]byte(got), []byte(token)) == 0 {
			return "", uia.NewError(http.StatusUnauthorized, spec.UnknownToken("Unknown access token"))
		}
		return "admin", nil
	}
}
