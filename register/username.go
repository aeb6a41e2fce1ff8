package register

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"net/netip"
	"strings"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
)

const grammar = "1 to 255 of the characters a-z, 0-9, and . _ = - / +"

// CanonicalLocalpart returns the localpart that a person means who types this username:
// the keyboard of a phone makes the first letter a capital and adds a space at the end.
// The specification lets a server "map the provided username onto a user_id in a logical
// manner". Only ASCII letters are mapped: what other capitals become depends on the
// language, and is no localpart anyway.
func CanonicalLocalpart(typed string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + ('a' - 'A')
		}
		return r
	}, strings.TrimSpace(typed))
}

// localpart reports whether s consists of the characters of localparts and the further
// characters.
func localpart(s, further string) bool {
	if len(s) > maxUserID {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9',
			c == '.', c == '_', c == '=', c == '-', c == '/', c == '+':
		case len(further) > 0 && (c == further[0] || c == further[1]):
		default:
			return false
		}
	}
	return true
}

// checkGrammar refuses what is no localpart of a user ID (Appendices, "User
// Identifiers"): 1 to 255 bytes with the rest of the ID, of a-z 0-9 . _ = - / +
func (reg *Registration) checkGrammar(username, server string) error {
	if username == "" || !localpart(username, "") {
		return errInvalidName("A username consists of 1 to 255 of the characters a-z, 0-9, and . _ = - / +")
	}
	if len(username)+len(server)+len("@:") > maxUserID {
		return errInvalidName("The username is too long.")
	}
	return nil
}

// checkReserved refuses the names that homeservers keep for others than people.
func (reg *Registration) checkReserved(username string) error {
	switch {
	case reg.AllowReserved:
	case username[0] == '_':
		return errInvalidName("A username cannot begin with _ here.")
	case strings.Trim(username, "0123456789") == "":
		return errInvalidName("A username cannot consist of digits alone here.")
	}
	return nil
}

// UsernameRequest is a name that [Accounts] and [Registration.Username] are asked about.
type UsernameRequest struct {
	// ServerName is the part of the user ID behind the colon; see Account.ServerName.
	ServerName string
	// Localpart is within the grammar of user IDs.
	Localpart string
	// Client is the address of the client (the engine's Config.Client).
	Client netip.Addr
	// Session is the session in which the name is asked for; nil for
	// /register/available. Once it has passed the token stage, Session.Token has the
	// token and its Meta.
	Session *uia.Session
}

// checkPolicy asks the host.
func (reg *Registration) checkPolicy(ctx context.Context, r UsernameRequest) error {
	if reg.Username == nil {
		return nil
	}
	return reg.Username(ctx, r)
}

func errInvalidName(message string) error {
	return refuse(http.StatusBadRequest, spec.ErrorInvalidUsername, message)
}

// checkName refuses a name that this session cannot have. Every name passes here:
// the one that a person has typed, the one that a token is pinned to, and the one
// that is made up.
func (reg *Registration) checkName(ctx context.Context, s *uia.Session, p params, name string) error {
	asked := UsernameRequest{reg.serverName(s), name, s.Client, s}
	if err := reg.checkGrammar(name, asked.ServerName); err != nil {
		return err
	}
	guest := p.GuestToken != "" && reg.GuestAvailable != nil
	if !guest {
		if err := reg.checkReserved(name); err != nil {
			return err
		}
	}
	if err := reg.checkPolicy(ctx, asked); err != nil {
		return err
	}
	if name == p.Username { // the client asks about this name, so its limit applies
		if err := reg.limitAvailable(ctx, s.Client); err != nil {
			return err
		}
	}
	if guest {
		return reg.GuestAvailable(ctx, asked, p.GuestToken)
	}
	return reg.Accounts.Available(ctx, asked)
}

// chooseName returns the name of the account to be made, which the client has typed, to
// which its token is pinned, or which is made up. A typed name has been checked on the
// way here, and Create makes sure that it is unique.
func (reg *Registration) chooseName(ctx context.Context, s *uia.Session, p params) (string, error) {
	if err := wantEmail(s); err != nil {
		return "", err
	}
	name, err := pinned(s, p.Username)
	switch {
	case err != nil:
		return "", err
	case name != "" && name == p.Username:
		server := reg.serverName(s)
		if err := reg.checkGrammar(name, server); err != nil {
			return "", err
		}
		return name, reg.checkPolicy(ctx, UsernameRequest{server, name, s.Client, s})
	case name != "":
		// If an earlier run is in doubt, the name may be taken by the account of this
		// very session. Create decides that.
		if err := reg.checkName(ctx, s, p, name); err != nil && !isInUse(err) {
			return "", err
		}
		return name, nil
	}
	return reg.makeUp(ctx, s, p)
}

func isInUse(err error) bool {
	e, ok := errors.AsType[*uia.Error](err)
	return ok && e.ErrCode == spec.ErrorUserInUse
}

const (
	madeUpLength = 12 // 60 bits
	// maxTries bounds how many names are made up for one account. The second one is
	// needed only if a policy of the host refuses the first.
	maxTries = 16
)

// makeUp returns a name that nobody has asked for.
func (reg *Registration) makeUp(ctx context.Context, s *uia.Session, p params) (name string, err error) {
	for range maxTries {
		if reg.MakeUp == nil {
			name = strings.ToLower(rand.Text()[:madeUpLength])
		} else if name, err = reg.MakeUp(ctx); err != nil {
			return "", err
		}
		if err = reg.checkName(ctx, s, p, name); err == nil {
			return name, nil
		}
		if refusal, ok := errors.AsType[*uia.Error](err); !ok || refusal.Status >= http.StatusInternalServerError {
			return "", err
		}
	}
	return "", err
}
