package hs

import (
	"context"
	"errors"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia/register"
)

// A registration that is run again answers for the account it has made, and one
// that was given up makes none.
func TestRegistrarIsIdempotent(t *testing.T) {
	onEach(t, func(t *testing.T, database func(*testing.T) string) {
		testIdempotent(t, newServerOn(t, mustOpen(t, database(t))))
	})
}

func testIdempotent(t *testing.T, s *Server) {
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

	made, err := r.Create(t.Context(), register.Account{Key: "register.k3", Localpart: "dave", Password: "pw", InhibitLogin: true})
	require.NoError(t, err)
	require.Equal(t, "@dave:example.org", made.UserID)
	require.Empty(t, made.AccessToken)

	if _, ok := s.accounts.(Burier); !ok {
		_, err := r.resolve(t.Context(), "register.k1")
		require.Error(t, err, "nobody asks")
		return
	}
	outcome, err := r.resolve(t.Context(), "register.k1")
	require.NoError(t, err)
	require.True(t, outcome.Done)
	require.Equal(t, "@bob:example.org", outcome.UserID)
	outcome, err = r.resolve(t.Context(), "register.k2")
	require.NoError(t, err)
	require.False(t, outcome.Done)
	_, err = r.Create(t.Context(), register.Account{Key: "register.k2", Localpart: "carol", Password: "pw"})
	require.ErrorContains(t, err, "M_FORBIDDEN")
}

// failingDevices fails to make a device, after the user has been made.
type failingDevices struct {
	Accounts
	fail bool
}

func (f *failingDevices) PutDevice(ctx context.Context, d Device) error {
	if err := f.Accounts.PutDevice(ctx, d); err != nil || !f.fail {
		return err
	}
	return errors.New("the disk is full")
}

// The user, the device and the use of the token are there together or not at all.
func TestRegistrationIsOneTransaction(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, database func(*testing.T) string) {
		storage := mustOpen(t, database(t))
		accounts := &failingDevices{storage.Accounts, true}
		storage.Accounts = accounts
		s := newServerOn(t, storage)
		_, _, body := call(t, s, "POST", registerPath, "", registerBody(t, "alice", "m.login.registration_token", ""))
		last := registerBody(t, "alice", "m.login.dummy", body["session"].(string))
		status, _, body := call(t, s, "POST", registerPath, "", last)
		require.Equal(t, http.StatusInternalServerError, status)
		require.NotContains(t, body["error"], "disk", "that is for the log")
		_, err := storage.Accounts.User(t.Context(), "alice")
		require.ErrorIs(t, err, ErrNotFound)
		devices, err := storage.Accounts.Devices(t.Context(), "alice")
		require.NoError(t, err)
		require.Empty(t, devices)
		requireSpent(t, storage, 0)

		accounts.fail = false
		status, _, body = call(t, s, "POST", registerPath, "", last)
		require.Equal(t, http.StatusOK, status, "%v", body)
		requireSpent(t, storage, 1)
	})
}
