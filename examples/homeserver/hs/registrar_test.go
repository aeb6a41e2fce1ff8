package hs

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia/register"
)

// A registration that is run again answers for the account it has made, and one
// that was given up makes none.
func TestRegistrarIsIdempotent(t *testing.T) {
	onEach(t, func(t *testing.T, database func(*testing.T) string) {
		testIdempotent(t, newServerOn(t, database(t)))
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

	made, err := r.Create(t.Context(), register.Account{Key: "register.k3", Password: "pw", InhibitLogin: true})
	require.NoError(t, err)
	require.Regexp(t, `^@[a-z2-7]{12}:example\.org$`, made.UserID, "a localpart is made up")
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
