package stages

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/catalog"
	"github.com/matrix-uia/uia/fallback"
	"github.com/matrix-uia/uia/form"
	"github.com/matrix-uia/uia/internal/mistake"
	"github.com/matrix-uia/uia/internal/wire"
	"github.com/matrix-uia/uia/register"
)

// mailRequest is what somebody wants a mail for.
type mailRequest struct {
	address string // as it was typed
	secret  string // the client's
	sid     string // the session ID that the client has already; "" if it has none
	attempt int64  // the send_attempt: a mail is sent for each higher one
	client  netip.Addr
}

// maxSendAttempt is the greatest integer of the Client-Server API.
const maxSendAttempt = 1<<53 - 1

// request sends the mail, unless it was sent or has to wait until the session has
// passed After, and returns the session ID that the client then uses. s is nil if the
// session is not known.
func (m *EmailStage) request(ctx context.Context, s *uia.Session, r mailRequest) (string, error) {
	address, err := canonicalAddress(r.address)
	if err != nil {
		return "", err
	}
	if !clientSecret.MatchString(r.secret) {
		return "", uia.NewError(http.StatusBadRequest, spec.InvalidParam("The client_secret has characters that it cannot have, or too many."))
	}
	now := time.Now()
	if s != nil {
		now = s.Now
	}
	keys, err := m.keys(ctx, now)
	if err != nil {
		return "", err
	}
	if err := register.AdmitEmail(s, address); err != nil {
		return "", err
	}
	settle, err := m.charge(ctx, r.client, keys.mailbox(address))
	if err != nil {
		return "", err
	}
	defer settle(false)
	if err := m.allow(ctx, s, address); err != nil {
		settle(true) // the answer reveals whether the address has an account
		return "", err
	}
	sid := cmp.Or(r.sid, keys.sid(address, r.secret))
	state, err := m.Store.Load(ctx, sid, now)
	if err != nil {
		return "", err
	}
	passed := m.After == "" || s != nil && s.Has(m.After) || state.Next > 0 // the session had passed it when the first mail was sent
	if !passed || r.attempt < state.Next {
		return sid, nil
	}
	until := now.Add(m.ttl())
	// If the mail cannot be recorded it is not sent: otherwise it would be sent again
	// with every request.
	if err := m.Store.Save(ctx, sid, EmailState{Next: state.Next}, until); err != nil {
		return "", err
	}
	settle(true) // a mail counts whether or not its link is opened
	if err := m.Mailer.SendConfirmation(ctx, m.mail(ctx, address, m.link(ctx, keys, sid, address, until))); err != nil {
		return "", err
	}
	return sid, m.Store.Save(ctx, sid, EmailState{Next: r.attempt + 1}, until)
}

// charge takes a mail from the budgets of the client and of the address. settle tells
// both budgets whether the mail was sent.
func (m *EmailStage) charge(ctx context.Context, client, mailbox netip.Addr) (settle func(sent bool), err error) {
	if m.Limiter == nil {
		return func(bool) {}, nil
	}
	settleClient, err := m.Limiter.Charge(ctx, client)
	if err != nil {
		return nil, err
	}
	settleAddress, err := m.Limiter.Charge(ctx, mailbox)
	if err != nil {
		settleClient(false)
		return nil, err
	}
	return func(sent bool) {
		settleClient(sent)
		settleAddress(sent)
	}, nil
}

// mail returns the mail in the language of the user.
func (m *EmailStage) mail(ctx context.Context, address, link string) Confirmation {
	lang := catalog.FromContext(ctx)
	return Confirmation{
		Address: address, Link: link, Language: lang.Tag(),
		Subject: lang.Text("Confirm your e-mail address"),
		Text: lang.Text("Somebody, probably you, has entered this e-mail address to get an account on a Matrix server.") + "\n\n" +
			lang.Text("To confirm it, open this link:") + "\n\n" + link + "\n\n" +
			lang.Text("If it was not you, you need do nothing: without the link nothing happens."),
	}
}

// inLanguage returns the context of a request with the language of its user.
func (m *EmailStage) inLanguage(r *http.Request) context.Context {
	texts := m.Catalog
	if texts == nil {
		texts = catalog.Default()
	}
	lang, _ := texts.Choose("", r.Header.Get("Accept-Language"))
	return catalog.NewContext(r.Context(), lang)
}

// link returns a link that contains the address that it confirms, and the time until
// which it works.
func (m *EmailStage) link(ctx context.Context, keys emailKeys, sid, address string, until time.Time) string {
	ends := strconv.FormatInt(until.Unix(), 10)
	return m.ConfirmURL + "?" + url.Values{
		"sid": {sid}, "address": {address}, "until": {ends},
		"token": {keys.token(sid, address, ends)},
		"lang":  {catalog.FromContext(ctx).Tag()}, // the page speaks the language of the mail
	}.Encode()
}

// RequestToken answers POST /register/email/requestToken, and the same below
// /account/password: it sends the mail, or puts it off (see EmailStage.After). A client
// that asks again with the same send_attempt gets the same answer and no further mail.
// The session may be named by the further member "session", or by session_id in the query
// of next_link, where Element Web has it. A next_link is not followed, because it could
// lead to any site. The engine has to have this stage.
func (m *EmailStage) RequestToken(e *uia.Engine) (http.Handler, error) {
	if e == nil {
		return nil, errors.New("stages: RequestToken: the engine is nil")
	}
	if e.Stage(m.Type()) != uia.Stage(m) {
		return nil, fmt.Errorf("stages: RequestToken: the stage %q of the engine is another one: put this one into uia.Config.Stages", m.Type())
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			wire.MethodNotAllowed(w, r, "POST")
			return
		}
		sid, err := m.requestToken(e, r)
		if err != nil {
			e.WriteError(w, r, fmt.Errorf("stage %q: %w", m.Type(), err))
			return
		}
		e.WriteJSON(w, r, http.StatusOK, map[string]string{"sid": sid})
	}), nil
}

func (m *EmailStage) requestToken(e *uia.Engine, r *http.Request) (string, error) {
	req, err := e.Request(r, uia.Caller{})
	if err != nil {
		return "", err
	}
	want := mailRequest{client: req.Client}
	for _, member := range []struct {
		name string
		into any
	}{{"client_secret", &want.secret}, {"email", &want.address}, {"send_attempt", &want.attempt}} {
		if ok, err := uia.Field(req.Body, member.name, member.into); err != nil {
			return "", err
		} else if !ok {
			return "", uia.NewError(http.StatusBadRequest, spec.MissingParam("The member "+member.name+" is missing."))
		}
	}
	if want.attempt < 0 || want.attempt > maxSendAttempt {
		return "", uia.NewError(http.StatusBadRequest, spec.InvalidParam("send_attempt is negative, or too large."))
	}
	s, err := namedSession(e, r.Context(), req.Body)
	if err != nil {
		return "", err
	}
	return m.request(m.inLanguage(r), s, want)
}

// namedSession returns the session that the body of a requestToken names, nil if it names
// none. A next_link may come from any other server: a session_id in it that is no session
// of this engine is ignored.
func namedSession(e *uia.Engine, ctx context.Context, body []byte) (*uia.Session, error) {
	var id, link string
	if ok, err := uia.Field(body, "session", &id); err != nil {
		return nil, err
	} else if ok {
		return e.Session(ctx, id)
	}
	if ok, err := uia.Field(body, "next_link", &link); err != nil || !ok {
		return nil, err
	}
	next, err := url.Parse(link)
	if err != nil || next.Query().Get("session_id") == "" {
		return nil, nil
	}
	s, err := e.Session(ctx, next.Query().Get("session_id"))
	if refusal, ok := errors.AsType[*uia.Error](err); ok && refusal.Status < http.StatusInternalServerError {
		return nil, nil
	}
	return s, err
}

// Confirm is what the link in a mail leads to. It asks for a click, because programs that
// scan mail open links too. The click confirms the address. The page has the look of the
// fallback page.
func (m *EmailStage) Confirm(pages *fallback.Handler) (http.Handler, error) {
	if pages == nil {
		return nil, errors.New("stages: Confirm: the pages are nil")
	}
	if err := m.Configured(); err != nil {
		return nil, mistake.In("stages: Confirm: ", err)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		page := fallback.Page{Heading: "Confirm your e-mail address"}
		status := http.StatusOK
		sid, address, until, err := m.opened(r)
		switch {
		case err != nil && err != errLink:
			pages.Error(w, r, err, page)
			return
		case err != nil:
			status = http.StatusBadRequest
			lang, _ := pages.Language(r)
			page.Error = lang.Text("This link does not work any more. Please go back to your app and ask for another mail.")
		case r.Method == http.MethodPost:
			if err := m.Store.Save(r.Context(), sid, EmailState{Address: address}, until.Add(m.ttl())); err != nil {
				pages.Error(w, r, err, page)
				return
			}
			page.Heading, page.Text = "Confirmed", "You can close this window and go back to where you came from."
		case r.Method == http.MethodGet || r.Method == http.MethodHead:
			lang, _ := pages.Language(r)
			page.Text = lang.Text("Somebody has given the address {address} to this server. If it was not you, close this page.", "address", address)
			page.Form = &form.Form{Submit: "Yes, it is mine"}
		default:
			wire.MethodNotAllowed(w, r, "GET, HEAD, POST")
			return
		}
		pages.Page(w, r, status, page)
	}), nil
}

// errLink says that a link was not made by this stage, or has expired.
var errLink = errors.New("stages: no link that works")

// opened reads a link that was made by this stage and has not expired.
func (m *EmailStage) opened(r *http.Request) (sid, address string, until time.Time, err error) {
	now := time.Now()
	keys, err := m.keys(r.Context(), now)
	if err != nil {
		return "", "", until, err
	}
	q := r.URL.Query()
	sid, address = q.Get("sid"), q.Get("address")
	seconds, err := strconv.ParseInt(q.Get("until"), 10, 64)
	until = time.Unix(seconds, 0)
	if err != nil || !keys.opens(q.Get("token"), sid, address, q.Get("until")) || !now.Before(until) {
		return "", "", until, errLink
	}
	return sid, address, until, nil
}
