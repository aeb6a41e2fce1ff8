package accounttest

import (
	"context"
	"errors"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/matrix-uia/uia/internal/kitrun"
	"github.com/matrix-uia/uia/restauth"
)

func TestMemoryAccounts(t *testing.T) {
	Test(t, func(*testing.T) restauth.AccountStore { return &restauth.MemoryAccounts{} }, nil)
}

// broken is a store that breaks a promise.
type broken struct {
	restauth.MemoryAccounts
	create      func(b *broken, ctx context.Context, a restauth.Account) (restauth.Account, error)
	find        func(b *broken, ctx context.Context, name string) (restauth.Account, error)
	setPassword func(b *broken, ctx context.Context, name, hash string) error
	deactivate  func(b *broken, ctx context.Context, name string) error
	bury        func(b *broken, ctx context.Context, key string) (restauth.Account, error)
	forgets     bool // on a restart
}

func (b *broken) Create(ctx context.Context, a restauth.Account) (restauth.Account, error) {
	if b.create != nil {
		return b.create(b, ctx, a)
	}
	return b.MemoryAccounts.Create(ctx, a)
}

func (b *broken) Find(ctx context.Context, name string) (restauth.Account, error) {
	if b.find != nil {
		return b.find(b, ctx, name)
	}
	return b.MemoryAccounts.Find(ctx, name)
}

func (b *broken) SetPassword(ctx context.Context, name, hash string) error {
	if b.setPassword != nil {
		return b.setPassword(b, ctx, name, hash)
	}
	return b.MemoryAccounts.SetPassword(ctx, name, hash)
}

func (b *broken) Deactivate(ctx context.Context, name string) error {
	if b.deactivate != nil {
		return b.deactivate(b, ctx, name)
	}
	return b.MemoryAccounts.Deactivate(ctx, name)
}

func (b *broken) Bury(ctx context.Context, key string) (restauth.Account, error) {
	if b.bury != nil {
		return b.bury(b, ctx, key)
	}
	return b.MemoryAccounts.Bury(ctx, key)
}

// mutants are broken stores, each with the case that has to catch it.
var mutants = []struct {
	name, caught string
	breaks       func(b *broken)
}{
	{"the hash of a later run is dropped", "create-again", func(b *broken) {
		b.create = func(b *broken, ctx context.Context, a restauth.Account) (restauth.Account, error) {
			if old, err := b.Made(ctx, a.Key); err == nil {
				return old, nil
			}
			return b.MemoryAccounts.Create(ctx, a)
		}
	}},
	{"a late run sets its hash", "create-again", func(b *broken) {
		b.create = func(b *broken, ctx context.Context, a restauth.Account) (restauth.Account, error) {
			if old, err := b.Made(ctx, a.Key); err == nil && old.Run < math.MaxInt64 {
				a.Run = max(a.Run, old.Run)
			}
			return b.MemoryAccounts.Create(ctx, a)
		}
	}},
	{"a microsecond is kept", "create", func(b *broken) {
		b.create = func(b *broken, ctx context.Context, a restauth.Account) (restauth.Account, error) {
			out, err := b.MemoryAccounts.Create(ctx, a)
			if err == nil {
				out.Created = a.Created
			}
			return out, err
		}
	}},
	{"names are folded", "find-byte-for-byte", func(b *broken) {
		b.find = func(b *broken, ctx context.Context, name string) (restauth.Account, error) {
			return b.MemoryAccounts.Find(ctx, strings.ToLower(name))
		}
	}},
	{"a deactivated name is free", "create-what-is-taken", func(b *broken) {
		b.create = func(b *broken, ctx context.Context, a restauth.Account) (restauth.Account, error) {
			if old, err := b.MemoryAccounts.Find(ctx, a.Localpart); err == nil && old.State == restauth.Deactivated && old.Key != a.Key {
				a.State, a.Created = restauth.Active, epoch
				return a, nil
			}
			return b.MemoryAccounts.Create(ctx, a)
		}
	}},
	{"a password can be replaced by the registration", "set-password", func(b *broken) {
		b.setPassword = func(b *broken, ctx context.Context, name, hash string) error {
			old, err := b.MemoryAccounts.Find(ctx, name)
			if err == nil && old.State == restauth.Active {
				old.Hash = hash
				_, err = b.MemoryAccounts.Create(ctx, old)
				return err
			}
			return restauth.ErrNotFound
		}
	}},
	{"a password of nobody can be set", "set-no-password", func(b *broken) {
		b.setPassword = func(b *broken, ctx context.Context, name, hash string) error {
			err := b.MemoryAccounts.SetPassword(ctx, name, hash)
			if errors.Is(err, restauth.ErrNotFound) {
				return nil
			}
			return err
		}
	}},
	{"deactivating twice is an error", "deactivate", func(b *broken) {
		b.deactivate = func(b *broken, ctx context.Context, name string) error {
			if old, err := b.MemoryAccounts.Find(ctx, name); err == nil && old.State == restauth.Deactivated {
				return restauth.ErrNotFound
			}
			return b.MemoryAccounts.Deactivate(ctx, name)
		}
	}},
	{"nothing is buried", "bury", func(b *broken) {
		b.bury = func(b *broken, ctx context.Context, key string) (restauth.Account, error) {
			a, err := b.Made(ctx, key)
			if errors.Is(err, restauth.ErrNotFound) {
				err = restauth.ErrBuried
			}
			return a, err
		}
	}},
	{"what is made is buried", "bury-what-is-made", func(b *broken) {
		b.bury = func(b *broken, ctx context.Context, key string) (restauth.Account, error) {
			if a, err := b.Made(ctx, key); err == nil && a.State == restauth.Active {
				return restauth.Account{}, restauth.ErrBuried
			}
			return b.MemoryAccounts.Bury(ctx, key)
		}
	}},
	{"a context that has ended is not looked at", "a-context-that-has-ended", func(b *broken) {
		b.deactivate = func(b *broken, ctx context.Context, name string) error {
			return b.MemoryAccounts.Deactivate(context.WithoutCancel(ctx), name)
		}
	}},
	{"a restart forgets", "restart", func(b *broken) { b.forgets = true }},
	{"a look and then a write", "race-for-a-name", func(b *broken) {
		b.create = func(b *broken, ctx context.Context, a restauth.Account) (restauth.Account, error) {
			_, err := b.MemoryAccounts.Find(ctx, a.Localpart)
			for range 100 {
				runtime.Gosched() // others look too
			}
			if errors.Is(err, restauth.ErrNotFound) {
				_, _ = b.MemoryAccounts.Create(ctx, a)
				return a, nil
			}
			return b.MemoryAccounts.Create(ctx, a)
		}
	}},
	{"a burial looks and then writes", "race-with-a-burial", func(b *broken) {
		b.bury = func(b *broken, ctx context.Context, key string) (restauth.Account, error) {
			a, err := b.Made(ctx, key)
			for range 100 {
				runtime.Gosched()
			}
			if errors.Is(err, restauth.ErrNotFound) {
				_, _ = b.MemoryAccounts.Bury(ctx, key)
				return restauth.Account{}, restauth.ErrBuried
			}
			return a, err
		}
	}},
}

// caught runs the case on the store, and returns what it says against it.
func caught(ctx context.Context, c promise, b *broken) string {
	return kitrun.Fails(ctx, func(t kitrun.TB) {
		k := &kit{TB: t, AccountStore: b, ctx: ctx}
		k.reopen = func() {
			if b.forgets {
				k.AccountStore = &restauth.MemoryAccounts{}
			}
		}
		c.test(k)
	})
}

func TestEachMutantIsCaught(t *testing.T) {
	for _, m := range mutants {
		i := slices.IndexFunc(cases, func(c promise) bool { return c.name == m.caught })
		if i < 0 {
			t.Fatalf("there is no case %q", m.caught)
		}
		text := ""
		for tries := 0; tries < 20 && text == ""; tries++ { // a race is not lost every time
			b := &broken{}
			m.breaks(b)
			text = caught(t.Context(), cases[i], b)
		}
		if text == "" {
			t.Errorf("%s: %s does not catch it", m.name, m.caught)
		}
	}
}

func TestEachCaseCatchesAMutant(t *testing.T) {
	for _, c := range cases {
		if text := caught(t.Context(), c, &broken{}); text != "" {
			t.Errorf("%s fails without a mistake: %s", c.name, text)
		}
		found := false
		for _, m := range mutants {
			found = found || m.caught == c.name
		}
		if !found {
			t.Errorf("no mutant is caught by %s", c.name)
		}
	}
}
