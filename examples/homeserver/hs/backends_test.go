package hs

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia/examples/internal/testdb"
)

func TestMain(m *testing.M) { os.Exit(testdb.Main(m)) }

// onEach runs a test on every kind of storage. database names a fresh one, as the
// flag -db does.
func onEach(t *testing.T, test func(t *testing.T, database func(*testing.T) string)) {
	t.Run("memory", func(t *testing.T) { test(t, func(*testing.T) string { return "memory" }) })
	onEachDatabase(t, test)
}

// onEachDatabase leaves the memory out.
func onEachDatabase(t *testing.T, test func(t *testing.T, database func(*testing.T) string)) {
	t.Run("SQLite", func(t *testing.T) { test(t, sqliteFile) })
	t.Run("PostgreSQL", func(t *testing.T) { test(t, func(t *testing.T) string { return testdb.PostgreSQL(t) }) })
}

// sqliteFile names a file that is not there yet, and that has to be quoted.
func sqliteFile(t *testing.T) string { return filepath.Join(t.TempDir(), "home server?#%41.db") }

// mustOpen opens a storage until the end of the test.
func mustOpen(t *testing.T, database string) *Storage {
	t.Helper()
	storage, err := Open(t.Context(), database)
	require.NoError(t, err)
	if storage.Close != nil {
		t.Cleanup(func() { require.NoError(t, storage.Close()) })
	}
	return storage
}
