package gateway_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/gateway"
)

// asAdmin asks who sent a request with this Authorization, and returns "who", or
// "status errcode".
func asAdmin(t testing.TB, a *gateway.Admins, authorization string) string {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), "GET", "/_synapse/admin/v1/registration_tokens", nil)
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	r.AddCookie(&http.Cookie{Name: "access_token", Value: "root"})
	who, err := a.Authorize(r)
	if err == nil {
		return who
	}
	if e, ok := errors.AsType[*uia.Error](err); ok {
		return fmt.Sprint(e.Status, " ", e.ErrCode)
	}
	assert.Empty(t, who)
	return "broken"
}

// admined is a fake with the users root, who is an administrator, and alice, whose
// access tokens are their names.
func admined(d string) *fake {
	f := newFake(dialectOf(d), false)
	f.admins = []string{"@root:" + fakeServer}
	for _, name := range []string{"root", "alice"} {
		f.users[name] = &fakeUser{"secret", map[string]string{}}
		f.logins[name] = name + "/D"
	}
	return f
}

// TestAdmins is the table of administrators: each homeserver, with each way to find
// out.
func TestAdmins(t *testing.T) {
	const root, alice = "@root:" + fakeServer, "@alice:" + fakeServer
	probes := map[string]gateway.AdminProbe{"none": {}, "synapse": gateway.SynapseAdmins, "dendrite": gateway.DendriteAdmins}
	for _, c := range []struct {
		dialect, probe string
		users          []string
		root, alice    string
	}{
		{"synapse", "synapse", nil, root, "403 M_FORBIDDEN"},
		{"dendrite", "dendrite", nil, root, "403 M_FORBIDDEN"},
		{"synapse", "synapse", []string{alice}, root, alice},
		{"conduit", "none", []string{alice}, "403 M_FORBIDDEN", alice},
		{"synapse", "none", nil, "403 M_FORBIDDEN", "403 M_FORBIDDEN"},
		// There is no such endpoint: nobody is an administrator by it.
		{"dendrite", "synapse", nil, "403 M_FORBIDDEN", "403 M_FORBIDDEN"},
		{"conduit", "dendrite", []string{alice}, "403 M_FORBIDDEN", alice},
	} {
		a := &gateway.Admins{
			Client: &gateway.Client{URL: "http://x", Transport: transport{&line{}, admined(c.dialect)}},
			Users:  c.users, Probe: probes[c.probe],
		}
		name := fmt.Sprintf("%s with probe %s and %v", c.dialect, c.probe, c.users)
		for range 2 { // the second time it is remembered
			assert.Equal(t, c.root, asAdmin(t, a, "Bearer root"), name)
			assert.Equal(t, c.alice, asAdmin(t, a, "bearer alice"), name)
			assert.Equal(t, "401 M_UNKNOWN_TOKEN", asAdmin(t, a, "Bearer nobody"), name)
		}
		for _, none := range []string{"", "Bearer", "Bearer  ", "Basic root", "root"} {
			assert.Equal(t, "401 M_MISSING_TOKEN", asAdmin(t, a, none), "%s %q", name, none)
		}
	}
}

// Synapse tells anybody's state to administrators, and of another user with 200.
func TestAdminsOfAnotherUser(t *testing.T) {
	a := &gateway.Admins{
		Client: &gateway.Client{URL: "http://x", Transport: transport{&line{}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/whoami") {
				fmt.Fprint(w, `{"user_id":"@alice:x"}`)
				return
			}
			fmt.Fprint(w, `{"admin":false}`)
		})}},
		Probe: gateway.SynapseAdmins,
	}
	assert.Equal(t, "403 M_FORBIDDEN", asAdmin(t, a, "Bearer alice"))
}

// An upstream that does not tell is not one that says no, and never one that says yes.
func TestAdminsWithoutUpstream(t *testing.T) {
	answers := map[string]func(w http.ResponseWriter, probe bool){
		"500":             func(w http.ResponseWriter, _ bool) { w.WriteHeader(500) },
		"429":             func(w http.ResponseWriter, _ bool) { w.WriteHeader(429) },
		"HTML":            func(w http.ResponseWriter, _ bool) { fmt.Fprint(w, "<html>welcome") },
		"nothing":         func(http.ResponseWriter, bool) {},
		"an empty object": func(w http.ResponseWriter, _ bool) { fmt.Fprint(w, "{}") },
		"a redirect": func(w http.ResponseWriter, _ bool) {
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(302)
		},
		"3 MB of JSON": func(w http.ResponseWriter, _ bool) {
			fmt.Fprintf(w, `{"user_id":"@root:x","x":"%s"}`, strings.Repeat("x", 3<<20))
		},
		"a broken probe": func(w http.ResponseWriter, probe bool) {
			if probe {
				w.WriteHeader(503)
			}
			fmt.Fprint(w, `{"user_id":"@alice:x"}`)
		},
	}
	for name, answer := range answers {
		asked := 0
		a := &gateway.Admins{
			Client: &gateway.Client{URL: "http://x", Transport: transport{&line{}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked++
				answer(w, !strings.HasSuffix(r.URL.Path, "/whoami"))
			})}},
			Probe: gateway.DendriteAdmins,
		}
		assert.Equal(t, "broken", asAdmin(t, a, "Bearer alice"), name)
		before := asked
		assert.Equal(t, "broken", asAdmin(t, a, "Bearer alice"), name)
		assert.Greater(t, asked, before, "%s: what the upstream does not say is not remembered", name)
	}
}

// A login that has ended works for no longer than the time for which it is
// remembered, and no flood of access tokens takes more room than some.
func TestAdminsAreRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := admined("dendrite")
		a := &gateway.Admins{Client: &gateway.Client{URL: "http://x", Transport: transport{&line{}, f}}, Probe: gateway.DendriteAdmins}
		assert.Equal(t, "@root:"+fakeServer, asAdmin(t, a, "Bearer root"))
		asked := len(f.requests)
		delete(f.logins, "root")
		<-time.After(10*time.Second - time.Millisecond)
		assert.Equal(t, "@root:"+fakeServer, asAdmin(t, a, "Bearer root"))
		assert.Len(t, f.requests, asked, "the upstream was asked again")
		<-time.After(time.Millisecond)
		assert.Equal(t, "401 M_UNKNOWN_TOKEN", asAdmin(t, a, "Bearer root"))
		f.logins["root"] = "root/D"
		assert.Equal(t, "401 M_UNKNOWN_TOKEN", asAdmin(t, a, "Bearer root"), "a refusal is remembered too")
		<-time.After(10 * time.Second)
		assert.Equal(t, "@root:"+fakeServer, asAdmin(t, a, "Bearer root"))

		for i := range 1100 {
			asAdmin(t, a, fmt.Sprint("Bearer ", i))
			if n := gateway.Remembered(a); n > 1000 {
				t.Fatal(n, "are remembered")
			}
		}

		never := &gateway.Admins{Client: a.Client, Probe: a.Probe, TTL: -1}
		assert.Equal(t, "@root:"+fakeServer, asAdmin(t, never, "Bearer root"))
		delete(f.logins, "root")
		assert.Equal(t, "401 M_UNKNOWN_TOKEN", asAdmin(t, never, "Bearer root"))
	})
}
