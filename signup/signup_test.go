package signup_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/catalog"
	"github.com/matrix-uia/uia/signup"
)

func TestFromTheLinkToTheAccount(t *testing.T) {
	w := newWorld(t, setup{options: func(o *signup.Options) {
		o.QR = func(text string) ([]byte, error) { return []byte(text), nil }
	}})
	w.token("once", 1, func(t *uia.Token) { t.Meta = []byte(`{"inviter":"Bob & Carol"}`) })
	first := w.get("?token=once").says(200, "Create your account", "Bob & Carol has invited you to example.org.")
	assert.Zero(t, w.store.writes.Load(), "opening the page writes nothing")
	assert.Contains(t, first.body, `minlength="8"`)
	done := first.press(alice()).says(200, "Your account is ready",
		"@alice:example.org", "https://matrix.example.org", `src="data:image/png;base64,`,
		"https://app.cinny.in/login/example.org/?username=alice", "Element X")
	assert.Contains(t, done.Header().Get("Content-Security-Policy"), "img-src data:")
	assert.NotContains(t, done.body, password)
	assert.Equal(t, map[string]string{"@alice:example.org": password}, w.accounts)
	_, completed := w.uses("once")
	assert.EqualValues(t, 1, completed)

	first.press(alice()).says(200, "Your account is ready", "@alice:example.org") // the answer reloaded
	first.press(url.Values{"username": {"alicia"}, "password": {password}}).says(200, "This form was sent already")
	w.get("?token=once").says(410, "This invitation has been used", "sign in with an app")
	assert.Len(t, w.accounts, 1)
	assert.Empty(t, w.log.String())
}

// Six presses, a reload and two tabs are one account and one use.
func TestPressedOftenAtOnce(t *testing.T) {
	w := newWorld(t, setup{})
	w.token("once", 1)
	tabs := []*view{w.get("?token=once"), w.get("?token=once")}
	answers := make([]*view, 12)
	var group sync.WaitGroup
	for i := range answers {
		group.Go(func() { answers[i] = tabs[i%2].press(alice()) })
	}
	group.Wait()
	ready := 0
	for _, a := range answers {
		if a.Code == 200 {
			a.says(200, "Your account is ready", "@alice:example.org")
			ready++
		} else {
			assert.Contains(t, []int{400, 401}, a.Code, text(a.body))
		}
	}
	assert.Equal(t, 6, ready, "each press in the tab that won gets the same answer")
	assert.Len(t, w.accounts, 1)
	pending, completed := w.uses("once")
	assert.Equal(t, []int64{0, 1}, []int64{pending, completed})
}

func TestMistakesKeepWhatWasTyped(t *testing.T) {
	w := newWorld(t, setup{})
	w.token("many", 5)
	w.accounts["@alice:example.org"] = "x"
	page := w.get("?token=many")
	page = page.press(url.Values{"username": {"alice"}, "password": {"short"}}).says(400, "Create your account", "This password is too short.")
	assert.Equal(t, "alice", page.fields.Get("username"))
	assert.Empty(t, page.fields.Get("password"))
	page = page.press(alice()).says(400, "Create your account", "This username is taken.", "leave it empty to keep what you have typed")
	assert.Empty(t, page.fields.Get("password"), "a password is never sent back")
	assert.NotContains(t, page.body, "battery")
	page = page.press(url.Values{"username": {"a b"}}).says(400, "Create your account", "A username consists of")
	page.press(url.Values{"username": {"alicia"}}).says(200, "Your account is ready", "@alicia:example.org")
	assert.Equal(t, password, w.accounts["@alicia:example.org"], "the password was kept")
	assert.Contains(t, w.get("?token=many").press(nil).says(400, "Create your account", "Please choose a name.", "Please choose a password.").body, `aria-invalid="true"`)
}

func TestInvitationsThatCannotBeUsed(t *testing.T) {
	w := newWorld(t, setup{})
	w.token("expired", 1, func(t *uia.Token) { t.Expires = time.Now().Add(-time.Hour) })
	w.token("revoked", 1, func(t *uia.Token) { t.Revoked = true })
	w.token("none", 0)
	w.token("good", 1)
	w.get("").says(200, "Enter your invitation", `method="get"`)
	w.get("?token=nothing").says(404, "This invitation is not known")
	w.get("?token="+url.QueryEscape(`"><script>alert(1)</script>`)).says(404, "This invitation is not known")
	w.get("?token=expired").says(410, "This invitation has expired")
	w.get("?token=revoked").says(410, "This invitation has been withdrawn")
	w.get("?token=none").says(410, "This invitation has been used")
	page := w.get("?token=good")
	require.NoError(t, w.store.DeleteToken(t.Context(), "good"))
	page = page.press(alice()).says(401, "Create your account", "The registration token is not valid")
	assert.Contains(t, page.body, `type="text" id="f-token"`, "and another can be typed")
	w.token("other", 1)
	page.press(url.Values{"token": {" other "}}).says(200, "Your account is ready")
}

func TestWhoInvites(t *testing.T) {
	for _, c := range []struct {
		creator bool
		meta    string
		want    string
	}{
		{false, `{}`, "You have been invited to example.org."}, {true, `{}`, "@bob:example.org has invited you to example.org."},
		{true, `{"inviter":" The club "}`, "The club has invited you"}, {false, `{"show_label":true}`, "For Eve has invited you"},
		{false, `{"show_label":"yes","inviter":1}`, "You have been invited"},
	} {
		w := newWorld(t, setup{options: func(o *signup.Options) { o.ShowCreator = c.creator }})
		w.token("once", 1, func(t *uia.Token) { t.Label, t.CreatedBy, t.Meta = "For Eve", "@bob:example.org", []byte(c.meta) })
		page := w.get("?token=once").says(200, "Create your account", c.want)
		page.press(nil).says(400, "Create your account", c.want) // the form carries it
	}
}

// Looks at tokens that nobody can use are charged to the budget of the API.
func TestGuessesAreCharged(t *testing.T) {
	w := newWorld(t, setup{})
	w.token("right", 1)
	for range 60 {
		require.Equal(t, 404, w.get("?token=wrong").Code)
	}
	w.get("?token=right").says(429, "Create your account", "Please wait")
	assert.Zero(t, w.store.writes.Load())
}

func TestPinnedNames(t *testing.T) {
	w := newWorld(t, setup{})
	w.token("carol", 1, func(t *uia.Token) { t.Meta = []byte(`{"username":"carol"}`) })
	w.token("student", 1, func(t *uia.Token) { t.Meta = []byte(`{"username_pattern":"student-*"}`) })
	page := w.get("?token=carol")
	assert.Contains(t, page.body, `value="carol" readonly`)
	page.press(alice()).says(200, "Your account is ready", "@carol:example.org")
	page = w.get("?token=student").says(200, "Create your account", "names of the form student-*")
	page = page.press(alice()).says(409, "Create your account", "is for usernames of the form student-*")
	page.press(url.Values{"username": {"student-1"}}).says(200, "Your account is ready", "@student-1:example.org")
}

// A page that was left open for longer than the session lives starts over, and nothing is
// typed again.
func TestExpiredSession(t *testing.T) {
	late := time.Duration(0)
	w := newWorld(t, setup{config: func(c *uia.Config) { c.Now = func() time.Time { return time.Now().Add(late) } }})
	w.token("once", 1)
	first := w.get("?token=once")
	late = 2 * time.Hour
	again := first.press(alice()).says(200, "Create your account", "Nothing is lost")
	assert.Equal(t, "alice", again.fields.Get("username"))
	for range 3 { // each of them would have gone on in a session of its own
		again = first.press(alice()).says(200, "Create your account", "Nothing is lost")
	}
	assert.Zero(t, w.store.writes.Load())
	again.press(nil).says(200, "Your account is ready", "@alice:example.org")
	assert.Equal(t, map[string]string{"@alice:example.org": password}, w.accounts)
	late = 4 * time.Hour
	again.press(nil).says(200, "Create your account", "Nothing is lost").press(nil).says(400, "Create your account", "This username is taken.")
	assert.Len(t, w.accounts, 1)
}

func TestWhatStrangersSend(t *testing.T) {
	w := newWorld(t, setup{})
	w.token("once", 1)
	for _, c := range []struct {
		method, body string
		status       int
	}{
		{"POST", "", 200}, {"POST", "%zz", 400}, {"POST", "a=1&a=2", 400}, {"POST", "a=%ff", 400}, {"POST", strings.Repeat("a", 1<<20), 413},
		{"POST", "signup.session=x&signup.kept=AAAA&signup.step=x", 200}, {"DELETE", "", 405}, {"OPTIONS", "", 204}, {"HEAD", "", 200},
	} {
		r := httptest.NewRequest(c.method, "/register?token=once", strings.NewReader(c.body))
		rec := httptest.NewRecorder()
		w.page.ServeHTTP(rec, r)
		assert.Equal(t, c.status, rec.Code, "%s %.30s", c.method, c.body)
	}
	page := w.get("?token=once") // what is longer than a registration may be costs no more here than there
	assert.Equal(t, 413, page.press(url.Values{"username": {strings.Repeat("a", 20<<10)}, "password": {password}}).Code)
	assert.Zero(t, w.store.writes.Load())
	assert.Empty(t, w.accounts)
}

func TestLiveCheck(t *testing.T) {
	w := newWorld(t, setup{})
	w.accounts["@alice:example.org"] = "x"
	for query, want := range map[string]string{
		"?check=bob": `"good":true`, "?check=alice": `"good":false,"text":"This username is taken."`, "?check=a+b": `"good":false`,
	} {
		v := w.get(query)
		assert.Equal(t, 200, v.Code)
		assert.Contains(t, v.body, want, query)
	}
}

func TestClosed(t *testing.T) {
	w := newWorld(t, setup{})
	w.token("once", 1)
	page := w.get("?token=once")
	w.reg.Disabled = func(*http.Request) bool { return true }
	w.get("?token=once").says(403, "Registration is closed")
	assert.Equal(t, 403, page.press(alice()).Code)
	assert.Empty(t, w.accounts)
}

func TestSizeAndTime(t *testing.T) {
	w := newWorld(t, setup{})
	w.token("once", 1)
	assert.LessOrEqual(t, len(w.get("?token=once").body), 30<<10)
	least := time.Hour
	for range 50 {
		start := time.Now()
		rec := httptest.NewRecorder()
		w.page.ServeHTTP(rec, httptest.NewRequest("GET", "/register?token=once", nil))
		least = min(least, time.Since(start))
	}
	t.Log("the first page takes", least)
	if !raceDetector {
		assert.Less(t, least, 5*time.Millisecond)
	}
}

func TestNewFindsMistakes(t *testing.T) {
	w := newWorld(t, setup{})
	_, err := signup.New(signup.Options{MinPassword: -1, Apps: []signup.App{{Name: "x", Login: "javascript:alert(1)"}, {}}})
	for _, want := range []string{"Engine is required", "Registration is required", "Pages is required", "Secrets is required", "MinPassword", `"x": its links`, "no Name"} {
		assert.ErrorContains(t, err, want)
	}
	_ = w
	var _ http.Handler = (*signup.Handler)(nil)
}

// Every language is spoken on every page of the way, by ?lang= and by the browser's
// header, and fits the page.
func TestLanguages(t *testing.T) {
	for _, l := range catalog.Default().Languages() {
		w := newWorld(t, setup{})
		w.token("once", 1)
		w.accounts["@bob:example.org"] = "x"
		r := httptest.NewRequest("GET", "/register?token=once", nil)
		r.Header.Set("Accept-Language", l.Tag()+",en;q=0.5")
		w.send(r).says(200, l.Text("Create your account"))
		first := w.get("?token=once&lang="+l.Tag()).says(200, l.Text("Create your account"), `<html lang="`+l.Tag()+`"`)
		assert.LessOrEqual(t, len(first.body), 30<<10)
		assert.Equal(t, l.Direction() == "rtl", strings.Contains(first.body, `dir="rtl"`))
		for _, other := range catalog.Default().Languages() {
			assert.Equal(t, other != l, strings.Contains(first.body, `href="?lang=`+other.Tag()+`&amp;token=once" lang="`), "a link to each other one")
		}
		first.lang = l.Tag()
		text := l.Text("M_USER_IN_USE")
		if l.English() {
			text = "This username is taken." // as the homeserver says it
		}
		page := first.press(url.Values{"username": {"bob"}, "password": {password}}).says(400, l.Text("Create your account"), text)
		page.lang = l.Tag()
		page.press(alice()).says(200, l.Text("Your account is ready"), l.Text(signup.Element.Text))
	}
}

// What the form carries tells nobody the password, nor how long it is, and nobody can make
// it: one that was changed counts as none.
func TestWhatTheFormCarries(t *testing.T) {
	w := newWorld(t, setup{})
	w.token("many", 5)
	w.accounts["@alice:example.org"] = "x"
	lengths := map[int]bool{}
	for _, long := range []string{"12345678", strings.Repeat("correct ", 4)} {
		page := w.get("?token=many").press(url.Values{"username": {"alice"}, "password": {long}}).says(400, "Create your account", "This username is taken.")
		lengths[len(page.fields.Get("signup.kept"))] = true
		forged := page.fields.Get("signup.kept")
		forged = forged[:20] + "AAAA" + forged[24:]
		page.press(url.Values{"username": {"bob"}, "signup.kept": {forged}}).says(400, "Create your account", "Please choose a password.")
	}
	assert.Len(t, lengths, 1)
}
