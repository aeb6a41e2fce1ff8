package browser

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/stages"
)

const tokenHeading = "Enter your registration token"

var alice = map[string]any{"username": "alice", "password": "wonderland"}

// A web client of another origin opens the page in a window, as the specification's
// example does, and goes on when it is told.
func TestWindowOfAnotherOrigin(t *testing.T) {
	h := newHomeserver(t)
	session := h.open(alice)
	client := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<!DOCTYPE html><link rel="icon" href="data:,"><button>Open</button><script>
			window.messages = [];
			window.addEventListener("message", async (e) => {
				if (e.data !== "authDone" || e.origin !== %q) { messages.push("?"); return; }
				opened.close();
				const answer = await fetch(%q, {method: "POST", body: JSON.stringify({auth: {session: %q, type: "m.login.dummy"}})});
				messages.push(answer.status + " " + (await answer.json()).user_id);
			});
			document.querySelector("button").onclick = () => { window.opened = window.open(%q); };
		</script>`, h.URL, h.URL+h.path, session, strings.Replace(h.page(uia.TokenType, session), "/v3/", "/r0/", 1))
	}))
	defer client.Close()

	b := newTab(t)
	b.visit(client.URL)
	opened := chromedp.WaitNewTarget(b.ctx, func(*target.Info) bool { return true })
	b.click("button")
	ctx, cancel := chromedp.NewContext(b.ctx, chromedp.WithTargetID(<-opened))
	defer cancel()
	popup := attach(t, ctx)
	popup.heading(tokenHeading)
	require.True(t, eval[bool](popup, `document.querySelector("main").textContent.includes("@alice:example.org")`))
	popup.submit("#f-token", "wrong")
	popup.until(`document.readyState === "complete" && !!document.querySelector(".error")`)
	require.Empty(t, eval[[]string](b, "messages"), "the client is not told of failures")
	popup.submit("#f-token", "Welcome-2026")
	b.until("messages.length > 0")
	require.Equal(t, []string{"200 @alice:example.org"}, eval[[]string](b, "messages"))
}

// An app shows the page in a view of its own, and defines the function.
func TestEmbeddedView(t *testing.T) {
	h := newHomeserver(t)
	session := h.open(alice)
	b := newTab(t, onEveryPage(`window.done = 0; window.onAuthDone = () => { window.done++; };`))
	b.visit(h.page(uia.TokenType, session))
	b.heading(tokenHeading)
	b.submit("#f-token", "wrong")
	b.until(`document.readyState === "complete" && !!document.querySelector(".error")`)
	require.Equal(t, 0, eval[int](b, "done"))
	require.Equal(t, "wrong", eval[string](b, `document.querySelector("#f-token").value`), "what was typed is kept")
	b.submit("#f-token", "Welcome-2026")
	b.heading("Done")
	require.Equal(t, 1, eval[int](b, "done"))
	require.Equal(t, []any{uia.TokenType}, h.completed(session))
}

// Nobody needs a mouse: the focus is where one types, on the field again after a
// mistake, and on the message at the end.
func TestKeyboardOnly(t *testing.T) {
	h := newHomeserver(t)
	b := newTab(t)
	b.visit(h.page(uia.TokenType, h.open(alice)))
	b.heading(tokenHeading)
	focus := func() string { return eval[string](b, "document.activeElement.name || document.activeElement.tagName") }
	// A page that has loaded gives the focus when it is rendered, a moment later.
	focused := func(want string) {
		b.until(`(document.activeElement.name || document.activeElement.tagName) === "` + want + `"`)
	}
	focused("token")
	b.press("wrong")
	b.press(kb.Enter)
	b.until(`document.readyState === "complete" && !!document.querySelector(".error")`)
	focused("token")
	b.press(kb.Tab)
	require.Equal(t, "BUTTON", focus(), "the field, then the button, and nothing else")
	require.True(t, eval[bool](b, `document.activeElement.matches(":focus-visible") && getComputedStyle(document.activeElement).outlineStyle !== "none"`), "it can be seen where the focus is")
	b.press(kb.Tab, chromedp.ModifierShift)
	require.Equal(t, "token", focus())
	b.press("a", chromedp.ModifierCtrl)
	b.press("Welcome-2026" + kb.Tab + " ")
	b.heading("Done")
	focused("H1") // a screen reader begins with the message
}

// What a screen reader is told.
func TestAccessibleNames(t *testing.T) {
	h := newHomeserver(t)
	b := newTab(t)
	b.visit(h.page(uia.TokenType, h.open(alice)))
	b.heading(tokenHeading)
	require.Equal(t, "en", eval[string](b, "document.documentElement.lang"))
	field := b.accessible("#f-token")
	require.Equal(t, `"Registration token"`, string(field.Name.Value))
	require.Equal(t, `"textbox"`, string(field.Role.Value))
	require.Contains(t, string(field.Description.Value), "lower case matter")
	b.submit("#f-token", "wrong")
	b.until(`document.readyState === "complete" && !!document.querySelector(".error")`)
	field = b.accessible("#f-token")
	require.Contains(t, string(field.Description.Value), "The registration token is not valid", "the mistake is read with the field")
	invalid := ""
	for _, p := range field.Properties {
		if p.Name == accessibility.PropertyNameInvalid {
			invalid = string(p.Value.Value)
		}
	}
	require.Equal(t, `"true"`, invalid)
	require.Equal(t, `"alert"`, string(b.accessible(".error").Role.Value))
	require.Contains(t, eval[string](b, "document.title"), "Error: ")
}

func (b *tab) accessible(selector string) *accessibility.Node {
	b.t.Helper()
	nodes, err := chromedp.Run(b.ctx, chromedp.Nodes(chromedp.CSS(selector)))
	require.NoError(b.t, err)
	tree := command(b, accessibility.GetPartialAXTree, accessibility.GetPartialAXTreeParams{NodeID: nodes[0].NodeID, FetchRelatives: new(false)})
	return tree.Nodes[0]
}

// Whatever is in the fields, it is text.
func TestInjectedScripts(t *testing.T) {
	const attack = `"'></title></style></script><script>window.pwned=1;alert(1)</script><img src=x onerror="window.pwned=1"><svg onload="window.pwned=1">`
	h := newHomeserver(t)
	b := newTab(t)
	ok := func() {
		t.Helper()
		require.True(t, eval[bool](b, `document.readyState === "complete" && window.pwned === undefined`))
		require.Equal(t, 0, eval[int](b, `document.querySelectorAll("img, [onerror], [onload]").length`))
		require.Empty(t, b.complaints(), "there is nothing that the policy has to stop")
	}
	session := h.open(map[string]any{"password": "x", "initial_device_display_name": attack})
	b.visit(h.page(uia.TokenType, session))
	b.heading(tokenHeading)
	b.submit("#f-token", attack)
	b.until(`!!document.querySelector(".error")`)
	require.Equal(t, attack, eval[string](b, `document.querySelector("#f-token").value`))
	ok()
	for _, query := range []string{
		url.QueryEscape(attack), session + "&redirect=" + url.QueryEscape("javascript:window.pwned=1"), session + "&" + url.QueryEscape(attack) + "=" + url.QueryEscape(attack),
	} {
		b.visit(h.URL + "/_matrix/client/v3/auth/" + uia.TokenType + "/fallback/web?session=" + query)
		ok()
	}
	// And if one got into the page all the same, the policy would stop it.
	b.until(`(window.stopped = []) && (document.addEventListener("securitypolicyviolation", (e) => stopped.push(e.effectiveDirective)), true)`)
	for directive, script := range map[string]string{
		"script-src-elem": `{ const e = document.createElement("script"); e.textContent = "window.pwned = 1"; document.body.append(e); }`,
		"script-src-attr": `document.body.insertAdjacentHTML("beforeend", "<p onclick='window.pwned = 1'></p>"); document.body.lastChild.click()`,
		"img-src":         `document.body.insertAdjacentHTML("beforeend", "<img src='https://evil.example/'>")`,
		"style-src-attr":  `document.body.insertAdjacentHTML("beforeend", "<p style='position: fixed'></p>")`,
		"form-action":     `document.body.insertAdjacentHTML("beforeend", "<form action='https://evil.example/' method=post><button id=evil></form>"); document.querySelector("#evil").click()`,
		"base-uri":        `{ const e = document.createElement("base"); e.href = "https://evil.example/"; document.head.append(e); }`,
		"connect-src":     `fetch("https://evil.example/").catch(() => {})`,
	} {
		b.until("(() => { " + script + "; return true; })()")
		b.until(fmt.Sprintf("stopped.includes(%q)", directive))
	}
	require.True(t, eval[bool](b, "window.pwned === undefined"))
	require.NotEmpty(t, b.complaints())
}

func TestNoFrames(t *testing.T) {
	h := newHomeserver(t)
	target := h.page(uia.TokenType, h.open(alice))
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<!DOCTYPE html><link rel="icon" href="data:,"><iframe src=%q></iframe>`, target)
	}))
	defer other.Close()
	b := newTab(t)
	b.visit(other.URL)
	complaints := strings.Join(b.complaints(), "\n")
	require.Contains(t, complaints, "frame")
}

// The form needs no script; only the client's being told does.
func TestWithoutScripts(t *testing.T) {
	h := newHomeserver(t)
	session := h.open(alice)
	b := newTab(t)
	command(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	b.visit(h.page(uia.TokenType, session))
	b.visible("#f-token")
	b.press("Welcome-2026" + kb.Enter)
	b.visible("h1 svg")
	require.Equal(t, []any{uia.TokenType}, h.completed(session))
}

// A provider's script is let in, on its stage alone, and nothing else is.
func TestCaptcha(t *testing.T) {
	h := newStages(t, stages.CaptchaType)
	b := newTab(t)
	session := h.open(nil)
	b.visit(h.page(stages.CaptchaType, session))
	b.heading("Show that you are human")
	b.visible("#human")
	b.click("button")
	b.until(`document.readyState === "complete" && !!document.querySelector(".error")`)
	b.click("#human")
	b.shoot("captcha-error")
	b.click("button")
	b.heading("Done")
	status, _ := h.post(map[string]any{"auth": map[string]any{"session": session}})
	require.Equal(t, 200, status)
}

func TestTerms(t *testing.T) {
	h := newStages(t, stages.TermsType)
	b := newTab(t)
	b.visit(h.page(stages.TermsType, h.open(nil)))
	b.heading("Accept the terms")
	b.click("button")
	require.True(t, eval[bool](b, `document.querySelector("input:invalid") !== null`), "the browser asks for the boxes")
	b.press(" " + kb.Tab + kb.Tab + " ")
	b.click("button")
	b.heading("Done")
}

// A mobile client is gone back to, if the host has listed it.
func TestRedirect(t *testing.T) {
	h := newStages(t, "m.login.dummy")
	b := newTab(t)
	b.visit(h.page("m.login.dummy", h.open(nil)) + "&redirect=" + url.QueryEscape(h.URL+"/landed"))
	b.heading("One more step")
	b.click("button")
	b.until(`document.title === "landed"`)
}
