package gateway_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/gateway"
	"github.com/matrix-uia/uia/register"
)

// account is what an operation asks for.
func account(key, name, password string) register.Account {
	s := &uia.Session{ID: "the ID of " + key, Key: key, Params: []byte(`{"username":"` + name + `"}`)}
	return register.Account{Key: key, Localpart: name, Password: password, DeviceID: "PHONE", Session: s}
}

// lostOnce makes the upstream lose its answer to the first request that makes an
// account, or the request itself.
type lostOnce struct {
	*fake
	request bool
	done    bool
}

func (l *lostOnce) RoundTrip(r *http.Request) (*http.Response, error) {
	makes := r.Method == "POST" && r.URL.Path == "/_synapse/admin/v1/register"
	if makes && !l.done {
		l.done = true
		if !l.request {
			_, _ = transport{&line{}, l.fake}.RoundTrip(r)
		}
		return nil, errLost
	}
	return transport{&line{}, l.fake}.RoundTrip(r)
}

func accountsOn(t *testing.T, rt http.RoundTripper, claims gateway.ClaimStore, log *slog.Logger) *gateway.Accounts {
	a, err := gateway.NewAccounts(gateway.AccountsOptions{
		Upstream:   &gateway.SharedSecret{Client: &gateway.Client{URL: "http://x", Transport: rt}, ServerName: fakeServer, Secret: fakeSecret},
		Claims:     claims,
		ServerName: fakeServer,
		Secrets:    uia.FixedSecrets(make([]byte, 32)),
		Logger:     log,
	})
	require.NoError(t, err)
	return a
}

// comeBack is a client that comes back after the first request is in doubt.
type comeBack struct {
	lostRequest    bool // otherwise its answer was lost
	name, password string
	want           []string // the accounts, once the fence has passed
}

// A client that comes back with another name or password must not go on with what the
// first ones began: that is settled before.
func TestComeBackWithAnother(t *testing.T) {
	for name, c := range map[string]comeBack{
		"same, made":              {false, "alice", "one", []string{"alice"}},
		"same, not made":          {true, "alice", "one", []string{"alice"}},
		"password, made":          {false, "alice", "two", []string{"alice"}},
		"password, not made":      {true, "alice", "two", []string{"alice"}},
		"name, made":              {false, "bob", "one", []string{"alice"}},
		"name, not made":          {true, "bob", "one", []string{"bob"}},
		"both, made":              {false, "bob", "two", []string{"alice"}},
		"both, not made":          {true, "bob", "two", []string{"bob"}},
		"name of another, made":   {false, "taken", "two", []string{"alice"}},
		"name of another, not so": {true, "taken", "two", []string{}},
	} {
		t.Run(name, func(t *testing.T) { synctest.Test(t, c.test) })
	}
}

func (c comeBack) test(t *testing.T) {
	f := newFake(dialectOf("dendrite"), false)
	f.users["taken"] = &fakeUser{password: "another"}
	a := accountsOn(t, &lostOnce{fake: f, request: c.lostRequest}, &gateway.MemoryClaims{}, nil)
	_, err := a.Create(t.Context(), account("register.k", "alice", "one"))
	require.Equal(t, "unknown", toldOf(err))
	created, err := a.Create(t.Context(), account("register.k", c.name, c.password))
	if same := c.name == "alice" && c.password == "one"; same {
		require.NoError(t, err)
	} else if c.lostRequest {
		require.Equal(t, "unknown", toldOf(err), "the first may come yet")
		assert.Equal(t, []string{"taken"}, f.names())
		<-time.After(6 * time.Minute)
		created, err = a.Create(t.Context(), account("register.k", c.name, c.password))
	}
	names := f.names()
	names = names[:len(names)-1] // but for "taken"
	assert.Equal(t, c.want, names)
	outcome, resolveErr := a.Resolve(t.Context(), "register.k")
	require.NoError(t, resolveErr)
	assert.Equal(t, len(c.want) > 0, outcome.Done)
	if err == nil {
		assert.Equal(t, "@"+c.want[0]+":"+fakeServer, created.UserID)
		assert.Equal(t, created.UserID, outcome.UserID)
	}
	password := c.password
	if !c.lostRequest {
		password = "one" // the account is the first request's
	}
	for _, made := range names {
		assert.True(t, f.canLogIn(made, password))
	}
	if !c.lostRequest && c.password == "two" {
		assert.Error(t, err, "nobody is logged in with a password that is not the account's")
	}
}

// A key that was given up makes no account.
func TestCreateAfterResolve(t *testing.T) {
	f := newFake(dialectOf("dendrite"), false)
	claims := &gateway.MemoryClaims{}
	a := accountsOn(t, &lostOnce{fake: f, done: true}, claims, nil)
	outcome, err := a.Resolve(t.Context(), "register.k")
	require.NoError(t, err)
	assert.False(t, outcome.Done)
	_, err = a.Create(t.Context(), account("register.k", "alice", "one"))
	assert.Equal(t, "403 M_FORBIDDEN", toldOf(err))
	assert.Empty(t, f.names())
	_, err = a.Create(t.Context(), account("register.other", "alice", "one"))
	assert.NoError(t, err)
}

// A name that is in the middle of one registration is taken for others.
func TestCreateOfAClaimedName(t *testing.T) {
	f := newFake(dialectOf("dendrite"), false)
	a := accountsOn(t, &lostOnce{fake: f, request: true}, &gateway.MemoryClaims{}, nil)
	_, err := a.Create(t.Context(), account("register.a", "alice", "one"))
	require.Equal(t, "unknown", toldOf(err))
	_, err = a.Create(t.Context(), account("register.b", "alice", "two"))
	assert.Equal(t, "400 M_USER_IN_USE", toldOf(err))
	assert.Empty(t, f.names())
}

// broken fails one method of the claims.
type brokenClaims struct {
	gateway.ClaimStore
	fails gateway.State
}

func (b brokenClaims) Save(ctx context.Context, c gateway.Claim, now time.Time) (gateway.Claim, error) {
	if c.State == b.fails {
		return gateway.Claim{}, errLost
	}
	return b.ClaimStore.Save(ctx, c, now)
}

// Nothing is sent unless the claim says so, and what was refused but could not be
// written down is no refusal.
func TestCreateWithBrokenClaims(t *testing.T) {
	f := newFake(dialectOf("dendrite"), false)
	rt := &lostOnce{fake: f, done: true}
	claims := &gateway.MemoryClaims{}
	_, err := accountsOn(t, rt, brokenClaims{claims, gateway.Sent}, nil).Create(t.Context(), account("register.a", "alice", "one"))
	assert.Equal(t, "503 M_UNKNOWN", toldOf(err))
	assert.Empty(t, f.names())

	_, err = accountsOn(t, rt, brokenClaims{claims, gateway.Made}, nil).Create(t.Context(), account("register.b", "alice", "one"))
	assert.Equal(t, "unknown", toldOf(err))
	assert.Equal(t, []string{"alice"}, f.names())

	f.users["bob"] = &fakeUser{}
	_, err = accountsOn(t, rt, brokenClaims{claims, gateway.Free}, nil).Create(t.Context(), account("register.c", "bob", "one"))
	assert.Equal(t, "unknown", toldOf(err), "the claim is not free")
}

// Two gateways settle at once, and say the same.
func TestResolveAtOnce(t *testing.T) {
	for _, lostRequest := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			f := newFake(dialectOf("dendrite"), false)
			claims := &gateway.MemoryClaims{}
			a := accountsOn(t, &lostOnce{fake: f, request: lostRequest}, claims, nil)
			b := accountsOn(t, &lostOnce{fake: f, done: true}, claims, nil)
			_, err := a.Create(t.Context(), account("register.k", "alice", "one"))
			require.Error(t, err)
			<-time.After(6 * time.Minute)
			done := make(chan bool, 20)
			for i := range 20 {
				go func() {
					outcome, err := []*gateway.Accounts{a, b}[i%2].Resolve(t.Context(), "register.k")
					assert.NoError(t, err)
					done <- outcome.Done
				}()
			}
			for range 20 {
				assert.Equal(t, !lostRequest, <-done)
			}
		})
	}
}

// TestSweep is what becomes of registrations that nobody comes back to.
func TestSweep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(dialectOf("dendrite"), false)
		claims := &gateway.MemoryClaims{}
		var log bytes.Buffer
		a := accountsOn(t, &lostOnce{fake: f, request: true}, claims, slog.New(slog.NewTextHandler(&log, nil)))
		ctx := t.Context()
		_, err := a.Create(ctx, account("register.sent", "alice", "one"))
		require.Error(t, err)
		_, err = a.Create(ctx, account("register.made", "bob", "one"))
		require.NoError(t, err)
		_, err = a.Create(ctx, account("register.refused", "bob", "one"))
		require.Equal(t, "400 M_USER_IN_USE", toldOf(err))
		_, err = claims.Reserve(ctx, gateway.Claim{Key: "register.reserved", Localpart: "carol"}, time.Now())
		require.NoError(t, err)
		_, err = a.Resolve(ctx, "register.none")
		require.NoError(t, err)
		sweep := func(want int) {
			t.Helper()
			n, err := a.Sweep(ctx)
			assert.NoError(t, err)
			assert.Equal(t, want, n)
		}
		states := func() (out []int) {
			for s := gateway.Free; s <= gateway.Buried; s++ {
				list, err := claims.List(ctx, gateway.ClaimQuery{State: s, Limit: 100})
				require.NoError(t, err)
				out = append(out, len(list))
			}
			return out
		}
		sweep(0)
		<-time.After(time.Hour)
		sweep(0)
		assert.Equal(t, []int{1, 1, 1, 1, 1}, states())
		<-time.After(time.Millisecond)
		sweep(2)
		assert.Equal(t, []int{1, 0, 0, 1, 3}, states(), "no name stays blocked")
		assert.Empty(t, log.String())

		// The upstream has made alice after all, though much too late. Somebody else's
		// carol is no such account.
		f.users["alice"], f.users["carol"] = &fakeUser{}, &fakeUser{}
		<-time.After(48*time.Hour + time.Millisecond)
		sweep(4)
		assert.Equal(t, []int{0, 0, 0, 1, 0}, states())
		assert.Contains(t, log.String(), "level=ERROR")
		assert.Contains(t, log.String(), "user=@alice:"+fakeServer)
		assert.NotContains(t, log.String(), "carol")
		sweep(0)
	})
}

// An account that another registration has made under a name that was given up is no
// late one.
func TestSweepOfANameThatWasTakenAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(dialectOf("dendrite"), false)
		var log bytes.Buffer
		a := accountsOn(t, &lostOnce{fake: f, request: true}, &gateway.MemoryClaims{}, slog.New(slog.NewTextHandler(&log, nil)))
		_, err := a.Create(t.Context(), account("register.first", "alice", "one"))
		require.Error(t, err)
		<-time.After(10 * time.Minute)
		outcome, err := a.Resolve(t.Context(), "register.first")
		require.NoError(t, err)
		require.False(t, outcome.Done)
		_, err = a.Create(t.Context(), account("register.second", "alice", "two"))
		require.NoError(t, err)
		<-time.After(72 * time.Hour)
		_, err = a.Sweep(t.Context())
		require.NoError(t, err)
		assert.Empty(t, log.String())
	})
}

// What the upstream does not tell stays as it is, and the rest is done.
func TestSweepWithoutUpstream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(dialectOf("dendrite"), false)
		claims := &gateway.MemoryClaims{}
		a := accountsOn(t, &lostOnce{fake: f, request: true}, claims, nil)
		_, err := a.Create(t.Context(), account("register.sent", "alice", "one"))
		require.Error(t, err)
		_, err = claims.Reserve(t.Context(), gateway.Claim{Key: "register.reserved", Localpart: "carol"}, time.Now())
		require.NoError(t, err)
		<-time.After(2 * time.Hour)
		down := accountsOn(t, roundTrip(func(*http.Request) (*http.Response, error) { return nil, errLost }), claims, nil)
		n, err := down.Sweep(t.Context())
		assert.Equal(t, 1, n)
		assert.ErrorIs(t, err, errLost)
		n, err = a.Sweep(t.Context())
		assert.Equal(t, 1, n)
		assert.NoError(t, err)
	})
}

// A claim whose secret has been destroyed is settled by what the upstream says of
// its name.
func TestResolveWithoutSecret(t *testing.T) {
	f := newFake(dialectOf("dendrite"), false)
	claims := &gateway.MemoryClaims{}
	_, err := accountsOn(t, &lostOnce{fake: f}, claims, nil).Create(t.Context(), account("register.k", "alice", "one"))
	require.Error(t, err)
	a, err := gateway.NewAccounts(gateway.AccountsOptions{
		Upstream: way{"dendrite", false}.at(f), Claims: claims, ServerName: fakeServer, Secrets: uia.FixedSecrets(bytes.Repeat([]byte("x"), 32)),
	})
	require.NoError(t, err)
	outcome, err := a.Resolve(t.Context(), "register.k")
	require.NoError(t, err)
	assert.True(t, outcome.Done)

	// But secrets that cannot be read are no destroyed ones.
	_, err = accountsOn(t, &lostOnce{fake: f, request: true}, claims, nil).Create(t.Context(), account("register.l", "bob", "one"))
	require.Error(t, err)
	a, err = gateway.NewAccounts(gateway.AccountsOptions{
		Upstream: way{"dendrite", false}.at(f), Claims: claims, ServerName: fakeServer,
		Secrets: func(context.Context, time.Time) ([][]byte, error) { return nil, errors.New("cannot be read") },
	})
	require.NoError(t, err)
	_, err = a.Resolve(t.Context(), "register.l")
	assert.ErrorContains(t, err, "cannot be read")
}

// A run that was refused fences the earlier ones: one that stood still before it came
// to the claims makes no account any more, though its name has become free.
func TestCreateByAnEarlierRun(t *testing.T) {
	f := newFake(dialectOf("dendrite"), false)
	f.users["alice"] = &fakeUser{}
	a := accountsOn(t, &lostOnce{fake: f, done: true}, &gateway.MemoryClaims{}, nil)
	later, earlier := account("register.k", "alice", "one"), account("register.k", "alice", "one")
	later.Session.Run, earlier.Session.Run = 6, 4
	_, err := a.Create(t.Context(), later)
	assert.Equal(t, "400 M_USER_IN_USE", toldOf(err))
	delete(f.users, "alice")
	_, err = a.Create(t.Context(), earlier)
	assert.ErrorIs(t, err, gateway.ErrOvertaken)
	assert.Equal(t, "unknown", toldOf(err))
	assert.Empty(t, f.names())
	later.Session.Run = 8
	_, err = a.Create(t.Context(), later)
	assert.NoError(t, err)
}

// What was begun may have expired when it is used: then it is begun once more.
func TestCreateWithAnExpiredNonce(t *testing.T) {
	for name, c := range map[string]struct {
		stale int
		want  string
	}{"once": {1, ""}, "always": {9, "503 M_UNKNOWN"}} {
		f := newFake(dialectOf("dendrite"), false)
		claims := &gateway.MemoryClaims{}
		a := accountsOn(t, roundTrip(func(r *http.Request) (*http.Response, error) {
			if r.Method == "POST" && r.URL.Path == "/_synapse/admin/v1/register" && c.stale > 0 {
				c.stale--
				f.restart()
			}
			return transport{&line{}, f}.RoundTrip(r)
		}), claims, nil)
		_, err := a.Create(t.Context(), account("register.k", "alice", "one"))
		assert.Equal(t, c.want, toldOf(err), name)
		if err != nil {
			assert.Empty(t, f.names())
			free, err := claims.List(t.Context(), gateway.ClaimQuery{State: gateway.Free, Limit: 9})
			require.NoError(t, err)
			assert.Len(t, free, 1, "the name is given back")
		}
	}
}

// Maintain sweeps until it is told to stop.
func TestMaintain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		claims := &gateway.MemoryClaims{}
		var log bytes.Buffer
		down := roundTrip(func(*http.Request) (*http.Response, error) { return nil, errLost })
		a := accountsOn(t, down, claims, slog.New(slog.NewTextHandler(&log, nil)))
		_, err := claims.Reserve(t.Context(), gateway.Claim{Key: "register.k", Localpart: "alice"}, time.Now())
		require.NoError(t, err)
		_, err = claims.Reserve(t.Context(), gateway.Claim{Key: "register.l", Localpart: "bob"}, time.Now())
		require.NoError(t, err)
		_, err = claims.Save(t.Context(), gateway.Claim{Key: "register.l", State: gateway.Sent}, time.Now())
		require.NoError(t, err)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			a.Maintain(ctx)
		}()
		<-time.After(90 * time.Minute)
		buried, err := claims.List(ctx, gateway.ClaimQuery{State: gateway.Buried, Limit: 9})
		require.NoError(t, err)
		assert.Len(t, buried, 1)
		stop()
		<-done
		assert.Contains(t, log.String(), "could not be settled")
	})
}
