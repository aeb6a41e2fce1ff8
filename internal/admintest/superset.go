package admintest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/admin"
)

// wordList has 2048 words that a token can have, and some that it cannot.
func wordList() []string {
	list := []string{"drop-down", "naïve", "", strings.Repeat("x", 65), "w0000"}
	for i := range 2048 {
		list = append(list, fmt.Sprintf("w%04d", i))
	}
	return list
}

// testSuperset is about what Synapse does not have.
func testSuperset(t *testing.T, fresh func(testing.TB) uia.TokenStore) {
	runRows(t, fresh, supersetRows, func(o *admin.Options) {
		o.InviteURL = "https://chat.example.org/#/register?token={token}"
		o.QR = func(text string) ([]byte, error) { return []byte("PNG of " + text), nil }
		o.Words = wordList()
	})
}

var supersetRows = []row{
	{"a record has label, created_ts, created_by, revoked, last_used_ts, meta and invite_url", func(t *testing.T, s *Server) {
		a := s.Do("POST", "/new", `{"token":"abcd","label":"for Bob","meta":{"rooms":["#a:test"],"username":"bob"}}`)
		require.Equal(t, 200, a.Status, a.Body)
		assert.Equal(t, Dict{
			"token": "abcd", "uses_allowed": nil, "pending": 0.0, "completed": 0.0, "expiry_time": nil,
			"label": "for Bob", "created_ts": float64(Now.UnixMilli()), "created_by": "@admin:test", "revoked": false, "last_used_ts": nil,
			"meta": Dict{"rooms": []any{"#a:test"}, "username": "bob"}, "fingerprint": uia.Fingerprint("abcd"), "valid": true,
			"invite_url": "https://chat.example.org/#/register?token=abcd",
		}, a.JSON)
		assert.Equal(t, a.JSON, s.Do("GET", "/abcd", nil).JSON)
	}},
	{"a record says whether the token is valid, and why not", func(t *testing.T, s *Server) {
		for value, token := range map[string]uia.Token{
			"good": {UsesAllowed: new(int64(2))}, "unlimited": {}, "off": {UsesAllowed: new(int64(0))}, "expired": {Expires: Now},
			"revoked": {Revoked: true, Expires: Now}, "held": {UsesAllowed: new(int64(1))}, "used": {UsesAllowed: new(int64(1))},
		} {
			token.Value = value
			require.NoError(t, s.Store.CreateTokens(t.Context(), token))
		}
		s.Hold("held", "s1", Now)
		s.Spend("used", "s2", "@a:test", Now)
		listed := map[string]Dict{}
		for _, entry := range s.Do("GET", "", nil).JSON["registration_tokens"].([]any) {
			listed[entry.(Dict)["token"].(string)] = entry.(Dict)
		}
		for value, reason := range map[string]any{
			"good": nil, "unlimited": nil, "off": "exhausted", "expired": "expired", "revoked": "revoked", "held": "exhausted", "used": "exhausted",
		} {
			record := s.Do("GET", "/"+value, nil).JSON
			assert.Equal(t, []any{reason == nil, reason}, []any{record["valid"], record["invalid_reason"]}, value)
			assert.Equal(t, record, listed[value], value)
			assert.Equal(t, record, s.Do("PUT", "/"+value, "{}").JSON, value)
		}
	}},
	{"no token can be made whose expiry breaks the tools, and none is shown", func(t *testing.T, s *Server) {
		const last = 253_402_300_799_999 // 9999-12-31T23:59:59.999Z
		a := s.Do("POST", "/new", Dict{"token": "last", "expiry_time": last})
		assert.Equal(t, 200, a.Status, a.Body)
		assert.EqualValues(t, last, a.JSON["expiry_time"])
		before := s.All()
		for _, later := range []int64{last + 1, 1<<53 - 1} {
			s.refused(before, s.Do("POST", "/new", Dict{"expiry_time": later}), 400, "M_INVALID_PARAM", "later")
			s.refused(before, s.Do("PUT", "/last", Dict{"expiry_time": later}), 400, "M_INVALID_PARAM", "later")
		}
		require.NoError(t, s.Store.CreateTokens(t.Context(), uia.Token{Value: "later", Expires: time.UnixMilli(last + 1)}))
		record := s.Do("GET", "/later", nil).JSON
		assert.EqualValues(t, last, record["expiry_time"])
		assert.Equal(t, 200, s.Do("PUT", "/later", record).Status, "it can be sent back")
		assert.Equal(t, time.UnixMilli(last+1).UTC(), s.All()[1].Expires)
	}},
	{"an expiry in seconds is explained", func(t *testing.T, s *Server) {
		for expiry, says := range map[int64]string{
			Now.Add(time.Hour).Unix(): "seconds", Now.Add(-time.Hour).Unix(): "milliseconds since 1970", Now.Add(-time.Hour).UnixMilli(): "milliseconds", 0: "past",
		} {
			a := s.Do("POST", "/new", Dict{"expiry_time": expiry})
			assert.Equal(t, 400, a.Status, expiry)
			assert.Contains(t, a.JSON["error"], says, expiry)
		}
	}},
	{"a form that was left open does not make a revoked token valid", func(t *testing.T, s *Server) {
		s.Do("POST", "/new", `{"token":"abcd","uses_allowed":5}`)
		form := s.Do("GET", "/abcd", nil).JSON
		s.Do("PUT", "/abcd", `{"revoked":true}`)
		ketesa := Dict{"id": "abcd", "token": "abcd", "uses_allowed": 6, "pending": 0, "completed": 0, "expiry_time": nil, "revoked": false}
		a := s.Do("PUT", "/abcd", ketesa)
		assert.Equal(t, []any{200, true, 6.0}, []any{a.Status, a.JSON["revoked"], a.JSON["uses_allowed"]}, a.Body)
		form["uses_allowed"] = 7
		a = s.Do("PUT", "/abcd", form)
		assert.Equal(t, []any{200, true, 7.0}, []any{a.Status, a.JSON["revoked"], a.JSON["uses_allowed"]}, a.Body)
		assert.Equal(t, false, s.Do("PUT", "/abcd", `{"revoked":false}`).JSON["revoked"])
		form["revoked"] = true
		assert.Equal(t, true, s.Do("PUT", "/abcd", form).JSON["revoked"], "but it can revoke one")
	}},
	{"tokens come with the uses spent elsewhere", func(t *testing.T, s *Server) {
		a := s.Do("POST", "/new", `{"token":"abcd","uses_allowed":3,"pending":1,"completed":2,"expiry_time":null}`)
		require.Equal(t, 200, a.Status, a.Body)
		assert.Equal(t, []any{0.0, 2.0, true}, []any{a.JSON["pending"], a.JSON["completed"], a.JSON["valid"]})
		s.Spend("abcd", "s1", "@a:test", Now)
		a = s.Do("GET", "/abcd", nil)
		assert.Equal(t, []any{3.0, false}, []any{a.JSON["completed"], a.JSON["valid"]})
		assert.Len(t, s.Do("GET", "/abcd/uses", nil).JSON["uses"], 1)
		before := s.All()
		for _, bad := range []string{`-1`, `1.0`, `"2"`, `true`, `9007199254740992`} {
			s.refused(before, s.Do("POST", "/new", `{"completed":`+bad+`}`), 400, "M_INVALID_PARAM", bad)
		}
	}},
	{"a held use is given back, and no other", func(t *testing.T, s *Server) {
		require.NoError(t, s.Store.CreateTokens(t.Context(), uia.Token{Value: "abcd", UsesAllowed: new(int64(3))}))
		held := s.Hold("abcd", "register.held", Now)
		// A run that has come to nothing leaves the use held.
		require.NoError(t, s.Store.Pin(t.Context(), held, Now))
		require.NoError(t, s.Store.Unpin(t.Context(), held, Now.Add(time.Minute), Now))
		s.Spend("abcd", "register.spent", "@a:test", Now)
		pinned := s.Hold("abcd", "register.pinned", Now)
		require.NoError(t, s.Store.Pin(t.Context(), pinned, Now))
		assert.Equal(t, 404, s.Do("DELETE", "/abcd/uses/register.pinned", nil).Status, "its account may be being made")
		a := s.Do("DELETE", "/abcd/uses/register.spent", nil)
		assert.Equal(t, []any{409, "M_FORBIDDEN"}, []any{a.Status, a.Code()})
		for _, path := range []string{"/abcd/uses/register.other", "/other/uses/register.held", "/a%20b/uses/register.held", "/abcd/uses/%00", "/abcd/uses/%ff", "/abcd/uses/"} {
			a = s.Do("DELETE", path, nil)
			assert.Contains(t, []int{404, 405}, a.Status, path)
		}
		assert.Equal(t, 405, s.Do("GET", "/abcd/uses/register.held", nil).Status)
		a = s.Do("DELETE", "/abcd/uses/register.held", nil)
		assert.Equal(t, []any{200, "{}"}, []any{a.Status, a.Body})
		assert.Equal(t, 404, s.Do("DELETE", "/abcd/uses/register.held", nil).Status)
		require.ErrorIs(t, s.Store.Pin(t.Context(), held, Now), uia.ErrNotHeld)
		require.NoError(t, s.Store.Commit(t.Context(), pinned, "@b:test", Now))
		s.Hold("abcd", "register.next", Now)
		assert.Equal(t, []uia.Event{{
			Kind: uia.EventUseReleased, Token: uia.Fingerprint("abcd"), By: "@admin:test", Operation: "register", Session: "register.held",
		}}, s.Events())
	}},
	{"the uses of a deleted token can still be read", func(t *testing.T, s *Server) {
		s.Create("abcd")
		for i, user := range []string{"@a:test", "@b:test", "@c:test"} {
			s.Spend("abcd", "register."+user[1:2], user, Now.Add(time.Duration(i)*time.Second))
		}
		s.Do("DELETE", "/abcd", nil)
		assert.Equal(t, 404, s.Do("GET", "/abcd/uses", nil).Status)
		s.Create("abcd")
		s.Spend("abcd", "register.d", "@d:test", Now)
		var users []any
		for from := ""; ; {
			a := s.Do("GET", "/abcd/uses?deleted=true&limit=2&from="+from, nil)
			require.Equal(t, 200, a.Status, a.Body)
			for _, u := range a.JSON["uses"].([]any) {
				users = append(users, u.(Dict)["user_id"])
			}
			if from = a.Next(); from == "" {
				break
			}
			assert.Equal(t, 400, s.Do("GET", "/abcd/uses?from="+from, nil).Status, "that is another list")
		}
		assert.Equal(t, []any{"@c:test", "@b:test", "@a:test"}, users)
		assert.Len(t, s.Do("GET", "/abcd/uses?deleted=false", nil).JSON["uses"], 1)
		assert.Equal(t, `{"uses":[]}`, s.Do("GET", "/never/uses?deleted=true", nil).Body)
		assert.Equal(t, 404, s.Do("GET", "/a%20b/uses?deleted=true", nil).Status)
		assert.Equal(t, 400, s.Do("GET", "/abcd/uses?deleted=yes", nil).Status)
	}},
	{"label and meta can be changed and cleared", func(t *testing.T, s *Server) {
		s.Do("POST", "/new", `{"token":"abcd","label":"a","meta":{"x":1}}`)
		a := s.Do("PUT", "/abcd", `{"label":"b","meta":{"y" : 2}}`)
		assert.Equal(t, []any{"b", Dict{"y": 2.0}}, []any{a.JSON["label"], a.JSON["meta"]})
		a = s.Do("PUT", "/abcd", `{"label":null,"meta":null}`)
		assert.Equal(t, []any{"", nil}, []any{a.JSON["label"], a.JSON["meta"]})
	}},
	{"revoking is reversible and cancels holds", func(t *testing.T, s *Server) {
		s.Create("abcd")
		s.Hold("abcd", "s", Now)
		a := s.Do("PUT", "/abcd", `{"revoked":true}`)
		assert.Equal(t, []any{200, true, 0.0}, []any{a.Status, a.JSON["revoked"], a.JSON["pending"]})
		assert.Empty(t, s.Do("GET", "?valid=true", nil).Tokens())
		assert.Equal(t, true, s.Do("PUT", "/abcd", `{"revoked":null}`).JSON["revoked"], "null says nothing")
		assert.Equal(t, false, s.Do("PUT", "/abcd", `{"revoked":false}`).JSON["revoked"])
		assert.Equal(t, []string{"abcd"}, s.Do("GET", "?valid=true", nil).Tokens())
	}},
	{"batches are made whole", func(t *testing.T, s *Server) {
		a := s.Do("POST", "/new", Dict{"count": 250, "label": "conference", "uses_allowed": 1, "expiry_time": Now.Add(time.Hour).UnixMilli()})
		require.Equal(t, 200, a.Status)
		assert.Len(t, a.Tokens(), 250)
		assert.Len(t, s.All(), 250)
		for _, token := range s.All() {
			assert.Equal(t, "conference", token.Label)
			assert.EqualValues(t, 1, *token.UsesAllowed)
		}
		assert.Len(t, s.Do("GET", "?label=conf", nil).Tokens(), 250)
		assert.Empty(t, s.Do("GET", "?label=onf", nil).Tokens())
		a = s.Do("POST", "/new", `{"count":1,"token":"just-one"}`)
		assert.Equal(t, []string{"just-one"}, a.Tokens(), "with count the answer is a list")
	}},
	{"tokens of one character run out", func(t *testing.T, s *Server) {
		a := s.Do("POST", "/new", `{"count":32,"length":1}`)
		require.Equal(t, 200, a.Status, a.Body)
		before := s.All()
		assert.Len(t, before, 32)
		s.refused(before, s.Do("POST", "/new", `{"length":1}`), 400, "M_INVALID_PARAM", "none is left")
	}},
	{"styles", func(t *testing.T, s *Server) {
		for style, pattern := range map[string]string{
			`"random"`: `^[A-Z2-7]{16}$`, `null`: `^[A-Z2-7]{16}$`, `"readable"`: `^[a-y3479]{4}(-[a-y3479]{4}){3}$`, `"words"`: `^w\d{4}(-w\d{4}){5}$`,
		} {
			seen := map[string]bool{}
			for range 20 {
				a := s.Do("POST", "/new", `{"style":`+style+`}`)
				require.Equal(t, 200, a.Status, a.Body)
				assert.Regexp(t, pattern, a.Token())
				assert.False(t, seen[a.Token()])
				seen[a.Token()] = true
			}
		}
		assert.Len(t, s.Do("POST", "/new", `{"style":"readable","length":52}`).Token(), 64)
		assert.Len(t, s.Do("POST", "/new", `{"style":"readable","length":5}`).Token(), 6)
	}},
	{"invite links and their QR codes", func(t *testing.T, s *Server) {
		s.Create("abcd")
		a := s.Do("GET", "/abcd/qr", nil)
		assert.Equal(t, 200, a.Status)
		assert.Equal(t, "image/png", a.Header.Get("Content-Type"))
		assert.Equal(t, "no-store", a.Header.Get("Cache-Control"))
		assert.Equal(t, "PNG of https://chat.example.org/#/register?token=abcd", a.Body)
		assert.Equal(t, 404, s.Do("GET", "/unknown/qr", nil).Status)
		assert.Contains(t, s.Do("GET", "", nil).Body, `"invite_url":"https://chat.example.org/#/register?token=abcd"`)
	}},
	{"events: who did what, and only when it was done", func(t *testing.T, s *Server) {
		s.Do("POST", "/new", `{"token":"abcd","uses_allowed":2}`)
		s.Do("POST", "/new", `{"token":"abcd"}`)
		s.Do("PUT", "/abcd", `{"uses_allowed":2}`)
		s.Do("PUT", "/abcd", `{"uses_allowed":3}`)
		s.Do("PUT", "/abcd", `{"revoked":true}`)
		s.Do("PUT", "/abcd", `{"revoked":true}`)
		s.Do("PUT", "/abcd", `{"revoked":false}`)
		s.Do("PUT", "/other", `{"revoked":true}`)
		s.Do("DELETE", "/abcd", nil)
		s.Do("DELETE", "/abcd", nil)
		s.Do("POST", "/new", `{"count":2}`)
		print, by := uia.Fingerprint("abcd"), "@admin:test"
		events := s.Events()
		require.Len(t, events, 7)
		assert.Equal(t, []uia.Event{
			{Kind: uia.EventTokenCreated, Token: print, By: by, UsesAllowed: new(int64(2))},
			{Kind: uia.EventTokenUpdated, Token: print, By: by, UsesAllowed: new(int64(3))},
			{Kind: uia.EventTokenRevoked, Token: print, By: by},
			{Kind: uia.EventTokenUpdated, Token: print, By: by, UsesAllowed: new(int64(3))},
			{Kind: uia.EventTokenDeleted, Token: print, By: by},
		}, events[:5])
	}},
}
