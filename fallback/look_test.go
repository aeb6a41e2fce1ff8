package fallback_test

import (
	"bytes"
	"html/template"
	"image"
	"image/png"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/catalog"
	"github.com/matrix-uia/uia/fallback"
	"github.com/matrix-uia/uia/form"
)

// picture is a PNG.
func picture(t *testing.T) []byte {
	t.Helper()
	var out bytes.Buffer
	require.NoError(t, png.Encode(&out, image.NewGray(image.Rect(0, 0, 8, 8))))
	return out.Bytes()
}

func TestLook(t *testing.T) {
	h := newSite(t, flowTD, &fallback.Options{Title: "Chess club", Look: fallback.Look{
		Logo:  picture(t),
		Light: fallback.Colors{Accent: "#7a1f5c"}, Dark: fallback.Colors{Accent: "#ff9ad5", OnAccent: "#2a0018"},
		Links: []form.Link{{Text: "House rules", URL: "https://example.org/rules"}, {Text: "Language", URL: "javascript:alert(1)"}},
	}}, nil)
	w := h.page(pagePath(uia.TokenType, h.open(dict{})), nil)
	body := w.Body.String()
	for _, want := range []string{
		`<img src="data:image/png;base64,`, "--accent:#7a1f5c;", "prefers-color-scheme:dark){:root{--accent:#ff9ad5;", "Chess club",
		`<a href="https://example.org/rules" target="_blank" rel="noopener noreferrer">House rules</a>`,
	} {
		assert.Contains(t, body, want)
	}
	assert.NotContains(t, body, `href="javascript`)
	assert.Contains(t, w.Header().Get("Content-Security-Policy"), "img-src data:")
	plain := newSite(t, flowTD, nil, nil)
	w = plain.page(pagePath(uia.TokenType, plain.open(dict{})), nil)
	assert.NotContains(t, w.Header().Get("Content-Security-Policy"), "img-src", "without a picture none is let in")
}

func TestLooksThatCannotBe(t *testing.T) {
	h := newSite(t, flowTD, nil, nil)
	for want, look := range map[string]fallback.Look{
		"is no colour":            {Light: fallback.Colors{Accent: "red;} body { display: none"}},
		"accent on card has":      {Light: fallback.Colors{Accent: "#ffffe0", OnAccent: "#000000"}},
		"on-accent on accent has": {Dark: fallback.Colors{OnAccent: "#ffffff"}},
		"ink on card has":         {Dark: fallback.Colors{Card: "#ffffff", Accent: "#0b6e4f", OnAccent: "#ffffff"}},
		"Logo has":                {Logo: bytes.Repeat([]byte("a"), fallback.MaxLogo+1)},
		"Logo is text/html":       {Logo: []byte("<html><script>alert(1)</script>")},
	} {
		_, err := fallback.New(h.engine, &fallback.Options{Look: look})
		assert.ErrorContains(t, err, want)
	}
	_, err := fallback.New(h.engine, &fallback.Options{Look: fallback.Look{Logo: []byte(`<svg xmlns="http://www.w3.org/2000/svg"/>`)}})
	assert.NoError(t, err)
}

// A template of the host's own has the texts and the values, and the headers are ours.
func TestTemplateInAnotherLanguage(t *testing.T) {
	own := template.Must(template.New("").Parse(`<html lang="{{.Lang}}"><h1>{{.Heading}}</h1>{{.T "Continue"}}{{if .Done}}<script>{{.Script}}</script>{{end}}`))
	h := newSite(t, flowTD, &fallback.Options{Template: own}, nil)
	r := httptest.NewRequest("GET", pagePath(uia.TokenType, h.open(dict{})), nil)
	r.Header.Set("Accept-Language", "fr-CH")
	w := httptest.NewRecorder()
	h.handler.ServeHTTP(w, r)
	assert.Contains(t, w.Body.String(), `<html lang="fr"><h1>Saisissez votre jeton d’inscription</h1>Continuer`)
	assertSafe(t, w)
}

// The fallback page speaks every language, and tells mistakes in it.
func TestSpeaksEveryLanguage(t *testing.T) {
	h := newSite(t, flowTD, nil, nil)
	session := h.open(dict{"username": "alice"})
	for _, l := range catalog.Default().Languages() {
		r := httptest.NewRequest("POST", pagePath(uia.TokenType, session)+"&lang="+l.Tag(), strings.NewReader("token=wrong"))
		w := httptest.NewRecorder()
		h.handler.ServeHTTP(w, r)
		body := w.Body.String()
		for _, text := range []string{"Enter your registration token", "Continue", "Upper and lower case matter.", "This lets your app:"} {
			assert.Contains(t, body, l.Text(text), l.Tag())
		}
		assert.Contains(t, body, template.HTMLEscapeString(l.Text("The registration token is not valid, or somebody is registering with it right now. Try again in a minute.")))
		assert.Contains(t, body, l.Text("create the account {user}", "user", "@alice:test"))
		assert.NotContains(t, body, session, "no link to another language carries the session")
	}
}
