package stages_test

import (
	"context"
	"fmt"
	"maps"
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
	saves int
	down  bool
}

func (m *mailbox) Save(ctx context.Context, sid string, state stages.EmailState, until time.Time) error {
	m.saves++
	return m.EmailMemory.Save(ctx, sid, state, until)
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
	return &stages.EmailStage{Mailer: box, Store: box, Secrets: uia.FixedSecrets([]byte("another secret of the tests, of 32 bytes")), ConfirmURL: "https://hs.example/confirm", NoLimit: true}
}

// mountEmail mounts what a host mounts for the stage.
func (h *host) mountEmail(stage *stages.EmailStage) {
	request, err := stage.RequestToken(h.engine)
	require.NoError(h.t, err)
	h.handler.Handle("/requestToken", request)
	confirm, err := stage.Confirm(h.pages)
	require.NoError(h.t, err)
	h.handler.Handle("/confirm", confirm)
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
			h.mountEmail(stage)
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
	h.mountEmail(stage)
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
		"no address":            {dict{"email": nil}, 400, "M_MISSING_PARAM"},
		"no secret":             {dict{"client_secret": nil}, 400, "M_MISSING_PARAM"},
		"no attempt":            {dict{"send_attempt": nil}, 400, "M_MISSING_PARAM"},
		"a negative attempt":    {dict{"send_attempt": -1}, 400, "M_INVALID_PARAM"},
		"too many attempts":     {dict{"send_attempt": 1 << 53}, 400, "M_INVALID_PARAM"},
		"a huge attempt":        {dict{"send_attempt": 1e30}, 400, "M_BAD_JSON"},
		"half an attempt":       {dict{"send_attempt": 1.5}, 400, "M_BAD_JSON"},
		"address of a type":     {dict{"email": []int{1}}, 400, "M_BAD_JSON"},
		"no address in it":      {dict{"email": "alice"}, 400, "M_INVALID_PARAM"},
		"a header in it":        {dict{"email": "a@b.example\r\nBcc: c@d.example"}, 400, "M_INVALID_PARAM"},
		"a name in it":          {dict{"email": "Alice <alice@example.org>"}, 400, "M_INVALID_PARAM"},
		"two addresses":         {dict{"email": "a@b.example, c@d.example"}, 400, "M_INVALID_PARAM"},
		"a long one":            {dict{"email": strings.Repeat("a", 166) + "@b.example"}, 400, "M_INVALID_PARAM"},
		"a secret with a NUL":   {dict{"client_secret": "a\x00b"}, 400, "M_INVALID_PARAM"},
		"one that is in use":    {dict{"email": "taken@example.org"}, 400, "M_THREEPID_IN_USE"},
		"a forged session":      {dict{"session": "forged"}, 400, "M_UNKNOWN"},
		"a next_link of a type": {dict{"next_link": 1}, 400, "M_BAD_JSON"},
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
	long := strings.Repeat("a", 165) + "@b.example"
	a = ask(dict{"email": long})
	require.Equal(t, 200, a.Status, a.Body)
	assert.Regexp(t, `^[0-9A-Za-z.=_-]{1,255}$`, a.SID, "the longest one still makes a sid of the specification's grammar")
}

// element-android counts from zero.
func TestSendAttemptZero(t *testing.T) {
	box := &mailbox{}
	stage := newEmail(box)
	h := newHost(t, "", stage)
	h.mountEmail(stage)
	var sid string
	for i, attempt := range []int{0, 0, 1, 1, 0, 5, 4} {
		a := h.post("/requestToken", dict{"email": "ann@example.org", "client_secret": "x", "send_attempt": attempt})
		require.Equal(t, 200, a.Status, a.Body)
		assert.Len(t, box.mails, []int{1, 1, 2, 2, 2, 3, 3}[i], "request %d", i)
		if sid == "" {
			sid = a.SID
		}
		assert.Equal(t, sid, a.SID)
	}
}

// Operators have asked that strangers cannot have mails sent. Clients ask for the mail
// when they see the flows, and name no session.
func TestMailAfterAStage(t *testing.T) {
	box := &mailbox{}
	stage := newEmail(box)
	stage.After = gateType
	h := newHost(t, "", stage)
	h.mountEmail(stage)
	ask := func(attempt int, more dict) answer {
		body := dict{"email": "ann@example.org", "client_secret": "x", "send_attempt": attempt}
		maps.Copy(body, more)
		return h.post("/requestToken", body)
	}
	strangers := h.post("/op", dict{}).Session
	sid := ask(1, nil).SID
	for name, more := range map[string]dict{
		"no session": nil,
		"a session that has not passed the stage": {"session": strangers},
		"one in the next_link":                    {"next_link": "https://app.example/#/x?session_id=" + strangers},
		"one in its query":                        {"next_link": "https://app.example/?session_id=" + strangers + "#/x"},
		"nothing of ours":                         {"next_link": "https://app.example/?session_id=forged"},
		"no link at all":                          {"next_link": ":%zz"},
		"another attempt":                         {"send_attempt": 7},
	} {
		a := ask(1, more)
		assert.Equal(t, 200, a.Status, "%s: %s", name, a.Body)
		assert.Equal(t, sid, a.SID, name)
	}
	assert.Equal(t, 400, ask(1, dict{"session": "forged"}).Status)
	assert.Empty(t, box.mails)
	assert.Zero(t, box.saves, "a stranger had something written")
	creds := dict{"threepid_creds": dict{"sid": sid, "client_secret": "x"}}
	h.auth(strangers, stages.EmailType, creds)
	assert.Empty(t, box.mails, "a session that has not passed the stage attempted this one")

	session := h.open()
	for range 3 {
		a := h.auth(session, stages.EmailType, creds)
		assert.Equal(t, []string{gateType}, a.Completed, a.Body)
		assert.Empty(t, a.Errcode)
		require.Len(t, box.mails, 1, "the mail goes out at the first attempt, and once")
	}
	assert.Equal(t, "ann@example.org", box.mails[0].Address)
	assert.Equal(t, sid, ask(1, nil).SID)
	assert.Len(t, box.mails, 2, "the user has pressed the button that sends it again")
	ask(1, nil)
	assert.Len(t, box.mails, 2)
	require.Equal(t, 200, h.confirm("POST", box.mails[0].Link).Code)
	assert.Equal(t, []string{gateType, stages.EmailType}, h.auth(session, stages.EmailType, creds).Completed)

	// A client that names its session has its mail at once.
	for i, more := range []dict{{"session": session}, {"next_link": "https://app.example/?hs_url=x&session_id=" + session + "#/register"}} {
		sent := len(box.mails)
		more["email"] = []string{"bob@example.org", "carol@example.org"}[i]
		ask(0, more)
		assert.Len(t, box.mails, sent+1)
	}
}

// One stranger, 1000 requests over both ways to have a mail sent, and then 500
// strangers with one victim.
func TestNobodysMailboxIsFlooded(t *testing.T) {
	box := &mailbox{}
	stage := newEmail(box)
	stage.NoLimit = false
	var err error
	stage.Limiter, err = limit.New(&limit.Options{Burst: 5, Refill: time.Hour})
	require.NoError(t, err)
	h := newHost(t, "", stage)
	h.mountEmail(stage)
	for i := range 500 {
		h.auth(h.open(), stages.EmailType, dict{"address": "victim@example.org"})
		h.post("/requestToken", dict{"email": "victim@example.org", "client_secret": fmt.Sprint(i), "send_attempt": 1})
	}
	assert.Len(t, box.mails, 5)
	assert.LessOrEqual(t, box.saves, 10)
	for i := range 500 {
		h.client = netip.AddrFrom4([4]byte{198, 51, byte(i / 256), byte(i)})
		h.post("/requestToken", dict{"email": " Victim@example.org", "client_secret": fmt.Sprint(i), "send_attempt": 1})
	}
	assert.Len(t, box.mails, 5, "the victim's mailbox has a budget too")
	a := h.post("/requestToken", dict{"email": "other@example.org", "client_secret": "x", "send_attempt": 1})
	assert.Equal(t, 200, a.Status, a.Body)
	assert.Len(t, box.mails, 6, "and nobody else's is touched")
}

// Whether an address has an account is a guess like any other.
func TestAskingForAddressesIsLimited(t *testing.T) {
	box := &mailbox{}
	stage := newEmail(box)
	stage.After = gateType
	stage.Allow = func(context.Context, *uia.Session, string) error {
		return uia.NewError(400, matrixError("M_THREEPID_IN_USE"))
	}
	var err error
	stage.Limiter, err = limit.New(&limit.Options{Burst: 5, Refill: time.Hour})
	require.NoError(t, err)
	h := newHost(t, "", stage)
	h.mountEmail(stage)
	told := 0
	for i := range 100 {
		if a := h.post("/requestToken", dict{"email": fmt.Sprintf("u%d@example.org", i), "client_secret": "x", "send_attempt": 1}); a.Status != 429 {
			told++
		}
	}
	assert.Equal(t, 5, told)
}

// A mail that cannot be remembered is not sent: it would be sent again and again.
func TestAFullStoreSendsNoMail(t *testing.T) {
	box := &mailbox{}
	box.Max = 1
	stage := newEmail(box)
	h := newHost(t, "", stage)
	h.mountEmail(stage)
	for i := range 3 {
		h.post("/requestToken", dict{"email": fmt.Sprintf("u%d@example.org", i), "client_secret": "x", "send_attempt": 1})
	}
	assert.Len(t, box.mails, 1)
}

var hidden = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)

func TestEmailOnThePage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		box := &mailbox{}
		stage := newEmail(box)
		h := newHost(t, "", stage)
		h.mountEmail(stage)
		session := h.open()
		w := h.page(session, stages.EmailType, url.Values{"address": {"nobody"}})
		assert.Equal(t, 401, w.Code)
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
	require.NoError(t, m.Save(ctx, "a", stages.EmailState{Next: 2}, now.Add(time.Minute)))
	require.NoError(t, m.Save(ctx, "a", stages.EmailState{Address: "a@example.org"}, now.Add(time.Second)))
	require.NoError(t, m.Save(ctx, "a", stages.EmailState{Next: 1}, now))
	assert.Equal(t, stages.EmailState{Next: 2, Address: "a@example.org"}, load("a", now.Add(time.Minute-1)))
	assert.Zero(t, load("a", now.Add(time.Minute)))
	assert.Zero(t, load("b", now))
	require.NoError(t, m.Save(ctx, "b", stages.EmailState{Next: 1}, now.Add(time.Hour)))
	assert.Error(t, m.Save(ctx, "c", stages.EmailState{Next: 1}, now.Add(time.Hour)), "it is full")
	require.NoError(t, m.Save(ctx, "b", stages.EmailState{Next: 2}, now.Add(time.Hour)))
	now = now.Add(time.Minute)
	require.NoError(t, m.Save(ctx, "c", stages.EmailState{Next: 1}, now.Add(time.Hour)), "what has expired makes room")
}
