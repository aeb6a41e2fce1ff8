package hs

import (
	"bytes"
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
)

// memoryAccounts is an [Accounts] that is gone with the process.
type memoryAccounts struct {
	mu     sync.Mutex
	users  map[string]User   // by localpart
	keys   map[string]string // localpart by key; empty if the key is buried
	byUser map[string]map[string]Device
	tokens map[TokenDigest]deviceName
}

// deviceName names a device.
type deviceName struct{ localpart, id string }

func newMemoryAccounts() *memoryAccounts {
	return &memoryAccounts{
		users:  make(map[string]User),
		keys:   make(map[string]string),
		byUser: make(map[string]map[string]Device),
		tokens: make(map[TokenDigest]deviceName),
	}
}

var _ Burier = (*memoryAccounts)(nil)

func (m *memoryAccounts) CreateUser(ctx context.Context, u User) (User, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if u.Key != "" {
		switch localpart, known := m.keys[u.Key]; {
		case known && localpart == "":
			return User{}, ErrBuried
		case known:
			return m.users[localpart], nil
		}
	}
	if _, taken := m.users[u.Localpart]; taken {
		return User{}, ErrTaken
	}
	m.users[u.Localpart] = u
	if u.Key != "" {
		m.keys[u.Key] = u.Localpart
	}
	return u, nil
}

func (m *memoryAccounts) User(ctx context.Context, localpart string) (User, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	u, ok := m.users[localpart]
	if !ok {
		return User{}, ErrNotFound
	}
	return u, nil
}

func (m *memoryAccounts) SetPassword(ctx context.Context, localpart, hash string) error {
	return m.change(localpart, func(u *User) { u.PasswordHash = hash })
}

func (m *memoryAccounts) SetSigningKeys(ctx context.Context, localpart string, keys SigningKeys) error {
	return m.change(localpart, func(u *User) { u.SigningKeys = u.SigningKeys.with(keys) })
}

func (m *memoryAccounts) AddSigningKeys(ctx context.Context, localpart string, keys SigningKeys) error {
	admitted := false
	err := m.change(localpart, func(u *User) {
		if admitted = u.SigningKeys.admits(keys); admitted {
			u.SigningKeys = u.SigningKeys.with(keys)
		}
	})
	if err == nil && !admitted {
		err = ErrTaken
	}
	return err
}

func (m *memoryAccounts) SetAdmin(ctx context.Context, localpart string) error {
	return m.change(localpart, func(u *User) { u.Admin = true })
}

func (m *memoryAccounts) change(localpart string, change func(*User)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	u, ok := m.users[localpart]
	if !ok {
		return ErrNotFound
	}
	change(&u)
	m.users[localpart] = u
	return nil
}

func (m *memoryAccounts) Users(ctx context.Context, contains string, offset, limit int) ([]User, int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var found []User
	for localpart, u := range m.users {
		if strings.Contains(localpart, contains) {
			found = append(found, u)
		}
	}
	slices.SortFunc(found, func(a, b User) int { return cmp.Compare(a.Localpart, b.Localpart) })
	first := min(offset, len(found))
	return found[first:min(first+limit, len(found))], len(found), nil
}

func (m *memoryAccounts) Bury(ctx context.Context, key string) (User, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if localpart := m.keys[key]; localpart != "" {
		return m.users[localpart], nil
	}
	m.keys[key] = ""
	return User{}, ErrNotFound
}

func (m *memoryAccounts) PutDevice(ctx context.Context, d Device) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	devices := m.byUser[d.Localpart]
	if devices == nil {
		devices = make(map[string]Device)
		m.byUser[d.Localpart] = devices
	}
	delete(m.tokens, devices[d.ID].Token)
	d.Keys = d.Keys.clone()
	devices[d.ID] = d
	m.tokens[d.Token] = deviceName{d.Localpart, d.ID}
	return nil
}

func (m *memoryAccounts) DeviceByToken(ctx context.Context, token TokenDigest) (Device, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	name, ok := m.tokens[token]
	if !ok {
		return Device{}, ErrNotFound
	}
	return m.byUser[name.localpart][name.id].clone(), nil
}

func (m *memoryAccounts) Devices(ctx context.Context, localpart string) ([]Device, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []Device
	for _, d := range m.byUser[localpart] {
		all = append(all, d.clone())
	}
	slices.SortFunc(all, func(a, b Device) int { return cmp.Compare(a.ID, b.ID) })
	return all, nil
}

func (m *memoryAccounts) RenameDevice(ctx context.Context, localpart, id, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, ok := m.byUser[localpart][id]
	if !ok {
		return ErrNotFound
	}
	d.Name = name
	m.byUser[localpart][id] = d
	return nil
}

func (m *memoryAccounts) DeleteDevice(ctx context.Context, localpart, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, ok := m.byUser[localpart][id]
	if !ok {
		return ErrNotFound
	}
	delete(m.tokens, d.Token)
	delete(m.byUser[localpart], id)
	return nil
}

func (m *memoryAccounts) DeleteAllDevices(ctx context.Context, localpart string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range m.byUser[localpart] {
		delete(m.tokens, d.Token)
	}
	delete(m.byUser, localpart)
	return nil
}

func (m *memoryAccounts) AddKeys(ctx context.Context, localpart, id string, keys DeviceKeys) (DeviceKeys, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, ok := m.byUser[localpart][id]
	if !ok {
		return DeviceKeys{}, ErrNotFound
	}
	d.Keys.add(keys)
	m.byUser[localpart][id] = d
	return d.Keys.clone(), nil
}

// add adds keys to k.
func (k *DeviceKeys) add(keys DeviceKeys) {
	keys = keys.clone()
	if keys.Identity != nil {
		k.Identity = keys.Identity
	}
	if k.OneTime == nil {
		k.OneTime = keys.OneTime
	} else {
		maps.Copy(k.OneTime, keys.OneTime)
	}
}

// clone returns a copy of d that shares nothing with it.
func (d Device) clone() Device {
	d.Keys = d.Keys.clone()
	return d
}

// clone returns a copy of k that shares nothing with it.
func (k DeviceKeys) clone() DeviceKeys {
	k.Identity = bytes.Clone(k.Identity)
	k.OneTime = maps.Clone(k.OneTime)
	for name, key := range k.OneTime {
		k.OneTime[name] = bytes.Clone(key)
	}
	return k
}
