package storetest

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/internal/kitrun"
)

// broken is a model of which some methods have been replaced.
type broken struct {
	*model
	ignoresContext string // the name of a method
	restarted      func() // what a restart does to the store

	createTokens  func(context.Context, ...uia.Token) error
	getToken      func(context.Context, string, time.Time) (uia.Token, error)
	listTokens    func(context.Context, uia.TokenQuery, time.Time) (uia.TokenPage, error)
	updateToken   func(context.Context, string, uia.TokenPatch, time.Time) (uia.Token, error)
	deleteToken   func(context.Context, string) error
	reserve       func(context.Context, uia.Hold, time.Time) error
	pin           func(context.Context, uia.Claim, time.Time) error
	unpin         func(ctx context.Context, c uia.Claim, until, now time.Time) error
	commit        func(context.Context, uia.Claim, string, time.Time) error
	release       func(context.Context, uia.Claim) error
	listUses      func(context.Context, uia.UseQuery) (uia.UsePage, error)
	pinnedUses    func(context.Context, time.Time, int) ([]uia.Use, error)
	sweepHolds    func(context.Context, time.Time, int) (int, error)
	loadSession   func(context.Context, string, time.Time) (uia.Record, error)
	saveSession   func(context.Context, uia.Record, time.Time) (uia.Record, error)
	sweepSessions func(context.Context, time.Time, int) (int, error)
	group         func(context.Context, func(context.Context) error) error
	inTx          func(context.Context, func(context.Context) error) error
	createInvite  func(context.Context, uia.Token, uia.InviteLimit, time.Time) error
	listCreated   func(context.Context, uia.CreatedQuery, time.Time) (uia.TokenPage, error)
	revokeCreated func(context.Context, string, int, time.Time) ([]string, error)
	listInvited   func(context.Context, uia.InvitedQuery) (uia.InvitedPage, error)
	inviteOf      func(context.Context, string) (uia.Use, error)
}

func newBroken(breaks func(b *broken)) *broken {
	m := newModel()
	b := &broken{
		model: m, restarted: func() {},
		createTokens: m.CreateTokens, getToken: m.Token, listTokens: m.ListTokens, updateToken: m.UpdateToken,
		deleteToken: m.DeleteToken, reserve: m.Reserve, pin: m.Pin, unpin: m.Unpin, commit: m.Commit, release: m.Release,
		listUses: m.ListUses, pinnedUses: m.PinnedUses, sweepHolds: m.SweepHolds,
		loadSession: m.LoadSession, saveSession: m.SaveSession, sweepSessions: m.SweepSessions, group: m.Group, inTx: m.InTx,
		createInvite: m.CreateInvite, listCreated: m.ListCreated, revokeCreated: m.RevokeCreated, listInvited: m.ListInvited, inviteOf: m.InviteOf,
	}
	breaks(b)
	return b
}

// Group of the model is a transaction.
func (m *model) Group(ctx context.Context, fn func(context.Context) error) error {
	return m.InTx(ctx, fn)
}

// InTx of the model lets nobody else do anything meanwhile.
func (m *model) InTx(ctx context.Context, fn func(context.Context) error) error {
	if ctx.Value(inTx{}) != nil {
		return fn(ctx)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	m.turn.Lock()
	defer m.turn.Unlock()
	undo := m.copied()
	committed := false
	defer func() {
		if !committed { // fn may have panicked
			undo()
		}
	}()
	err := fn(context.WithValue(ctx, inTx{}, true))
	committed = err == nil
	return err
}

// copied returns a function that makes the model what it was.
func (m *model) copied() (undo func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	tokens, uses, records := slices.Clone(m.tokens), slices.Clone(m.uses), maps.Clone(m.records)
	were := make([]uia.Token, len(tokens))
	for i, t := range tokens {
		were[i] = t.Token
	}
	for i, u := range uses {
		uses[i] = new(*u)
	}
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		for i, t := range tokens { // its uses point to it
			t.Token = were[i]
		}
		m.tokens, m.uses, m.records = tokens, uses, records
	}
}

func (b *broken) ctx(ctx context.Context, method string) context.Context {
	if method == b.ignoresContext {
		return context.WithoutCancel(ctx)
	}
	return ctx
}

func (b *broken) CreateTokens(ctx context.Context, tokens ...uia.Token) error {
	return b.createTokens(b.ctx(ctx, "CreateTokens"), tokens...)
}
func (b *broken) Token(ctx context.Context, value string, now time.Time) (uia.Token, error) {
	return b.getToken(b.ctx(ctx, "Token"), value, now)
}
func (b *broken) ListTokens(ctx context.Context, q uia.TokenQuery, now time.Time) (uia.TokenPage, error) {
	return b.listTokens(b.ctx(ctx, "ListTokens"), q, now)
}
func (b *broken) UpdateToken(ctx context.Context, value string, p uia.TokenPatch, now time.Time) (uia.Token, error) {
	return b.updateToken(b.ctx(ctx, "UpdateToken"), value, p, now)
}
func (b *broken) DeleteToken(ctx context.Context, value string) error {
	return b.deleteToken(b.ctx(ctx, "DeleteToken"), value)
}
func (b *broken) Reserve(ctx context.Context, h uia.Hold, now time.Time) error {
	return b.reserve(b.ctx(ctx, "Reserve"), h, now)
}
func (b *broken) Pin(ctx context.Context, c uia.Claim, now time.Time) error {
	return b.pin(b.ctx(ctx, "Pin"), c, now)
}
func (b *broken) Unpin(ctx context.Context, c uia.Claim, until, now time.Time) error {
	return b.unpin(b.ctx(ctx, "Unpin"), c, until, now)
}
func (b *broken) Commit(ctx context.Context, c uia.Claim, userID string, now time.Time) error {
	return b.commit(b.ctx(ctx, "Commit"), c, userID, now)
}
func (b *broken) Release(ctx context.Context, c uia.Claim) error {
	return b.release(b.ctx(ctx, "Release"), c)
}
func (b *broken) ListUses(ctx context.Context, q uia.UseQuery) (uia.UsePage, error) {
	return b.listUses(b.ctx(ctx, "ListUses"), q)
}
func (b *broken) PinnedUses(ctx context.Context, before time.Time, limit int) ([]uia.Use, error) {
	return b.pinnedUses(b.ctx(ctx, "PinnedUses"), before, limit)
}
func (b *broken) SweepHolds(ctx context.Context, before time.Time, limit int) (int, error) {
	return b.sweepHolds(b.ctx(ctx, "SweepHolds"), before, limit)
}
func (b *broken) LoadSession(ctx context.Context, key string, now time.Time) (uia.Record, error) {
	return b.loadSession(b.ctx(ctx, "LoadSession"), key, now)
}
func (b *broken) SaveSession(ctx context.Context, r uia.Record, now time.Time) (uia.Record, error) {
	return b.saveSession(b.ctx(ctx, "SaveSession"), r, now)
}
func (b *broken) SweepSessions(ctx context.Context, now time.Time, limit int) (int, error) {
	return b.sweepSessions(b.ctx(ctx, "SweepSessions"), now, limit)
}
func (b *broken) Group(ctx context.Context, fn func(context.Context) error) error {
	return b.group(b.ctx(ctx, "Group"), fn)
}
func (b *broken) InTx(ctx context.Context, fn func(context.Context) error) error {
	return b.inTx(b.ctx(ctx, "InTx"), fn)
}

func (b *broken) CreateInvite(ctx context.Context, t uia.Token, limit uia.InviteLimit, now time.Time) error {
	return b.createInvite(b.ctx(ctx, "CreateInvite"), t, limit, now)
}
func (b *broken) ListCreated(ctx context.Context, q uia.CreatedQuery, now time.Time) (uia.TokenPage, error) {
	return b.listCreated(b.ctx(ctx, "ListCreated"), q, now)
}
func (b *broken) RevokeCreated(ctx context.Context, by string, limit int, now time.Time) ([]string, error) {
	return b.revokeCreated(b.ctx(ctx, "RevokeCreated"), by, limit, now)
}
func (b *broken) ListInvited(ctx context.Context, q uia.InvitedQuery) (uia.InvitedPage, error) {
	return b.listInvited(b.ctx(ctx, "ListInvited"), q)
}
func (b *broken) InviteOf(ctx context.Context, userID string) (uia.Use, error) {
	return b.inviteOf(b.ctx(ctx, "InviteOf"), userID)
}

// fails runs a case on a store and returns why it fails, or "".
func fails(ctx context.Context, c promise, b *broken) string {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return kitrun.Fails(ctx, func(t kitrun.TB) {
		k := &kit{TB: t, Store: b, ctx: ctx}
		k.reopen = func() { b.restarted() }
		c.test(k)
	})
}

// TestEveryCaseCatchesABrokenStore runs every case on every broken store, and on
// one that is not broken.
func TestEveryCaseCatchesABrokenStore(t *testing.T) {
	for _, c := range cases() {
		if why := fails(t.Context(), c, newBroken(func(*broken) {})); why != "" {
			t.Errorf("%s fails a store that keeps the contract: %s", c.name, why)
		}
	}
	storms := map[string]bool{} // the cases that race many callers, and whether with transactions
	for _, c := range stormCases {
		storms[c.name] = false
	}
	for _, name := range []string{"in-a-transaction-unseen", "transactions-that-cross", "transactions-run-again", "overtaken-in-a-transaction"} {
		storms[name] = true
	}
	for _, name := range []string{"race-to-invite", "race-to-revoke-all"} {
		storms[name] = false
	}
	caught := map[string][]string{} // case to broken stores
	var mu sync.Mutex
	var wg sync.WaitGroup
	next := make(chan mutant)
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for m := range next {
				var by []string
				for _, c := range cases() {
					if inTx, races := storms[c.name]; races && !m.facesStorms(inTx) || m.invites() != (c.needs&anInviteStore != 0) {
						continue
					}
					if why := fails(t.Context(), c, newBroken(m.breaks)); why != "" {
						by = append(by, c.name)
					}
				}
				// The model notices nearly everything, but does not say which promise was broken.
				if len(slices.DeleteFunc(slices.Clone(by), func(s string) bool { return s == "agrees-with-the-model" })) == 0 {
					t.Errorf("no case fails a store which %s (%v)", m.name, by)
				}
				mu.Lock()
				for _, name := range by {
					caught[name] = append(caught[name], m.name)
				}
				mu.Unlock()
			}
		})
	}
	all := mutants()
	for _, m := range all {
		next <- m
	}
	close(next)
	wg.Wait()
	catches := map[string]int{} // broken store to the number of cases
	for _, by := range caught {
		for _, m := range by {
			catches[m]++
		}
	}
	var table strings.Builder
	for _, c := range cases() {
		by := caught[c.name]
		if len(by) == 0 {
			t.Errorf("%s catches no broken store", c.name)
		}
		slices.SortFunc(by, func(a, b string) int { // what few other cases catch comes first
			return cmp.Or(cmp.Compare(catches[a], catches[b]), cmp.Compare(a, b))
		})
		fmt.Fprintf(&table, "%-34s %3d: %s\n", c.name, len(by), strings.Join(by[:min(3, len(by))], "; "))
	}
	t.Logf("%d cases, %d broken stores; each case and what it catches:\n%s", len(cases()), len(all), table.String())
}

// TestWalkMeetsEverything keeps the random walk from becoming one in which
// nearly everything is refused.
func TestWalkMeetsEverything(t *testing.T) {
	w := walker{k: &kit{TB: t, Store: newModel(), ctx: t.Context()}, model: newModel(), rnd: rand.New(rand.NewPCG(1, 2))}
	for range walkSteps {
		w.step()
	}
	met := map[string]int{}
	for _, line := range w.log {
		_, answer, _ := strings.Cut(line, ": ")
		for _, s := range sentinels {
			if strings.HasSuffix(line, s.Error()) {
				answer = s.Error()
			}
		}
		if !strings.HasPrefix(answer, "uia: ") {
			answer = "nil"
		}
		met[strings.Fields(line)[2]+": "+answer]++
	}
	for call, errs := range map[string][]error{
		"CreateTokens": {nil, uia.ErrExists},
		"UpdateToken":  {nil, uia.ErrNotFound},
		"DeleteToken":  {nil, uia.ErrNotFound},
		"Reserve":      {nil, uia.ErrNotFound, uia.ErrRevoked, uia.ErrExpired, uia.ErrExhausted, uia.ErrSpent},
		"Pin":          {nil, uia.ErrNotHeld, uia.ErrSpent},
		"Unpin":        {nil, uia.ErrNotHeld, uia.ErrSpent},
		"Commit":       {nil, uia.ErrNotHeld, uia.ErrSpent},
		"Release":      {nil, uia.ErrNotHeld, uia.ErrSpent},
		"SweepHolds":   {nil},
		"LoadSession":  {nil, uia.ErrNotFound},
		"SaveSession":  {nil, uia.ErrConflict},
	} {
		for _, err := range errs {
			want := call + ": nil"
			if err != nil {
				want = call + ": " + err.Error()
			}
			if t.Logf("%3d %s", met[want], want); met[want] == 0 {
				t.Errorf("the walk never meets %s", want)
			}
		}
	}
}
