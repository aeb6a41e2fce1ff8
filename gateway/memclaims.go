package gateway

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"
)

// MemoryClaims is a [ClaimStore] in the memory of one process: for tests, and for a
// gateway whose tokens are in memory too. Its zero value is empty and ready.
type MemoryClaims struct {
	mu    sync.Mutex
	byKey map[string]Claim
	names map[string]string // the localparts of claims that are Reserved or Sent, with their keys
}

var _ ClaimStore = (*MemoryClaims)(nil)

// final reports whether nothing can become of the claim any more.
func (c Claim) final() bool { return c.State == Made || c.State == Buried }

// open reports whether the claim keeps its localpart from others.
func (c Claim) open() bool { return c.State == Reserved || c.State == Sent }

// put stores c. The mutex is held.
func (m *MemoryClaims) put(c Claim) Claim {
	if m.byKey == nil {
		m.byKey, m.names = make(map[string]Claim), make(map[string]string)
	}
	if old := m.byKey[c.Key]; old.open() {
		delete(m.names, old.Localpart)
	}
	if c.open() {
		m.names[c.Localpart] = c.Key
	}
	c.Sealed = slices.Clone(c.Sealed)
	m.byKey[c.Key] = c
	return c.copied()
}

func (c Claim) copied() Claim {
	c.Sealed = slices.Clone(c.Sealed)
	return c
}

func millis(t time.Time) time.Time { return time.UnixMilli(t.UnixMilli()).UTC() }

// Reserve implements [ClaimStore].
func (m *MemoryClaims) Reserve(ctx context.Context, c Claim, now time.Time) (Claim, error) {
	if err := ctx.Err(); err != nil {
		return Claim{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	old, found := m.byKey[c.Key]
	switch {
	case found && old.final():
		return old.copied(), nil
	case found && old.Run > c.Run:
		return Claim{}, ErrOvertaken
	case found && old.State == Sent:
		old.Run = c.Run
		return m.put(old), nil
	}
	if holder, taken := m.names[c.Localpart]; taken && holder != c.Key {
		return Claim{}, ErrTaken
	}
	return m.put(Claim{Key: c.Key, Localpart: c.Localpart, Run: c.Run, State: Reserved, Changed: millis(now)}), nil
}

// Save implements [ClaimStore].
func (m *MemoryClaims) Save(ctx context.Context, c Claim, now time.Time) (Claim, error) {
	if err := ctx.Err(); err != nil {
		return Claim{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	old, found := m.byKey[c.Key]
	switch {
	case !found || old.Run != c.Run:
		return Claim{}, ErrOvertaken
	case old.open():
		old.State, old.Sealed, old.Changed = c.State, c.Sealed, millis(now)
		return m.put(old), nil
	case old.State == c.State:
		return old.copied(), nil
	}
	return Claim{}, ErrOvertaken
}

// Bury implements [ClaimStore].
func (m *MemoryClaims) Bury(ctx context.Context, key string, now time.Time) (Claim, error) {
	if err := ctx.Err(); err != nil {
		return Claim{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	c, found := m.byKey[key]
	if found && (c.State == Sent || c.final()) {
		return c.copied(), nil
	}
	c.Key, c.State, c.Sealed, c.Changed = key, Buried, nil, millis(now)
	return m.put(c), nil
}

// List implements [ClaimStore].
func (m *MemoryClaims) List(ctx context.Context, q ClaimQuery) ([]Claim, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []Claim
	for _, c := range m.byKey {
		if c.State == q.State && (q.Localpart == "" || c.Localpart == q.Localpart) && (q.Before.IsZero() || c.Changed.Before(q.Before)) {
			out = append(out, c.copied())
		}
	}
	slices.SortFunc(out, func(a, b Claim) int { return cmp.Or(a.Changed.Compare(b.Changed), cmp.Compare(a.Key, b.Key)) })
	return out[:min(len(out), max(q.Limit, 0))], nil
}

// Delete implements [ClaimStore].
func (m *MemoryClaims) Delete(ctx context.Context, c Claim) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if old, found := m.byKey[c.Key]; found && old.Run == c.Run && old.State == c.State {
		if old.open() {
			delete(m.names, old.Localpart)
		}
		delete(m.byKey, c.Key)
	}
	return nil
}
