package stages_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/limit"
	"github.com/matrix-uia/uia/stages"
)

// mailbox is a mailer and a store that can fail.
type mailbox struct {
	stages.EmailMemory
	mails []stages.Confirmation
	loads int
	down  bool
}

func (m *mailbox) SendConfirmation(_ context.Context, c stages.Confirmation) error {
	if m.down {
		return errDown
	}
	m.mails = append(m.mails, c)
	return nil
}

func (m *mailbox) Load(ctx context.Context, sid string, now time.Time) (stages.EmailState, error) {
	m.loads++
	if m.down {
		return stages.EmailState{}, errDown
	}
	return m.EmailMemory.Load(ctx, sid, now)
}

func newEmail(box *mailbox) *stages.EmailStage {
	return &stages.EmailStage{Mailer: box, Store: box, Secret: []byte("another secret of the tests, of 32 bytes"), ConfirmURL: "https://hs.example/confirm"}
}

// mount mounts what a host mounts for the stage.
func mount(h *host, stage *stages.EmailStage) {
	h.handler.Handle("/requestToken", stage.RequestToken(h.engine))
	h.handler.Handle("/confirm", stage.Confirm(h.pages))
}

func (h *host) confirm(method, link string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.handler.ServeHTTP(w, httptest.NewRequest(method, strings.TrimPrefix(link, "https://hs.example"), nil))
	return w
}

// emailSubject is the stage of a client whose user has opened the link. The session
// ID depends on nothing but the secret, the address and the client's secret.
func emailSubject(*testing.T) *subject {
	box := &mailbox{}
	stage := newEmail(box)
	right, form := dict{}, url.Values{}
	before := 0
	return &subject{
		stage: stage,
		prepare: func(h *host, _ string) {
			mount(h, stage)
			a := h.post("/requestToken", dict{"email": "Alice@Example.org", "client_secret": "s3cret", "send_attempt": 1})
			require.Equal(h.t, 200, a.Status, a.Body)
			link, err := url.Parse(box.mails[len(box.mails)-1].Link)
			require.NoError(h.t, err)
			right["threepid_creds"] = dict{"sid": link.Query().Get("sid"), "client_secret": "s3cret"}
			form["sid"], form["secret"] = link.Query()["sid"], []string{"s3cret"}
			require.Equal(h.t, 200, h.confirm("POST", link.String()).Code)
			before = box.loads
		},
		right: right, result: `{"medium":"email","address":"alice@example.org"}`,
		wrong: dict{"threepid_creds": dict{"sid": "guessed", "client_secret": "s3cret"}}, status: 401, errcode: "M_UNAUTHORIZED",
		missing:     dict{"threepid_creds": dict{"sid": "x"}},
		wrongType:   dict{"threepid_creds": dict{"sid": 7, "client_secret": "s3cret"}, "address": 7},
		form:        form, // as it is after the mail; see TestEmailOnThePage
		formWrong:   url.Values{"sid": {"guessed"}, "secret": {"s3cret"}},
		formMissing: url.Values{"address": {" "}},
		down:        func(now bool) { box.down = now },
		calls:       func() int { return box.loads - before },
	}
}

func TestRequestToken(t *testing.T) {
	box := &mailbox{}
	stage := newEmail(box)
	stage.Allow = func(_ context.Context, _ *uia.Session, address string) error {
		if strings.HasPrefix(address, "taken@") {
			return uia.NewError(400, matrixError("M_THREEPID_IN_USE"))
		}
		return nil
	}
	h := newHost(t, "", stage)
	mount(h, stage)
	ask := func(change dict) answer {
		body := dict{"email": "alice@example.org", "client_secret": "s3cret", "send_attempt": 1}
		for k, v := range change {
			if v == nil {
				delete(body, k)
			} else {
				body[k] = v
			}
		}
		return h.post("/requestToken", body)
	}
	first := ask(nil)
	require.Equal(t, 200, first.Status, first.Body)
	assert.Equal(t, first, ask(nil), "the same attempt is answered alike")
	assert.Len(t, box.mails, 1, "and sends no further mail")
	assert.Equal(t, first, ask(dict{"send_attempt": 2}))
	assert.Len(t, box.mails, 2)
	assert.NotEqual(t, first, ask(dict{"client_secret": "other"}))
	assert.NotEqual(t, first, ask(dict{"email": "bob@example.org"}))
	sent := len(box.mails)
	for name, c := range map[string]struct {
		change  dict
		status  int
		errcode string
	}{
		"no address":          {dict{"email": nil}, 400, "M_MISSING_PARAM"},
		"no secret":           {dict{"client_secret": nil}, 400, "M_MISSING_PARAM"},
		"no attempt":          {dict{"send_attempt": nil}, 400, "M_MISSING_PARAM"},
		"attempt zero":        {dict{"send_attempt": 0}, 400, "M_INVALID_PARAM"},
		"half an attempt":     {dict{"send_attempt": 1.5}, 400, "M_BAD_JSON"},
		"address of a type":   {dict{"email": []int{1}}, 400, "M_BAD_JSON"},
		"no address in it":    {dict{"email": "alice"}, 400, "M_INVALID_PARAM"},
		"a header in it":      {dict{"email": "a@b.example\r\nBcc: c@d.example"}, 400, "M_INVALID_PARAM"},
		"a name in it":        {dict{"email": "Alice <alice@example.org>"}, 400, "M_INVALID_PARAM"},
		"two addresses":       {dict{"email": "a@b.example, c@d.example"}, 400, "M_INVALID_PARAM"},
		"a long one":          {dict{"email": strings.Repeat("a", 300) + "@b.example"}, 400, "M_INVALID_PARAM"},
		"a secret with a NUL": {dict{"client_secret": "a\x00b"}, 400, "M_INVALID_PARAM"},
		"one that is in use":  {dict{"email": "taken@example.org"}, 400, "M_THREEPID_IN_USE"},
		"a forged session":    {dict{"session": "forged"}, 400, "M_UNKNOWN"},
	} {
		a := ask(c.change)
		assert.Equal(t, c.status, a.Status, "%s: %s", name, a.Body)
		assert.Equal(t, c.errcode, a.Errcode, name)
	}
	assert.Len(t, box.mails, sent)
	box.down = true
	a := ask(dict{"send_attempt": 9})
	assert.Equal(t, 500, a.Status)
	box.down = false
	require.Equal(t, 200, ask(dict{"send_attempt": 9}).Status)
	assert.Len(t, box.mails, sent+1, "a mail that was not sent is sent the next time")
}

// Operators have asked that strangers cannot have mails sent.
func TestRequestTokenAfterAStage(t *testing.T) {
	box := &mailbox{}
	stage := newEmail(box)
	stage.After = gateType
	h := newHost(t, "", stage)
	mount(h, stage)
	ask := func(session any) answer {
		return h.post("/requestToken", dict{"email": "a@example.org", "client_secret": "x", "send_attempt": 1, "session": session})
	}
	assert.Equal(t, 403, ask(nil).Status, "no session")
	assert.Equal(t, 403, ask(h.post("/op", dict{}).Session).Status, "a session that has not passed the stage")
	assert.Equal(t, 400, ask("forged").Status)
	assert.Empty(t, box.mails)
	assert.Equal(t, 200, ask(h.open()).Status)
	assert.Len(t, box.mails, 1)
}

func TestMailsAreLimited(t *testing.T) {
	box := &mailbox{}
	stage := newEmail(box)
	limiter, err := limit.New(&limit.Options{Burst: 2, Refill: time.Hour})
	require.NoError(t, err)
	stage.Limiter = limiter
	ctx := t.Context()
	s := &uia.Session{Now: time.Now(), Client: netip.MustParseAddr("192.0.2.1")}
	for i := range 3 {
		_, err := stage.Attempt(ctx, s, []byte(`{"address":"a@example.org"}`))
		if i < 2 {
			assert.ErrorContains(t, err, "needs another request")
		} else {
			assert.ErrorContains(t, err, "too many failures")
		}
	}
	assert.Len(t, box.mails, 2)
}

var hidden = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)

func TestEmailOnThePage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		box := &mailbox{}
		stage := newEmail(box)
		h := newHost(t, "", stage)
		mount(h, stage)
		session := h.open()
		w := h.page(session, stages.EmailType, url.Values{"address": {"nobody"}})
		assert.Equal(t, 400, w.Code)
		assert.Contains(t, w.Body.String(), `value="nobody"`)
		w = h.page(session, stages.EmailType, url.Values{"address": {" alice@example.org "}})
		require.Equal(t, 200, w.Code)
		require.Len(t, box.mails, 1)
		again := url.Values{}
		for _, m := range hidden.FindAllStringSubmatch(w.Body.String(), -1) {
			again.Set(m[1], m[2])
		}
		require.Len(t, again, 2)
		w = h.page(session, stages.EmailType, again)
		assert.Equal(t, 200, w.Code)
		assert.Contains(t, w.Body.String(), "Open the link", "the link was not opened yet")
		assert.NotContains(t, w.Body.String(), "onAuthDone")
		creds := dict{"threepid_creds": dict{"sid": again.Get("sid"), "client_secret": again.Get("secret")}}
		a := h.auth(session, stages.EmailType, creds)
		assert.Equal(t, []string{gateType}, a.Completed)
		assert.Empty(t, a.Errcode, "clients ask every two seconds, and may take an errcode as final")

		link := box.mails[0].Link
		for _, forged := range []string{strings.Replace(link, "alice", "mallory", 1), link + "x", "/confirm", strings.Replace(link, "until=", "until=1", 1)} {
			assert.Equal(t, 400, h.confirm("GET", forged).Code, forged)
			assert.Equal(t, 400, h.confirm("POST", forged).Code)
		}
		w = h.confirm("GET", link)
		assert.Equal(t, 200, w.Code)
		assert.Contains(t, w.Body.String(), "alice@example.org")
		assert.NotEmpty(t, w.Header().Get("Content-Security-Policy"))
		assert.Contains(t, h.page(session, stages.EmailType, again).Body.String(), "Open the link", "a program that opens links confirms nothing")
		assert.Equal(t, 200, h.confirm("POST", link).Code)
		assert.Equal(t, 200, h.confirm("POST", link).Code, "it may be opened twice")
		w = h.page(session, stages.EmailType, again)
		assert.Contains(t, w.Body.String(), "window.onAuthDone()")

		// A link that is not opened in time.
		h.page(h.open(), stages.EmailType, url.Values{"address": {"bob@example.org"}})
		pass(t, time.Hour)
		assert.Equal(t, 400, h.confirm("POST", box.mails[1].Link).Code)
	})
}

// pass lets the clock of a synctest bubble pass.
func pass(t *testing.T, d time.Duration) {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	<-ctx.Done()
}

func TestEmailOfAUserNeedsTheHost(t *testing.T) {
	box := &mailbox{}
	stage := newEmail(box)
	h := newHost(t, "@alice:example.org", stage)
	w := h.page(h.open(), stages.EmailType, url.Values{"address": {"alice@example.org"}})
	assert.Equal(t, http.StatusForbidden, w.Code)
	assert.Empty(t, box.mails)
}

func TestEmailMemory(t *testing.T) {
	now := time.UnixMilli(1_000_000)
	m := &stages.EmailMemory{Max: 2, Now: func() time.Time { return now }}
	ctx := t.Context()
	load := func(sid string, at time.Time) stages.EmailState {
		state, err := m.Load(ctx, sid, at)
		require.NoError(t, err)
		return state
	}
	require.NoError(t, m.Save(ctx, "a", stages.EmailState{Attempt: 2}, now.Add(time.Minute)))
	require.NoError(t, m.Save(ctx, "a", stages.EmailState{Address: "a@example.org"}, now.Add(time.Second)))
	require.NoError(t, m.Save(ctx, "a", stages.EmailState{Attempt: 1}, now))
	assert.Equal(t, stages.EmailState{Attempt: 2, Address: "a@example.org"}, load("a", now.Add(time.Minute-1)))
	assert.Zero(t, load("a", now.Add(time.Minute)))
	assert.Zero(t, load("b", now))
	require.NoError(t, m.Save(ctx, "b", stages.EmailState{Attempt: 1}, now.Add(time.Hour)))
	assert.Error(t, m.Save(ctx, "c", stages.EmailState{Attempt: 1}, now.Add(time.Hour)), "it is full")
	require.NoError(t, m.Save(ctx, "b", stages.EmailState{Attempt: 2}, now.Add(time.Hour)))
	now = now.Add(time.Minute)
	require.NoError(t, m.Save(ctx, "c", stages.EmailState{Attempt: 1}, now.Add(time.Hour)), "what has expired makes room")
}
