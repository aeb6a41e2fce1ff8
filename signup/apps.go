package signup

import (
	"errors"
	"net/url"
	"strings"
)

// App is an app that the page links to once there is an account. In its links {server}
// stands for the server name, {homeserver} for the address of the homeserver, {localpart}
// and {user} for the name of the account and the whole user ID, and {token} for a
// registration token.
type App struct {
	// Name is what the app is called.
	Name string
	// Login is where somebody logs in who has an account. Required.
	Login string
	// Register is where the app itself registers an account with a token, for
	// admin.Options.InviteURL in place of this page's address; empty if no link of the app
	// can carry a token.
	Register string
	// Text is a word to the user, in English; the pages' catalog translates those that are
	// here.
	Text string
	// Native says that the app itself can register with a token that is typed into it.
	Native bool
	// OAuth says that the app logs in at servers that offer OAuth alone. It is shown only
	// with Options.OAuth.
	OAuth bool
}

// What is known of some apps and their links. Web addresses are those of the instances
// that the projects run.
var (
	// Element is Element Web. It registers with a token that is typed into it, and ignores
	// a token in its link.
	Element = App{
		Name: "Element", Login: "https://app.element.io/#/login", Native: true,
		Text: "In the browser and on computers. Choose your homeserver, then sign in.",
	}
	// Cinny registers with a token, and takes the server from the path and the token
	// from the query of its link.
	Cinny = App{
		Name: "Cinny", Login: "https://app.cinny.in/login/{server}/?username={localpart}",
		Register: "https://app.cinny.in/register/{server}/?token={token}", Native: true,
		Text: "In the browser and on computers. This link fills in your homeserver and your name.",
	}
	// FluffyChat logs in after this page.
	FluffyChat = App{
		Name: "FluffyChat", Login: "https://fluffychat.im/",
		Text: "On phones, computers and in the browser. Enter your homeserver, then sign in.",
	}
	// NeoChat registers with a token that is typed into it, at servers whose flow is the
	// token alone, and logs in at others.
	NeoChat = App{
		Name: "NeoChat", Login: "https://apps.kde.org/neochat/", Native: true,
		Text: "On computers with Linux or Windows. Sign in with your full user ID.",
	}
	// ElementX is Element on phones. It registers and logs in at servers that offer OAuth,
	// and its link fills in the server and the name.
	ElementX = App{
		Name: "Element X", Login: "https://mobile.element.io/element?account_provider={server}&login_hint=mxid:{user}", OAuth: true,
		Text: "On phones. This link fills in your homeserver and your name.",
	}
)

// check reports a link that cannot be one.
func (a App) check() error {
	if a.Name == "" {
		return errors.New("it has no Name")
	}
	for _, link := range []string{a.Login, a.Register} {
		if link == "" && link != a.Login {
			continue
		}
		u, err := url.Parse(strings.NewReplacer("{", "", "}", "").Replace(link))
		if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
			return errors.New("its links must be absolute and begin with https:// or http://")
		}
	}
	return nil
}

// login returns the link for this account.
func (a App) login(server, homeserver, user string) string {
	localpart, _, _ := strings.Cut(strings.TrimPrefix(user, "@"), ":")
	return strings.NewReplacer(
		"{server}", url.PathEscape(server), "{homeserver}", url.QueryEscape(homeserver),
		"{localpart}", url.QueryEscape(localpart), "{user}", url.QueryEscape(user),
	).Replace(a.Login)
}
