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
			"meta": Dict{"rooms": []any{"#a:test"}, "username": "bob"}, "fingerprint": uia.Fingerprint("abcd"),
			"invite_url": "https://chat.example.org/#/register?token=abcd",
		}, a.JSON)
		assert.Equal(t, a.JSON, s.Do("GET", "/abcd", nil).JSON)
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
