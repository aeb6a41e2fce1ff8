package sqlstore

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"time"
)

// maxTries bounds how often a transaction is run, and maxRetry for how long: on
// SQLite each try can wait for a whole busy timeout.
const (
	maxTries = 40
	maxRetry = 20 * time.Second
)

// retry runs f again as long as the database says that it has aborted f's transaction in
// favour of another one. Such an error means that nothing of it took effect, so running
// it again is safe. Any other error is returned: after a lost connection it is not known
// whether a commit took effect, and only the caller can find out.
func (s *Store) retry(ctx context.Context, f func() error) error {
	start := time.Now()
	for try := 1; ; try++ {
		err := f()
		if err == nil || !repeatable(err) || try == maxTries || time.Since(start) > maxRetry {
			if r, ok := err.(*repeatError); ok {
				err = r.error
			}
			return err
		}
		// Half of the pause is random, so that two transactions that have collided do not
		// collide again.
		pause := min(time.Millisecond<<min(try, 6), 50*time.Millisecond)
		timer := time.NewTimer(pause/2 + rand.N(pause/2+1))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

// repeatError marks an error of a transaction in which the database had asked for
// another try, whatever the caller's function made of it.
type repeatError struct{ error }

func (e *repeatError) Unwrap() error { return e.error }

// repeatable reports whether err says that the transaction was given up and may
// succeed when it is run again.
func repeatable(err error) bool {
	if err == nil {
		return false
	}
	if _, ok := errors.AsType[*repeatError](err); ok {
		return true
	}
	switch sqlState(err) {
	case "40001", "40P01": // serialization failure, deadlock
		return true
	case "":
		// No accessor that both SQLite drivers share tells busy: "database is
		// locked", and "database table is locked" with a shared cache.
		msg := err.Error()
		return strings.Contains(msg, "database is locked") || strings.Contains(msg, "table is locked")
	}
	return false
}

// Duplicate reports whether err says that a unique constraint was violated: for a host
// with tables of its own in the database.
func Duplicate(err error) bool {
	return sqlState(err) == "23505" || err != nil && strings.Contains(err.Error(), "UNIQUE constraint failed")
}

// noTable reports whether err says that a table of this package does not exist.
func noTable(err error) bool {
	text := err.Error()
	return strings.Contains(text, "uia_") && (sqlState(err) == "42P01" || strings.Contains(text, "no such table"))
}

// sqlState returns the SQLSTATE of an error of a PostgreSQL driver. Those of pgx
// and of lib/pq both have this method.
func sqlState(err error) string {
	var e interface{ SQLState() string }
	if errors.As(err, &e) {
		return e.SQLState()
	}
	return ""
}
