package browser

import (
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/stages"
)

// TestScreenshots writes what there is to look at, and checks what can be checked
// without eyes: nothing sticks out of a small screen, and everything to be pressed
// is large enough for a finger.
func TestScreenshots(t *testing.T) {
	h := newHomeserver(t)
	long := map[string]any{"username": "a.very.long.name.that.nobody.would.choose.but.somebody.always.does.0123456789", "password": "x"}
	for _, look := range []struct {
		name          string
		width, height int64
		scheme        string
	}{{"light", 1024, 768, "light"}, {"dark", 1024, 768, "dark"}, {"320", 320, 568, "light"}, {"320-dark", 320, 568, "dark"}} {
		b := newTab(t, screen(look.width, look.height, look.scheme))
		check := func(name string) {
			t.Helper()
			b.shoot(name + "-" + look.name)
			require.LessOrEqual(t, eval[int64](b, "document.documentElement.scrollWidth"), look.width, "%s sticks out", name)
			require.True(t, eval[bool](b, `[...document.querySelectorAll("button, .button, input:not([type=hidden]):not([type=checkbox])")].every((e) => e.offsetHeight >= 44)`), "%s: too small for a finger", name)
		}
		params := alice
		if look.width == 320 {
			params = long
		}
		session := h.open(params)
		b.visit(h.page(uia.TokenType, session))
		b.heading(tokenHeading)
		check("token")
		b.submit("#f-token", "not-the-right-token")
		b.until(`!!document.querySelector(".error")`)
		check("token-error")
		b.submit("#f-token", "Welcome-2026")
		b.heading("Done")
		check("done")
		b.visit(h.page(uia.TokenType, "forged"))
		check("expired")
		for typ, name := range map[string]string{stages.TermsType: "terms", stages.PasswordType: "password", stages.SSOType: "sso", stages.EmailType: "email", stages.CaptchaType: "captcha"} {
			other := newStages(t, typ)
			b.visit(other.page(typ, other.open(nil)))
			b.visible("main")
			if name == "captcha" {
				b.visible("#human")
			}
			check(name)
			if name == "email" {
				b.submit("#f-address", "alice@example.org")
				b.heading("Open the link in the mail")
				check("email-sent")
			}
			b.visit(other.page(typ, "forged") + "&redirect=" + url.QueryEscape("org.example.client://done"))
		}
		check("expired-redirect")
	}
}
