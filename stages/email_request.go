package stages

import (
	"context"
	"crypto/hmac"
	"encoding/base64"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
)

// mailRequest is what somebody wants a mail for.
type mailRequest struct {
	address string // as it was typed
	secret  string // the client's
	attempt int64  // a mail is sent for each higher one
	client  netip.Addr
}

// send sends the mail unless it was sent, and returns the session ID that the
// client then uses.
func (m *EmailStage) send(ctx context.Context, s *uia.Session, r mailRequest) (string, error) {
	if m.After != "" && (s == nil || !s.Has(m.After)) {
		return "", uia.NewError(http.StatusForbidden, spec.Forbidden("Another step has to be completed before a mail is sent."))
	}
	address, err := canonicalAddress(r.address)
	if err != nil {
		return "", err
	}
	if !clientSecret.MatchString(r.secret) {
		return "", uia.NewError(http.StatusBadRequest, spec.InvalidParam("The client_secret has characters that it cannot have, or too many."))
	}
	if err := m.allow(ctx, s, address); err != nil {
		return "", err
	}
	now := time.Now()
	if s != nil {
		now = s.Now
	}
	sid := m.sid(address, r.secret)
	state, err := m.Store.Load(ctx, sid, now)
	if err != nil {
		return "", err
	}
	if r.attempt <= state.Attempt {
		return sid, nil
	}
	if m.Limiter != nil {
		settle, err := m.Limiter.Charge(ctx, r.client)
		if err != nil {
			return "", err
		}
		defer settle(true) // a mail counts whether or not its link is opened
	}
	until := now.Add(m.ttl())
	if err := m.Mailer.SendConfirmation(ctx, Confirmation{Address: address, Link: m.link(sid, address, until)}); err != nil {
		return "", err
	}
	return sid, m.Store.Save(ctx, sid, EmailState{Attempt: r.attempt}, until)
}

// link returns a link that says of itself what it confirms, and until when.
func (m *EmailStage) link(sid, address string, until time.Time) string {
	ends := strconv.FormatInt(until.Unix(), 10)
	return m.ConfirmURL + "?" + url.Values{
		"sid": {sid}, "address": {address}, "until": {ends},
		"token": {base64.RawURLEncoding.EncodeToString(m.mac("link", sid, address, ends))},
	}.Encode()
}

// RequestToken answers POST /register/email/requestToken, and the same below
// /account/password: it sends the mail. A client that asks again with the same
// send_attempt gets the same answer and no further mail. The host decides with
// After whether the body must name a session that is far enough; otherwise the
// answer is 403. A next_link is not followed: it would lead anywhere.
func (m *EmailStage) RequestToken(e *uia.Engine) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			uia.MethodNotAllowed(w, r, "POST")
			return
		}
		sid, err := m.requestToken(e, r)
		if err != nil {
			e.WriteError(w, r, err)
			return
		}
		uia.WriteJSON(w, http.StatusOK, map[string]string{"sid": sid})
	})
}

func (m *EmailStage) requestToken(e *uia.Engine, r *http.Request) (string, error) {
	req, err := e.Request(r, uia.Caller{})
	if err != nil {
		return "", err
	}
	want := mailRequest{client: req.Client}
	for name, into := range map[string]any{"email": &want.address, "client_secret": &want.secret, "send_attempt": &want.attempt} {
		if ok, err := uia.Field(req.Body, name, into); err != nil {
			return "", err
		} else if !ok {
			return "", uia.NewError(http.StatusBadRequest, spec.MissingParam("The member "+name+" is missing."))
		}
	}
	if want.attempt < 1 {
		return "", uia.NewError(http.StatusBadRequest, spec.InvalidParam("send_attempt begins with 1."))
	}
	var id string
	var s *uia.Session
	if ok, err := uia.Field(req.Body, "session", &id); err != nil {
		return "", err
	} else if ok {
		if s, err = e.Session(r.Context(), id); err != nil {
			return "", err
		}
	}
	return m.send(r.Context(), s, want)
}

// Confirm is what the link in a mail leads to. It asks for a click, since programs
// that look after people's mail open links too, and then the address is confirmed.
// The page has the look of the fallback page.
func (m *EmailStage) Confirm(pages *uia.Fallback) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		page := uia.FallbackPage{Heading: "Confirm your e-mail address"}
		status := http.StatusOK
		sid, address, until, ok := m.opened(r)
		switch {
		case !ok:
			status = http.StatusBadRequest
			page.Error = "This link does not work any more. Please go back to your app and ask for another mail."
		case r.Method == http.MethodPost:
			if err := m.Store.Save(r.Context(), sid, EmailState{Address: address}, until.Add(m.ttl())); err != nil {
				pages.Error(w, r, err, page)
				return
			}
			page.Heading, page.Text = "Confirmed", "You can close this window and go back to where you came from."
		case r.Method == http.MethodGet || r.Method == http.MethodHead:
			page.Text = "Somebody has given the address " + address + " to this server. If it was not you, close this page."
			page.Form = &uia.Form{Submit: "Yes, it is mine"}
		default:
			uia.MethodNotAllowed(w, r, "GET, HEAD, POST")
			return
		}
		pages.Page(w, r, status, page)
	})
}

// opened reads a link of ours that has not expired.
func (m *EmailStage) opened(r *http.Request) (sid, address string, until time.Time, ok bool) {
	q := r.URL.Query()
	token, err := base64.RawURLEncoding.DecodeString(q.Get("token"))
	sid, address = q.Get("sid"), q.Get("address")
	seconds, parseErr := strconv.ParseInt(q.Get("until"), 10, 64)
	until = time.Unix(seconds, 0)
	ok = err == nil && parseErr == nil && hmac.Equal(token, m.mac("link", sid, address, q.Get("until"))) && time.Now().Before(until)
	return sid, address, until, ok
}
