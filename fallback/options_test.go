package fallback_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"html/template"
	"log/slog"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/fallback"
	"github.com/matrix-uia/uia/form"
)

// A client whose parameters the session ID does not carry has to send them again
// after the page: running the operation without them would be another request.
func TestDoesNotForgetThatThereWereParameters(t *testing.T) {
	h := newSite(t, flowTD, nil, func(c *uia.Config) {
		c.Operations[1].Flows = []uia.Flow{{"m.login.dummy"}}
	})
	body := dict{"erase": true}
	session := h.send("DELETE", "/devices/A", body).Session
	require.Equal(t, 200, h.page(pagePath("m.login.dummy", session), url.Values{}).Code)
	a := h.send("DELETE", "/devices/A", dict{"auth": dict{"session": session}})
	assert.Equal(t, 400, a.Status, a.JSON)
	assert.Equal(t, "M_MISSING_PARAM", a.JSON["errcode"])
	assert.Empty(t, h.deleted)
	a = h.send("DELETE", "/devices/A", dict{"erase": false, "auth": dict{"session": session}})
	assert.Equal(t, 403, a.Status, a.JSON)
	body["auth"] = dict{"session": session}
	assert.Equal(t, 200, h.send("DELETE", "/devices/A", body).Status)
	assert.Len(t, h.deleted, 1)
}

func TestRedirects(t *testing.T) {
	const target = "org.example.client://auth-done?a=1&b=2"
	h := newSite(t, flowTD, &fallback.Options{Redirects: []string{target}}, nil)
	h.token("right", 10)
	for query, linked := range map[string]bool{
		target:                           true,
		target + "x":                     false,
		"https://evil.example/":          false,
		"javascript:alert(document.URL)": false,
		"":                               false,
	} {
		session := h.open(dict{})
		path := pagePath(uia.TokenType, session) + "&redirect=" + url.QueryEscape(query)
		assert.NotContains(t, h.page(path, nil).Body.String(), "Back to the app", "not before it is done")
		w := h.page(path, url.Values{"token": {"right"}})
		require.Equal(t, 200, w.Code)
		assert.Equal(t, linked, strings.Contains(w.Body.String(), `id="redirect" href="`+template.HTMLEscapeString(target)+`"`), query)
		assert.NotContains(t, w.Body.String(), "evil")
		assert.NotContains(t, w.Body.String(), "javascript:")
	}
	expired := h.page(pagePath(uia.TokenType, "x")+"&redirect="+url.QueryEscape(target), nil)
	assert.Contains(t, expired.Body.String(), "Back to the app", "the way out of an expired session")
	assert.NotContains(t, expired.Body.String(), `id="redirect"`)
}

func TestTemplateAndTitle(t *testing.T) {
	own := template.Must(template.New("").Parse(`<title>{{.Title}}</title><style>p { color: teal }</style>
		{{with .Form}}<form method="post"><input name="token">{{$.Error}}</form><script>var {{"{{"}};</script>{{end}}
		{{if .Done}}<script>{{.Script}}</script>{{end}}{{if eq .Error "The registration token is not valid, or somebody is registering with it right now. Try again in a minute."}}<script>var late = 1</script>{{end}}`))
	h := newSite(t, flowTD, &fallback.Options{Title: "<Our> house", Template: own}, nil)
	h.token("right", 1)
	path := pagePath(uia.TokenType, h.open(dict{}))
	w := h.page(path, nil)
	assert.Contains(t, w.Body.String(), "<title>&lt;Our&gt; house</title>")

	r := httptest.NewRequest("POST", path, strings.NewReader("token=wrong"))
	late := httptest.NewRecorder()
	h.handler.ServeHTTP(late, r)
	sum := sha256.Sum256([]byte("var late = 1"))
	assert.Contains(t, late.Body.String(), "var late = 1")
	assert.NotContains(t, late.Header().Get("Content-Security-Policy"), base64.StdEncoding.EncodeToString(sum[:]),
		"what is not on every page is not run")
	assert.Contains(t, h.page(path, url.Values{"token": {"right"}}).Body.String(), "window.onAuthDone()")

	for name, o := range map[string]fallback.Options{
		"no script":        {Template: template.Must(template.New("").Parse("<p>hello"))},
		"a missing field":  {Template: template.Must(template.New("").Parse("{{.Nothing}}"))},
		"a script for URL": {Redirects: []string{"javascript:alert(1)"}},
		"a relative URL":   {Redirects: []string{"/elsewhere"}},
	} {
		_, err := fallback.New(h.engine, &o)
		assert.ErrorContains(t, err, "fallback: Options.", name)
	}
}

// Whatever a stage asks for, the policy keeps what every page has.
func TestSources(t *testing.T) {
	asks := &formStage{form: form.Form{Heading: "Captcha", Widget: &form.Widget{Script: "https://captcha.example/api.js", Class: "c", SiteKey: markup}, Sources: map[string][]string{
		"script-src":  {"https://captcha.example/api/", "'unsafe-inline'", "https://x; form-action *", "*", "data:"},
		"frame-src":   {"https://*.captcha.example"},
		"form-action": {"https://evil.example"},
	}}}
	h := newSite(t, uia.Flow{"example.form"}, nil, func(c *uia.Config) { c.Stages = append(c.Stages, asks) })
	w := h.page(pagePath("example.form", h.open(dict{})), nil)
	policy := strings.Split(w.Header().Get("Content-Security-Policy"), "; ")
	i := slices.IndexFunc(policy, func(s string) bool { return strings.HasPrefix(s, "script-src ") })
	require.GreaterOrEqual(t, i, 0)
	assert.Regexp(t, `^script-src( 'sha256-[^ ]+'){2} https://captcha\.example/api/$`, policy[i])
	assert.Contains(t, policy, "frame-src https://*.captcha.example")
	assert.Contains(t, policy, "form-action 'self'")
	assert.Contains(t, w.Body.String(), `<script src="https://captcha.example/api.js" async defer></script>`)
}

// formStage is a stage whose form the test decides.
type formStage struct {
	uia.DummyStage
	form form.Form
}

func (*formStage) Type() string { return "example.form" }

func (f *formStage) Form(context.Context, *uia.Session, form.State) (*form.Form, error) {
	return &f.form, nil
}

// A stage of the host's that has no form to show is a mistake that the log tells by the
// stage's name, and the user is told nothing of.
func TestStageWithoutForm(t *testing.T) {
	var logged strings.Builder
	h := newSite(t, uia.Flow{"example.none"}, nil, func(c *uia.Config) {
		c.Stages = append(c.Stages, noForm{})
		c.Logger = slog.New(slog.NewTextHandler(&logged, nil))
	})
	w := h.page(pagePath("example.none", h.open(dict{})), nil)
	assert.Equal(t, 500, w.Code)
	assert.Contains(t, w.Body.String(), "Something went wrong on the server.")
	assert.Contains(t, logged.String(), `stage \"example.none\": the fallback page: there is no form`)
}

// A stage that panics ends the request, and no more.
func TestStageThatPanics(t *testing.T) {
	var logged strings.Builder
	h := newSite(t, uia.Flow{"example.panics"}, nil, func(c *uia.Config) {
		c.Stages = append(c.Stages, panics{})
		c.Logger = slog.New(slog.NewTextHandler(&logged, nil))
	})
	path := pagePath("example.panics", h.open(dict{}))
	for _, form := range []url.Values{nil, {"a": {"b"}}} {
		logged.Reset()
		w := h.page(path, form)
		assert.Equal(t, 500, w.Code)
		assert.NotContains(t, w.Body.String(), "vault")
		assert.Contains(t, logged.String(), `stage \"example.panics\": the fallback page: panicked: the vault is sealed`)
	}
}

type panics struct{ uia.DummyStage }

func (panics) Type() string { return "example.panics" }

func (panics) Form(context.Context, *uia.Session, form.State) (*form.Form, error) {
	panic("the vault is sealed")
}

func (panics) FormAuth(*uia.Session, url.Values) (json.RawMessage, error) {
	panic("the vault is sealed")
}

type noForm struct{ uia.DummyStage }

func (noForm) Type() string { return "example.none" }

func (noForm) Form(context.Context, *uia.Session, form.State) (*form.Form, error) { return nil, nil }

func TestNewFindsMistakes(t *testing.T) {
	_, err := fallback.New(nil, nil)
	assert.ErrorContains(t, err, "engine")
}
