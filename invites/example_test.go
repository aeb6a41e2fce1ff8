package invites_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/matrix-uia/uia/invites"
	"github.com/matrix-uia/uia/memstore"
)

// Trusted members may invite more people than others.
func Example_quotaByRole() {
	trusted := map[string]bool{"@alice:example.org": true}
	quota := func(_ context.Context, userID string) (invites.Quota, error) {
		if trusted[userID] {
			return invites.Quota{Live: 20, Uses: 10, Life: 30 * 24 * time.Hour}, nil
		}
		return invites.Quota{Live: 3}, nil
	}
	// A homeserver looks the access token up.
	authenticate := func(r *http.Request) (string, error) { return "@alice:example.org", nil }

	i, err := invites.New(memstore.New(nil), authenticate, quota, nil)
	if err != nil {
		panic(err)
	}
	mux := http.NewServeMux()
	mux.Handle(invites.Path, i.Handler())
	mux.Handle(invites.Path+"/", i.Handler())

	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest("POST", invites.Path, strings.NewReader(`{"uses_allowed":10}`)))
	fmt.Println(w.Code)
	// Output: 200
}
