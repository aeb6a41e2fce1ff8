package stages

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/catalog"
	"github.com/matrix-uia/uia/form"
	"github.com/matrix-uia/uia/internal/mistake"
	"github.com/matrix-uia/uia/internal/wire"
	"github.com/matrix-uia/uia/register"
)

// EmailType is the auth type of [EmailStage].
const EmailType = "m.login.email.identity"

// EmailStage is m.login.email.identity, with the homeserver itself in the place of
// the identity server: it passes once the user has opened the link in a mail.
// Clients ask for the mail at [EmailStage.RequestToken], the link leads to
// [EmailStage.Confirm], and until it was opened an attempt is neither passed nor
// failed, because clients ask every few seconds. Its result is an [EmailResult].
//
// With After, a stranger cannot cause mails to be sent, and a request for one writes
// nothing. Clients ask for the mail as soon as they see the flows, without naming their
// session, and get the sid with which they go on. The mail is sent when a session that
// has passed the stage named by After attempts this stage with that sid.
//
// A session whose registration token is pinned to an address ([register.Pin]) gets 409
// M_FORBIDDEN for any other one. No mail is sent to it, and nothing is charged.
//
// An address may be confirmed once and used for several sessions: whether two
// accounts can have it is up to the operation.
type EmailStage struct {
	// Mailer sends the mails. Required.
	Mailer Mailer
	// Store keeps what has been sent and confirmed. Required.
	Store EmailStore
	// Secrets make links that nobody can guess: those of uia.Config, for example.
	// Required. A link works for TTL, and at most for as long as the secret that made it
	// is among the Secrets.
	Secrets uia.Secrets
	// ConfirmURL is the public URL at which Confirm is mounted. Required.
	ConfirmURL string
	// Allow says whether the address may be used, with an *uia.Error if not: 400
	// M_THREEPID_IN_USE for one that has an account already, 403 M_THREEPID_DENIED. It is
	// asked before a mail is sent and when the stage is attempted; the session is nil if
	// it is not known. Nil allows every address where the session has no Subject, and
	// none where it has one: only the host knows whose address it is.
	Allow func(ctx context.Context, s *uia.Session, address string) error
	// After is the auth type of a stage that the session must have passed before
	// a mail is sent, such as uia.TokenType. It has to come before this stage in
	// every flow. Empty means that mails are sent to anybody who asks.
	After string
	// Limiter bounds how many mails a client can have sent, and how many can be sent
	// to one address: it is charged for the client, and once more for the address,
	// which it knows as an IPv6 address made of its digest (fd00::/8). It must not be
	// the engine's, whose charge is pending while a stage is attempted, and should
	// have a smaller budget: a burst of 5, and one more every ten minutes. Required,
	// unless NoLimit is set.
	Limiter uia.Limiter
	// NoLimit says that mails are limited elsewhere: by the Mailer, or in front of the
	// homeserver. Without any limit a stranger can flood somebody's mailbox.
	NoLimit bool
	// Catalog has the texts of the mails. Nil means catalog.Default.
	Catalog *catalog.Catalog
	// TTL is how long a link works, and a confirmation after it. Zero means 1 hour.
	TTL time.Duration
}

// Mailer sends mail.
type Mailer interface {
	// SendConfirmation sends the link to the address, with a text that says what it
	// is for, and returns when the mail is on its way.
	SendConfirmation(ctx context.Context, m Confirmation) error
}

// Confirmation is a mail to be sent.
type Confirmation struct {
	Address string
	Link    string
	// Language is that of the user (BCP 47), as the browser or the app has said. Subject
	// and Text are a mail in it, with the Link: a Mailer may send another one.
	Language      string
	Subject, Text string
}

// EmailResult is what a passed EmailStage leaves in the session.
type EmailResult struct {
	Medium  string `json:"medium"` // "email"
	Address string `json:"address"`
}

// EmailOf returns what the session's e-mail stage left, and false if it is not completed.
func EmailOf(s *uia.Session) (EmailResult, bool) { return resultOf[EmailResult](s, EmailType) }

var (
	_ uia.FallbackStage   = (*EmailStage)(nil)
	_ uia.ConfiguredStage = (*EmailStage)(nil)
)

// Type returns EmailType.
func (*EmailStage) Type() string { return EmailType }

// emailCreds are what a client knows of a mail that was sent for it.
type emailCreds struct {
	SID    string `json:"sid"`
	Secret string `json:"client_secret"`
}

// Configured reports what is required and missing.
func (m *EmailStage) Configured() error {
	_, err := url.Parse(m.ConfirmURL)
	return errors.Join(err,
		mistake.Required("Mailer", m.Mailer != nil),
		mistake.Required("Store", m.Store != nil),
		m.checkSecrets(),
		mistake.Required("ConfirmURL", m.ConfirmURL != ""),
		mistake.Required("Limiter, or NoLimit,", m.Limiter != nil || m.NoLimit))
}

// Attempt passes if the address of the credentials is confirmed. In place of
// credentials it takes the member "address", which the fallback page sends, and
// sends a mail to it.
func (m *EmailStage) Attempt(ctx context.Context, s *uia.Session, auth json.RawMessage) (json.RawMessage, error) {
	var address string
	if ok, err := uia.Field(auth, "address", &address); err != nil {
		return nil, err
	} else if ok {
		creds := emailCreds{Secret: rand.Text()}
		if creds.SID, err = m.request(ctx, s, mailRequest{address: address, secret: creds.Secret, client: s.Client}); err != nil {
			return nil, err
		}
		return nil, creds.again()
	}
	creds, err := readCreds(auth)
	if err != nil {
		return nil, err
	}
	keys, err := m.keys(ctx, s.Now)
	if err != nil {
		return nil, err
	}
	address, ok := keys.issued(creds)
	if !ok {
		return nil, uia.NewError(http.StatusUnauthorized, spec.MatrixError{ErrCode: wire.CodeUnauthorized, Err: "No mail was sent for these credentials."})
	}
	if err := register.AdmitEmail(s, address); err != nil {
		return nil, err
	}
	state, err := m.Store.Load(ctx, creds.SID, s.Now)
	switch {
	case err != nil:
		return nil, err
	case state.Address == "" && state.Next == 0 && m.After != "": // it was asked for, and put off
		if _, err := m.request(ctx, s, mailRequest{address: address, secret: creds.Secret, sid: creds.SID, client: s.Client}); err != nil {
			return nil, err
		}
		return nil, creds.again()
	case state.Address == "":
		return nil, creds.again()
	}
	if err := m.allow(ctx, s, state.Address); err != nil {
		return nil, err
	}
	return json.Marshal(EmailResult{Medium: "email", Address: state.Address})
}

// readCreds reads the member threepid_creds.
func readCreds(auth json.RawMessage) (creds emailCreds, err error) {
	var object json.RawMessage
	if ok, err := uia.Field(auth, "threepid_creds", &object); err != nil {
		return creds, err
	} else if !ok {
		return creds, missing("threepid_creds")
	}
	for name, into := range map[string]*string{"sid": &creds.SID, "client_secret": &creds.Secret} {
		if ok, err := uia.Field(object, name, into); err != nil {
			return creds, err
		} else if !ok {
			return creds, missing("threepid_creds." + name)
		}
	}
	return creds, nil
}

// again asks for another request with the same credentials.
func (c emailCreds) again() error {
	creds, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return &uia.Continue{Extra: map[string]json.RawMessage{"threepid_creds": creds}}
}

func (m *EmailStage) allow(ctx context.Context, s *uia.Session, address string) error {
	switch {
	case m.Allow != nil:
		return m.Allow(ctx, s, address)
	case s != nil && s.Subject != "":
		return uia.NewError(http.StatusForbidden, spec.Forbidden("This address cannot be used here."))
	}
	return nil
}

func (m *EmailStage) ttl() time.Duration {
	if m.TTL <= 0 {
		return time.Hour
	}
	return m.TTL
}

// maxAddress is how long an address can be, in bytes: a sid has at most 255
// characters (Client-Server API), and carries the address.
const maxAddress = 255*3/4 - sidMAC

var clientSecret = regexp.MustCompile(`^[0-9a-zA-Z.=_-]{1,255}$`)

// canonicalAddress returns an address as it is compared, unless no sid could carry it.
func canonicalAddress(typed string) (string, error) {
	address, ok := register.CanonicalAddress(typed)
	if !ok || len(address) > maxAddress {
		return "", uia.NewError(http.StatusBadRequest, spec.InvalidParam("This is not an e-mail address."))
	}
	return address, nil
}

// Form asks for the address and, after the mail was sent, for a click that says that the
// user has opened the link.
func (m *EmailStage) Form(_ context.Context, s *uia.Session, state form.State) (*form.Form, error) {
	var creds emailCreds
	if raw := state.Extra["threepid_creds"]; raw != nil && json.Unmarshal(raw, &creds) == nil {
		return &form.Form{
			Heading: "Open the link in the mail",
			Text:    "We have sent you a mail. Open the link in it, on any device, then go on here. You will see this page again until the link has been opened.",
			Fields:  []form.Field{{Name: "sid", Type: "hidden", Value: creds.SID}, {Name: "secret", Type: "hidden", Value: creds.Secret}},
			Submit:  "I have opened it",
		}, nil
	}
	address := form.Field{Name: "address", Label: "E-mail address", Type: "email", Autocomplete: "email"}
	if token, ok := s.Token(); ok {
		if pin, err := register.ReadPin(token.Meta); err == nil && pin.Email != "" {
			address.Value, address.ReadOnly, address.Hint = pin.Email, true, "Your invitation is for this address."
		}
	}
	return &form.Form{
		Heading: "Confirm your e-mail address",
		Text:    "You will be sent a mail with a link.",
		Fields:  []form.Field{address},
		Submit:  "Send the mail",
	}, nil
}

// FormAuth takes the address, or the credentials that the form has kept.
func (m *EmailStage) FormAuth(_ *uia.Session, values url.Values) (json.RawMessage, error) {
	if values.Has("sid") {
		return object(map[string]any{"threepid_creds": emailCreds{values.Get("sid"), values.Get("secret")}})
	}
	address := strings.TrimSpace(values.Get("address"))
	if address == "" {
		return nil, enter("Please enter your e-mail address.")
	}
	return object(map[string]any{"address": address})
}
