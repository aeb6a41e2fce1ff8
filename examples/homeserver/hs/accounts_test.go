package hs

import (
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAccounts(t *testing.T) {
	onEach(t, func(t *testing.T, database func(*testing.T) string) {
		testAccounts(t, func(t *testing.T) Accounts { return mustOpen(t, database(t)).Accounts })
	})
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
	t.Run("passwords and signing keys", func(t *testing.T) {
		a, ctx := open(t), t.Context()
		require.ErrorIs(t, a.SetPassword(ctx, "alice", "h"), ErrNotFound)
		require.ErrorIs(t, a.SetSigningKeys(ctx, "alice", SigningKeys{}), ErrNotFound)
		want, err := a.CreateUser(ctx, User{Localpart: "alice", PasswordHash: "h", Created: made})
		require.NoError(t, err)
		require.NoError(t, a.SetPassword(ctx, "alice", "other"))
		require.NoError(t, a.SetSigningKeys(ctx, "alice", SigningKeys{Master: json.RawMessage(`{"a":1}`), Self: json.RawMessage(`{"b":2}`)}))
		require.NoError(t, a.SetSigningKeys(ctx, "alice", SigningKeys{Self: json.RawMessage(`{"b":3}`), User: json.RawMessage(`{"c":4}`)}))
		want.PasswordHash = "other"
		want.SigningKeys = SigningKeys{Master: json.RawMessage(`{"a":1}`), Self: json.RawMessage(`{"b":3}`), User: json.RawMessage(`{"c":4}`)}
		got, err := a.User(ctx, "alice")
		require.NoError(t, err)
		require.Equal(t, want, got)

		require.ErrorIs(t, a.AddSigningKeys(ctx, "nobody", SigningKeys{}), ErrNotFound)
		require.ErrorIs(t, a.AddSigningKeys(ctx, "alice", SigningKeys{Master: json.RawMessage(`{"a":2}`)}), ErrTaken)
		require.NoError(t, a.AddSigningKeys(ctx, "alice", SigningKeys{Master: json.RawMessage(`{"a":1}`), Self: json.RawMessage(`null`)}))
		require.ErrorIs(t, a.SetAdmin(ctx, "nobody"), ErrNotFound)
		require.NoError(t, a.SetAdmin(ctx, "alice"))
		want.Admin = true
		got, err = a.User(ctx, "alice")
		require.NoError(t, err)
		require.Equal(t, want, got)
	})
	t.Run("of several first signing keys one is added", func(t *testing.T) {
		a, ctx := open(t), t.Context()
		_, err := a.CreateUser(ctx, User{Localpart: "alice", Created: made})
		require.NoError(t, err)
		var added atomic.Int64
		var all sync.WaitGroup
		for i := range 16 {
			all.Go(func() {
				err := a.AddSigningKeys(ctx, "alice", SigningKeys{Master: json.RawMessage(fmt.Sprintf(`{"a":%d}`, i))})
				if err == nil {
					added.Add(1)
				} else {
					assert.ErrorIs(t, err, ErrTaken)
				}
			})
		}
		all.Wait()
		require.EqualValues(t, 1, added.Load())
	})
	t.Run("lists of users", func(t *testing.T) {
		a, ctx := open(t), t.Context()
		for _, localpart := range []string{"bob", "a_b", "alice", "axb"} {
			_, err := a.CreateUser(ctx, User{Localpart: localpart, Created: made})
			require.NoError(t, err)
		}
		for _, row := range []struct {
			contains      string
			offset, limit int
			total         int
			want          []string
		}{
			{"", 0, 10, 4, []string{"a_b", "alice", "axb", "bob"}}, {"", 1, 2, 4, []string{"alice", "axb"}}, {"", 9, 2, 4, nil},
			{"b", 0, 2, 3, []string{"a_b", "axb"}}, {"_", 0, 9, 1, []string{"a_b"}}, {"%", 0, 9, 0, nil}, {"!", 0, 9, 0, nil}, {"\x00", 0, 9, 0, nil},
			{"", 0, 0, 4, nil},
		} {
			found, total, err := a.Users(ctx, row.contains, row.offset, row.limit)
			require.NoError(t, err)
			require.Equal(t, row.total, total, "%+v", row)
			var names []string
			for _, u := range found {
				names = append(names, u.Localpart)
				require.Equal(t, made, u.Created)
			}
			require.Equal(t, row.want, names, "%+v", row)
		}
	})
	t.Run("one account per key and localpart", func(t *testing.T) {
		a, ctx := open(t), t.Context()
		names := make(chan string, 64)
		var taken atomic.Int64
		var all sync.WaitGroup
		for i := range 32 {
			all.Go(func() {
				got, err := a.CreateUser(ctx, User{Localpart: "alice" + string(rune('a'+i)), Key: "key"})
				assert.NoError(t, err)
				names <- got.Localpart
			})
			all.Go(func() {
				_, err := a.CreateUser(ctx, User{Localpart: "bob", Key: "key" + string(rune('a'+i))})
				if err != nil {
					assert.ErrorIs(t, err, ErrTaken)
					taken.Add(1)
				}
			})
		}
		all.Wait()
		close(names)
		first := <-names
		for name := range names {
			require.Equal(t, first, name, "the same key is the same account")
		}
		require.EqualValues(t, 31, taken.Load(), "of those who ask for one localpart one gets it")
	})
	if a, ok := open(t).(Burier); ok {
		t.Run("bury", func(t *testing.T) { testBury(t, a) })
	}
	t.Run("devices", func(t *testing.T) {
		a, ctx := open(t), t.Context()
		for _, localpart := range []string{"alice", "bob"} {
			_, err := a.CreateUser(ctx, User{Localpart: localpart, Created: made})
			require.NoError(t, err)
		}
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
		_, err := a.CreateUser(ctx, User{Localpart: "alice", Created: made})
		require.NoError(t, err)
		_, err = a.AddKeys(ctx, "alice", "A", DeviceKeys{})
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
	t.Run("keys that are added at once", func(t *testing.T) {
		a, ctx := open(t), t.Context()
		_, err := a.CreateUser(ctx, User{Localpart: "alice", Created: made})
		require.NoError(t, err)
		require.NoError(t, a.PutDevice(ctx, Device{Localpart: "alice", ID: "A", Token: digestToken("one"), Created: made}))
		var all sync.WaitGroup
		for i := range 16 {
			all.Go(func() {
				key := map[string]json.RawMessage{"x:" + string(rune('a'+i)): json.RawMessage(`{}`)}
				_, err := a.AddKeys(ctx, "alice", "A", DeviceKeys{OneTime: key})
				assert.NoError(t, err)
			})
		}
		all.Wait()
		got, err := a.DeviceByToken(ctx, digestToken("one"))
		require.NoError(t, err)
		require.Len(t, got.Keys.OneTime, 16)
	})
	t.Run("names that cannot be", func(t *testing.T) {
		a, ctx := open(t), t.Context()
		for _, name := range []string{"", "\x00", "a\x00b", "a'b", "a%", "\xff"} {
			_, err := a.User(ctx, name)
			require.ErrorIs(t, err, ErrNotFound, "%q", name)
			devices, err := a.Devices(ctx, name)
			require.NoError(t, err)
			require.Empty(t, devices)
			require.ErrorIs(t, a.DeleteDevice(ctx, name, name), ErrNotFound)
		}
	})
}

func testBury(t *testing.T, a Burier) {
	ctx, made := t.Context(), time.Now()
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

	var created, buried atomic.Int64
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
				created.Add(1)
			}
		})
	}
	all.Wait()
	require.True(t, (created.Load() == 0) != (buried.Load() == 0), "created %d, buried %d", created.Load(), buried.Load())
}
