package hs

import (
	"bytes"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia/examples/internal/testdb"
)

// spellings returns the ways in which a secret may stand in a dump: as it is, in
// hexadecimal, and in base64, where it depends on what stands before it.
func spellings(secret []byte) [][]byte {
	upper := []byte(strings.ToUpper(hex.EncodeToString(secret)))
	all := [][]byte{secret, upper, bytes.ToLower(upper)}
	for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for before := range 3 {
			// The first and the last characters also depend on the neighbours.
			text := enc.EncodeToString(append(make([]byte, before), secret...))
			all = append(all, []byte(text[(before*8+5)/6:len(text)-1]))
		}
	}
	return all
}

func TestSpellings(t *testing.T) {
	secret := []byte("correct horse")
	found := func(dump string) bool {
		for _, s := range spellings(secret) {
			if bytes.Contains([]byte(dump), s) {
				return true
			}
		}
		return false
	}
	for _, before := range []string{"", "a", "ab", "abc"} {
		text := before + string(secret) + "xyz"
		for _, dump := range []string{text, fmt.Sprintf("%x", text), fmt.Sprintf("%X", text),
			base64.StdEncoding.EncodeToString([]byte(text)), base64.URLEncoding.EncodeToString([]byte(text))} {
			require.True(t, found(dump), "%s", dump)
		}
	}
	require.False(t, found("correct h0rse"))
}

// registerAndUse registers a user, logs it in once more, leaves another
// registration unfinished, and returns what must not be found in a dump.
func registerAndUse(t *testing.T, s *Server) (secrets [][]byte) {
	t.Helper()
	add := func(secret any) {
		text := secret.(string)
		require.NotEmpty(t, text)
		secrets = append(secrets, []byte(text))
		if raw, err := base64.RawURLEncoding.DecodeString(text); err == nil {
			secrets = append(secrets, raw) // a session ID is base64 itself
		}
	}
	for _, user := range []string{"alice", "bob"} {
		_, _, body := call(t, s, "POST", registerPath, "", registerBody(t, user, "", ""))
		session := body["session"].(string)
		_, _, body = call(t, s, "POST", registerPath, "", registerBody(t, user, "m.login.registration_token", session))
		require.NotEmpty(t, body["completed"])
		add(session)
		add("wonderland of " + user)
		if user == "bob" {
			return secrets
		}
		status, _, body := call(t, s, "POST", registerPath, "", registerBody(t, user, "m.login.dummy", session))
		require.Equal(t, http.StatusOK, status)
		add(body["access_token"])
		status, _, body = call(t, s, "POST", "/_matrix/client/v3/login", "",
			`{"type":"m.login.password","user":"alice","password":"wonderland of alice"}`)
		require.Equal(t, http.StatusOK, status)
		add(body["access_token"])
	}
	return secrets
}

// requireNone asserts that there is none of the secrets in a dump, which is one
// of a database with the user alice.
func requireNone(t *testing.T, dump []byte, secrets [][]byte) {
	t.Helper()
	require.Contains(t, string(dump), "alice")
	require.Contains(t, string(dump), "$argon2id$")
	for _, secret := range secrets {
		for _, s := range spellings(secret) {
			require.False(t, bytes.Contains(dump, s), "%q is in the dump as %q", secret, s)
		}
	}
}

// The files of the database, those beside it included, hold nothing that a thief
// could use: no password, session ID or access token.
func TestDumpOfSQLite(t *testing.T) {
	file := sqliteFile(t)
	secrets := registerAndUse(t, newServerOn(t, mustOpen(t, file)))
	files, err := filepath.Glob(filepath.Join(filepath.Dir(file), "*"))
	require.NoError(t, err)
	var dump []byte
	for _, file := range files {
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		dump = append(dump, content...)
	}
	requireNone(t, dump, secrets)
}

// So does every row of every table of PostgreSQL, whose bytes are printed in
// hexadecimal.
func TestDumpOfPostgreSQL(t *testing.T) {
	dsn := testdb.PostgreSQL(t)
	secrets := registerAndUse(t, newServerOn(t, mustOpen(t, dsn)))
	db, err := sql.Open("pgx", dsn)
	require.NoError(t, err)
	defer db.Close()
	column := func(query string) (values []string) {
		rows, err := db.QueryContext(t.Context(), query)
		require.NoError(t, err)
		defer rows.Close()
		for rows.Next() {
			var v string
			require.NoError(t, rows.Scan(&v))
			values = append(values, v)
		}
		require.NoError(t, rows.Err())
		return values
	}
	var dump []string
	tables := column(`SELECT quote_ident(table_name) FROM information_schema.tables WHERE table_schema = 'public'`)
	require.Greater(t, len(tables), 5)
	for _, table := range tables {
		dump = append(dump, column(`SELECT t::text FROM `+table+` AS t`)...)
	}
	requireNone(t, []byte(strings.Join(dump, "\n")), secrets)
}
