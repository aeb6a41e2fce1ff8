package dbtest

import (
	"bufio"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/sqlstore"
)

// TestMigrate makes the tables: from nothing, again, and by eight processes at
// once.
func TestMigrate(t *testing.T) {
	for _, b := range append(backends(), onPostgres("pgx", "default_transaction_isolation = 'serializable'")) {
		t.Run(b.name, func(t *testing.T) {
			for range size(10, 2) {
				dsn := b.dsn(t)
				migrateAtOnce(t, b, dsn, 8)
				db, s := b.open(t, dsn)
				require.NoError(t, s.Migrate(t.Context()))
				require.NoError(t, s.Migrate(t.Context()))
				require.NoError(t, s.CreateTokens(t.Context(), uia.Token{Value: "t"}))
				var n int
				require.NoError(t, db.QueryRowContext(t.Context(), `SELECT count(*) FROM uia_migrations`).Scan(&n))
				migrations, err := sqlstore.Migrations(b.dialect)
				require.NoError(t, err)
				files, err := fs.Glob(migrations, "*.sql")
				require.NoError(t, err)
				assert.Equal(t, len(files), n)
			}
		})
	}
}

// migrateAtOnce has n processes migrate a database, none before all are there.
// They also ask for the secret, which has to be the same for all.
func migrateAtOnce(t *testing.T, b backend, dsn string, n int) {
	text, err := json.Marshal(workerConfig{Driver: b.driver, Dialect: b.dialect, DSN: dsn, Conns: 2, Migrate: true})
	require.NoError(t, err)
	type process struct {
		*exec.Cmd
		start func()
		out   *bufio.Reader
	}
	var list []process
	for range n {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "UIA_WORKER="+string(text))
		cmd.Stderr = os.Stderr
		stdin, err := cmd.StdinPipe()
		require.NoError(t, err)
		stdout, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		p := process{cmd, func() { stdin.Write([]byte("go\n")) }, bufio.NewReader(stdout)}
		line, err := p.out.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, "ready\n", line)
		list = append(list, p)
	}
	for _, p := range list {
		p.start()
	}
	secrets := map[string]bool{}
	for _, p := range list {
		line, err := p.out.ReadString('\n')
		assert.NoError(t, err)
		secrets[line] = true
		assert.NoError(t, p.Wait())
	}
	assert.Len(t, secrets, 1)
}

// TestUpgrade brings a database of each released schema up to date. The fixtures
// are never changed: a schema that has been released stays as it is.
func TestUpgrade(t *testing.T) {
	for _, b := range backends() {
		dir := map[sqlstore.Dialect]string{sqlstore.SQLite: "sqlite", sqlstore.PostgreSQL: "postgres"}[b.dialect]
		fixtures, err := fs.Glob(os.DirFS("testdata"), dir+"_*.sql")
		require.NoError(t, err)
		require.NotEmpty(t, fixtures)
		for _, fixture := range fixtures {
			t.Run(b.name+"/"+fixture, func(t *testing.T) {
				db, s := b.open(t, b.dsn(t))
				ctx := t.Context()
				text, err := os.ReadFile("testdata/" + fixture)
				require.NoError(t, err)
				// What has been released is not edited.
				_, number, _ := strings.Cut(strings.TrimSuffix(fixture, ".sql"), "_")
				migrations, err := sqlstore.Migrations(b.dialect)
				require.NoError(t, err)
				released, err := fs.Glob(migrations, number+"_*.sql")
				require.NoError(t, err)
				require.Len(t, released, 1)
				migration, err := fs.ReadFile(migrations, released[0])
				require.NoError(t, err)
				for statement := range strings.SplitSeq(withoutComments(string(migration)), ";\n") {
					assert.Contains(t, withoutComments(string(text)), statement)
				}
				for statement := range strings.SplitSeq(string(text), ";\n") {
					if strings.TrimSpace(statement) != "" {
						_, err := db.ExecContext(ctx, statement)
						require.NoError(t, err, statement)
					}
				}
				require.NoError(t, s.Migrate(ctx))
				now := time.UnixMilli(1_700_000_000_000)
				got, err := s.Token(ctx, "invite", now)
				require.NoError(t, err)
				assert.Equal(t, uia.Token{
					Value: "invite", UsesAllowed: new(int64(3)), Label: "friends", Meta: json.RawMessage(`{"role":"user"}`),
					Created: t0, CreatedBy: "@admin:test", Pending: 2, Completed: 1, LastUsed: t0.Add(3 * time.Second),
				}, got)
				invited, err := s.ListInvited(ctx, uia.InvitedQuery{InvitedBy: "@admin:test"})
				require.NoError(t, err)
				require.Len(t, invited.Invited, 1, "who made the token of a use is known of earlier uses")
				assert.Equal(t, "@a:test", invited.Invited[0].UserID)
				if strings.Contains(string(text), "'gone'") {
					_, err := s.InviteOf(ctx, "@gone:test")
					require.ErrorIs(t, err, uia.ErrNotFound, "who made a token that had been deleted is not")
				}
				require.ErrorIs(t, s.Release(ctx, uia.Claim{Token: "invite", Session: "register.spent"}), uia.ErrSpent)
				require.NoError(t, s.Commit(ctx, uia.Claim{Token: "invite", Session: "register.pinned", Run: 2}, "@b:test", now))
				use, err := s.InviteOf(ctx, "@b:test")
				require.NoError(t, err)
				assert.Equal(t, "@admin:test", use.InvitedBy)
				require.NoError(t, s.Pin(ctx, uia.Claim{Token: "invite", Session: "register.held", Run: 2}, now))
				r, err := s.LoadSession(ctx, "register.spent", now)
				require.NoError(t, err)
				assert.Equal(t, []byte("sealed"), r.Data)
				secrets, err := s.Secrets(0)(ctx, now)
				require.NoError(t, err)
				assert.Equal(t, [][]byte{[]byte("0123456789abcdef0123456789abcdef")}, secrets)
			})
		}
	}
}

func withoutComments(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "--") && strings.TrimSpace(line) != "" {
			b.WriteString(line)
		}
	}
	return b.String()
}
