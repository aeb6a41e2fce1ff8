package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/matrix-uia/uia"
)

// Benchmark measures what a homeserver asks of a store most: checking tokens,
// guesses at them, and registrations, one after the other, side by side and on a
// single token. Open is as for TestStore.
func Benchmark(b *testing.B, open func(*testing.B) uia.Store) {
	for _, c := range []struct {
		name string
		run  func(*testing.B, uia.Store)
	}{
		{"token", benchToken},
		{"wrong guess", benchWrongGuess},
		{"register", benchRegister},
		{"register in parallel", benchParallel},
		{"register in parallel on one token", benchOneToken},
		{"list", benchList},
	} {
		b.Run(c.name, func(b *testing.B) { c.run(b, open(b)) })
	}
}

func benchToken(b *testing.B, s uia.Store) {
	must(b, s.CreateTokens(b.Context(), uia.Token{Value: "t", UsesAllowed: new(int64(100))}))
	for i := range 50 {
		must(b, register(b.Context(), s, "t", fmt.Sprint(i)))
	}
	for b.Loop() {
		_, err := s.Token(b.Context(), "t", epoch)
		must(b, err)
	}
}

func benchWrongGuess(b *testing.B, s uia.Store) {
	for b.Loop() {
		if _, err := s.Token(b.Context(), "unknown", epoch); !errors.Is(err, uia.ErrNotFound) {
			b.Fatal(err)
		}
	}
}

func benchRegister(b *testing.B, s uia.Store) {
	must(b, s.CreateTokens(b.Context(), uia.Token{Value: "t"}))
	for i := 0; b.Loop(); i++ {
		must(b, register(b.Context(), s, "t", fmt.Sprint(i)))
	}
}

// benchParallel registers with a token for each of the goroutines.
func benchParallel(b *testing.B, s uia.Store) {
	var n atomic.Int64
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		token := fmt.Sprint("t", n.Add(1))
		if err := s.CreateTokens(b.Context(), uia.Token{Value: token}); err != nil {
			b.Error(err)
		}
		for pb.Next() {
			if err := register(b.Context(), s, token, fmt.Sprint(n.Add(1))); err != nil {
				b.Error(err)
			}
		}
	})
}

func benchOneToken(b *testing.B, s uia.Store) {
	must(b, s.CreateTokens(b.Context(), uia.Token{Value: "t", UsesAllowed: new(int64(1) << 40)}))
	var n atomic.Int64
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := register(b.Context(), s, "t", fmt.Sprint(n.Add(1))); err != nil {
				b.Error(err)
			}
		}
	})
}

func benchList(b *testing.B, s uia.Store) {
	var tokens []uia.Token
	for i := range 10_000 {
		tokens = append(tokens, uia.Token{Value: fmt.Sprint("t", i), UsesAllowed: new(int64(1))})
	}
	must(b, s.CreateTokens(b.Context(), tokens...))
	for b.Loop() {
		page, err := s.ListTokens(b.Context(), uia.TokenQuery{Valid: new(true), After: &uia.TokenCursor{Value: "t5"}}, epoch)
		must(b, err)
		if len(page.Tokens) != 100 {
			b.Fatalf("%d tokens", len(page.Tokens))
		}
	}
}

// register does what the engine does for one registration in two requests: a
// hold and a record, then the lease, the pin, the spent use and the response.
func register(ctx context.Context, s uia.Store, token, session string) error {
	if _, err := s.Token(ctx, token, epoch); err != nil {
		return err
	}
	if err := s.Reserve(ctx, uia.Hold{Token: token, Session: session, Until: at(10 * minute)}, epoch); err != nil {
		return err
	}
	r, err := s.SaveSession(ctx, uia.Record{Key: session, State: uia.Open, Expires: at(hour), Data: make([]byte, 400)}, epoch)
	if err != nil {
		return err
	}
	if r, err = s.LoadSession(ctx, session, epoch); err != nil {
		return err
	}
	r.State, r.Run, r.LeaseEnd = uia.Running, 1, at(minute)
	if r, err = s.SaveSession(ctx, r, epoch); err != nil {
		return err
	}
	claim := uia.Claim{Token: token, Session: session, Run: 1}
	if err := s.Pin(ctx, claim, epoch); err != nil {
		return err
	}
	if err := s.Commit(ctx, claim, "@"+session+":example.org", epoch); err != nil {
		return err
	}
	r.State = uia.Done
	_, err = s.SaveSession(ctx, r, epoch)
	return err
}

func must(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}
