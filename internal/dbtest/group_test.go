package dbtest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/memstore"
	"github.com/matrix-uia/uia/sqlstore"
)

// groupCase is one way in which the calls of a group can meet a token, the
// session's use of it and a record.
type groupCase struct {
	token  string // its state
	own    string // the session's use of it
	record string // what is there
	calls  string // what the group calls
}

func groupCases() (cases []groupCase) {
	for _, token := range []string{"free", "one left", "any number", "exhausted", "lapsed hold of another", "expired", "revoked", "deleted", "absent"} {
		for _, own := range []string{"none", "held", "lapsed", "pinned", "spent"} {
			for _, record := range []string{"none", "expired", "open", "other revision"} {
				for _, calls := range []string{"hold, save", "hold, lease", "hold, lease, pin", "hold, look, lease, pin", "hold, lease, look, pin", "lease, pin", "hold, lease, pin of another", "hold", "save, hold", "hold both, lease, pin"} {
					if own == "none" || token != "absent" {
						cases = append(cases, groupCase{token, own, record, calls})
					}
				}
			}
		}
	}
	return cases
}

// arrange brings a store into the case's state. Values are the case's own, so that
// many cases share a database.
func (c groupCase) arrange(ctx context.Context, s uia.Store, id string) error {
	claim := func(session string) uia.Claim { return uia.Claim{Token: id, Session: session, Run: 1} }
	reserve := func(session string, until time.Duration) error {
		return s.Reserve(ctx, uia.Hold{Token: id, Session: session, Until: t0.Add(until)}, t0.Add(-time.Hour))
	}
	limit := int64(2)
	if c.token != "absent" {
		if err := s.CreateTokens(ctx, uia.Token{Value: id, UsesAllowed: new(int64(9)), Created: t0}, uia.Token{Value: id + "-other", Created: t0}); err != nil {
			return err
		}
	}
	if c.own != "none" {
		until := time.Hour
		if c.own == "lapsed" {
			until = -time.Minute
		}
		if err := reserve(id, until); err != nil {
			return err
		}
		if c.own == "pinned" || c.own == "spent" {
			if err := s.Pin(ctx, claim(id), t0); err != nil {
				return err
			}
		}
		if c.own == "spent" {
			if err := s.Commit(ctx, claim(id), "@me", t0); err != nil {
				return err
			}
		}
	} else {
		limit = 1
	}
	var err error
	update := func(p uia.TokenPatch) error { _, err := s.UpdateToken(ctx, id, p, t0); return err }
	switch c.token {
	case "free":
		err = update(uia.TokenPatch{UsesAllowed: new(new(int64(5)))})
	case "one left":
		err = update(uia.TokenPatch{UsesAllowed: new(&limit)})
	case "any number":
		err = update(uia.TokenPatch{UsesAllowed: new((*int64)(nil))})
	case "exhausted", "lapsed hold of another":
		until := time.Hour
		if c.token == "lapsed hold of another" {
			until = -time.Minute
		}
		if err = reserve("another", until); err == nil {
			err = update(uia.TokenPatch{UsesAllowed: new(&limit)})
		}
	case "expired":
		err = update(uia.TokenPatch{Expires: &t0})
	case "revoked":
		err = update(uia.TokenPatch{Revoked: new(true)})
	case "deleted":
		err = s.DeleteToken(ctx, id)
	}
	if err != nil {
		return err
	}
	expires := t0.Add(time.Hour)
	switch c.record {
	case "none":
		return nil
	case "expired":
		expires = t0
	}
	_, err = s.SaveSession(ctx, uia.Record{Key: id, State: uia.Open, Owner: "old", Expires: expires, Data: []byte("old")}, t0.Add(-time.Hour))
	return err
}

// act makes the calls until one fails.
func (c groupCase) act(ctx context.Context, s uia.Store, id string) error {
	holdOf := func(token string) func() error {
		return func() error {
			return s.Reserve(ctx, uia.Hold{Token: token, Session: id, Until: t0.Add(2 * time.Hour)}, t0)
		}
	}
	hold := holdOf(id)
	save := func(state uia.RecordState) func() error {
		return func() error {
			r := uia.Record{Key: id, State: state, Run: 2, Owner: "new", LeaseEnd: t0.Add(time.Minute), Expires: t0.Add(time.Hour), Data: []byte("new")}
			switch c.record {
			case "open":
				r.Revision = 1
			case "other revision":
				r.Revision = 7
			}
			_, err := s.SaveSession(ctx, r, t0)
			return err
		}
	}
	pin := func(token string) func() error {
		return func() error {
			return s.Pin(ctx, uia.Claim{Token: token, Session: id, Run: 2}, t0.Add(time.Second))
		}
	}
	look := func() error {
		_, err := s.Token(ctx, id, t0)
		if errors.Is(err, uia.ErrNotFound) {
			err = nil
		}
		return err
	}
	calls := map[string][]func() error{
		"hold":                        {hold},
		"hold, save":                  {hold, save(uia.Open)},
		"hold, lease":                 {hold, save(uia.Running)},
		"hold, lease, pin":            {hold, save(uia.Running), pin(id)},
		"hold, look, lease, pin":      {hold, look, save(uia.Running), pin(id)},
		"hold, lease, look, pin":      {hold, save(uia.Running), look, pin(id)},
		"lease, pin":                  {save(uia.Running), pin(id)},
		"hold, lease, pin of another": {hold, save(uia.Running), pin(id + "-other")},
		"save, hold":                  {save(uia.Open), hold},
		"hold both, lease, pin":       {holdOf(id + "-other"), hold, save(uia.Running), pin(id)},
	}
	for _, call := range calls[c.calls] {
		if err := call(); err != nil {
			return err
		}
	}
	return nil
}

// groupOutcome is what can be seen afterwards.
type groupOutcome struct {
	Err    string
	Token  uia.Token
	Uses   []uia.Use
	Record uia.Record
}

func (c groupCase) outcome(ctx context.Context, s uia.Store, id string, err error) (o groupOutcome, _ error) {
	o.Err = fmt.Sprint(err)
	if o.Token, err = s.Token(ctx, id, t0); err == nil {
		page, err := s.ListUses(ctx, uia.UseQuery{Token: id})
		if err != nil {
			return o, err
		}
		o.Uses = page.Uses
	} else if !errors.Is(err, uia.ErrNotFound) {
		return o, err
	}
	o.Token.Meta = nil
	if o.Record, err = s.LoadSession(ctx, id, t0); err != nil && !errors.Is(err, uia.ErrNotFound) {
		return o, err
	}
	return o, nil
}

// TestGroupIsItsCalls compares groups, which PostgreSQL writes with fewer
// statements than they have calls, with the same calls one by one on memstore: the
// same first error, and the same tokens, uses and records.
func TestGroupIsItsCalls(t *testing.T) {
	for _, b := range []backend{sqlite("sqlite"), sqlite("sqlite3"), onPostgres("pgx"), onPostgres("postgres"), onPostgres("postgres").prepared(),
		onPostgres("pgx", "default_transaction_isolation = 'serializable'")} {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			_, s := b.fresh(t)
			ctx := t.Context()
			mem := memstore.New(nil)
			for i, c := range groupCases() {
				id := fmt.Sprint("c", i)
				require.NoError(t, c.arrange(ctx, mem, id), "%+v", c)
				require.NoError(t, c.arrange(ctx, s, id), "%+v", c)
				before, err := c.outcome(ctx, mem, id, nil)
				require.NoError(t, err)
				want, err := c.outcome(ctx, mem, id, c.act(ctx, mem, id))
				require.NoError(t, err)
				if b.dialect == sqlstore.SQLite && want.Err != fmt.Sprint(error(nil)) {
					before.Err = want.Err // there a group is a transaction
					want = before
				}
				err = s.Group(ctx, func(ctx context.Context) error { return c.act(ctx, s, id) })
				got, err := c.outcome(ctx, s, id, err)
				require.NoError(t, err)
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%+v: -one by one +grouped\n%s", c, diff)
				}
			}
		})
	}
}

// TestGroupRace lets the requests of one session, and of others, begin a
// registration in the same moment: one of each session may, and no more of them
// than the token allows.
func TestGroupRace(t *testing.T) {
	for _, b := range append(backends(), onPostgres("pgx", "default_transaction_isolation = 'serializable'")) {
		t.Run(b.name, func(t *testing.T) {
			_, s := b.fresh(t)
			ctx := t.Context()
			for round := range size(60, 15) {
				allowed := int64(1 + round%4)
				token := fmt.Sprint("t", round)
				require.NoError(t, s.CreateTokens(ctx, uia.Token{Value: token, UsesAllowed: &allowed, Created: t0}))
				const sessions, each = 6, 4
				won := make([]atomic.Int64, sessions)
				var wg sync.WaitGroup
				start := make(chan struct{})
				for i := range sessions * each {
					wg.Go(func() {
						<-start
						if err := begin(ctx, s, token, fmt.Sprint(token, "-", i%sessions), fmt.Sprint(i)); err == nil {
							won[i%sessions].Add(1)
						} else if !errors.Is(err, uia.ErrConflict) && !errors.Is(err, uia.ErrExhausted) && !errors.Is(err, uia.ErrNotHeld) {
							t.Error(err)
						}
					})
				}
				close(start)
				wg.Wait()
				pinned := int64(0)
				page, err := s.ListUses(ctx, uia.UseQuery{Token: token})
				require.NoError(t, err)
				for _, u := range page.Uses {
					if u.State == uia.Pinned {
						pinned++
					}
				}
				var begun int64
				for i := range won {
					assert.LessOrEqual(t, won[i].Load(), int64(1), "one request of a session may begin")
					begun += won[i].Load()
				}
				assert.Equal(t, allowed, begun, "sessions that have begun")
				assert.Equal(t, allowed, pinned, "pinned uses")
				assert.Len(t, page.Uses, int(allowed))
			}
		})
	}
}

// begin is what the engine does in one group.
func begin(ctx context.Context, s *sqlstore.Store, token, session, owner string) error {
	return s.Group(ctx, func(ctx context.Context) error {
		if err := s.Reserve(ctx, uia.Hold{Token: token, Session: session, Until: t0.Add(time.Hour)}, t0); err != nil {
			return err
		}
		r := uia.Record{Key: session, State: uia.Running, Run: 2, Owner: owner, LeaseEnd: t0.Add(time.Minute), Expires: t0.Add(time.Hour)}
		if _, err := s.SaveSession(ctx, r, t0); err != nil {
			return err
		}
		return s.Pin(ctx, uia.Claim{Token: token, Session: session, Run: 2}, t0)
	})
}
