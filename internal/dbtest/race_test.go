package dbtest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// TestProcesses lets the clients of several processes race for tokens: there are
// exactly as many accounts as allowed.
func TestProcesses(t *testing.T) {
	for _, c := range []struct {
		name    string
		backend backend
		options farmOptions
	}{
		{"pgx", onPostgres("pgx"), farmOptions{workers: 4}},
		{"pq", onPostgres("postgres"), farmOptions{workers: 4}},
		{"pgx-clocks-apart", onPostgres("pgx"), farmOptions{workers: 4, skew: time.Hour}},
		{"modernc", sqlite("sqlite"), farmOptions{workers: 2}},
		{"mattn-clocks-apart", sqlite("sqlite3"), farmOptions{workers: 2, skew: time.Hour}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFarm(t, c.backend, c.options)
			f.race(t, size(210, 21))
		})
	}
}

// race lets 64 clients race for n tokens.
func (f *farm) race(t *testing.T, n int) {
	tokens, allowed := f.create(n, 1, 3, 50)
	stop := f.watch()
	for _, limit := range []int64{1, 3, 50} {
		var some []string
		for _, token := range tokens {
			if allowed[token] == limit {
				some = append(some, token)
			}
		}
		attempts := map[int64]int{1: 8, 3: 8, 50: 64}[limit]
		made := f.each(64, some, attempts)
		for _, token := range some {
			assert.Equal(t, min(limit, int64(attempts)), made[token], "accounts of %s", token)
		}
	}
	stop()
	f.check(allowed)
	f.log()
}
