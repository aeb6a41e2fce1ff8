package hs

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia/examples/internal/testdb"
)

func TestOpenRefuses(t *testing.T) {
	t.Chdir(t.TempDir())
	require.NoError(t, os.WriteFile("letter", []byte("Dear reader, this is no database.\n"), 0o600))
	for name, want := range map[string]string{
		"":                              "memory",
		":memory:":                      "memory",
		"file::memory:?cache=shared":    "memory",
		"mysql://localhost/matrix":      `"mysql" is not supported`,
		"MySQL://localhost/matrix":      `"mysql" is not supported`,
		"postgres://localhost:nowhere/": "postgres",
		"no such folder/homeserver.db":  "no such f",
		"letter":                        "not a database",
	} {
		_, err := Open(t.Context(), name)
		require.ErrorContains(t, err, want, "%q", name)
	}
	_, err := Open(t.Context(), "postgres://matrix:wonderland@127.0.0.1:1/matrix")
	require.Error(t, err, "nobody listens there")
	require.NotContains(t, err.Error(), "wonderland")
}

// Whoever reads the file reads the secret and the hashes of passwords.
func TestFilesArePrivate(t *testing.T) {
	file := sqliteFile(t)
	storage := mustOpen(t, file)
	require.Equal(t, file, storage.Name)
	files, err := filepath.Glob(filepath.Join(filepath.Dir(file), "*"))
	require.NoError(t, err)
	require.Contains(t, files, file, "whatever characters are in its name")
	require.Len(t, files, 3, "with what SQLite keeps beside it")
	for _, file := range files {
		info, err := os.Stat(file)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), file)
	}
}

func TestNameHasNoPassword(t *testing.T) {
	dsn := testdb.PostgreSQL(t)
	scheme, rest, _ := strings.Cut(dsn, "://")
	storage := mustOpen(t, strings.ToUpper(scheme)+"://"+rest+"&password=wonderland") // a scheme is spelled in any case
	require.Regexp(t, `^PostgreSQL database uia_example_\d+_\d+ on .+$`, storage.Name)
	require.NotContains(t, storage.Name, "wonderland")
}

// Several processes may start at once on an empty database, and all of them get
// the same tables and the same secret.
func secrets(t *testing.T, s *Storage) [][]byte {
	t.Helper()
	all, err := s.Secrets(t.Context(), time.Now())
	require.NoError(t, err)
	return all
}

func TestOpenAtOnce(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, database func(*testing.T) string) {
		name := database(t)
		opened := make([]*Storage, 8)
		var all sync.WaitGroup
		for i := range opened {
			all.Go(func() {
				var err error
				opened[i], err = Open(t.Context(), name)
				assert.NoError(t, err)
			})
		}
		all.Wait()
		for _, storage := range opened {
			require.NotNil(t, storage)
			defer storage.Close()
			require.Equal(t, secrets(t, opened[0]), secrets(t, storage))
			_, err := storage.Accounts.User(t.Context(), "alice")
			require.ErrorIs(t, err, ErrNotFound)
		}
	})
}
