package gateway_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia/gateway"
)

// Somebody takes the name at the upstream while a registration is in doubt. The
// client is told so, and goes on in the same session with another name.
func TestAnotherNameAfterADoubt(t *testing.T) {
	for _, w := range ways() {
		t.Run(w.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				world := newWorld(t, w)
				world.token("once", 1)
				p := world.start(noFault, 0)
				lost := false
				p.drop = func(r *http.Request, body string) bool {
					hit := !lost && isMake(r, body)
					lost = lost || hit
					return hit
				}
				last := p.upToTheLast(params("alice", "wonderland"), "once")
				a := p.post(last)
				require.Equal(t, 503, a.Status, a.Body)
				assert.Equal(t, "5", a.Header.Get("Retry-After"))
				world.fake.users["alice"] = &fakeUser{password: "somebody else's", devices: map[string]string{}}

				a = p.post(last)
				assert.Equal(t, "M_USER_IN_USE", a.errcode(), a.Body)
				other := params("bob", "wonderland")
				a = p.post(with(other, last["auth"].(dict)))
				assert.Equal(t, 200, a.Status, a.Body)
				assert.Equal(t, "@bob:"+fakeServer, a.JSON["user_id"])
				p.settle()
				token, err := world.store.Token(t.Context(), "once", time.Now())
				require.NoError(t, err)
				assert.EqualValues(t, 1, token.Completed)
				assert.Zero(t, token.Pending)
				claims, err := world.claims.List(t.Context(), gateway.ClaimQuery{State: gateway.Made, Limit: 10})
				require.NoError(t, err)
				require.Len(t, claims, 1)
				assert.Positive(t, claims[0].Run, "claims bear the engine's runs")
			})
		})
	}
}

// What the client is told of a limit of the upstream has the time to wait, in doubt
// and without.
func TestLimitsOfTheUpstream(t *testing.T) {
	limited := func(w http.ResponseWriter) bool {
		w.WriteHeader(429)
		_, _ = w.Write([]byte(`{"errcode":"M_LIMIT_EXCEEDED","error":"slowly","retry_after_ms":7000}`))
		return true
	}
	for path, inDoubt := range map[string]bool{"/login": true, "/admin/v1/register": false} {
		t.Run(path, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				world := newWorld(t, way{"dendrite", false})
				world.token("once", 1)
				p := world.start(noFault, 0)
				busy := true
				p.upstream = hooked{world.fake, func(w http.ResponseWriter, r *http.Request) bool {
					return busy && strings.HasSuffix(r.URL.Path, path) && limited(w)
				}}
				last := p.upToTheLast(params("alice", "wonderland"), "once")
				a := p.post(last)
				assert.Equal(t, 429, a.Status, a.Body)
				assert.Equal(t, "M_LIMIT_EXCEEDED", a.errcode())
				assert.Equal(t, "7", a.Header.Get("Retry-After"))
				assert.Equal(t, inDoubt, len(world.fake.names()) > 0)
				busy = false
				a = p.post(last)
				assert.Equal(t, 200, a.Status, a.Body)
				assert.Equal(t, "PHONE", a.JSON["device_id"])
			})
		})
	}
}

// Two gateways get the last request of one session again and again, and make one
// account.
func TestTwoGateways(t *testing.T) {
	for _, w := range ways() {
		synctest.Test(t, func(t *testing.T) {
			world := newWorld(t, w)
			world.token("once", 1)
			a, b := world.start(noFault, 0), world.start(noFault, 0)
			last := a.upToTheLast(params("alice", "wonderland"), "once")
			got := make(chan answer, 20)
			for i := range 20 {
				go func() { got <- []*process{a, b}[i%2].post(last) }()
			}
			bodies := map[string]int{}
			for range 20 {
				answer := <-got
				assert.Equal(t, 200, answer.Status, answer.Body)
				bodies[answer.Body]++
			}
			assert.Len(t, bodies, 1)
			assert.Equal(t, []string{"alice"}, world.fake.names())
		})
	}
}

// A name that is made up is another one in each run. The account that an earlier run
// may have made is the one that counts.
func TestMadeUpNamesAfterADoubt(t *testing.T) {
	for _, w := range ways() {
		for _, arrives := range []bool{false, true} {
			t.Run(w.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					world := newWorld(t, w)
					world.token("once", 1)
					p := world.start(noFault, 0)
					lost := false
					p.drop = func(r *http.Request, body string) bool {
						if lost || !isMake(r, body) {
							return false
						}
						lost = true
						if arrives {
							r = r.Clone(t.Context())
							r.Body = io.NopCloser(strings.NewReader(body))
							_, _ = transport{&line{}, world.fake}.RoundTrip(r)
						}
						return true
					}
					last := p.upToTheLast(dict{"password": "wonderland", "device_id": "PHONE"}, "once")
					require.Equal(t, 503, p.post(last).Status)
					sent, err := world.claims.List(t.Context(), gateway.ClaimQuery{State: gateway.Sent, Limit: 1})
					require.NoError(t, err)
					require.Len(t, sent, 1)
					a := p.comeBack(last)
					assert.Equal(t, 200, a.Status, a.Body)
					assert.Equal(t, "@"+sent[0].Localpart+":"+fakeServer, a.JSON["user_id"])
					assert.Equal(t, []string{sent[0].Localpart}, world.fake.names())
					assert.True(t, world.fake.canLogIn(sent[0].Localpart, "wonderland"))
				})
			})
		}
	}
}

// The earlier request gets through between the look whether it has and the next try:
// its account is the user's.
func TestTheEarlierRequestIsFaster(t *testing.T) {
	for _, w := range ways() {
		t.Run(w.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				world := newWorld(t, w)
				world.token("once", 1)
				p := world.start(noFault, 0)
				var onItsWay func()
				p.drop = func(r *http.Request, body string) bool {
					if onItsWay != nil || !isMake(r, body) {
						return false
					}
					r = r.Clone(t.Context())
					onItsWay = func() {
						r.Body = io.NopCloser(strings.NewReader(body))
						_, _ = transport{&line{}, world.fake}.RoundTrip(r)
					}
					return true
				}
				last := p.upToTheLast(params("alice", "wonderland"), "once")
				require.Equal(t, 503, p.post(last).Status)
				looked := false
				p.upstream = hooked{world.fake, func(_ http.ResponseWriter, r *http.Request) bool {
					if r.URL.Path == "/_matrix/client/v3/login" {
						looked = true
					} else if looked && onItsWay != nil {
						arrive := onItsWay
						onItsWay = func() {}
						arrive()
					}
					return false
				}}
				a := p.comeBack(last)
				assert.Equal(t, 200, a.Status, a.Body)
				assert.Equal(t, []string{"alice"}, world.fake.names())
				assert.True(t, world.fake.canLogIn("alice", "wonderland"))
			})
		})
	}
}
