package record_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia/internal/record"
	"github.com/matrix-uia/uia/internal/seal"
)

func keys(t *testing.T) *seal.Keys {
	t.Helper()
	k, err := seal.New(bytes.Repeat([]byte("k"), 32))
	require.NoError(t, err)
	return k
}

func TestSettle(t *testing.T) {
	none, a, b := []byte(`{}`), []byte(`{"a":1}`), []byte(`{"b":1}`)
	for name, c := range map[string]struct {
		p      record.Params
		params []byte
		known  bool
		err    error
	}{
		"nothing, ever":                    {record.Params{Sent: none}, nil, true, nil},
		"the first ones":                   {record.Params{Sent: a}, a, false, nil},
		"the first ones, mutable":          {record.Params{Sent: a, Mutable: true}, a, false, nil},
		"left out, in the record":          {record.Params{Sent: none, Recorded: a, Recent: b, Remembered: b}, a, true, nil},
		"left out, recent":                 {record.Params{Sent: none, Recent: a, Remembered: b}, a, true, nil},
		"left out, in the ID":              {record.Params{Sent: none, Remembered: a, Opening: record.Digest(a)}, a, true, nil},
		"left out, not remembered":         {record.Params{Sent: none, Opening: record.Digest(a)}, nil, true, record.ErrMissing},
		"others, mutable":                  {record.Params{Sent: b, Recorded: a, Opening: record.Digest(a), Mutable: true}, b, false, nil},
		"the same, mutable":                {record.Params{Sent: a, Recorded: a, Mutable: true}, a, true, nil},
		"others than the opening ones":     {record.Params{Sent: b, Opening: record.Digest(a)}, nil, false, record.ErrChanged},
		"the opening ones again":           {record.Params{Sent: a, Opening: record.Digest(a)}, a, false, nil},
		"others than the first completed":  {record.Params{Sent: b, Recorded: a}, nil, false, record.ErrChanged},
		"some, where the first had none":   {record.Params{Sent: b, Recorded: none}, nil, false, record.ErrChanged},
		"those of the first completed":     {record.Params{Sent: a, Recorded: a}, a, true, nil},
		"the opening ones, not the record": {record.Params{Sent: a, Recorded: b, Opening: record.Digest(a)}, a, false, nil},
	} {
		params, known, err := c.p.Settle()
		assert.Equal(t, c.err, err, name)
		assert.Equal(t, string(c.params), string(params), name)
		assert.Equal(t, c.known, known, name)
	}
}

func TestRemembered(t *testing.T) {
	params := []byte(`{"device":"D","password":"p","username":"u"}`)
	all := []string{"device", "password", "username"}
	assert.Equal(t, `{"username":"u"}`, string(record.Remembered(params, all[2:], true)))
	assert.Nil(t, record.Remembered(params, all[2:], false), "a part of frozen parameters would be other parameters")
	assert.Equal(t, string(params), string(record.Remembered(params, all, false)))
	assert.Nil(t, record.Remembered(params, []string{"other"}, true))
	assert.Nil(t, record.Remembered([]byte(`{}`), all, true))
	for n, kept := range map[int]bool{record.MaxRemembered: true, record.MaxRemembered + 1: false} {
		long := []byte(`{"password":"` + strings.Repeat("x", n-len(`{"password":""}`)) + `"}`)
		assert.Equal(t, kept, record.Remembered(long, all, true) != nil, "%d bytes", n)
	}
}

func TestRanFor(t *testing.T) {
	k := keys(t)
	owner := record.Client{Keys: k, Key: "register.x", Body: []byte(`{"auth":{},"a":1}`), Params: []byte(`{"a":1}`)}
	d := &record.Data{}
	d.Sign(owner, owner.Params)
	with := func(change func(*record.Client)) record.Client { c := owner; change(&c); return c }
	none := []byte(`{}`)
	for name, c := range map[string]struct {
		client record.Client
		want   bool
	}{
		"the same request":      {owner, true},
		"the same parameters":   {with(func(c *record.Client) { c.Body = []byte(`{"a":1}`) }), true},
		"other parameters":      {with(func(c *record.Client) { c.Body, c.Params = []byte(`{"a":2}`), []byte(`{"a":2}`) }), false},
		"none, a stranger":      {with(func(c *record.Client) { c.Body, c.Params = none, none }), false},
		"none, the same user":   {with(func(c *record.Client) { c.Body, c.Params, c.User = none, none, true }), true},
		"others, the same user": {with(func(c *record.Client) { c.Body, c.Params, c.User = []byte(`{"a":2}`), []byte(`{"a":2}`), true }), false},
		"another session":       {with(func(c *record.Client) { c.Key = "register.y" }), false},
	} {
		assert.Equal(t, c.want, d.RanFor(c.client), name)
	}
	d.Sign(owner, none)
	assert.Nil(t, d.Sent)
	assert.True(t, d.RanFor(owner), "the same request")
	assert.False(t, d.RanFor(with(func(c *record.Client) { c.Body = none })), "no parameters counted")
}

func TestSealedDataIsGoodForOnePlace(t *testing.T) {
	k := keys(t)
	at := record.Place{Key: "register.x", Revision: 3, State: 1, Run: 2}
	d := &record.Data{Completed: []record.Completion{{Type: "a", Result: json.RawMessage(`"<&>"`)}}, Params: json.RawMessage(`{"p":"<&>"}`), Doubt: true}
	sealed, err := d.Seal(k, "id", at)
	require.NoError(t, err)
	opened, err := record.Open(k, "id", sealed, at)
	require.NoError(t, err)
	assert.Equal(t, d, opened)
	for _, other := range []record.Place{
		{Key: "register.y", Revision: 3, State: 1, Run: 2}, {Key: "register.x", Revision: 2, State: 1, Run: 2},
		{Key: "register.x", Revision: 3, State: 3, Run: 2}, {Key: "register.x", Revision: 3, State: 1, Run: 4},
	} {
		_, err := record.Open(k, "id", sealed, other)
		assert.ErrorContains(t, err, "cannot be opened", "%+v", other)
	}
}

func TestCopiesShareNothingThatChanges(t *testing.T) {
	d := &record.Data{Completed: []record.Completion{{Type: "a", Result: json.RawMessage("1")}, {Type: "b", Result: json.RawMessage("2")}}, Doubt: true}
	before := *d
	before.Completed = append([]record.Completion{}, d.Completed...)
	assert.Equal(t, []string{"a", "b", "c"}, d.With(record.Completion{Type: "c"}).Types())
	assert.Equal(t, json.RawMessage("3"), d.WithResult(1, json.RawMessage("3")).Completed[1].Result)
	first := d.First(1)
	first.Completed = append(first.Completed, record.Completion{Type: "x"})
	assert.Equal(t, &record.Data{Completed: []record.Completion{{Type: "a"}, {Type: "b"}}, Response: json.RawMessage("{}"), Finished: 7}, d.End(json.RawMessage("{}"), 7), "results and doubt end with the session")
	assert.Equal(t, before, *d)
}
