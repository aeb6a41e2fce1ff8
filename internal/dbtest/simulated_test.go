package dbtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/internal/simtest"
)

// groupStore is what a program runs on.
type groupStore interface {
	uia.TxStore
	Group(ctx context.Context, fn func(context.Context) error) error
}

var (
	_ groupStore = simtest.Store{}

	outcomes = []error{
		uia.ErrNotFound, uia.ErrExists, uia.ErrExpired, uia.ErrExhausted, uia.ErrRevoked, uia.ErrSpent, uia.ErrNotHeld, uia.ErrConflict,
		uia.ErrFull, uia.ErrInvalid,
	}
)

// named is what a caller can tell of an error.
func named(err error) string {
	if err == nil {
		return "ok"
	}
	for _, known := range outcomes {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return "another error"
}

// program makes random calls of a store, by themselves, in groups and in transactions,
// and notes what each came to. The same seed makes the same calls.
type program struct {
	s    groupStore
	rnd  *rand.Rand
	id   string
	told []string
}

func (p *program) note(format string, args ...any) {
	p.told = append(p.told, fmt.Sprintf(format, args...))
}

func (p *program) pick(from ...string) string { return p.id + "-" + from[p.rnd.IntN(len(from))] }

// begin makes the program's tokens: of one use, of two, and of any number.
func (p *program) begin(ctx context.Context) error {
	return p.s.CreateTokens(ctx, uia.Token{Value: p.id + "-one", UsesAllowed: new(int64(1))},
		uia.Token{Value: p.id + "-two", UsesAllowed: new(int64(2))}, uia.Token{Value: p.id + "-any"})
}

// call makes one call.
func (p *program) call(ctx context.Context) (err error) {
	token, session := p.pick("one", "two", "any", "none"), p.pick("s", "s", "t")
	if p.rnd.IntN(3) > 0 {
		token = p.id + "-one"
	}
	claim := uia.Claim{Token: token, Session: session, Run: int64(p.rnd.IntN(5))}
	var what string
	var got any = ""
	switch p.rnd.IntN(12) {
	case 0, 1:
		what = "Reserve"
		err = p.s.Reserve(ctx, uia.Hold{Token: token, Session: session, Until: t0.Add(time.Duration(p.rnd.IntN(3)-1) * time.Minute)}, t0)
	case 2, 3:
		what = "Pin"
		err = p.s.Pin(ctx, claim, t0)
	case 4:
		what = "Unpin"
		err = p.s.Unpin(ctx, claim, t0.Add(time.Minute), t0)
	case 5, 6:
		what = "Commit"
		err = p.s.Commit(ctx, claim, "@u", t0)
	case 7:
		what = "Release"
		err = p.s.Release(ctx, claim)
	case 8:
		what = "LoadSession"
		var r uia.Record
		r, err = p.s.LoadSession(ctx, session, t0)
		got = fmt.Sprint(r.Revision, r.State, r.Run, r.Owner)
	case 9:
		what = "Token"
		var t uia.Token
		t, err = p.s.Token(ctx, token, t0)
		got = fmt.Sprint(t.Pending, t.Completed)
	default:
		what = "SaveSession"
		r := uia.Record{
			Key: session, Revision: int64(p.rnd.IntN(4)), State: uia.RecordState(1 + p.rnd.IntN(3)), Run: claim.Run,
			Owner: fmt.Sprint(p.rnd.IntN(100)), LeaseEnd: t0, Expires: t0.Add(time.Duration(p.rnd.IntN(6)-1) * time.Hour),
		}
		r, err = p.s.SaveSession(ctx, r, t0)
		got = r.Revision
	}
	if err != nil {
		got = ""
	}
	p.note("%s %s %s %d: %s %v", what, token, session, claim.Run, named(err), got)
	return err
}

// calls makes a few calls. It goes on after a refusal, or gives up.
func (p *program) calls(ctx context.Context) error {
	for range 1 + p.rnd.IntN(4) {
		goOn := p.rnd.IntN(3) == 0
		if err := p.call(ctx); err != nil && !goOn {
			return err
		}
	}
	return nil
}

// run makes the calls of the whole program.
func (p *program) run(ctx context.Context, seed uint64) error {
	p.rnd = rand.New(rand.NewPCG(seed, 0))
	if err := p.begin(ctx); err != nil {
		return err
	}
	for step := range 12 {
		// What runs a function twice makes the same calls twice.
		again := func(ctx context.Context) error {
			p.rnd = rand.New(rand.NewPCG(seed, uint64(step+1)))
			return p.calls(ctx)
		}
		var err error
		switch p.rnd.IntN(3) {
		case 0:
			p.note("by themselves")
			err = again(ctx)
		case 1:
			p.note("a group")
			err = p.s.Group(ctx, again)
		default:
			p.note("a transaction")
			err = p.s.InTx(ctx, again)
		}
		p.note("which comes to: %s", named(err))
	}
	return p.end(ctx)
}

// end notes what is there in the end.
func (p *program) end(ctx context.Context) error {
	for _, token := range []string{"-one", "-two", "-any"} {
		t, err := p.s.Token(ctx, p.id+token, t0)
		if err != nil {
			return err
		}
		page, err := p.s.ListUses(ctx, uia.UseQuery{Token: p.id + token})
		if err != nil {
			return err
		}
		p.note("%s: %d pending, %d completed, %+v", token, t.Pending, t.Completed, page.Uses)
	}
	for _, session := range []string{"-s", "-t"} {
		r, err := p.s.LoadSession(ctx, p.id+session, t0)
		p.note("%s: %+v %s", session, r, named(err))
	}
	return nil
}

// TestSimulatedPostgres compares what package simtest takes for PostgreSQL with
// sqlstore on it: every call of random programs has the same outcome at the same place,
// also where one is put off, and the same is there in the end.
func TestSimulatedPostgres(t *testing.T) {
	b := onPostgres("pgx")
	_, s := b.fresh(t)
	for seed := range uint64(size(3000, 300)) {
		id := fmt.Sprint("p", seed)
		real, simulated := &program{s: s, id: id}, &program{s: simtest.NewPostgres(), id: id}
		require.NoError(t, real.run(t.Context(), seed))
		require.NoError(t, simulated.run(t.Context(), seed))
		if diff := cmp.Diff(real.told, simulated.told); diff != "" {
			t.Fatalf("seed %d: -PostgreSQL +simulated\n%s\n%s", seed, diff, strings.Join(real.told, "\n"))
		}
	}
}
