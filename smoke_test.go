package uia_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/matrix-uia/uia"
)

func TestRegisterTD(t *testing.T) {
	h := newHomeserver(t, setup{})
	h.token("abc", 1)
	alice := dict{"username": "alice", "password": "pw"}
	a := h.post(dict{})
	assert.Equal(t, 401, a.Status)
	t.Log(a.Body)
	s := a.session()
	a = h.post(with(alice, dict{"type": uia.TokenType, "session": s, "token": "wrong"}))
	t.Log(a.Status, a.Body)
	a = h.post(with(alice, dict{"type": uia.TokenType, "session": s, "token": "abc"}))
	t.Log(a.Status, a.Body)
	final := with(alice, dict{"type": "m.login.dummy", "session": s})
	a = h.post(final)
	t.Log(a.Status, a.Body)
	b := h.post(final)
	assert.Equal(t, a.Body, b.Body)
	b = h.post(with(dict{"username": "bob"}, dict{"type": "m.login.dummy", "session": s}))
	t.Log(b.Status, b.Body)
}
