package hs

import (
	"encoding/json"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia/register"
)

func TestMemoryAccounts(t *testing.T) {
	testAccounts(t, func(t *testing.T) Accounts { return newMemoryAccounts() })
}

// testAccounts tests what the interface promises.
func testAccounts(t *testing.T, open func(*testing.T) Accounts) {
	made := time.UnixMilli(1_700_000_000_000).UTC()
	t.Run("users", func(t *testing.T) {
		a, ctx := open(t), t.Context()
		_, err := a.User(ctx, "alice")
		require.ErrorIs(t, err, ErrNotFound)
		alice := User{Localpart: "alice", Key: "k1", PasswordHash: "h", Admin: true, Created: made}
		got, err := a.CreateUser(ctx, alice)
		require.NoError(t, err)
		require.Equal(t, alice, got)
		got, err = a.User(ctx, "alice")
		require.NoError(t, err)
		require.Equal(t, alice, got)
		got, err = a.CreateUser(ctx, User{Localpart: "other", Key: "k1", Created: made})
		require.NoError(t, err, "the same key is the same account")
		require.Equal(t, alice, got)
		_, err = a.User(ctx, "other")
		require.ErrorIs(t, err, ErrNotFound)
		_, err = a.CreateUser(ctx, User{Localpart: "alice", Key: "k2", Created: made})
		require.ErrorIs(t, err, ErrTaken)
		for _, localpart := range []string{"bob", "carol"} { // without a key: as many as one likes
			_, err = a.CreateUser(ctx, User{Localpart: localpart, Created: made})
			require.NoError(t, err)
		}
	})
	t.Run("bury", func(t *testing.T) {
		a, ctx := open(t), t.Context()
		for range 2 {
			_, err := a.Bury(ctx, "k1")
			require.ErrorIs(t, err, ErrNotFound)
		}
		_, err := a.CreateUser(ctx, User{Localpart: "alice", Key: "k1", Created: made})
		require.ErrorIs(t, err, ErrBuried)
		_, err = a.CreateUser(ctx, User{Localpart: "alice", Key: "k2", Created: made})
		require.NoError(t, err)
		got, err := a.Bury(ctx, "k2")
		require.NoError(t, err, "too late: the account exists")
		require.Equal(t, "alice", got.Localpart)
	})
	t.Run("one account per key and localpart", func(t *testing.T) {
		a, ctx := open(t), t.Context()
		var made, buried atomic.Int64
		var all sync.WaitGroup
		for i := range 32 {
			all.Go(func() {
				if i%4 == 0 {
					if _, err := a.Bury(ctx, "key"); err != nil {
						buried.Add(1)
					}
					return
				}
				if _, err := a.CreateUser(ctx, User{Localpart: "alice" + string(rune('a'+i)), Key: "key"}); err == nil {
					made.Add(1)
				}
			})
		}
		all.Wait()
		require.True(t, (made.Load() == 0) != (buried.Load() == 0), "made %d, buried %d", made.Load(), buried.Load())
	})
	t.Run("devices", func(t *testing.T) {
		a, ctx := open(t), t.Context()
		devices, err := a.Devices(ctx, "alice")
		require.NoError(t, err)
		require.Empty(t, devices)
		first := Device{Localpart: "alice", ID: "B", Name: "Phone", Token: digestToken("one"), Created: made}
		require.NoError(t, a.PutDevice(ctx, first))
		require.NoError(t, a.PutDevice(ctx, Device{Localpart: "alice", ID: "A", Token: digestToken("two"), Created: made}))
		require.NoError(t, a.PutDevice(ctx, Device{Localpart: "bob", ID: "B", Token: digestToken("three"), Created: made}))
		got, err := a.DeviceByToken(ctx, digestToken("one"))
		require.NoError(t, err)
		require.Equal(t, first, got)
		devices, err = a.Devices(ctx, "alice")
		require.NoError(t, err)
		require.Len(t, devices, 2)
		require.Equal(t, "A", devices[0].ID)

		_, err = a.AddKeys(ctx, "alice", "B", DeviceKeys{Identity: json.RawMessage(`{}`)})
		require.NoError(t, err)
		first.Token = digestToken("four")
		require.NoError(t, a.PutDevice(ctx, first))
		_, err = a.DeviceByToken(ctx, digestToken("one"))
		require.ErrorIs(t, err, ErrNotFound, "a device logged in again has another token")
		got, err = a.DeviceByToken(ctx, digestToken("four"))
		require.NoError(t, err)
		require.Nil(t, got.Keys.Identity, "and no keys")

		require.NoError(t, a.DeleteDevice(ctx, "alice", "B"))
		require.ErrorIs(t, a.DeleteDevice(ctx, "alice", "B"), ErrNotFound)
		_, err = a.DeviceByToken(ctx, digestToken("four"))
		require.ErrorIs(t, err, ErrNotFound)
		require.NoError(t, a.DeleteAllDevices(ctx, "alice"))
		require.NoError(t, a.DeleteAllDevices(ctx, "alice"))
		_, err = a.DeviceByToken(ctx, digestToken("two"))
		require.ErrorIs(t, err, ErrNotFound)
		_, err = a.DeviceByToken(ctx, digestToken("three"))
		require.NoError(t, err, "bob's")
	})
	t.Run("keys", func(t *testing.T) {
		a, ctx := open(t), t.Context()
		_, err := a.AddKeys(ctx, "alice", "A", DeviceKeys{})
		require.ErrorIs(t, err, ErrNotFound)
		require.NoError(t, a.PutDevice(ctx, Device{Localpart: "alice", ID: "A", Token: digestToken("one"), Created: made}))
		uploaded := DeviceKeys{Identity: json.RawMessage(`{"a":1}`), OneTime: map[string]json.RawMessage{"x:1": json.RawMessage(`{}`)}}
		_, err = a.AddKeys(ctx, "alice", "A", uploaded)
		require.NoError(t, err)
		uploaded.Identity[0], uploaded.OneTime["x:2"] = '!', nil // not aliased
		all, err := a.AddKeys(ctx, "alice", "A", DeviceKeys{OneTime: map[string]json.RawMessage{"x:3": json.RawMessage(`3`)}})
		require.NoError(t, err)
		want := DeviceKeys{Identity: json.RawMessage(`{"a":1}`),
			OneTime: map[string]json.RawMessage{"x:1": json.RawMessage(`{}`), "x:3": json.RawMessage(`3`)}}
		require.Equal(t, want, all)
		got, err := a.DeviceByToken(ctx, digestToken("one"))
		require.NoError(t, err)
		require.Equal(t, want, got.Keys)
	})
}

// A registration that is run again answers for the account it has made, and one
// that was given up makes none.
func TestRegistrarIsIdempotent(t *testing.T) {
	s, _ := newServer(t, nil)
	r := registrar{s}
	account := register.Account{Key: "register.k1", Localpart: "bob", Password: "pw", DeviceID: "PHONE"}
	one, err := r.Create(t.Context(), account)
	require.NoError(t, err)
	account.Localpart = "somebody else"
	two, err := r.Create(t.Context(), account)
	require.NoError(t, err)
	require.Equal(t, "@bob:example.org", two.UserID)
	_, err = s.accounts.DeviceByToken(t.Context(), digestToken(one.AccessToken))
	require.ErrorIs(t, err, ErrNotFound, "its answer was lost")
	_, err = s.accounts.DeviceByToken(t.Context(), digestToken(two.AccessToken))
	require.NoError(t, err)

	outcome, err := r.resolve(t.Context(), "register.k1")
	require.NoError(t, err)
	require.True(t, outcome.Done)
	require.Equal(t, "@bob:example.org", outcome.UserID)
	outcome, err = r.resolve(t.Context(), "register.k2")
	require.NoError(t, err)
	require.False(t, outcome.Done)
	_, err = r.Create(t.Context(), register.Account{Key: "register.k2", Localpart: "carol", Password: "pw"})
	require.ErrorContains(t, err, "M_FORBIDDEN")

	made, err := r.Create(t.Context(), register.Account{Key: "register.k3", Password: "pw", InhibitLogin: true})
	require.NoError(t, err)
	require.Regexp(t, `^@[a-z2-7]{12}:example\.org$`, made.UserID, "a localpart is made up")
	require.Empty(t, made.AccessToken)
}
