package browser

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/catalog"
	"github.com/matrix-uia/uia/fallback"
	"github.com/matrix-uia/uia/form"
	"github.com/matrix-uia/uia/internal/testenv"
	"github.com/matrix-uia/uia/memstore"
	"github.com/matrix-uia/uia/register"
	"github.com/matrix-uia/uia/signup"
)

const createHeading = "Create your account"

// used returns how often the token was used.
func (h *homeserver) used(token string) int64 {
	h.t.Helper()
	found, err := h.tokens.Token(h.t.Context(), token, time.Now())
	require.NoError(h.t, err)
	return found.Completed
}

// login logs in as a client does, and reports whether that works.
func (h *homeserver) login(user, password string) bool {
	h.t.Helper()
	path := h.path
	h.path = "/_matrix/client/v3/login"
	defer func() { h.path = path }()
	status, _ := h.post(map[string]any{"type": "m.login.password", "identifier": map[string]any{"type": "m.id.user", "user": user}, "password": password})
	return status == 200
}

// From the link to the account with the keyboard alone: the focus begins where one types,
// is always to be seen, and goes where the mistake is.
func TestSignupByKeyboard(t *testing.T) {
	h := newHomeserver(t)
	b := newTab(t)
	b.visit(h.URL + "/register?token=Once-2026")
	b.heading(createHeading)
	focused := func(want string) {
		t.Helper()
		b.until(fmt.Sprintf(`(document.activeElement.name || document.activeElement.tagName) === %q`, want))
	}
	focused("username")
	b.press("a b" + kb.Tab + "short" + kb.Enter)
	b.until(`document.querySelector("#f-password:invalid") !== null`)
	b.press("a", chromedp.ModifierCtrl)
	b.press("correct horse battery staple")
	b.until(`document.querySelector(".strength").dataset.level === "2"`)
	b.press(kb.Tab)
	require.True(t, eval[bool](b, `document.activeElement.matches(".side:focus-visible") && getComputedStyle(document.activeElement).outlineStyle !== "none"`))
	b.press(" ")
	require.Equal(t, "text", eval[string](b, `document.querySelector("#f-password").type`), "the password is shown")
	b.press(kb.Tab + " ") // the button
	b.until(`document.readyState === "complete" && !!document.querySelector("#e-username")`)
	focused("username")
	b.press("a", chromedp.ModifierCtrl)
	b.press("Carol")
	b.until(`document.querySelector(".check-result").dataset.level === "2"`) // asked for while one types
	b.press(kb.Enter)
	b.heading("Your account is ready")
	focused("H1") // a screen reader begins with the message
	require.Contains(t, eval[string](b, `document.querySelector("main").innerText`), "@carol:example.org")
	require.EqualValues(t, 1, h.used("Once-2026"))
	require.True(t, h.login("carol", "correct horse battery staple"), "the password was kept from the form with the mistake")

	b.run(chromedp.Reload()) // the form is sent again
	b.heading("Your account is ready")
	b.visit(h.URL + "/register?token=Once-2026")
	b.heading("This invitation has been used")
	require.EqualValues(t, 1, h.used("Once-2026"))
}

func TestSignupWithoutScripts(t *testing.T) {
	h := newHomeserver(t)
	b := newTab(t)
	command(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	b.visit(h.URL + "/register")
	b.visible("#f-token")
	b.press("Once-2026" + kb.Enter)
	b.visible("#f-username")
	b.press("dave" + kb.Tab + "correct horse battery staple" + kb.Enter)
	b.visible("dl")
	require.True(t, h.login("dave", "correct horse battery staple"))
	require.EqualValues(t, 1, h.used("Once-2026"))
}

// A button that is pressed six times before the answer comes, and two tabs.
func TestSignupPressedOften(t *testing.T) {
	h := newHomeserver(t)
	b, other := newTab(t), newTab(t)
	for _, tab := range []*tab{b, other} {
		tab.visit(h.URL + "/register?token=Once-2026")
		tab.heading(createHeading)
		tab.run(chromedp.SendKeys(chromedp.CSS("#f-username"), "erin"))
		tab.run(chromedp.SendKeys(chromedp.CSS("#f-password"), "correct horse battery staple"))
	}
	b.until(`(() => { for (let i = 0; i < 6; i++) document.querySelector("form > button").click(); return true; })()`)
	b.heading("Your account is ready")
	other.click("form > button")
	other.until(`document.readyState === "complete" && !!document.querySelector(".wrong")`)
	require.EqualValues(t, 1, h.used("Once-2026"))
	b.run(chromedp.NavigateBack())
	b.until(`document.readyState === "complete" && /used|Create/.test(document.querySelector("h1").textContent)`)
	require.EqualValues(t, 1, h.used("Once-2026"))
}

// axe returns the source of axe-core.
var axe = sync.OnceValues(func() (string, error) {
	const file = "../clients/node_modules/axe-core/axe.min.js"
	if _, err := os.Stat(file); err != nil {
		if out, err := exec.Command("npm", "ci", "--prefix", "../clients").CombinedOutput(); err != nil {
			return "", fmt.Errorf("npm ci: %w: %s", err, out)
		}
	}
	source, err := os.ReadFile(file)
	return string(source), err
})

// accessibleNow fails if axe-core finds anything.
func (b *tab) accessibleNow(name string) {
	b.t.Helper()
	source, err := axe()
	testenv.Need(b.t, err)
	if !eval[bool](b, `typeof axe !== "undefined"`) {
		b.until("(() => { " + source + "; return true; })()")
	}
	b.until(`(window.found = undefined) === undefined && !!axe.run({resultTypes: ["violations"]}).then((r) => { window.found = r.violations.map((v) => v.id + ": " + v.nodes.map((n) => n.html + " " + n.failureSummary).join("; ")); })`)
	b.until(`window.found !== undefined`)
	require.Empty(b.t, eval[[]string](b, "window.found"), name)
}

// TestSignupScreenshots writes every state of the page as a picture, and checks what can
// be checked without eyes. All looks and languages take UIA_FULL=1.
func TestSignupScreenshots(t *testing.T) {
	type look struct {
		name          string
		width, height int64
		scheme, lang  string
	}
	looks := []look{{"light", 1024, 768, "light", "en"}, {"320-dark", 320, 568, "dark", "en"}, {"ar-320", 320, 568, "light", "ar"}}
	if os.Getenv("UIA_FULL") != "" {
		looks = append(looks, look{"dark", 1024, 768, "dark", "en"}, look{"320", 320, 568, "light", "en"})
		for _, l := range catalog.Default().Languages() {
			looks = append(looks, look{l.Tag(), 1024, 768, "light", l.Tag()}, look{l.Tag() + "-320-dark", 320, 568, "dark", l.Tag()})
		}
	}
	for _, look := range looks {
		h := newHomeserver(t)
		b := newTab(t, screen(look.width, look.height, look.scheme))
		check := func(name string) {
			t.Helper()
			name += "-" + look.name
			b.shoot("signup-" + name)
			require.LessOrEqual(t, eval[int64](b, "document.documentElement.scrollWidth"), look.width, "%s sticks out", name)
			require.True(t, eval[bool](b, `[...document.querySelectorAll("button:not([hidden]), .button, input:not([type=hidden]):not([type=checkbox])")].every((e) => e.offsetHeight >= 44)`), "%s: too small for a finger", name)
			require.Equal(t, look.lang, eval[string](b, "document.documentElement.lang"))
			b.accessibleNow(name)
		}
		visit := func(query string) {
			t.Helper()
			b.visit(h.URL + "/register?lang=" + look.lang + "&" + query)
			b.visible("h1")
		}
		if look.lang == "en" { // a language differs by its texts alone
			visit("")
			check("code")
			visit("token=unknown")
			check("unknown")
			visit("token=Carol-2026")
			check("pinned")
		}
		visit("token=Once-2026")
		check("first")
		b.run(chromedp.SendKeys(chromedp.CSS("#f-username"), "a.very.long.name.that.somebody.always.has.0123456789 and"))
		b.run(chromedp.SendKeys(chromedp.CSS("#f-password"), "correct horse battery staple"))
		b.click("form > button")
		b.until(`document.readyState === "complete" && !!document.querySelector(".wrong")`)
		check("mistake")
		b.run(chromedp.SetValue(chromedp.CSS("#f-username"), "alice"))
		b.click("form > button")
		b.until(`document.readyState === "complete" && !!document.querySelector("dl")`)
		check("ready")
		if look.lang == "en" {
			visit("token=Once-2026")
			check("used")
		}
	}
}

// Whatever is in the fields, in the token and in the link, it is text.
func TestSignupInjectedScripts(t *testing.T) {
	const attack = `"'></title></style></script><script>window.pwned=1;alert(1)</script><img src=x onerror="window.pwned=1">{{.}}`
	h := newHomeserver(t)
	require.NoError(t, h.tokens.CreateTokens(t.Context(), uia.Token{
		Value: "attack", Label: attack, Meta: []byte(`{"show_label":true}`),
	}))
	b := newTab(t)
	ok := func() {
		t.Helper()
		require.True(t, eval[bool](b, `document.readyState === "complete" && window.pwned === undefined`))
		require.Equal(t, 0, eval[int](b, `document.querySelectorAll("[onerror], [onload]").length`))
		require.Empty(t, b.complaints(), "there is nothing that the policy has to stop")
	}
	for _, query := range []string{"token=" + url.QueryEscape(attack), "token=attack&lang=" + url.QueryEscape(attack), "token=attack&" + url.QueryEscape(attack) + "=1", "token=attack"} {
		b.visit(h.URL + "/register?" + query)
		b.visible("h1")
		ok()
	}
	require.Contains(t, eval[string](b, `document.querySelector("main").innerText`), attack, "the label")
	b.run(chromedp.SetValue(chromedp.CSS("#f-username"), attack))
	b.run(chromedp.SetValue(chromedp.CSS("#f-password"), attack))
	b.click("form > button")
	b.until(`document.readyState === "complete" && !!document.querySelector(".wrong")`)
	require.Contains(t, eval[string](b, `document.querySelector("#f-username").value`), "<script>")
	ok()
}

// oneAccount stands for the accounts of a homeserver.
type oneAccount struct{}

func (oneAccount) Available(context.Context, register.UsernameRequest) error { return nil }

func (oneAccount) Create(_ context.Context, a register.Account) (register.Created, error) {
	return register.Created{UserID: "@" + a.Localpart + ":example.org"}, nil
}

// Neither does what an operator writes run: a text of a catalogue, an app's link, a title.
func TestSignupInjectedByTheOperator(t *testing.T) {
	const attack = `"'></title></style></script><script>window.pwned=1;alert(1)</script><img src=x onerror="window.pwned=1">{{.}}`
	store, secrets := memstore.New(nil), uia.FixedSecrets(bytes.Repeat([]byte("s"), 32))
	registration := &register.Registration{
		Accounts: oneAccount{}, ServerName: "example.org", Flows: []uia.Flow{{uia.DummyType}},
	}
	engine, err := uia.New(uia.Config{Secrets: secrets, Sessions: store, Stages: []uia.Stage{uia.DummyStage{}}, Operations: []uia.Operation{registration.Operation()}})
	require.NoError(t, err)
	own := map[string]string{}
	for _, text := range []string{"Create your account", "Password", "Show", "Strength: weak", "Create account", "Your account is ready", "Copy", "Copied", "Language", "User ID"} {
		own[text] = attack
	}
	file, err := json.Marshal(own)
	require.NoError(t, err)
	texts, err := catalog.New(fstest.MapFS{"en.json": {Data: file}})
	require.NoError(t, err)
	pages, err := fallback.New(engine, &fallback.Options{Title: attack, Catalog: texts, Look: fallback.Look{
		Links: []form.Link{{Text: attack, URL: "javascript:window.pwned=1"}},
	}})
	require.NoError(t, err)
	page, err := signup.New(signup.Options{
		Engine: engine, Registration: registration, Pages: pages, Secrets: secrets, Homeserver: attack, PasswordPolicy: attack,
		Apps: []signup.App{{Name: attack, Text: attack, Login: `https://app.example.org/"><script>window.pwned=1</script>`}},
	})
	require.NoError(t, err)
	server := httptest.NewServer(page)
	t.Cleanup(server.Close)
	b := newTab(t)
	b.visit(server.URL + "/register")
	b.visible("#f-username")
	b.run(chromedp.SendKeys(chromedp.CSS("#f-username"), "alice"))
	b.run(chromedp.SendKeys(chromedp.CSS("#f-password"), "correct horse battery staple"))
	b.click(".side") // shows the password
	b.click("form > button")
	b.until(`document.readyState === "complete" && !!document.querySelector("dl")`)
	b.click("footer a")
	require.True(t, eval[bool](b, `window.pwned === undefined && document.querySelectorAll("[onerror], [onload]").length === 0`))
	require.Contains(t, eval[string](b, `document.querySelector("h1").textContent`), "<script>", "it is text")
}
