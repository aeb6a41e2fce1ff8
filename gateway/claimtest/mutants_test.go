package claimtest

import (
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/matrix-uia/uia/gateway"
	"github.com/matrix-uia/uia/internal/kitrun"
)

// broken is a store that breaks a promise.
type broken struct {
	gateway.MemoryClaims
	mu      sync.Mutex
	reserve func(b *broken, ctx context.Context, c gateway.Claim, now time.Time) (gateway.Claim, error)
	save    func(b *broken, ctx context.Context, c gateway.Claim, now time.Time) (gateway.Claim, error)
	bury    func(b *broken, ctx context.Context, key string, now time.Time) (gateway.Claim, error)
	list    func(b *broken, ctx context.Context, q gateway.ClaimQuery) ([]gateway.Claim, error)
	delete  func(b *broken, ctx context.Context, c gateway.Claim) error
	forgets bool   // on a restart
	shared  []byte // what was sealed last
}

func (b *broken) Reserve(ctx context.Context, c gateway.Claim, now time.Time) (gateway.Claim, error) {
	if b.reserve != nil {
		return b.reserve(b, ctx, c, now)
	}
	return b.MemoryClaims.Reserve(ctx, c, now)
}
func (b *broken) Save(ctx context.Context, c gateway.Claim, now time.Time) (gateway.Claim, error) {
	if b.save != nil {
		return b.save(b, ctx, c, now)
	}
	return b.MemoryClaims.Save(ctx, c, now)
}
func (b *broken) Bury(ctx context.Context, key string, now time.Time) (gateway.Claim, error) {
	if b.bury != nil {
		return b.bury(b, ctx, key, now)
	}
	return b.MemoryClaims.Bury(ctx, key, now)
}
func (b *broken) List(ctx context.Context, q gateway.ClaimQuery) ([]gateway.Claim, error) {
	if b.list != nil {
		return b.list(b, ctx, q)
	}
	return b.MemoryClaims.List(ctx, q)
}
func (b *broken) Delete(ctx context.Context, c gateway.Claim) error {
	if b.delete != nil {
		return b.delete(b, ctx, c)
	}
	return b.MemoryClaims.Delete(ctx, c)
}

// find returns the claim of a key.
func (b *broken) find(key string) (gateway.Claim, bool) {
	for s := gateway.Free; s <= gateway.Buried; s++ {
		list, _ := b.MemoryClaims.List(context.Background(), gateway.ClaimQuery{State: s, Limit: 1000})
		for _, c := range list {
			if c.Key == key {
				return c, true
			}
		}
	}
	return gateway.Claim{}, false
}

// replace replaces what is stored under a key.
func (b *broken) replace(old, c gateway.Claim) gateway.Claim {
	ctx := context.Background()
	_ = b.MemoryClaims.Delete(ctx, old)
	if _, err := b.MemoryClaims.Reserve(ctx, gateway.Claim{Key: c.Key, Localpart: c.Localpart, Run: c.Run}, c.Changed); err != nil {
		return c
	}
	c, _ = b.MemoryClaims.Save(ctx, c, c.Changed)
	return c
}

type mutant struct {
	name   string
	breaks func(b *broken)
}

// reserves makes a mutant whose Reserve does something about the claim that is there.
func reserves(name string, f func(b *broken, old gateway.Claim, c *gateway.Claim, now *time.Time) (gateway.Claim, error, bool)) mutant {
	return mutant{name, func(b *broken) {
		b.reserve = func(b *broken, ctx context.Context, c gateway.Claim, now time.Time) (gateway.Claim, error) {
			if ctx.Err() == nil {
				old, _ := b.find(c.Key)
				if out, err, done := f(b, old, &c, &now); done {
					return out, err
				}
			}
			return b.MemoryClaims.Reserve(ctx, c, now)
		}
	}}
}

// saves is reserves for Save.
func saves(name string, f func(b *broken, old gateway.Claim, c *gateway.Claim, now *time.Time) (gateway.Claim, error, bool)) mutant {
	return mutant{name, func(b *broken) {
		b.save = func(b *broken, ctx context.Context, c gateway.Claim, now time.Time) (gateway.Claim, error) {
			if ctx.Err() == nil {
				old, _ := b.find(c.Key)
				if out, err, done := f(b, old, &c, &now); done {
					return out, err
				}
			}
			return b.MemoryClaims.Save(ctx, c, now)
		}
	}}
}

// isFinal reports whether a claim is.
func isFinal(c gateway.Claim) bool { return c.State == gateway.Made || c.State == gateway.Buried }

func isOpen(c gateway.Claim) bool { return c.State == gateway.Reserved || c.State == gateway.Sent }

var mutants = []mutant{
	reserves("keeps the first name of a reserved claim", func(_ *broken, old gateway.Claim, c *gateway.Claim, _ *time.Time) (gateway.Claim, error, bool) {
		if old.State == gateway.Reserved {
			c.Localpart = old.Localpart
		}
		return gateway.Claim{}, nil, false
	}),
	reserves("takes no free claim", func(_ *broken, old gateway.Claim, _ *gateway.Claim, _ *time.Time) (gateway.Claim, error, bool) {
		return old, nil, old.State == gateway.Free
	}),
	reserves("gives a sent claim another name", func(b *broken, old gateway.Claim, c *gateway.Claim, _ *time.Time) (gateway.Claim, error, bool) {
		if old.State != gateway.Sent || old.Run > c.Run {
			return gateway.Claim{}, nil, false
		}
		next := old
		next.Localpart, next.Run = c.Localpart, c.Run
		return b.replace(old, next), nil, true
	}),
	reserves("begins a sent claim anew", func(b *broken, old gateway.Claim, c *gateway.Claim, now *time.Time) (gateway.Claim, error, bool) {
		if old.State == gateway.Sent && old.Run <= c.Run {
			_ = b.MemoryClaims.Delete(context.Background(), old)
		}
		return gateway.Claim{}, nil, false
	}),
	reserves("leaves a sent claim to the run that sent it", func(_ *broken, old gateway.Claim, c *gateway.Claim, _ *time.Time) (gateway.Claim, error, bool) {
		return old, nil, old.State == gateway.Sent && old.Run <= c.Run
	}),
	reserves("takes a claim from a higher run", func(b *broken, old gateway.Claim, c *gateway.Claim, _ *time.Time) (gateway.Claim, error, bool) {
		c.Run = max(c.Run, old.Run)
		return gateway.Claim{}, nil, false
	}),
	reserves("refuses the run that has the claim", func(_ *broken, old gateway.Claim, c *gateway.Claim, _ *time.Time) (gateway.Claim, error, bool) {
		return gateway.Claim{}, gateway.ErrOvertaken, !isFinal(old) && old.Key != "" && old.Run == c.Run
	}),
	reserves("says that what is made was overtaken", func(_ *broken, old gateway.Claim, c *gateway.Claim, _ *time.Time) (gateway.Claim, error, bool) {
		return gateway.Claim{}, gateway.ErrOvertaken, isFinal(old) && old.Run > c.Run
	}),
	reserves("begins what is buried anew", func(b *broken, old gateway.Claim, c *gateway.Claim, _ *time.Time) (gateway.Claim, error, bool) {
		if old.State == gateway.Buried {
			_ = b.MemoryClaims.Delete(context.Background(), old)
		}
		return gateway.Claim{}, nil, false
	}),
	reserves("begins what is made anew", func(b *broken, old gateway.Claim, c *gateway.Claim, _ *time.Time) (gateway.Claim, error, bool) {
		if old.State == gateway.Made {
			_ = b.MemoryClaims.Delete(context.Background(), old)
		}
		return gateway.Claim{}, nil, false
	}),
	reserves("gives one name to two", func(b *broken, old gateway.Claim, c *gateway.Claim, now *time.Time) (gateway.Claim, error, bool) {
		out, err := b.MemoryClaims.Reserve(context.Background(), *c, *now)
		if err == gateway.ErrTaken {
			return gateway.Claim{Key: c.Key, Localpart: c.Localpart, Run: c.Run, State: gateway.Reserved, Changed: now.UTC().Truncate(time.Millisecond)}, nil, true
		}
		return out, err, true
	}),
	reserves("lets go of a claim whose new name is taken", func(b *broken, old gateway.Claim, c *gateway.Claim, now *time.Time) (gateway.Claim, error, bool) {
		out, err := b.MemoryClaims.Reserve(context.Background(), *c, *now)
		if err == gateway.ErrTaken {
			_ = b.MemoryClaims.Delete(context.Background(), old)
		}
		return out, err, true
	}),
	reserves("looks at the name of a sent claim's request", func(b *broken, old gateway.Claim, c *gateway.Claim, now *time.Time) (gateway.Claim, error, bool) {
		if old.State != gateway.Sent {
			return gateway.Claim{}, nil, false
		}
		_, err := b.MemoryClaims.Reserve(context.Background(), gateway.Claim{Key: "probe", Localpart: c.Localpart}, *now)
		_ = b.MemoryClaims.Delete(context.Background(), gateway.Claim{Key: "probe", State: gateway.Reserved})
		return gateway.Claim{}, err, err == gateway.ErrTaken && c.Localpart != old.Localpart
	}),
	reserves("keeps names for ever", func(b *broken, old gateway.Claim, c *gateway.Claim, now *time.Time) (gateway.Claim, error, bool) {
		for _, s := range []gateway.State{gateway.Free, gateway.Made, gateway.Buried} {
			list, _ := b.MemoryClaims.List(context.Background(), gateway.ClaimQuery{State: s, Localpart: c.Localpart, Limit: 1})
			if len(list) > 0 && list[0].Key != c.Key {
				return gateway.Claim{}, gateway.ErrTaken, true
			}
		}
		return gateway.Claim{}, nil, false
	}),
	reserves("ignores the case of names", func(b *broken, old gateway.Claim, c *gateway.Claim, now *time.Time) (gateway.Claim, error, bool) {
		c.Localpart = strings.ToLower(c.Localpart)
		return gateway.Claim{}, nil, false
	}),
	reserves("counts runs in 32 bits", func(_ *broken, _ gateway.Claim, c *gateway.Claim, _ *time.Time) (gateway.Claim, error, bool) {
		c.Run = int64(int32(c.Run))
		return gateway.Claim{}, nil, false
	}),
	reserves("reads the clock when it reserves", func(_ *broken, _ gateway.Claim, _ *gateway.Claim, now *time.Time) (gateway.Claim, error, bool) {
		*now = time.Now()
		return gateway.Claim{}, nil, false
	}),
	{"returns times in the zone in which they came", func(b *broken) {
		b.reserve = func(b *broken, ctx context.Context, c gateway.Claim, now time.Time) (gateway.Claim, error) {
			out, err := b.MemoryClaims.Reserve(ctx, c, now)
			out.Changed = out.Changed.In(now.Location())
			return out, err
		}
	}},
	{"looks first and writes then", func(b *broken) {
		b.reserve = func(b *broken, ctx context.Context, c gateway.Claim, now time.Time) (gateway.Claim, error) {
			taken := false
			for _, s := range []gateway.State{gateway.Reserved, gateway.Sent} {
				list, _ := b.MemoryClaims.List(ctx, gateway.ClaimQuery{State: s, Localpart: c.Localpart, Limit: 1})
				taken = taken || len(list) > 0 && list[0].Key != c.Key
			}
			for range 10 {
				runtime.Gosched()
			}
			out, err := b.MemoryClaims.Reserve(ctx, c, now)
			if err == gateway.ErrTaken && !taken {
				return gateway.Claim{Key: c.Key, Localpart: c.Localpart, Run: c.Run, State: gateway.Reserved}, nil
			}
			return out, err
		}
	}},
	saves("saves for any run", func(_ *broken, old gateway.Claim, c *gateway.Claim, _ *time.Time) (gateway.Claim, error, bool) {
		c.Run = old.Run
		return gateway.Claim{}, nil, false
	}),
	saves("saves for a later run", func(_ *broken, old gateway.Claim, c *gateway.Claim, _ *time.Time) (gateway.Claim, error, bool) {
		c.Run = min(c.Run, old.Run)
		return gateway.Claim{}, nil, false
	}),
	saves("does not keep what is sealed", func(_ *broken, old gateway.Claim, c *gateway.Claim, _ *time.Time) (gateway.Claim, error, bool) {
		c.Sealed = nil
		return gateway.Claim{}, nil, false
	}),
	saves("keeps what was sealed first", func(_ *broken, old gateway.Claim, c *gateway.Claim, _ *time.Time) (gateway.Claim, error, bool) {
		if old.Sealed != nil {
			c.Sealed = old.Sealed
		}
		return gateway.Claim{}, nil, false
	}),
	saves("keeps at most 1 KiB", func(_ *broken, old gateway.Claim, c *gateway.Claim, _ *time.Time) (gateway.Claim, error, bool) {
		c.Sealed = c.Sealed[:min(len(c.Sealed), 1024)]
		return gateway.Claim{}, nil, false
	}),
	saves("does not touch the time", func(_ *broken, old gateway.Claim, _ *gateway.Claim, now *time.Time) (gateway.Claim, error, bool) {
		*now = old.Changed
		return gateway.Claim{}, nil, false
	}),
	saves("cannot be repeated", func(_ *broken, old gateway.Claim, c *gateway.Claim, _ *time.Time) (gateway.Claim, error, bool) {
		return gateway.Claim{}, gateway.ErrOvertaken, old.Run == c.Run && old.State == c.State && !isOpen(old)
	}),
	saves("changes what is final", func(b *broken, old gateway.Claim, c *gateway.Claim, now *time.Time) (gateway.Claim, error, bool) {
		if !isFinal(old) || old.Run != c.Run || old.State == c.State {
			return gateway.Claim{}, nil, false
		}
		next := *c
		next.Localpart, next.Changed = old.Localpart, *now
		return b.replace(old, next), nil, true
	}),
	saves("says that it has saved what it has not", func(_ *broken, old gateway.Claim, c *gateway.Claim, _ *time.Time) (gateway.Claim, error, bool) {
		return *c, nil, old.Key == "" || old.Run != c.Run
	}),
	saves("saves what is free", func(b *broken, old gateway.Claim, c *gateway.Claim, now *time.Time) (gateway.Claim, error, bool) {
		if old.State != gateway.Free || old.Run != c.Run || c.State == gateway.Free {
			return gateway.Claim{}, nil, false
		}
		next := *c
		next.Localpart, next.Changed = old.Localpart, *now
		return b.replace(old, next), nil, true
	}),
	saves("makes a claim that there was not", func(b *broken, old gateway.Claim, c *gateway.Claim, now *time.Time) (gateway.Claim, error, bool) {
		if old.Key != "" {
			return gateway.Claim{}, nil, false
		}
		return b.replace(old, *c), nil, true
	}),
	{"returns the claim before it was saved", func(b *broken) {
		b.save = func(b *broken, ctx context.Context, c gateway.Claim, now time.Time) (gateway.Claim, error) {
			old, _ := b.find(c.Key)
			_, err := b.MemoryClaims.Save(ctx, c, now)
			return old, err
		}
	}},
	{"shares what is sealed with its caller", func(b *broken) {
		b.save = func(b *broken, ctx context.Context, c gateway.Claim, now time.Time) (gateway.Claim, error) {
			b.mu.Lock()
			b.shared = c.Sealed
			b.mu.Unlock()
			return b.MemoryClaims.Save(ctx, c, now)
		}
		b.list = func(b *broken, ctx context.Context, q gateway.ClaimQuery) ([]gateway.Claim, error) {
			list, err := b.MemoryClaims.List(ctx, q)
			b.mu.Lock()
			defer b.mu.Unlock()
			for i := range list {
				list[i].Sealed = b.shared
			}
			return list, err
		}
	}},
	{"buries what is sent", func(b *broken) {
		b.bury = func(b *broken, ctx context.Context, key string, now time.Time) (gateway.Claim, error) {
			if old, _ := b.find(key); old.State == gateway.Sent && ctx.Err() == nil {
				old.State = gateway.Buried
				return b.MemoryClaims.Save(ctx, old, now)
			}
			return b.MemoryClaims.Bury(ctx, key, now)
		}
	}},
	{"lays no tombstone where there is no claim", func(b *broken) {
		b.bury = func(b *broken, ctx context.Context, key string, now time.Time) (gateway.Claim, error) {
			if _, found := b.find(key); !found {
				return gateway.Claim{Key: key, State: gateway.Buried, Changed: now.UTC().Truncate(time.Millisecond)}, ctx.Err()
			}
			return b.MemoryClaims.Bury(ctx, key, now)
		}
	}},
	{"says that it has buried what is reserved", func(b *broken) {
		b.bury = func(b *broken, ctx context.Context, key string, now time.Time) (gateway.Claim, error) {
			if old, _ := b.find(key); old.State == gateway.Reserved && ctx.Err() == nil {
				old.State, old.Changed = gateway.Buried, now
				return old, nil
			}
			return b.MemoryClaims.Bury(ctx, key, now)
		}
	}},
	{"touches what it does not bury", func(b *broken) {
		b.bury = func(b *broken, ctx context.Context, key string, now time.Time) (gateway.Claim, error) {
			if old, _ := b.find(key); old.State == gateway.Sent {
				return b.MemoryClaims.Save(ctx, old, now)
			}
			return b.MemoryClaims.Bury(ctx, key, now)
		}
	}},
	{"lists the newest first", func(b *broken) {
		b.list = func(b *broken, ctx context.Context, q gateway.ClaimQuery) ([]gateway.Claim, error) {
			limit := q.Limit
			q.Limit = 1000
			list, err := b.MemoryClaims.List(ctx, q)
			slices.Reverse(list)
			return list[:min(limit, len(list))], err
		}
	}},
	lists("lists more than was asked for", func(q *gateway.ClaimQuery) { q.Limit++ }),
	lists("lists all names", func(q *gateway.ClaimQuery) { q.Localpart = "" }),
	lists("lists what has just changed", func(q *gateway.ClaimQuery) { q.Before = time.Time{} }),
	lists("lists what changed at that time", func(q *gateway.ClaimQuery) {
		if !q.Before.IsZero() {
			q.Before = q.Before.Add(time.Millisecond)
		}
	}),
	deletes("deletes for any run", func(old gateway.Claim, c *gateway.Claim) { c.Run = old.Run }),
	deletes("deletes in any state", func(old gateway.Claim, c *gateway.Claim) { c.State = old.State }),
	deletes("deletes nothing that is made", func(old gateway.Claim, c *gateway.Claim) {
		if old.State == gateway.Made {
			c.Run++
		}
	}),
	{"complains about what it cannot delete", func(b *broken) {
		b.delete = func(b *broken, ctx context.Context, c gateway.Claim) error {
			if old, found := b.find(c.Key); !found || old.Run != c.Run || old.State != c.State {
				return gateway.ErrOvertaken
			}
			return b.MemoryClaims.Delete(ctx, c)
		}
	}},
	{"does not look at the context", func(b *broken) {
		b.bury = func(b *broken, ctx context.Context, key string, now time.Time) (gateway.Claim, error) {
			return b.MemoryClaims.Bury(context.WithoutCancel(ctx), key, now)
		}
	}},
	{"forgets all when its process ends", func(b *broken) { b.forgets = true }},
	{"buries between a look and a write", func(b *broken) {
		b.bury = func(b *broken, ctx context.Context, key string, now time.Time) (gateway.Claim, error) {
			old, found := b.find(key)
			for range 20_000 { // until somebody has come in between, if somebody does
				runtime.Gosched()
				if c, there := b.find(key); there && c.State == gateway.Sent {
					break
				}
			}
			if !found {
				out := gateway.Claim{Key: key, State: gateway.Buried, Changed: now.UTC().Truncate(time.Millisecond)}
				_, _ = b.MemoryClaims.Bury(ctx, key, now)
				return out, ctx.Err()
			}
			if old.State != gateway.Sent {
				return b.MemoryClaims.Bury(ctx, key, now)
			}
			return old, ctx.Err()
		}
	}},
	{"lets the last to save win", func(b *broken) {
		b.save = func(b *broken, ctx context.Context, c gateway.Claim, now time.Time) (gateway.Claim, error) {
			b.mu.Lock()
			old, found := b.find(c.Key)
			b.mu.Unlock()
			for range 20 {
				runtime.Gosched()
			}
			out, err := b.MemoryClaims.Save(ctx, c, now)
			if err == gateway.ErrOvertaken && found && isOpen(old) && old.Run == c.Run {
				return c, nil
			}
			return out, err
		}
	}},
}

func lists(name string, f func(*gateway.ClaimQuery)) mutant {
	return mutant{name, func(b *broken) {
		b.list = func(b *broken, ctx context.Context, q gateway.ClaimQuery) ([]gateway.Claim, error) {
			f(&q)
			return b.MemoryClaims.List(ctx, q)
		}
	}}
}

func deletes(name string, f func(old gateway.Claim, c *gateway.Claim)) mutant {
	return mutant{name, func(b *broken) {
		b.delete = func(b *broken, ctx context.Context, c gateway.Claim) error {
			if old, found := b.find(c.Key); found {
				f(old, &c)
			}
			return b.MemoryClaims.Delete(ctx, c)
		}
	}}
}

// fails runs a case, and returns why it fails, or "".
func fails(ctx context.Context, c promise, b *broken) string {
	return kitrun.Fails(ctx, func(t kitrun.TB) {
		k := &kit{TB: t, ClaimStore: b, ctx: ctx}
		k.reopen = func() {
			if b.forgets {
				k.ClaimStore = &gateway.MemoryClaims{}
			}
		}
		c.test(k)
	})
}

// TestEveryCaseCatchesABrokenStore runs every case on every broken store, and on one
// that is not broken.
func TestEveryCaseCatchesABrokenStore(t *testing.T) {
	caught := map[string][]string{} // cases, with what they catch
	for _, c := range cases() {
		if why := fails(t.Context(), c, &broken{}); why != "" {
			t.Errorf("%s fails a store that keeps the contract: %s", c.name, why)
		}
	}
	for _, m := range mutants {
		alive := true
		for _, c := range cases() {
			b := &broken{}
			m.breaks(b)
			if why := fails(t.Context(), c, b); why != "" {
				caught[c.name] = append(caught[c.name], m.name)
				alive = false
			}
		}
		if alive {
			t.Errorf("no case fails a store that %s", m.name)
		}
	}
	for _, c := range cases() {
		if len(caught[c.name]) == 0 {
			t.Errorf("%s catches no broken store", c.name)
		}
		t.Logf("%-30s %2d: %s", c.name, len(caught[c.name]), strings.Join(caught[c.name][:min(3, len(caught[c.name]))], "; "))
	}
	t.Logf("%d cases, %d broken stores", len(cases()), len(mutants))
}

var spaces = regexp.MustCompile(`\s+`)

// TestCasesQuoteTheContract keeps the kit from testing what nobody promised, and the
// contract from promising what nobody tests.
func TestCasesQuoteTheContract(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "../claims.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	var docs, contract string
	for _, c := range file.Comments {
		docs += spaces.ReplaceAllString(c.Text(), " ")
	}
	names := map[string]bool{}
	for _, c := range cases() {
		if !strings.Contains(docs, c.says) {
			t.Errorf("%s: claims.go does not say %q", c.name, c.says)
		}
		if names[c.name] {
			t.Errorf("two cases are named %s", c.name)
		}
		names[c.name] = true
	}
	ast.Inspect(file, func(n ast.Node) bool {
		i, ok := n.(*ast.InterfaceType)
		if ok {
			for _, m := range i.Methods.List {
				contract += spaces.ReplaceAllString(m.Doc.Text(), " ")
			}
		}
		return !ok
	})
	for _, sentence := range regexp.MustCompile(`[^.]([^.]|\.\S)*\.(\s|$)`).FindAllString(contract, -1) {
		sentence = strings.TrimSpace(sentence)
		if !slices.ContainsFunc(cases(), func(c promise) bool {
			return strings.Contains(sentence, c.says) || strings.Contains(c.says, sentence)
		}) && sentence != "The claim is returned as it is then." {
			t.Errorf("no case quotes %q", sentence)
		}
	}
}
