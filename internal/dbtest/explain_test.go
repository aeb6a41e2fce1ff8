package dbtest

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
)

func TestExplain(t *testing.T) {
	q := os.Getenv("Q")
	if q == "" {
		t.SkipNow()
	}
	b := onPostgres("pgx")
	db, s := b.fresh(t)
	db.SetMaxOpenConns(1)
	ctx := t.Context()
	require.NoError(t, s.CreateTokens(ctx, uia.Token{Value: "t"}))
	for n := range 300 {
		key := fmt.Sprintf("register.%043d", n)
		_, err := s.Reserve(ctx, uia.Hold{Token: "t", Session: key, Until: t0.Add(time.Hour)}, t0)
		require.NoError(t, err)
		cl := uia.Claim{Token: "t", Session: key, Attempt: 2}
		s.Pin(ctx, cl, t0)
		s.Commit(ctx, cl, "@u", t0)
	}
	text, _ := os.ReadFile(q)
	for _, stmt := range strings.Split(string(text), ";\n") {
		if strings.TrimSpace(stmt) == "" {
			continue
		}
		rows, err := db.QueryContext(ctx, stmt)
		require.NoError(t, err)
		for rows.Next() {
			var line string
			rows.Scan(&line)
			t.Log(line)
		}
		rows.Close()
	}
}
