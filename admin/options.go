package admin

import (
	"context"
	"encoding/json"
	"log/slog"
	"time"

	"github.com/matrix-uia/uia"
)

// Options are the options of [Handler]. The zero value is good.
type Options struct {
	// Path is where the handler is mounted, as it sees it, such as "/admin/tokens".
	// Empty means any path with an element registration_tokens in it, such as Path.
	Path string
	// CheckMeta returns what is wrong with the meta of a token, for the administrator who
	// makes it. A homeserver that registers with package register sets
	// Registration.CheckMeta, which knows the homeserver's rules for usernames. Nil means
	// that a pin has to be readable ([register.ReadPin]).
	CheckMeta func(meta json.RawMessage) error
	// InviteURL is a link that an operator can hand to somebody, with {token} where
	// the token belongs: "https://chat.example.org/#/register?token={token}". Every
	// record then has an invite_url. Empty means none.
	InviteURL string
	// QR draws a text as a QR code and returns it as a PNG, for GET {token}/qr. With
	// rsc.io/qr:
	//
	//	func(text string) ([]byte, error) {
	//		code, err := qr.Encode(text, qr.M)
	//		if err != nil {
	//			return nil, err
	//		}
	//		return code.PNG(), nil
	//	}
	//
	// Nil, or no InviteURL, answers 404.
	QR func(text string) (png []byte, err error)
	// Words is the list that the style "words" draws from, such as one of those that
	// github.com/sethvargo/go-diceware carries, or one in the language of the users. A
	// token gets as many of its words as it takes to have 60 bits. Words that have
	// other characters than a token may, or a hyphen, are left out; at least 1024
	// must remain. Nil answers 400 to that style.
	Words []string
	// Secrets seal next_token, so that it cannot be changed and a token's value does not
	// show in it: those of uia.Config, for example. Nil makes one up; then the pages of a
	// list must all be read from the same process.
	Secrets uia.Secrets
	// Observer is called with the events of tokens that are created, changed, revoked and
	// deleted. Nil for none.
	Observer func(context.Context, uia.Event)
	// Logger gets what goes wrong. Nil discards it. It never sees a token.
	Logger *slog.Logger
	// Now tells the time. Nil means time.Now.
	Now func() time.Time
}
