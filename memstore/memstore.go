// Package memstore is a [uia.Store] in memory: for tests, for trying things out,
// and for a homeserver that is content to lose its registration tokens with its
// process. It is complete and bounded, so nothing that an unauthenticated client
// does makes it grow without end.
//
// What has expired is forgotten as other things are written; no goroutine runs
// and nothing needs to be swept. Holds that lapsed and session records that
// expired are kept for a day, because until then a registration that stalled may
// still come back for them.
package memstore

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/matrix-uia/uia"
)

// Options are the options of [New]. A field that is zero or negative means the default.
type Options struct {
	// MaxTokens is how many tokens the store holds. The default is 100,000.
	MaxTokens int
	// MaxUses is how many uses all tokens have together, about 700 bytes each.
	// Those that are spent are never forgotten, not even with their token: that
	// is how the store knows that a session had its account. The default is
	// 200,000. The holds of one token take no more of them than is left, so that
	// nobody who knows a token locks out those who have another; a hold that has
	// lapsed gives way when there is no room.
	MaxUses int
	// MaxSessions is how many session records the store holds. The default is 10,000. The
	// sessions with uses of one token have no more of them than are left. When there is
	// no room, records that have expired are deleted, and so are records of open sessions
	// whose hold has lapsed.
	MaxSessions int
}

// keep is for how long a lapsed hold or an expired record is remembered.
const keep = 24 * time.Hour

// maxData is the limit of uia.Record.Data.
const maxData = 1 << 20

// Store is a uia.Store in memory. A write for which there is no room returns
// uia.ErrFull and changes nothing. Make one with New.
type Store struct {
	opts Options

	mu       sync.RWMutex
	tokens   map[string]*token
	deleted  map[string][]*token // those of which uses are left, by their value
	uses     map[useKey]*use     // of deleted tokens too
	latest   map[string]*use     // by session: what it took last, while that is not spent
	holds    queue[*use]         // the held uses of all tokens, the one that lapses first on top
	pinned   []*use              // by Changed
	creators map[string][]*token // by who created them: by Created, then value
	invited  map[string][]*use   // the spent ones, by inviter: by Made, then session
	accounts map[string][]*use   // the spent ones, by account: the one to which it belongs is the last
	records  map[string]*record
	expiry   queue[*record] // the record that may be deleted first on top
}

var _ uia.Store = (*Store)(nil)

// New returns an empty store. Nil means the default options.
func New(opts *Options) *Store {
	var o Options
	if opts != nil {
		o = *opts
	}
	if o.MaxTokens <= 0 {
		o.MaxTokens = 100_000
	}
	if o.MaxUses <= 0 {
		o.MaxUses = 200_000
	}
	if o.MaxSessions <= 0 {
		o.MaxSessions = 10_000
	}
	return &Store{
		opts:     o,
		tokens:   make(map[string]*token),
		deleted:  make(map[string][]*token),
		uses:     make(map[useKey]*use),
		latest:   make(map[string]*use),
		creators: make(map[string][]*token),
		invited:  make(map[string][]*use),
		accounts: make(map[string][]*use),
		records:  make(map[string]*record),
	}
}

// token is a token with its uses. Nothing is counted that an index does not hold.
type token struct {
	uia.Token        // without the counters
	all       []*use // by Made, then session: the order of ListUses backwards
	held      []*use // by Until: those that lapsed first in front
	records   int    // of sessions with a use of it
	pinned    int64
	spent     int64
	imported  int64 // uses that were spent elsewhere, before the token came here
	lastUsed  time.Time
	deleted   bool
}

// at returns the token as it is at now. It shares memory with the store: callers get it
// through copied.
func (t *token) at(now time.Time) uia.Token {
	c := t.Token
	c.Pending = t.pinned + int64(len(t.held)-t.lapsed(now))
	c.Completed = t.imported + t.spent
	c.LastUsed = t.lastUsed
	return c
}

// copied returns t without anything that it shares with the store.
func copied(t uia.Token) uia.Token {
	if t.UsesAllowed != nil {
		t.UsesAllowed = new(*t.UsesAllowed)
	}
	t.Meta = slices.Clone(t.Meta)
	return t
}

// lapsed returns how many of the held uses have lapsed: the first ones of held.
func (t *token) lapsed(now time.Time) int {
	n, _ := slices.BinarySearchFunc(t.held, now, func(u *use, now time.Time) int {
		if u.Until.After(now) {
			return 1
		}
		return -1
	})
	return n
}

// ms returns the time as a store keeps it.
func ms(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }

// normal returns a copy of the token as a store keeps it, or uia.ErrInvalid.
func normal(t uia.Token) (uia.Token, error) {
	if err := t.Validate(); err != nil {
		return t, err
	}
	t = copied(t)
	t.Expires, t.Created = ms(t.Expires), ms(t.Created)
	t.Pending, t.Completed, t.LastUsed = 0, 0, time.Time{}
	return t, nil
}

// lock takes the lock for a write, unless the context is done.
func (s *Store) lock(ctx context.Context) (unlock func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	return s.mu.Unlock, nil
}

// rlock takes the lock for a read, unless the context is done.
func (s *Store) rlock(ctx context.Context) (unlock func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.RLock()
	return s.mu.RUnlock, nil
}

// forget deletes a few of the holds and records that are too old for any session to use.
// Every write that adds a hold or a record calls it, so old ones cannot accumulate.
func (s *Store) forget(now time.Time) {
	for range 2 {
		if u, ok := s.holds.top(); ok && !now.Before(u.Until.Add(keep)) {
			s.drop(u)
		}
		if r, ok := s.expiry.top(); ok && !now.Before(r.Expires.Add(keep)) {
			s.dropRecord(r)
		}
	}
}
