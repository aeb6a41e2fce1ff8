package sqlstore

import (
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAfter(t *testing.T) {
	for prefix, want := range map[string]string{
		"":                     "",
		"a":                    "b",
		"az":                   "a{",
		"fü":                   "fý",
		"\x7f":                 "\u0080",
		"a\ud7ff":              "a\ue000",
		"a\U0010FFFF":          "b",
		"\U0010FFFF\U0010FFFF": "",
	} {
		got := after(prefix)
		assert.Equal(t, want, got, "after %q", prefix)
		if got != "" {
			assert.Less(t, prefix+"\U0010FFFF", got)
		}
	}
}

// TestMigrations holds the files to what is promised to those who run them with
// another tool, and to what this package needs.
func TestMigrations(t *testing.T) {
	var names [][]string
	for _, d := range []Dialect{SQLite, PostgreSQL} {
		migrations, err := Migrations(d)
		require.NoError(t, err)
		files, err := fs.Glob(migrations, "*.sql")
		require.NoError(t, err)
		names = append(names, files)
		for i, file := range files {
			assert.Equal(t, fmt.Sprintf("%04d", i+1), file[:4], "a migration whose number another has too is left out")
			text, err := fs.ReadFile(migrations, file)
			require.NoError(t, err)
			for _, s := range statements(string(text)) {
				assert.Equal(t, strings.Index(s, ";"), len(s)-1, "a semicolon ends a statement: %s", s)
				// SQLite cannot add a column only if there is none: there Migrations says so.
				again := strings.Contains(s, "IF NOT EXISTS") || strings.HasPrefix(s, "UPDATE ") || d == SQLite && strings.Contains(s, " ADD COLUMN ")
				assert.True(t, again, "a statement can be run again: %s", s)
				assert.Contains(t, s, "uia_")
			}
		}
	}
	assert.Equal(t, names[0], names[1], "both dialects have the same migrations")
}
