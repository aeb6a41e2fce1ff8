package simtest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/memstore"
)

const (
	// leaseTTL is less than the engine's time for cleaning up, so that a run may be
	// pinning while its lease is over.
	leaseTTL = 10 * time.Second
	stall    = 16 * time.Second // longer than both
	skew     = time.Minute      // a step of a clock: longer than a lease
)

var errDown = errors.New("the database cannot be reached")

// kind is how a database does things.
type kind struct {
	name   string
	writer bool // a transaction takes the writer's lock (SQLite)
	rows   bool // a transaction locks rows; groups and commits are put off (PostgreSQL)
	tx     bool // the operation runs under FinishTx
}

var kinds = []kind{
	{name: "mem"}, {name: "pg", rows: true}, {name: "pg-tx", rows: true, tx: true},
	{name: "sqlite", writer: true}, {name: "sqlite-tx", writer: true, tx: true},
}

// database is what is committed: tokens, uses, records, and the accounts.
type database struct {
	*memstore.Store
	byKey  map[string]string // session key to user; "" is Resolve's tombstone
	byName map[string]string
}

func newDatabase() *database {
	return &database{memstore.New(nil), map[string]string{}, map[string]string{}}
}

// allUses returns the uses of the token, and those of deleted ones of its value.
func (d *database) allUses(token string) []uia.Use {
	page, _ := d.ListUses(bg, uia.UseQuery{Token: token})
	deleted, _ := d.ListUses(bg, uia.UseQuery{Token: token, Deleted: true})
	return append(page.Uses, deleted.Uses...)
}

// usesBySession returns the uses of the token.
func (d *database) usesBySession(token string) map[string]uia.Use {
	out := map[string]uia.Use{}
	for _, u := range d.allUses(token) {
		out[u.Session] = u
	}
	return out
}

// write is a write that can be made again on a copy.
type write func(*database) error

// world is one run of a scenario.
type world struct {
	sc      *Scenario
	kind    kind
	db      *database
	journal []write // of db
	locks   map[string]*transaction
	engines []*uia.Engine // by process; the last process has a right clock, and looks at the end
	skew    []time.Duration
	alive   []bool
	ghosts  []ghost
	actors  []*actor
	cur     *actor // went on last
	events  chan struct{}
	over    bool
	turns   atomic.Int64 // what the scheduler has read comes before what a woken actor writes
	t0      time.Time
	draws   uint64

	mu         sync.Mutex // of what follows: two actors may wake at one moment
	told       []told
	unrecorded map[string]bool // sessions that have a response which could not be recorded
	wrongs     []string
	trace      []string

	faults, clocks, waits int
	lostSaves             int            // of the faults: answers to saves that took effect
	stalls                int            // of the clock events
	ran                   map[string]int // the actor of each run
	tracing               bool
	quiet                 map[uint64]bool
	allowed               int            // accounts over all tokens
	uses                  map[string]int // by token
}

func (w *world) wrong(format string, args ...any) {
	w.mu.Lock()
	s := fmt.Sprintf(format, args...)
	if !slices.Contains(w.wrongs, s) {
		w.wrongs = append(w.wrongs, s)
	}
	w.mu.Unlock()
	w.log("WRONG   %s", s)
}

func (w *world) log(format string, args ...any) {
	if w.tracing {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.trace = append(w.trace, fmt.Sprintf(format, args...))
	}
}

// Enabled and the other methods make a slog.Handler of the world, which knows from
// it what could not be recorded.
func (w *world) Enabled(context.Context, slog.Level) bool { return true }
func (w *world) WithAttrs([]slog.Attr) slog.Handler       { return w }
func (w *world) WithGroup(string) slog.Handler            { return w }
func (w *world) Handle(_ context.Context, r slog.Record) error {
	if strings.Contains(r.Message, "the response of a finished session could not be recorded") {
		if w.faults > 0 && w.faults == w.lostSaves && w.clocks == 0 && w.skewless() {
			w.wrong("the log says that a response could not be recorded, though only the answer was lost")
		}
		r.Attrs(func(a slog.Attr) bool {
			if a.Key == "session" {
				w.mu.Lock()
				w.unrecorded[a.Value.String()] = true
				w.mu.Unlock()
			}
			return true
		})
	}
	w.log("        log: %s", r.Message)
	return nil
}

// source is crypto/rand.Reader: each actor draws from a stream of its own, so that
// interleavings that come to the same have the same bytes.
type source struct{ w *world }

func (s source) Read(p []byte) (int, error) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	n, id := &s.w.draws, uint64(99)
	if c := s.w.cur; c != nil {
		n, id = &c.draws, uint64(c.id)
	}
	x := *n*0x9e3779b97f4a7c15 + id*0xbf58476d1ce4e5b9 + 12345
	*n++
	for i := range p {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		p[i] = byte(x >> 32)
	}
	return len(p), nil
}

// call is a call of the database. do returns what the caller learns.
func (w *world) call(ctx context.Context, p point, do func() (string, error)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	a := actorOf(ctx)
	if a == nil {
		_, err := do()
		return err
	}
	v := a.stop(&p)
	var err error
	var got string
	switch v {
	case FailBefore:
		err = errDown
	case GiveUp:
		err = errGivenUp
	case KillBefore:
		w.die(a)
	default:
		if err = ctx.Err(); err == nil {
			got, err = do()
		}
		if v == KillAfter {
			w.log("        = %v %s", err, got)
			w.die(a)
		}
		if v == FailAfter {
			err = errDown
		}
	}
	if a.tx != nil && (v == GiveUp || v != Run && w.kind.rows) {
		a.tx.broken, a.tx.again = true, v == GiveUp
	}
	a.note(p.name, "|", err, "|", got, "|", w.since())
	w.log("        = %v %s", err, got)
	return err
}

// rebuild returns a copy of what is committed, with further writes.
func (w *world) rebuild(more []write) *database {
	d := newDatabase()
	for _, f := range w.journal {
		_ = f(d)
	}
	for _, f := range more {
		_ = f(d)
	}
	return d
}

// read makes a reading call.
func (w *world) read(ctx context.Context, p point, do func(*database) (string, error)) error {
	return w.call(ctx, p, func() (string, error) {
		tx := txOf(ctx)
		if tx == nil {
			return do(w.db)
		}
		if err := tx.usable(); err != nil {
			return "", err
		}
		return do(tx.view())
	})
}

// write makes a writing call.
func (w *world) write(ctx context.Context, p point, do write) error {
	p.write = true
	switch {
	case w.kind.writer && txOf(ctx) == nil:
		p.locks = []string{writerLock}
	case !w.kind.rows:
		p.locks = nil
	}
	return w.call(ctx, p, func() (string, error) {
		if tx := txOf(ctx); tx != nil {
			if err := tx.usable(); err != nil {
				return "", err
			}
			return "", tx.write(p, do)
		}
		err := do(w.db)
		if err == nil {
			w.journal = append(w.journal, do)
			w.checkStep()
		}
		return "", err
	})
}

// session is what a trace calls a session.
func (w *world) session(key string) string {
	if i := slices.Index(w.sc.begin.keys, key); i >= 0 {
		return fmt.Sprint("S", i)
	}
	return fmt.Sprintf("%.14s", key)
}
