package admin_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/internal/admintest"
	"github.com/matrix-uia/uia/memstore"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestOverMemory(t *testing.T) {
	admintest.Run(t, func(testing.TB) uia.TokenStore { return memstore.New(nil) })
}

// TestTreeOfAThousand reads and revokes a tree of a thousand members, each of whom has
// invited three.
func TestTreeOfAThousand(t *testing.T) {
	store := memstore.New(nil)
	s := admintest.New(t, store, nil)
	user := func(i int) string { return fmt.Sprintf("@u%d:test", i) }
	for i := 1; i <= 1000; i++ {
		value := fmt.Sprint("t", i)
		require.NoError(t, store.CreateTokens(t.Context(), uia.Token{Value: value, CreatedBy: user((i - 1) / 3), Created: admintest.Now}))
		s.Spend(value, fmt.Sprint("register.", i), user(i), admintest.Now)
	}
	start := time.Now()
	_, members := s.Tree(user(0), 100)
	t.Logf("a tree of %d members in pages of 100: %v", len(members), time.Since(start))
	require.Len(t, members, 1000)
	seen := map[any]bool{}
	for _, m := range members {
		seen[m.(admintest.Dict)["user_id"]] = true
	}
	assert.Len(t, seen, 1000)
	start = time.Now()
	a := s.Do("POST", "/"+user(0)+"/revoke", `{"branch":true}`)
	t.Logf("revoking its invitations: %v", time.Since(start))
	assert.Equal(t, admintest.Dict{"revoked": 1000.0, "members": 1001.0}, a.JSON)
}
