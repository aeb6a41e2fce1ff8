package dbtest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/internal/simtest"
	"github.com/matrix-uia/uia/memstore"
	"github.com/matrix-uia/uia/sqlstore"
)

// move is one call of a contest. The tokens and sessions of it begin with id.
type move struct {
	name string
	call func(ctx context.Context, s uia.Store, id string) error
}

func reserveMove(session string, until time.Duration) move {
	return move{"Reserve " + session, func(ctx context.Context, s uia.Store, id string) error {
		return s.Reserve(ctx, uia.Hold{Token: id, Session: id + session, Until: t0.Add(until)}, t0)
	}}
}

func claimMove(what, session string, run int64) move {
	return move{fmt.Sprint(what, " ", session, " ", run), func(ctx context.Context, s uia.Store, id string) error {
		c := uia.Claim{Token: id, Session: id + session, Run: run}
		switch what {
		case "Pin":
			return s.Pin(ctx, c, t0)
		case "Unpin":
			return s.Unpin(ctx, c, t0.Add(time.Hour), t0)
		case "Commit":
			return s.Commit(ctx, c, "@"+session, t0)
		}
		return s.Release(ctx, c)
	}}
}

func saveMove(session string, revision int64, state uia.RecordState, run int64) move {
	return move{fmt.Sprint("Save ", session, " ", revision, " ", state), func(ctx context.Context, s uia.Store, id string) error {
		_, err := s.SaveSession(ctx, uia.Record{
			Key: id + session, Revision: revision, State: state, Run: run, Owner: fmt.Sprint(run), LeaseEnd: t0, Expires: t0.Add(time.Hour),
		}, t0)
		return err
	}}
}

var (
	revokeMove = move{"revoke", func(ctx context.Context, s uia.Store, id string) error {
		_, err := s.UpdateToken(ctx, id, uia.TokenPatch{Revoked: new(true)}, t0)
		return err
	}}
	lowerMove = move{"lower", func(ctx context.Context, s uia.Store, id string) error {
		_, err := s.UpdateToken(ctx, id, uia.TokenPatch{UsesAllowed: new(new(int64(0)))}, t0)
		return err
	}}
	giveUpMove = move{"give up", func(context.Context, uia.Store, string) error { return uia.ErrInvalid }}
	deleteMove = move{"delete", func(ctx context.Context, s uia.Store, id string) error { return s.DeleteToken(ctx, id) }}
)

// side is what one connection does: its moves one by one until one fails, as a group, or
// in a transaction.
type side struct {
	group, tx bool
	moves     []move
}

// contest is what several connections do at once with a token of one use.
type contest struct {
	name  string
	begin []move
	sides []side
}

func alone(moves ...move) side         { return side{moves: moves} }
func grouped(moves ...move) side       { return side{group: true, moves: moves} }
func inTransaction(moves ...move) side { return side{tx: true, moves: moves} }

var contests = []contest{
	{"two want the use", nil, []side{alone(reserveMove("a", time.Hour)), alone(reserveMove("b", time.Hour))}},
	{"one session twice", nil, []side{alone(reserveMove("a", time.Hour)), alone(reserveMove("a", 2*time.Hour))}},
	{"two displace a lapsed hold", []move{reserveMove("a", 0)}, []side{alone(reserveMove("b", time.Hour)), alone(reserveMove("c", time.Hour))}},
	{"displaced and pinned", []move{reserveMove("a", 0)}, []side{alone(reserveMove("b", time.Hour)), alone(claimMove("Pin", "a", 2))}},
	{"displaced and renewed", []move{reserveMove("a", 0)}, []side{alone(reserveMove("b", time.Hour)), alone(reserveMove("a", time.Hour))}},
	{"released and reserved", []move{reserveMove("a", time.Hour)}, []side{alone(claimMove("Release", "a", 0)), alone(reserveMove("b", time.Hour))}},
	{"released twice", []move{reserveMove("a", time.Hour)}, []side{alone(claimMove("Release", "a", 0)), alone(claimMove("Release", "a", 0))}},
	{"pinned and released", []move{reserveMove("a", time.Hour)}, []side{alone(claimMove("Pin", "a", 2)), alone(claimMove("Release", "a", 1))}},
	{"committed and taken over", []move{reserveMove("a", time.Hour), claimMove("Pin", "a", 2)}, []side{alone(claimMove("Commit", "a", 2)), alone(claimMove("Pin", "a", 3), claimMove("Release", "a", 3))}},
	{"unpinned and committed", []move{reserveMove("a", time.Hour), claimMove("Pin", "a", 2)}, []side{alone(claimMove("Unpin", "a", 2)), alone(claimMove("Commit", "a", 2))}},
	{"unpinned and revoked", []move{reserveMove("a", time.Hour), claimMove("Pin", "a", 2)}, []side{alone(claimMove("Unpin", "a", 2)), alone(revokeMove)}},
	{"unpinned and deleted", []move{reserveMove("a", time.Hour), claimMove("Pin", "a", 2)}, []side{alone(claimMove("Unpin", "a", 2)), alone(deleteMove)}},
	{"reserved and revoked", nil, []side{alone(reserveMove("a", time.Hour), claimMove("Pin", "a", 2)), alone(revokeMove)}},
	{"reserved and deleted", nil, []side{alone(reserveMove("a", time.Hour), claimMove("Pin", "a", 2)), alone(deleteMove)}},
	{"reserved and lowered", nil, []side{alone(reserveMove("a", time.Hour)), alone(lowerMove)}},
	{"two create a record", nil, []side{alone(saveMove("a", 0, uia.Open, 2)), alone(saveMove("a", 0, uia.Open, 4))}},
	{"two save a record", []move{saveMove("a", 0, uia.Open, 0)}, []side{alone(saveMove("a", 1, uia.Running, 2)), alone(saveMove("a", 1, uia.Running, 4))}},
	{"two begin a session", nil, []side{
		grouped(reserveMove("a", time.Hour), saveMove("a", 0, uia.Running, 2), claimMove("Pin", "a", 2)),
		grouped(reserveMove("a", time.Hour), saveMove("a", 0, uia.Running, 4), claimMove("Pin", "a", 4)),
	}},
	{"two sessions begin", nil, []side{
		grouped(reserveMove("a", time.Hour), saveMove("a", 0, uia.Running, 2), claimMove("Pin", "a", 2)),
		grouped(reserveMove("b", time.Hour), saveMove("b", 0, uia.Running, 2), claimMove("Pin", "b", 2)),
	}},
	{"two sessions begin with a lapsed hold in the way", []move{reserveMove("c", 0)}, []side{
		grouped(reserveMove("a", time.Hour), saveMove("a", 0, uia.Running, 2), claimMove("Pin", "a", 2)),
		grouped(reserveMove("b", time.Hour), saveMove("b", 0, uia.Running, 2), claimMove("Pin", "b", 2)),
	}},
	{"begun and revoked", nil, []side{grouped(reserveMove("a", time.Hour), saveMove("a", 0, uia.Running, 2), claimMove("Pin", "a", 2)), alone(revokeMove)}},
	{"begun and deleted", nil, []side{grouped(reserveMove("a", time.Hour), saveMove("a", 0, uia.Running, 2), claimMove("Pin", "a", 2)), alone(deleteMove)}},
	{"two lease a session", []move{reserveMove("a", time.Hour), saveMove("a", 0, uia.Open, 0)}, []side{
		grouped(saveMove("a", 1, uia.Running, 4), claimMove("Pin", "a", 4)),
		grouped(saveMove("a", 1, uia.Running, 6), claimMove("Pin", "a", 6)),
	}},
	{"leased and released", []move{reserveMove("a", time.Hour), saveMove("a", 0, uia.Open, 0)}, []side{
		grouped(saveMove("a", 1, uia.Running, 4), claimMove("Pin", "a", 4)), alone(claimMove("Release", "a", 0)),
	}},
	{"finished and recovered", []move{reserveMove("a", time.Hour), saveMove("a", 0, uia.Running, 2), claimMove("Pin", "a", 2)}, []side{
		inTransaction(claimMove("Commit", "a", 2), saveMove("a", 1, uia.Done, 2)),
		alone(claimMove("Pin", "a", 3), claimMove("Release", "a", 3)),
	}},
	{"finished and taken over", []move{reserveMove("a", time.Hour), saveMove("a", 0, uia.Running, 2), claimMove("Pin", "a", 2)}, []side{
		inTransaction(claimMove("Commit", "a", 2), saveMove("a", 1, uia.Done, 2)),
		grouped(saveMove("a", 1, uia.Running, 4), claimMove("Pin", "a", 4)),
	}},
	{"finished twice", []move{reserveMove("a", time.Hour), saveMove("a", 0, uia.Running, 2), claimMove("Pin", "a", 2)}, []side{
		inTransaction(claimMove("Commit", "a", 2), saveMove("a", 1, uia.Done, 2)),
		inTransaction(claimMove("Commit", "a", 2), saveMove("a", 1, uia.Done, 2)),
	}},
	// What one does in a transaction keeps the statements of others waiting, which then
	// see what it has left behind.
	{"reserved in a transaction", nil, []side{inTransaction(reserveMove("a", time.Hour)), alone(reserveMove("b", time.Hour))}},
	{"reserved in a transaction that is rolled back", nil, []side{inTransaction(reserveMove("a", time.Hour), giveUpMove), alone(reserveMove("b", time.Hour))}},
	{"begun in a transaction", nil, []side{
		inTransaction(reserveMove("a", time.Hour), saveMove("a", 0, uia.Running, 2), claimMove("Pin", "a", 2)),
		grouped(reserveMove("b", time.Hour), saveMove("b", 0, uia.Running, 2), claimMove("Pin", "b", 2)),
	}},
	{"one session begun in a transaction and in a group", nil, []side{
		inTransaction(reserveMove("a", time.Hour), saveMove("a", 0, uia.Running, 2), claimMove("Pin", "a", 2)),
		grouped(reserveMove("a", time.Hour), saveMove("a", 0, uia.Running, 4), claimMove("Pin", "a", 4)),
	}},
	{"released in a transaction", []move{reserveMove("a", time.Hour)}, []side{inTransaction(claimMove("Release", "a", 0)), alone(reserveMove("b", time.Hour))}},
	{"pinned in a transaction", []move{reserveMove("a", 0)}, []side{inTransaction(claimMove("Pin", "a", 2)), alone(reserveMove("b", time.Hour))}},
	{"displaced in a transaction", []move{reserveMove("a", 0)}, []side{inTransaction(reserveMove("b", time.Hour)), alone(claimMove("Pin", "a", 2))}},
	{"saved in a transaction", []move{reserveMove("a", time.Hour), saveMove("a", 0, uia.Open, 0)}, []side{
		inTransaction(saveMove("a", 1, uia.Running, 4)), grouped(saveMove("a", 1, uia.Running, 6), claimMove("Pin", "a", 6)),
	}},
	{"revoked beside a transaction", nil, []side{inTransaction(reserveMove("a", time.Hour), claimMove("Pin", "a", 2)), alone(revokeMove)}},
	{"finished, recovered, and wanted by another", []move{reserveMove("a", time.Hour), saveMove("a", 0, uia.Running, 2), claimMove("Pin", "a", 2)}, []side{
		inTransaction(claimMove("Commit", "a", 2), saveMove("a", 1, uia.Done, 2)),
		alone(claimMove("Pin", "a", 3), claimMove("Release", "a", 3)),
		alone(reserveMove("b", time.Hour)),
	}},
}

// arrange makes the token and what is there before.
func (c contest) arrange(ctx context.Context, s uia.Store, id string) error {
	if err := s.CreateTokens(ctx, uia.Token{Value: id, UsesAllowed: new(int64(1)), Created: t0}); err != nil {
		return err
	}
	for _, m := range c.begin {
		if err := m.call(ctx, s, id); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
	return nil
}

// seen is what can be seen afterwards: what each side came to, and what is there.
func (c contest) seen(ctx context.Context, s uia.Store, id string, came []error) (string, error) {
	var b strings.Builder
	for _, err := range came {
		fmt.Fprintln(&b, named(err))
	}
	if t, err := s.Token(ctx, id, t0); err == nil {
		page, err := s.ListUses(ctx, uia.UseQuery{Token: id})
		if err != nil {
			return "", err
		}
		fmt.Fprintln(&b, t.Pending, t.Completed, t.Revoked)
		for _, u := range page.Uses {
			fmt.Fprintln(&b, strings.TrimPrefix(u.Session, id), u.State, u.Run, u.UserID)
		}
	} else if !errors.Is(err, uia.ErrNotFound) {
		return "", err
	}
	deleted, err := s.ListUses(ctx, uia.UseQuery{Token: id, Deleted: true})
	if err != nil {
		return "", err
	}
	for _, u := range deleted.Uses {
		fmt.Fprintln(&b, "deleted:", strings.TrimPrefix(u.Session, id), u.State, u.Run)
	}
	for _, session := range []string{"a", "b"} {
		r, err := s.LoadSession(ctx, id+session, t0)
		fmt.Fprintln(&b, session, r.Revision, r.State, r.Run, r.Owner, named(err))
	}
	return b.String(), nil
}

// allowed are all that can be seen if the calls are made one after the other, those of a
// transaction together, in any order that keeps each side's own.
func (c contest) allowed(t *testing.T) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	var walk func(order []int, next []int)
	walk = func(order []int, next []int) {
		whole := true
		for i, s := range c.sides {
			steps := len(s.moves)
			if s.tx {
				steps = 1
			}
			if next[i] < steps {
				whole = false
				further := slices.Clone(next)
				further[i]++
				walk(append(slices.Clone(order), i), further)
			}
		}
		if whole {
			out[c.inOrder(t, order)] = true
		}
	}
	walk(nil, make([]int, len(c.sides)))
	return out
}

// inOrder makes the calls in this order of sides on memstore.
func (c contest) inOrder(t *testing.T, order []int) string {
	t.Helper()
	const id = "x"
	ctx := t.Context()
	var made []move // what a copy is made of
	fresh := func() uia.Store {
		s := memstore.New(nil)
		require.NoError(t, c.arrange(ctx, s, id))
		for _, m := range made {
			_ = m.call(ctx, s, id)
		}
		return s
	}
	came, next := make([]error, len(c.sides)), make([]int, len(c.sides))
	for _, i := range order {
		side := c.sides[i]
		moves := side.moves[next[i] : next[i]+1]
		if side.tx {
			moves = side.moves
		}
		next[i]++
		if came[i] != nil {
			continue
		}
		s := fresh()
		for _, m := range moves {
			if came[i] = m.call(ctx, s, id); came[i] != nil {
				break
			}
		}
		if came[i] == nil {
			made = append(made, moves...)
		}
	}
	seen, err := c.seen(ctx, fresh(), id, came)
	require.NoError(t, err)
	return seen
}

// contested is a contest on PostgreSQL.
type contested struct {
	contest
	allowed map[string]bool
	play    func(*sqlPlay)
	s       *sqlstore.Store
	number  *int
	seen    map[string]bool
}

// Play implements simtest.Subject.
func (c contested) Play(t *testing.T, choose simtest.Chooser, _ bool) *simtest.Outcome {
	*c.number++
	id := fmt.Sprint("x", *c.number)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, c.arrange(ctx, c.s, id))
	came := make([]error, len(c.sides))
	var scripts []func(context.Context)
	for i, side := range c.sides {
		scripts = append(scripts, func(ctx context.Context) { came[i] = side.run(ctx, c.s, id) })
	}
	p := &sqlPlay{ctx: ctx, stirred: make(chan struct{}, len(scripts))}
	c.play(p)
	p.start(scripts)
	out := &simtest.Outcome{}
	require.NoError(t, p.run(choose, out), "%s", out.Schedule)
	seen, err := c.contest.seen(ctx, c.s, id, came)
	require.NoError(t, err)
	seen = strings.ReplaceAll(seen, id, "x")
	c.seen[seen] = true
	if !c.allowed[seen] {
		out.Wrong = []string{seen}
	}
	return out
}

func (s side) run(ctx context.Context, store *sqlstore.Store, id string) error {
	all := func(ctx context.Context) error {
		for _, m := range s.moves {
			if err := m.call(ctx, store, id); err != nil {
				return err
			}
		}
		return nil
	}
	switch {
	case s.group:
		return store.Group(ctx, all)
	case s.tx:
		return store.InTx(ctx, all)
	}
	return all(ctx)
}

// TestEveryOrderOfStatements lets two or three connections do what a registration does,
// and decides before each statement which of them goes on: in every order within the
// bound they come to what some order of the calls comes to.
func TestEveryOrderOfStatements(t *testing.T) {
	admin, s := scheduledStore(t)
	number := 0
	for _, c := range contests {
		t.Run(c.name, func(t *testing.T) {
			subject := contested{
				contest: c, allowed: c.allowed(t), s: s, number: &number, seen: map[string]bool{},
				play: func(p *sqlPlay) { p.admin = admin },
			}
			b := simtest.Budget{Preemptions: int8(size(8, 2))}
			f := simtest.Exhaust(t, subject, b, simtest.Search{})
			if f.Outcome != nil {
				m := simtest.Minimise(t, subject, f.Outcome.Schedule)
				t.Fatalf("after %d schedules: %s\n%s\n%s\nallowed:\n%s", f.Schedules, m.Schedule, strings.Join(m.Trace, "\n"), m.Wrong,
					strings.Join(slices.Sorted(maps.Keys(subject.allowed)), "\n"))
			}
			assert.True(t, f.Exhausted)
			t.Logf("%v: %d orders, %d statements, %d of %d outcomes that are allowed", b, f.Schedules, f.Steps, len(subject.seen), len(subject.allowed))
		})
	}
	var drifted int
	require.NoError(t, admin.QueryRowContext(t.Context(), `SELECT count(*) FROM uia_tokens
		WHERE taken <> (SELECT count(*) FROM uia_uses WHERE token_id = uia_tokens.id)`).Scan(&drifted))
	assert.Zero(t, drifted, "tokens whose uses are miscounted")
}

// recorded is a contest of linearModel's calls, with a history.
type recorded struct {
	begin []linearInput
	sides [][]linearInput
	s     *sqlstore.Store
	play  func(*sqlPlay)
	count *int
}

// Play implements simtest.Subject.
func (r recorded) Play(t *testing.T, choose simtest.Chooser, _ bool) *simtest.Outcome {
	*r.count++
	token := fmt.Sprint("l", *r.count)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, r.s.CreateTokens(ctx, uia.Token{Value: token, UsesAllowed: new(int64(linearLimit))}))
	h := &linearHistory{s: r.s, token: token, start: time.Now()}
	for _, in := range r.begin {
		h.call(ctx, len(r.sides), in)
	}
	var scripts []func(context.Context)
	for i, calls := range r.sides {
		scripts = append(scripts, func(ctx context.Context) {
			for _, in := range calls {
				h.call(ctx, i, in)
			}
		})
	}
	p := &sqlPlay{ctx: ctx, stirred: make(chan struct{}, len(scripts))}
	r.play(p)
	p.start(scripts)
	out := &simtest.Outcome{}
	require.NoError(t, p.run(choose, out))
	h.call(ctx, len(r.sides), linearInput{call: "Token"})
	require.NoError(t, h.err)
	if !porcupine.CheckOperations(linearModel, h.ops) {
		out.Wrong = []string{fmt.Sprintf("no order explains %+v", h.ops)}
	}
	return out
}

// TestEveryOrderIsLinearizable checks the same with the model that explains random
// histories, for every pair of calls about one use and about two.
func TestEveryOrderIsLinearizable(t *testing.T) {
	admin, s := scheduledStore(t)
	count, orders := 0, 0
	calls := []string{"Token", "Reserve", "Pin", "Unpin", "Commit", "Release"}
	begins := map[string][]linearInput{
		"none":     nil,
		"held":     {{"Reserve", 0}},
		"pinned":   {{"Reserve", 0}, {"Pin", 0}},
		"unpinned": {{"Reserve", 0}, {"Pin", 0}, {"Unpin", 0}},
		"spent":    {{"Reserve", 0}, {"Pin", 0}, {"Commit", 0}},
		"full":     {{"Reserve", 0}, {"Reserve", 2}, {"Reserve", 3}},
	}
	for _, begin := range slices.Sorted(maps.Keys(begins)) {
		for i, first := range calls {
			for _, second := range calls[i:] {
				for other := range 2 {
					r := recorded{
						begin: begins[begin], sides: [][]linearInput{{{first, 0}}, {{second, other}}}, s: s, count: &count,
						play: func(p *sqlPlay) { p.admin = admin },
					}
					f := simtest.Exhaust(t, r, simtest.Budget{Preemptions: int8(size(8, 1))}, simtest.Search{})
					orders += f.Schedules
					if f.Outcome != nil {
						t.Errorf("%s, %s, %s of session %d: %v\n%s", begin, first, second, other, f.Outcome.Wrong, strings.Join(f.Outcome.Trace, "\n"))
					}
				}
			}
		}
	}
	t.Logf("%d orders of statements", orders)
}
