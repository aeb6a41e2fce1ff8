package restauth

import (
	"context"
	"math"
	"sync"
	"time"
)

// MemoryAccounts is an [AccountStore] in the memory of one process: for tests and
// experiments. Its zero value is empty and ready.
type MemoryAccounts struct {
	mu    sync.Mutex
	byKey map[string]Account
	names map[string]string // localparts, with the keys of their accounts
}

var _ AccountStore = (*MemoryAccounts)(nil)

// begin takes the mutex, unless the context has ended.
func (m *MemoryAccounts) begin(ctx context.Context) (unlock func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	if m.byKey == nil {
		m.byKey, m.names = make(map[string]Account), make(map[string]string)
	}
	return m.mu.Unlock, nil
}

// Create implements [AccountStore].
func (m *MemoryAccounts) Create(ctx context.Context, a Account) (Account, error) {
	unlock, err := m.begin(ctx)
	if err != nil {
		return Account{}, err
	}
	defer unlock()
	old, err := m.made(a.Key)
	if err == nil && old.State == Active && old.Run <= a.Run {
		old.Hash, old.Run = a.Hash, a.Run
		m.byKey[a.Key] = old
	}
	if err != ErrNotFound {
		return old, err
	}
	if _, taken := m.names[a.Localpart]; taken {
		return Account{}, ErrTaken
	}
	a.State, a.Created = Active, time.UnixMilli(a.Created.UnixMilli()).UTC()
	m.byKey[a.Key], m.names[a.Localpart] = a, a.Key
	return a, nil
}

// made returns the account of a key. The mutex is held.
func (m *MemoryAccounts) made(key string) (Account, error) {
	a, found := m.byKey[key]
	switch {
	case !found:
		return Account{}, ErrNotFound
	case a.State == Buried:
		return Account{}, ErrBuried
	}
	return a, nil
}

// Find implements [AccountStore].
func (m *MemoryAccounts) Find(ctx context.Context, localpart string) (Account, error) {
	unlock, err := m.begin(ctx)
	if err != nil {
		return Account{}, err
	}
	defer unlock()
	return m.find(localpart)
}

// find returns the account of a localpart. The mutex is held.
func (m *MemoryAccounts) find(localpart string) (Account, error) {
	key, found := m.names[localpart]
	if !found {
		return Account{}, ErrNotFound
	}
	return m.byKey[key], nil
}

// Made implements [AccountStore].
func (m *MemoryAccounts) Made(ctx context.Context, key string) (Account, error) {
	unlock, err := m.begin(ctx)
	if err != nil {
		return Account{}, err
	}
	defer unlock()
	return m.made(key)
}

// SetPassword implements [AccountStore].
func (m *MemoryAccounts) SetPassword(ctx context.Context, localpart, hash string) error {
	unlock, err := m.begin(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	a, err := m.find(localpart)
	if err != nil || a.State != Active {
		return ErrNotFound
	}
	a.Hash, a.Run = hash, math.MaxInt64
	m.byKey[a.Key] = a
	return nil
}

// Deactivate implements [AccountStore].
func (m *MemoryAccounts) Deactivate(ctx context.Context, localpart string) error {
	unlock, err := m.begin(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	a, err := m.find(localpart)
	if err != nil {
		return err
	}
	a.State, a.Hash = Deactivated, ""
	m.byKey[a.Key] = a
	return nil
}

// Bury implements [AccountStore].
func (m *MemoryAccounts) Bury(ctx context.Context, key string) (Account, error) {
	unlock, err := m.begin(ctx)
	if err != nil {
		return Account{}, err
	}
	defer unlock()
	a, err := m.made(key)
	if err != ErrNotFound {
		return a, err
	}
	m.byKey[key] = Account{Key: key, State: Buried}
	return Account{}, ErrBuried
}
