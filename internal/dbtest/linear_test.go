package dbtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
)

const (
	linearSessions = 6
	linearLimit    = 3
)

// linearState is what one token's sessions have: nothing, or a use in a state.
type linearState [linearSessions]uia.UseState

// unpinned is a held use that bears the run.
const unpinned = uia.Spent + 1

func (s linearState) count() (pending, completed int64) {
	for _, u := range s {
		switch u {
		case uia.Held, uia.Pinned, unpinned:
			pending++
		case uia.Spent:
			completed++
		}
	}
	return pending, completed
}

type linearInput struct {
	call    string
	session int
}

type linearOutput struct {
	err                error // one of package uia's, or nil
	pending, completed int64 // of Token
}

// linearModel says what each call does when nothing happens at the same time. No
// hold lapses, and every run is the first.
var linearModel = porcupine.Model{
	Init: func() any { return linearState{} },
	Step: func(state, input, output any) (bool, any) {
		s, in, out := state.(linearState), input.(linearInput), output.(linearOutput)
		use := &s[in.session]
		switch in.call {
		case "Token":
			pending, completed := s.count()
			return out.pending == pending && out.completed == completed, s
		case "Reserve":
			pending, completed := s.count()
			switch {
			case *use == uia.Spent:
				return out.err == uia.ErrSpent, s
			case *use != 0:
				return out.err == nil, s
			case pending+completed >= linearLimit:
				return out.err == uia.ErrExhausted, s
			}
			*use = uia.Held
		case "Pin":
			switch *use {
			case 0, unpinned:
				return out.err == uia.ErrNotHeld, s
			case uia.Spent:
				return out.err == uia.ErrSpent, s
			}
			*use = uia.Pinned
		case "Unpin":
			switch *use {
			case 0, uia.Held:
				return out.err == uia.ErrNotHeld, s
			case uia.Spent:
				return out.err == uia.ErrSpent, s
			}
			*use = unpinned
		case "Commit":
			if *use != uia.Pinned && *use != uia.Spent {
				return out.err == uia.ErrNotHeld, s
			}
			*use = uia.Spent // again: by the same user, which is no error
		case "Release":
			switch *use {
			case 0:
				return out.err == uia.ErrNotHeld, s
			case uia.Spent:
				return out.err == uia.ErrSpent, s
			}
			*use = 0
		}
		return out.err == nil, s
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprint(input, output) },
}

// linearHistory makes calls about one token, and records what they got and when.
type linearHistory struct {
	s     uia.Store
	token string
	start time.Time

	mu  sync.Mutex
	ops []porcupine.Operation
	err error // an unknown one
}

func (h *linearHistory) call(ctx context.Context, client int, in linearInput) {
	session := fmt.Sprint("s", in.session)
	claim := uia.Claim{Token: h.token, Session: session, Run: 1}
	var tok uia.Token
	var err error
	called := time.Since(h.start)
	switch in.call {
	case "Token":
		tok, err = h.s.Token(ctx, h.token, t0)
	case "Reserve":
		err = h.s.Reserve(ctx, uia.Hold{Token: h.token, Session: session, Until: t0.Add(time.Hour)}, t0)
	case "Pin":
		err = h.s.Pin(ctx, claim, t0)
	case "Unpin":
		err = h.s.Unpin(ctx, claim, t0.Add(time.Hour), t0)
	case "Commit":
		err = h.s.Commit(ctx, claim, "@"+session, t0)
	case "Release":
		err = h.s.Release(ctx, claim)
	}
	returned := time.Since(h.start)
	out := linearOutput{pending: tok.Pending, completed: tok.Completed}
	for _, known := range []error{uia.ErrSpent, uia.ErrExhausted, uia.ErrNotHeld} {
		if errors.Is(err, known) {
			out.err, err = known, nil
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.err = errors.Join(h.err, err)
	h.ops = append(h.ops, porcupine.Operation{ClientId: client, Input: in, Output: out, Call: int64(called), Return: int64(returned)})
}

// history has clients make random calls about one token.
func history(t *testing.T, s uia.Store, token string) []porcupine.Operation {
	ctx := t.Context()
	require.NoError(t, s.CreateTokens(ctx, uia.Token{Value: token, UsesAllowed: new(int64(linearLimit))}))
	h := &linearHistory{s: s, token: token, start: time.Now()}
	var wg sync.WaitGroup
	for client := range 6 {
		wg.Go(func() {
			for range 30 {
				calls := []string{"Token", "Reserve", "Reserve", "Reserve", "Pin", "Pin", "Unpin", "Commit", "Release", "Release"}
				h.call(ctx, client, linearInput{calls[rand.IntN(len(calls))], rand.IntN(linearSessions)})
			}
		})
	}
	wg.Wait()
	assert.NoError(t, h.err)
	return h.ops
}

// TestLinearizable checks that concurrent calls look as if each had happened at
// one moment between its beginning and its end.
func TestLinearizable(t *testing.T) {
	for _, b := range backends() {
		t.Run(b.name, func(t *testing.T) {
			db, s := b.fresh(t)
			for i := range size(100, 10) {
				ops := history(t, s, fmt.Sprint("t", i))
				assert.True(t, porcupine.CheckOperations(linearModel, ops), "history %d has no explanation", i)
			}
			var drifted int
			require.NoError(t, db.QueryRowContext(t.Context(), `SELECT count(*) FROM uia_tokens
				WHERE taken <> (SELECT count(*) FROM uia_uses WHERE token_id = uia_tokens.id)
				OR held <> (SELECT count(*) FROM uia_uses WHERE token_id = uia_tokens.id AND state = 1)`).Scan(&drifted))
			assert.Zero(t, drifted, "tokens whose uses are miscounted")
		})
	}
}

// staleStore answers Token with what it knew a moment ago.
type staleStore struct {
	uia.Store
	mu    sync.Mutex
	known map[string]uia.Token
}

func (s *staleStore) Token(ctx context.Context, value string, now time.Time) (uia.Token, error) {
	t, err := s.Store.Token(ctx, value, now)
	s.mu.Lock()
	defer s.mu.Unlock()
	old, ok := s.known[value]
	s.known[value] = t
	if ok {
		return old, err
	}
	return t, err
}

// countingStore counts the uses and then takes one, as somebody would who has not
// read the contract.
type countingStore struct {
	uia.Store
}

func (s countingStore) Reserve(ctx context.Context, h uia.Hold, now time.Time) error {
	t, err := s.Token(ctx, h.Token, now)
	if err != nil {
		return err
	}
	if err := t.Usable(now); err != nil {
		return s.Store.Reserve(ctx, h, now)
	}
	// The limit was looked at. From here on it does not count.
	if _, err := s.UpdateToken(ctx, h.Token, uia.TokenPatch{UsesAllowed: new((*int64)(nil))}, now); err != nil {
		return err
	}
	err = s.Store.Reserve(ctx, h, now)
	if _, err := s.UpdateToken(ctx, h.Token, uia.TokenPatch{UsesAllowed: new(new(int64(linearLimit)))}, now); err != nil {
		return err
	}
	return err
}

// TestLinearizableCatches shows that the check notices broken stores.
func TestLinearizableCatches(t *testing.T) {
	for name, broken := range map[string]func(uia.Store) uia.Store{
		"stale":    func(s uia.Store) uia.Store { return &staleStore{Store: s, known: map[string]uia.Token{}} },
		"counting": func(s uia.Store) uia.Store { return countingStore{s} },
	} {
		t.Run(name, func(t *testing.T) {
			_, s := sqlite("sqlite3").fresh(t)
			for i := range 50 {
				if !porcupine.CheckOperations(linearModel, history(t, broken(s), fmt.Sprint("t", i))) {
					return
				}
			}
			t.Error("50 histories of a broken store were all explained")
		})
	}
}
