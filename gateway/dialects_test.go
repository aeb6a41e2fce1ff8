package gateway_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"maps"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// ask sends a request to the fake, and returns the status with the errcode or, of a
// success, with the device that is logged in.
func (f *fake) ask(t *testing.T, method, path string, body dict) (told string, answer dict) {
	t.Helper()
	text, err := json.Marshal(body)
	require.NoError(t, err)
	w := httptest.NewRecorder()
	f.ServeHTTP(w, httptest.NewRequest(method, path, bytes.NewReader(text)))
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &answer))
	what := str(answer["errcode"])
	switch {
	case w.Code == 200 && answer["access_token"] != nil && answer["device_id"] == "PHONE":
		what = "logged in"
	case w.Code == 200 && answer["access_token"] != nil:
		what = "another device"
	case w.Code == 200:
		what = "done"
	case strings.Contains(str(answer["error"]), "nonce"):
		what = "nonce"
	case w.Code == 401 && what == "":
		what = "challenge"
	}
	return what, answer
}

func (f *fake) sharedRequest(nonce, name, password string, more dict) dict {
	mac := hmac.New(sha1.New, []byte(fakeSecret))
	mac.Write([]byte(strings.Join([]string{nonce, name, password, "notadmin"}, "\x00")))
	p := dict{"nonce": nonce, "username": name, "password": password, "admin": false, "mac": hex.EncodeToString(mac.Sum(nil)), "device_id": "PHONE"}
	maps.Copy(p, more)
	return p
}

// TestDialects has what was seen of the real homeservers, or read of the Conduit family:
// the fakes stand for them in every other test.
func TestDialects(t *testing.T) {
	const v3, unstable = "/_matrix/client/v3/register", "/_matrix/client/unstable/register"
	for name, want := range map[string]struct {
		shared, nonceAgain, nonceLater, inhibited, exclusive, nul string
		closedAvailable, openAvailable, openUnstable              string
		again, againInhibited, restarted                          string
	}{
		"synapse": {
			"logged in", "nonce", "nonce", "done", "M_EXCLUSIVE", "M_UNKNOWN",
			"M_FORBIDDEN", "M_EXCLUSIVE", "challenge",
			"logged in", "logged in", "logged in",
		},
		"dendrite": {
			"another device", "M_USER_IN_USE", "another device", "another device", "another device", "M_UNKNOWN",
			"done", "M_USER_IN_USE", "M_UNRECOGNIZED",
			"logged in", "M_USER_IN_USE", "M_MISSING_PARAM",
		},
		"hs": {
			"another device", "nonce", "nonce", "another device", "M_EXCLUSIVE", "M_UNKNOWN",
			"done", "M_EXCLUSIVE", "M_UNRECOGNIZED",
			"logged in", "logged in", "M_UNKNOWN",
		},
		"conduit": {
			closedAvailable: "done", openAvailable: "M_EXCLUSIVE", openUnstable: "M_UNRECOGNIZED",
			again: "M_UNKNOWN", againInhibited: "M_UNKNOWN", restarted: "M_UNKNOWN",
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				closed := newFake(dialectOf(name), false)
				told := func(f *fake, method, path string, body dict) string {
					what, _ := f.ask(t, method, path, body)
					return what
				}
				assert.Equal(t, want.closedAvailable, told(closed, "GET", v3+"/available?username=free", nil))
				assert.Equal(t, "M_FORBIDDEN", told(closed, "POST", v3, dict{}))
				if closed.shared {
					nonce := func() string {
						_, a := closed.ask(t, "GET", "/_synapse/admin/v1/register", nil)
						return str(a["nonce"])
					}
					shared := func(nonce, name, password string, more dict) string {
						return told(closed, "POST", "/_synapse/admin/v1/register", closed.sharedRequest(nonce, name, password, more))
					}
					n := nonce()
					assert.Equal(t, want.shared, shared(n, "alice", "wonderland", nil))
					assert.Equal(t, want.nonceAgain, shared(n, "alice", "wonderland", nil))
					old := nonce()
					<-time.After(62 * time.Second)
					assert.Equal(t, want.nonceLater, shared(old, "later", "wonderland", nil))
					assert.Equal(t, want.inhibited, shared(nonce(), "bob", "wonderland", dict{"inhibit_login": true}))
					assert.Equal(t, want.exclusive, shared(nonce(), exclusive+"z", "wonderland", nil))
					assert.Equal(t, want.nul, shared(nonce(), "carol", "won\x00derland", nil))
					assert.Equal(t, "M_FORBIDDEN", shared(nonce(), "carol", "wonderland", dict{"mac": "00"}))
				} else {
					assert.Equal(t, "M_UNRECOGNIZED", told(closed, "GET", "/_synapse/admin/v1/register", nil))
				}

				open := newFake(dialectOf(name), true)
				assert.Equal(t, want.openAvailable, told(open, "GET", v3+"/available?username="+exclusive+"z", nil))
				assert.Equal(t, want.openUnstable, told(open, "POST", unstable, dict{}))
				last := func(user string, inhibited bool) dict {
					params := dict{"username": user, "password": "wonderland", "device_id": "PHONE", "inhibit_login": inhibited}
					_, first := open.ask(t, "POST", v3, params)
					auth := dict{"type": "m.login.registration_token", "token": fakeToken, "session": first["session"]}
					assert.Equal(t, "challenge", told(open, "POST", v3, dict{"auth": auth}))
					finished, done := dict{"auth": dict{"type": "m.login.dummy", "session": first["session"]}}, "logged in"
					if inhibited {
						done = "done"
					}
					assert.Equal(t, done, told(open, "POST", v3, finished), "the upstream has kept the parameters")
					return finished
				}
				assert.Equal(t, want.again, told(open, "POST", v3, last("alice", false)))
				assert.Equal(t, want.againInhibited, told(open, "POST", v3, last("bob", true)))
				carol := last("carol", false)
				open.restart()
				assert.Equal(t, want.restarted, told(open, "POST", v3, carol))
				assert.Equal(t, []string{"alice", "bob", "carol"}, open.names(), "nothing more is made")
			})
		})
	}
}
