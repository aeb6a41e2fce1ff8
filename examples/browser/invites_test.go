package browser

import (
	"net/url"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
)

// TestInvitePage makes and revokes an invitation with the keyboard, and without scripts,
// on a narrow screen; axe-core finds nothing, and what a note says is text.
func TestInvitePage(t *testing.T) {
	h := newHomeserver(t)
	const password = "correct horse battery staple"
	session := h.open(map[string]any{"username": "alice", "password": password})
	for _, auth := range []map[string]any{{"type": uia.TokenType, "token": "Welcome-2026"}, {"type": uia.DummyType}} {
		auth["session"] = session
		h.post(map[string]any{"auth": auth})
	}
	address, err := url.Parse(h.URL + "/_uia/invites")
	require.NoError(t, err)
	address.User = url.UserPassword("alice", password)
	for name, b := range map[string]*tab{"light": newTab(t, screen(320, 568, "light")), "dark": newTab(t, screen(320, 568, "dark"))} {
		b.visit(address.String())
		b.heading("Invite others")
		b.press("<script>document.title='run'</script>" + kb.Enter)
		b.until(`document.readyState === "complete" && document.querySelectorAll("dd form").length === 1`)
		require.NotEqual(t, "run", eval[string](b, "document.title"))
		require.Len(t, eval[string](b, `document.querySelector("dd bdi").textContent`), 16, "the invitation")
		b.shoot("invites-" + name)
		require.LessOrEqual(t, eval[int64](b, "document.documentElement.scrollWidth"), int64(320), name)
		b.accessibleNow(name)
		b.run(chromedp.Reload())
		b.until(`document.readyState === "complete" && document.querySelectorAll("dd").length > 0`)
		b.run(chromedp.Focus(chromedp.CSS("dd form button")))
		b.press(" ")
		b.until(`document.readyState === "complete" && document.querySelectorAll("dd").length > 0 && document.querySelectorAll("dd form").length === 0`)
		require.True(t, strings.Contains(eval[string](b, `document.querySelector("dt").textContent`), "revoked"))
	}
	b := newTab(t)
	command(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	b.visit(address.String())
	b.visible("#f-label")
	b.press("without scripts" + kb.Enter)
	b.visible("dd form")
	b.click("dd form button")
	b.run(chromedp.WaitNotPresent(chromedp.CSS("dd form")))
}
