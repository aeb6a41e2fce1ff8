package gateway_test

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/gateway"
	"github.com/matrix-uia/uia/internal/dendritetest"
	"github.com/matrix-uia/uia/limit"
	"github.com/matrix-uia/uia/register"
	"github.com/matrix-uia/uia/uiatest"
)

// dendriteWay is a Dendrite, and how accounts are made there.
type dendriteWay struct {
	*dendritetest.Dendrite
	private bool
}

// onDendrite runs a test by each way at a Dendrite of its own: closed with a shared
// secret, and open to whoever reaches it.
func onDendrite(t *testing.T, test func(t *testing.T, d dendriteWay)) {
	t.Run("shared", func(t *testing.T) {
		test(t, dendriteWay{dendritetest.Start(t, dendritetest.Options{ServerName: fakeServer, Closed: true, SharedSecret: fakeSecret}), false})
	})
	t.Run("private", func(t *testing.T) {
		test(t, dendriteWay{dendritetest.Start(t, dendritetest.Options{ServerName: fakeServer}), true})
	})
}

func (d dendriteWay) upstream(c *gateway.Client) gateway.Upstream {
	if d.private {
		return &gateway.PrivateRegistration{Client: c, ServerName: fakeServer}
	}
	return &gateway.SharedSecret{Client: c, ServerName: fakeServer, Secret: fakeSecret}
}

// whoami returns whose access token it is.
func (f *front) whoami(token string) string {
	f.t.Helper()
	res, body := f.raw("GET", "/_matrix/client/v3/account/whoami", "Authorization: Bearer "+token)
	assert.Equal(f.t, 200, res.StatusCode, body)
	return body
}

func (f *front) login(user, password string) answer {
	f.t.Helper()
	return f.post("/_matrix/client/v3/login", dict{
		"type": "m.login.password", "password": password, "identifier": dict{"type": "m.id.user", "user": user},
	})
}

const goodPassword = "correct horse battery"

func TestDendrite(t *testing.T) {
	onDendrite(t, func(t *testing.T, d dendriteWay) {
		f := newFront(t, d.URL, frontOptions{upstream: d.upstream})
		f.token("fifty", 50)
		f.token("once", 1)

		a := f.register(params("alice", goodPassword), "fifty")
		require.Equal(t, 200, a.Status, a.Body)
		assert.Equal(t, "PHONE", a.JSON["device_id"])
		assert.Contains(t, f.whoami(str(a.JSON["access_token"])), `"@alice:`+fakeServer)
		res, devices := f.raw("GET", "/_matrix/client/v3/devices", "Authorization: Bearer "+str(a.JSON["access_token"]))
		assert.Equal(t, 200, res.StatusCode)
		assert.Equal(t, 1, strings.Count(devices, `"device_id"`), devices)
		assert.Equal(t, 200, f.login("alice", goodPassword).Status)

		a = f.register(dict{"username": "bob", "password": goodPassword, "inhibit_login": true}, "fifty")
		require.Equal(t, 200, a.Status, a.Body)
		assert.Nil(t, a.JSON["access_token"])
		assert.Equal(t, 200, f.login("bob", goodPassword).Status)

		assert.Equal(t, "M_USER_IN_USE", f.register(params("alice", goodPassword), "fifty").errcode())
		refused := f.register(params("carol", "short"), "fifty")
		assert.Equal(t, 400, refused.Status, "the upstream's rules for passwords: %s", refused.Body)
		assert.Equal(t, 400, f.register(params("carol", "nul\x00 nul nul"), "fifty").Status)

		var wg sync.WaitGroup
		var mu sync.Mutex
		got := map[int]int{}
		for i := range 20 {
			wg.Go(func() {
				a := f.register(params(fmt.Sprint("user", i), goodPassword), "once")
				mu.Lock()
				defer mu.Unlock()
				got[a.Status]++
			})
		}
		wg.Wait()
		assert.Equal(t, map[int]int{200: 1, 401: 19}, got)
		made := 0
		for i := range 20 {
			if f.login(fmt.Sprint("user", i), goodPassword).Status == 200 {
				made++
			}
		}
		assert.Equal(t, 1, made)

		for value, completed := range map[string]int64{"fifty": 2, "once": 1} {
			token, err := f.store.Token(t.Context(), value, time.Now())
			require.NoError(t, err)
			assert.Equal(t, completed, token.Completed, value)
		}
		for _, finding := range f.client.Check(t.Context()) {
			assert.True(t, d.private, finding.Text)
		}
	})
}

// TestDendriteCrashes has faults at every operation, as in TestCrashes, with a real
// homeserver that is killed, too, if there is the time.
func TestDendriteCrashes(t *testing.T) {
	faults, most := []fault{killAfter}, 20
	if full {
		faults = []fault{killBefore, killAfter, failBefore, failAfter}
	}
	onDendrite(t, func(t *testing.T, d dendriteWay) {
		for _, f := range faults {
			var hits atomic.Int64
			t.Run(faultNames[f], func(t *testing.T) {
				for at := range most {
					t.Run(fmt.Sprint(at+1), func(t *testing.T) {
						t.Parallel()
						if d.crash(t, f, at+1, fmt.Sprint("user", f, "-", at), false) {
							hits.Add(1)
						}
					})
				}
			})
			assert.Greater(t, hits.Load(), int64(8))
			assert.Less(t, hits.Load(), int64(most), "there are more operations than were tried")
		}
		for at := 1; full; at++ {
			if !d.crash(t, killAfter, at, fmt.Sprint("restarted", at), true) {
				break
			}
		}
	})
}

// full reports whether the long tests run at their full size.
var full = os.Getenv("UIA_FULL") != ""

// crash runs one case, in real time: the client comes back as soon as the lease has
// ended. It reports whether there was an operation for the fault.
func (d dendriteWay) crash(t *testing.T, f fault, at int, user string, restart bool) (hit bool) {
	w := newWorld(t, way{"dendrite", d.private})
	w.target, w.lease = d.URL, 2*time.Second
	w.token("once", 1)
	p := w.start(f, at)
	last := p.upToTheLast(params(user, goodPassword), "once")
	p.line.start()
	got := p.postFor(last, 3*time.Second)
	if hit = p.hadFault() != ""; !hit {
		assert.Equal(t, 200, got.Status, got.Body)
		return hit
	}
	if restart {
		d.Restart(t)
	}
	next := w.start(noFault, 0)
	deadline := time.Now().Add(time.Minute)
	for got.Status != 200 && time.Now().Before(deadline) {
		got = next.postFor(last, 10*time.Second)
	}
	assert.Equal(t, 200, got.Status, "%s: %s", p.hadFault(), got.Body)
	assert.Equal(t, "PHONE", got.JSON["device_id"])
	_, err := next.client.Login(t.Context(), gateway.Order{Localpart: user, Password: goodPassword})
	assert.NoError(t, err, "the user logs in with the password that was chosen")
	token, err := w.store.Token(t.Context(), "once", time.Now())
	require.NoError(t, err)
	assert.EqualValues(t, 1, token.Completed)
	assert.Zero(t, token.Pending)
	return hit
}

// TestDendriteConforms has uiacheck's result through the gateway: what fails is the
// upstream's own, and stands in a golden file with the reason.
func TestDendriteConforms(t *testing.T) {
	d := dendriteWay{dendritetest.Start(t, dendritetest.Options{ServerName: fakeServer, Closed: true, SharedSecret: fakeSecret}), false}
	failed, passed := d.check(t, nil, &uiatest.Options{Rate: 200, Parallel: 2})
	// Only the cases about limits are for a gateway that has one.
	failed = slices.DeleteFunc(failed, func(name string) bool { return strings.HasPrefix(name, "limits/") })
	lim, err := limit.New(nil)
	require.NoError(t, err)
	unlimited, limited := d.check(t, lim, &uiatest.Options{Rate: 200, Match: regexp.MustCompile("^limits/"), Guesses: 80})
	failed = append(failed, unlimited...)
	slices.Sort(failed)
	t.Log(passed, "and", limited, "pass")
	assert.Greater(t, passed, 300)
	assert.Positive(t, limited)

	known, err := os.ReadFile("testdata/dendrite.golden")
	require.NoError(t, err)
	var want []string
	for line := range strings.Lines(string(known)) {
		if name, _, _ := strings.Cut(strings.TrimSpace(line), ": "); !strings.HasPrefix(name, "#") {
			want = append(want, name)
		}
	}
	assert.Equal(t, want, failed, "what is known to fail, and what does")
}

// check runs uiacheck's cases through a gateway with this limiter, and returns which
// fail and how many pass.
func (d dendriteWay) check(t *testing.T, lim uia.Limiter, opts *uiatest.Options) (failed []string, passed int) {
	f := newFront(t, d.URL, frontOptions{upstream: d.upstream, limiter: lim, change: func(o *gateway.Options, _ *register.Registration) {
		admins := &gateway.Admins{Client: &gateway.Client{URL: d.URL}, Users: []string{"@admin:" + fakeServer}}
		o.Authorize, o.ServerVersion = admins.Authorize, "gateway"
	}})
	f.token("admin", 1)
	admin := f.register(params("admin", goodPassword), "admin")
	if admin.errcode() == "M_USER_IN_USE" {
		admin = f.login("admin", goodPassword)
	}
	require.Equal(t, 200, admin.Status, admin.Body)
	reports, err := uiatest.Run(t.Context(), uiatest.Server{URL: f.URL, AdminToken: str(admin.JSON["access_token"])}, opts)
	require.NoError(t, err)
	for _, r := range reports {
		switch r.Outcome {
		case uiatest.Passed:
			passed++
		case uiatest.Failed:
			failed = append(failed, r.Name)
			t.Logf("%s: %s", r.Name, strings.Join(r.Problems, "; "))
		}
	}
	return failed, passed
}
