package signup_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/catalog"
	"github.com/matrix-uia/uia/fallback"
	"github.com/matrix-uia/uia/form"
	"github.com/matrix-uia/uia/signup"
	"github.com/matrix-uia/uia/stages"
)

// mailbox is a mailer that keeps the mails.
type mailbox struct{ mails []stages.Confirmation }

func (m *mailbox) SendConfirmation(_ context.Context, c stages.Confirmation) error {
	m.mails = append(m.mails, c)
	return nil
}

const askType = "org.example.ask"

// ask is a stage of the host's own.
type ask struct{}

func (ask) Type() string { return askType }

func (ask) Attempt(_ context.Context, _ *uia.Session, auth json.RawMessage) (json.RawMessage, error) {
	var answer string
	if _, err := uia.Field(auth, "answer", &answer); err != nil || answer != "42" {
		return nil, uia.NewError(401, spec.Forbidden("That is not the answer."))
	}
	return nil, nil
}

func (ask) Form(context.Context, *uia.Session, form.State) (*form.Form, error) {
	return &form.Form{Heading: "A question", Submit: "Answer", Fields: []form.Field{{Name: "answer", Label: "Answer"}}}, nil
}

func (ask) FormAuth(_ *uia.Session, values url.Values) (json.RawMessage, error) {
	return json.Marshal(map[string]string{"answer": values.Get("answer")})
}

// long is a registration with every kind of stage.
func long(t *testing.T, change func(*setup)) (*world, *mailbox, *stages.OutOfBandStage, http.Handler) {
	t.Helper()
	box := &mailbox{}
	terms, err := stages.NewTermsStage(stages.Policy{ID: "tos", Version: "1", Texts: map[string]stages.PolicyText{"en": {Name: "House rules", URL: "https://example.org/rules"}}})
	require.NoError(t, err)
	sso := &stages.OutOfBandStage{Provider: "Example ID", URL: func(context.Context, *uia.Session) (string, error) { return "https://id.example.org/", nil }}
	email := &stages.EmailStage{
		Mailer: box, Store: &stages.EmailMemory{}, Secrets: secrets, ConfirmURL: "https://example.org/confirm", NoLimit: true, After: uia.TokenType,
	}
	s := setup{
		flows:  []uia.Flow{{uia.TokenType, stages.TermsType, askType, stages.EmailType, stages.SSOType}},
		stages: func(*world) []uia.Stage { return []uia.Stage{terms, ask{}, email, sso} },
	}
	if change != nil {
		change(&s)
	}
	w := newWorld(t, s)
	pages, err := fallback.New(w.engine, nil)
	require.NoError(t, err)
	confirm, err := email.Confirm(pages)
	require.NoError(t, err)
	return w, box, sso, confirm
}

// Each further stage has the form that it has on the fallback page, and what was typed
// before is not asked for again.
func TestFurtherStages(t *testing.T) {
	w, box, sso, confirm := long(t, nil)
	w.token("once", 1)
	first := w.get("?token=once").says(200, "Create your account")
	terms := first.press(alice()).says(200, "Accept the terms", "I accept: House rules", "https://example.org/rules")
	assert.NotContains(t, terms.body, password)
	terms.press(nil).says(400, "Accept the terms", "To go on you have to accept all of them.")
	question := terms.press(url.Values{"tos": {"yes"}}).says(200, "A question")
	question = question.press(url.Values{"answer": {"41"}}).says(401, "A question", "That is not the answer.")
	assert.Equal(t, "41", question.fields.Get("answer"), "what was typed is kept")
	first.press(alice()).says(200, "A question") // back, and the button once more
	mail := question.press(url.Values{"answer": {"42"}}).says(200, "Confirm your e-mail address")
	mail.press(url.Values{"address": {"nobody"}}).says(401, "Confirm your e-mail address", "This is not an e-mail address.")
	mail.lang = "sv"
	sent := mail.press(url.Values{"address": {"alice@example.com"}}).says(200, "Öppna länken i mejlet")
	require.Len(t, box.mails, 1)
	assert.Equal(t, "sv", box.mails[0].Language)
	assert.Equal(t, "Bekräfta din e-postadress", box.mails[0].Subject)
	assert.Contains(t, box.mails[0].Text, box.mails[0].Link)
	sent.press(nil).says(200, "Open the link in the mail")
	link := strings.TrimPrefix(box.mails[0].Link, "https://example.org")
	rec := httptest.NewRecorder()
	confirm.ServeHTTP(rec, httptest.NewRequest("GET", link, nil))
	assert.Contains(t, rec.Body.String(), `<html lang="sv"`, "the page speaks the language of the mail")
	confirm.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", link, nil))
	apart := sent.press(nil).says(200, "Confirm with Example ID")
	assert.Contains(t, apart.body, `target="_blank"`, "the page stays")
	apart.press(nil).says(200, "Confirm with Example ID")
	assert.Empty(t, w.accounts)
	require.NoError(t, sso.Complete(t.Context(), w.engine, apart.fields.Get("signup.session"), "@x:id.example.org"))
	for range 3 {
		apart.press(nil).says(200, "Your account is ready", "@alice:example.org")
	}
	assert.Equal(t, map[string]string{"@alice:example.org": password}, w.accounts)
	pending, completed := w.uses("once")
	assert.Equal(t, []int64{0, 1}, []int64{pending, completed})
	assert.Empty(t, w.log.String())
}

// An invitation that is for an e-mail address shows it, and no other can be confirmed.
func TestPinnedAddress(t *testing.T) {
	w, box, _, _ := long(t, func(s *setup) { s.flows = []uia.Flow{{uia.TokenType, stages.EmailType}} })
	w.token("once", 1, func(t *uia.Token) { t.Meta = []byte(`{"email":"alice@example.com"}`) })
	mail := w.get("?token=once").press(alice()).says(200, "Confirm your e-mail address", `value="alice@example.com" readonly`)
	mail.press(url.Values{"address": {"mallory@example.com"}}).says(409, "Confirm your e-mail address")
	assert.Empty(t, box.mails)
	mail.press(nil).says(200, "Open the link in the mail")
	require.Len(t, box.mails, 1)
	assert.Equal(t, "alice@example.com", box.mails[0].Address)
}

// A session that expires at a later stage starts over with everything that was typed.
func TestExpiresAtALaterStage(t *testing.T) {
	late := time.Duration(0)
	w, _, _, _ := long(t, func(s *setup) {
		s.flows = []uia.Flow{{uia.TokenType, stages.TermsType, askType}}
		s.config = func(c *uia.Config) { c.Now = func() time.Time { return time.Now().Add(late) } }
	})
	w.token("once", 1)
	question := w.get("?token=once").press(alice()).press(url.Values{"tos": {"yes"}}).says(200, "A question")
	late = 2 * time.Hour
	again := question.press(url.Values{"answer": {"42"}}).says(200, "Create your account", "Nothing is lost")
	assert.Equal(t, "alice", again.fields.Get("username"))
	again.press(nil).says(200, "Accept the terms").press(url.Values{"tos": {"yes"}}).press(url.Values{"answer": {"42"}}).says(200, "Your account is ready")
	assert.Equal(t, map[string]string{"@alice:example.org": password}, w.accounts)
	_, completed := w.uses("once")
	assert.EqualValues(t, 1, completed)
}

// The token is lost while somebody reads the terms: another one can be typed.
func TestTokenLostOnTheWay(t *testing.T) {
	w, _, _, _ := long(t, func(s *setup) { s.flows = []uia.Flow{{uia.TokenType, stages.TermsType}} })
	w.token("once", 1)
	w.token("other", 1)
	terms := w.get("?token=once").press(alice()).says(200, "Accept the terms")
	require.NoError(t, w.store.DeleteToken(t.Context(), "once"))
	lost := terms.press(url.Values{"tos": {"yes"}}).says(401, "Create your account", "The registration token is not valid")
	lost.press(url.Values{"token": {"other"}}).says(200, "Accept the terms").press(url.Values{"tos": {"yes"}}).says(200, "Your account is ready")
}

// A link without a token goes the way that needs none, and one with a token the other.
func TestSeveralFlows(t *testing.T) {
	w, _, _, _ := long(t, func(s *setup) { s.flows = []uia.Flow{{askType}, {uia.TokenType, uia.DummyType}} })
	w.token("once", 1)
	w.get("").says(200, "Create your account", "It will be an account on example.org.").press(alice()).says(200, "A question").
		press(url.Values{"answer": {"42"}}).says(200, "Your account is ready")
	w.get("?token=once").says(200, "Create your account").press(url.Values{"username": {"bob"}, "password": {password}}).says(200, "Your account is ready")
	_, completed := w.uses("once")
	assert.EqualValues(t, 1, completed)
}

// noForm is a stage that no page can ask for.
type noForm struct{ uia.Stage }

func TestStagesWithoutForms(t *testing.T) {
	w := newWorld(t, setup{})
	reg := *w.reg
	reg.Flows = []uia.Flow{{"org.example.none"}}
	engine, err := uia.New(uia.Config{
		Secrets: secrets, Sessions: w.store, Operations: []uia.Operation{reg.Operation()}, Stages: []uia.Stage{noForm{ask{}}, none{}},
	})
	require.NoError(t, err)
	pages, err := fallback.New(engine, nil)
	require.NoError(t, err)
	_, err = signup.New(signup.Options{Engine: engine, Registration: &reg, Pages: pages, Secrets: secrets})
	assert.ErrorContains(t, err, "none of the flows")
}

type none struct{ noForm }

func (none) Type() string { return "org.example.none" }

// What strangers and operators write is text, also in a catalogue and in an app's link.
func TestNothingIsMarkup(t *testing.T) {
	const attack = `"><script>alert(1)</script>{{.}}`
	own, err := json.Marshal(map[string]string{"Create your account": attack, "Password": attack})
	require.NoError(t, err)
	texts, err := catalog.New(mapFS("en.json", own))
	require.NoError(t, err)
	w := newWorld(t, setup{
		pages: &fallback.Options{Title: attack, Catalog: texts, Look: fallback.Look{Links: []form.Link{{Text: attack, URL: "javascript:alert(1)"}}}},
		options: func(o *signup.Options) {
			o.Apps = []signup.App{{Name: attack, Text: attack, Login: `https://app.example.org/"><script>alert(1)</script>`}}
			o.Homeserver = attack
			o.PasswordPolicy = attack
			o.Inviter = func(uia.Token) string { return attack }
		},
	})
	w.token("once", 1)
	first := w.get("?token=once&lang=" + url.QueryEscape(attack))
	done := first.press(alice())
	require.Equal(t, 200, done.Code)
	for _, v := range []*view{first, done, w.get("?token=" + url.QueryEscape(attack)), first.press(url.Values{"username": {attack}, "password": {attack}})} {
		assert.NotContains(t, v.body, "<script>alert")
		assert.NotContains(t, v.body, `href="javascript`)
		assert.NotContains(t, v.Header().Get("Content-Security-Policy"), "unsafe")
	}
	assert.Contains(t, done.body, "&lt;script&gt;")
}
