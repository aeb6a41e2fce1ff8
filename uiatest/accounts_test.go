package uiatest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// registrar is a homeserver that registers everybody whose username it is told.
type registrar struct {
	refuse string // what the end of a registration is answered with; "" for success

	mu    sync.Mutex
	users []string
	gone  map[string]bool // the access tokens that are good no longer
}

func (h *registrar) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	raw, _ := io.ReadAll(r.Body)
	var sent struct {
		Username string
		Auth     struct{ Type string }
	}
	_ = json.Unmarshal(raw, &sent)
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case strings.HasSuffix(r.URL.Path, "/whoami"):
		status := http.StatusOK
		if h.gone[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")] {
			status = http.StatusUnauthorized
		}
		answering(status, `{}`).ServeHTTP(w, r)
	case strings.HasSuffix(r.URL.Path, "/broken"):
		answering(http.StatusInternalServerError, `{}`).ServeHTTP(w, r)
	case sent.Auth.Type == "":
		answering(http.StatusUnauthorized, challenge).ServeHTTP(w, r)
	case sent.Auth.Type == typeToken:
		answering(http.StatusUnauthorized, strings.TrimSuffix(challenge, "}")+`,"completed":["m.login.registration_token"]}`).ServeHTTP(w, r)
	case h.refuse != "":
		answering(http.StatusBadRequest, h.refuse).ServeHTTP(w, r)
	default:
		h.users = append(h.users, sent.Username)
		answering(http.StatusOK, fmt.Sprintf(`{"user_id":"@%s:a","access_token":"access-%d","device_id":"D"}`, sent.Username, len(h.users))).ServeHTTP(w, r)
	}
}

func (h *registrar) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.users)
}

// borrower returns a case that borrows accounts and sends a request for each.
func borrower(path string, accounts map[string]accountDecl) *Case {
	c := &Case{Name: "uia/x", accounts: accounts}
	for name := range accounts {
		c.steps = append(c.steps, step{Request: "GET " + path + "?" + "${account." + name + ".user}", Expect: &expect{Status: statuses{http.StatusOK}}})
	}
	return c
}

func newBorrowing(t *testing.T, h *registrar) *runner {
	r, err := newRunner(t.Context(), Server{Handler: h, NewToken: given}, &Options{})
	require.NoError(t, err)
	t.Cleanup(r.close)
	return r
}

// Cases share an account as long as they leave it as it was.
func TestAccountsAreShared(t *testing.T) {
	one := map[string]accountDecl{"a": {}}
	const whoami = "/_matrix/client/v3/account/whoami"
	for name, test := range map[string]struct {
		cases []*Case
		made  int
	}{
		"passed":            {[]*Case{borrower(whoami, one), borrower(whoami, one), borrower(whoami, one)}, 1},
		"failed":            {[]*Case{borrower("/broken", one), borrower(whoami, one), borrower(whoami, one)}, 2},
		"spoilt":            {[]*Case{borrower(whoami, map[string]accountDecl{"a": {Spoils: true}}), borrower(whoami, one)}, 2},
		"two":               {[]*Case{borrower(whoami, map[string]accountDecl{"a": {}, "b": {}}), borrower(whoami, one)}, 2},
		"of other kinds":    {[]*Case{borrower(whoami, one), borrower(whoami, map[string]accountDecl{"a": {Kind: "inhibited"}})}, 2},
		"failed unasked":    {[]*Case{{Name: "uia/x", accounts: one, steps: []step{{Registered: "a", Expect: &expect{Status: statuses{201}}}}}, borrower(whoami, one)}, 1},
		"registration pass": {[]*Case{{Name: "uia/x", accounts: one, steps: []step{{Registered: "a", Expect: &expect{Status: statuses{200}}}}}, borrower(whoami, one)}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			h := &registrar{}
			r := newBorrowing(t, h)
			for _, c := range test.cases {
				r.run(t.Context(), c)
			}
			require.Equal(t, test.made, h.count())
			require.Empty(t, r.accounts.lent[plainKind]+r.accounts.lent["inhibited"])
		})
	}
}

// What one case has done to its account is not to be seen by the next.
func TestAccountsThatDoNotWork(t *testing.T) {
	h := &registrar{gone: make(map[string]bool)}
	r := newBorrowing(t, h)
	c := borrower("/_matrix/client/v3/account/whoami", map[string]accountDecl{"a": {}})
	require.Equal(t, Passed, r.run(t.Context(), c).Outcome)
	h.gone["access-1"] = true
	c.steps[0].Bearer = "${account.a.access_token}"
	report := r.run(t.Context(), c)
	require.Equal(t, Passed, report.Outcome, report.Explain())
	require.Equal(t, 2, h.count())
}

// A case that goes back to the session of an account gets one that is not old. Others
// take what there is.
func TestRecentAccounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &registrar{}
		r := newBorrowing(t, h)
		for _, test := range []struct {
			after  time.Duration
			recent bool
			made   int
		}{{0, true, 1}, {recently / 2, true, 1}, {recently, true, 2}, {recently, false, 2}} {
			require.NoError(t, sleep(t.Context(), test.after))
			r.run(t.Context(), borrower("/_matrix/client/v3/account/whoami", map[string]accountDecl{"a": {Recent: test.recent}}))
			require.Equal(t, test.made, h.count())
		}
	})
}

// While a case has an account nobody else has, and those who wait are not for ever.
func TestAccountsAreLentToOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &registrar{}
		var mu sync.Mutex
		using := make(map[string]bool)
		server := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if user := r.URL.RawQuery; strings.HasPrefix(user, "uiatest-") {
				mu.Lock()
				taken := using[user]
				using[user] = true
				mu.Unlock()
				assert.False(t, taken, "two cases have the same account")
				_ = sleep(r.Context(), time.Second)
				mu.Lock()
				using[user] = false
				mu.Unlock()
			}
			h.ServeHTTP(w, r)
		})
		r, err := newRunner(t.Context(), Server{Handler: server, NewToken: given}, &Options{})
		require.NoError(t, err)
		defer r.close()
		var all sync.WaitGroup
		for i := range 12 {
			want := map[string]accountDecl{"a": {}}
			if i%3 == 0 {
				want["b"] = accountDecl{}
			}
			all.Go(func() {
				report := r.run(t.Context(), borrower("/_matrix/client/v3/account/whoami", want))
				assert.Equal(t, Passed, report.Outcome, report.Explain())
			})
		}
		all.Wait()
		require.Equal(t, maxLent, h.count(), "they wait for each other rather than make one more")
	})
}

// A registration that fails is told with the case that needs the account, and so is what
// the answer lacks.
func TestAccountsThatCannotBeMade(t *testing.T) {
	h := &registrar{refuse: `{"errcode":"M_FORBIDDEN","error":"full"}`}
	r := newBorrowing(t, h)
	c := borrower("/_matrix/client/v3/account/whoami", map[string]accountDecl{"a": {}})
	report := r.run(t.Context(), c)
	require.Equal(t, Failed, report.Outcome)
	require.Equal(t, []string{"status 400, expected 200"}, report.Problems)
	last := report.Exchanges[len(report.Exchanges)-1]
	require.True(t, last.Failed)
	require.Contains(t, last.Answer, "full")
	require.NotContains(t, fmt.Sprint(report.Exchanges), "Kit-7-", "no password")

	h.refuse = ""
	c.steps[0].Bearer = "${account.a.refresh_token}"
	report = r.run(t.Context(), c)
	require.Equal(t, []string{`member "refresh_token" is missing where the account was registered`}, report.Problems)
	require.True(t, report.Exchanges[len(report.Exchanges)-1].Failed)
	require.NotContains(t, fmt.Sprint(report.Exchanges), "access-1", "no access token")
}

// A case that has to wait for an account makes room for others meanwhile, and before it is
// started it is known that it would have to wait.
func TestWaitingForAccounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newBorrowing(t, &registrar{})
		one, two := map[string]accountDecl{"a": {}}, map[string]accountDecl{"a": {}, "b": {}}
		c := borrower("/_matrix/client/v3/account/whoami", one)
		giveBack, err := r.borrow(t.Context(), borrower("/", two), newScope(r.from))
		require.NoError(t, err)
		require.True(t, r.heldUp(c))

		room := 0
		from := *r.from
		from.waiting = func() func() { room++; return func() { room-- } }
		var waits sync.WaitGroup
		waits.Go(func() { assert.NoError(t, r.play(t.Context(), c, newScope(&from))) })
		synctest.Wait()
		require.Equal(t, 1, room)
		giveBack(true)
		waits.Wait()
		require.Zero(t, room)
		require.False(t, r.heldUp(c))

		r.sender.gates.note(&origin{}, endpoint(registerPath), slowly(time.Minute))
		require.False(t, r.heldUp(c), "it takes an account that is there")
		require.True(t, r.heldUp(borrower("/_matrix/client/v3/account/whoami", map[string]accountDecl{"a": {Kind: "inhibited"}})), "its account has to be made")
	})
}
