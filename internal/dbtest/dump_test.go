package dbtest

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/sqlstore"
)

// TestDump looks into the databases after registrations, finished and not: they
// hold no password, no session ID and no access token, and the secret in them
// opens no session.
func TestDump(t *testing.T) {
	for _, b := range backends() {
		t.Run(b.name, func(t *testing.T) {
			dsn := b.dsn(t)
			db, store := b.open(t, dsn)
			ctx := t.Context()
			require.NoError(t, store.Migrate(ctx))
			_, err := db.ExecContext(ctx, accountsTable)
			require.NoError(t, err)
			a, err := newApp(store, nil, appConfig{})
			require.NoError(t, err)
			require.NoError(t, store.CreateTokens(ctx, uia.Token{Value: "invite"}))

			var secrets []string
			for i := range 5 {
				user := fmt.Sprintf("user%d", i)
				_, err := a.post(ctx, body(user, "", ""))
				challenge, ok := err.(*uia.Challenge)
				require.True(t, ok)
				response, err := a.post(ctx, body(user, "invite", challenge.Session))
				require.NoError(t, err)
				require.Contains(t, string(response), "access-"+user)
				secrets = append(secrets, "password-"+user, "access-"+user, challenge.Session)
			}
			// One whose operation fails: its record keeps the parameters.
			_, err = a.post(ctx, body("user0", "", ""))
			challenge, ok := err.(*uia.Challenge)
			require.True(t, ok)
			_, err = a.post(ctx, body("user0", "invite", challenge.Session))
			require.Error(t, err, "the user exists")
			secrets = append(secrets, challenge.Session)

			dump := dump(t, b, dsn)
			require.Contains(t, string(dump), "invite", "the dump is one")
			require.Contains(t, string(dump), "@user3:test")
			for _, s := range secrets {
				for _, form := range []string{
					s, hex.EncodeToString([]byte(s)), base64.StdEncoding.EncodeToString([]byte(s)), base64.RawURLEncoding.EncodeToString([]byte(s)),
				} {
					assert.NotContains(t, string(dump), form)
				}
				// What is written in base64 could be stored as bytes.
				if raw, err := base64.RawURLEncoding.DecodeString(s); err == nil && len(raw) > 16 {
					assert.False(t, bytes.Contains(dump, raw), "a decoded session ID")
					assert.NotContains(t, string(dump), hex.EncodeToString(raw))
				}
			}

			// Whoever has the dump has the secret and the keys of the records.
			rows, err := db.QueryContext(ctx, `SELECT key, data, owner FROM uia_sessions`)
			require.NoError(t, err)
			var tries []string
			for rows.Next() {
				var key, owner string
				var data []byte
				require.NoError(t, rows.Scan(&key, &data, &owner))
				_, digest, _ := strings.Cut(key, ".")
				tries = append(tries, key, digest, owner, base64.RawURLEncoding.EncodeToString(data))
			}
			require.NoError(t, rows.Err())
			require.NotEmpty(t, tries)
			thief, err := newApp(store, nil, appConfig{})
			require.NoError(t, err)
			for _, id := range tries {
				_, err := thief.engine.Session(ctx, id)
				assert.Error(t, err, "session %q opened", id)
			}
		})
	}
}

// dump returns all that a database holds: its files, or the text of every row.
func dump(t *testing.T, b backend, dsn string) []byte {
	var all []byte
	if b.dialect == sqlstore.SQLite {
		file, _, _ := strings.Cut(strings.TrimPrefix(dsn, "file:"), "?")
		for _, name := range []string{file, file + "-wal"} {
			data, err := os.ReadFile(name)
			require.NoError(t, err)
			all = append(all, data...)
		}
		return all
	}
	db, _ := b.open(t, dsn)
	for _, table := range []string{"accounts", "uia_tokens", "uia_uses", "uia_sessions", "uia_secrets", "uia_deleted", "uia_migrations"} {
		// Text shows byte columns in hexadecimal.
		rows, err := db.QueryContext(t.Context(), `SELECT CAST(x AS TEXT) FROM `+table+` x`)
		require.NoError(t, err)
		for rows.Next() {
			var line string
			require.NoError(t, rows.Scan(&line))
			all = append(append(all, line...), '\n')
		}
		require.NoError(t, rows.Err())
	}
	rows, err := db.QueryContext(t.Context(), `SELECT data FROM uia_sessions`)
	require.NoError(t, err)
	for rows.Next() {
		var data []byte
		require.NoError(t, rows.Scan(&data))
		all = append(all, data...)
	}
	require.NoError(t, rows.Err())
	return all
}
