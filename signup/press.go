package signup

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/catalog"
	"github.com/matrix-uia/uia/fallback"
	"github.com/matrix-uia/uia/internal/stageform"
	"github.com/matrix-uia/uia/internal/wire"
	"github.com/matrix-uia/uia/register"
)

// press takes what was typed as far through the flow as it goes.
func (h *Handler) press(w http.ResponseWriter, r *http.Request) {
	req, err := h.Engine.Request(r, uia.Caller{Operation: register.OperationName})
	values, err := stageform.Values(req.Body, err)
	if err != nil {
		h.broken(w, r, err)
		return
	}
	sh := sheet{session: values.Get(sessionField)}
	if sh.kept, err = h.unseal(r.Context(), values.Get(keptField), time.Now()); err != nil {
		h.broken(w, r, err)
		return
	}
	if values.Get(stepField) == "" {
		sh.take(values)
	}
	s, err := h.Engine.Session(r.Context(), sh.session)
	refusal, refused := errors.AsType[*uia.Error](err)
	switch {
	case refused && refusal.Status == http.StatusBadRequest:
		h.again(w, r, req.Client, sh)
		return
	case refused && refusal.Status == http.StatusForbidden: // finished: perhaps by this very form
		s = nil
	case err != nil:
		sh.problem = h.Pages.Explain(r, err)
		h.show(w, r, sh.problem.Status, sh)
		return
	}
	if sh.wrong = h.mistakes(r, sh, s); len(sh.wrong) > 0 {
		h.show(w, r, http.StatusBadRequest, sh)
		return
	}
	lang, _ := h.Pages.Language(r)
	way := way{Handler: h, request: r.WithContext(catalog.NewContext(r.Context(), lang)), client: req.Client, sheet: &sh, step: values.Get(stepField), values: values}
	h.answer(w, r, way.proceed(s), sh, values)
}

// take takes over what was typed into the first form. What the form does not have stays as
// it was kept.
func (sh *sheet) take(values url.Values) {
	sh.Username = register.CanonicalLocalpart(values.Get("username"))
	if sh.Pinned != "" {
		sh.Username = sh.Pinned
	}
	if password := values.Get("password"); password != "" {
		sh.Password = password
	}
	if values.Has("token") {
		sh.Token = strings.TrimSpace(values.Get("token"))
	}
}

// mistakes says what is wrong with the first form as it is, field by field. s is nil for a
// session that is finished.
func (h *Handler) mistakes(r *http.Request, sh sheet, s *uia.Session) map[string]string {
	lang, _ := h.Pages.Language(r)
	wrong := make(map[string]string)
	if sh.Username == "" {
		wrong["username"] = lang.Text("Please choose a name.")
	}
	switch {
	case sh.Password == "":
		wrong["password"] = lang.Text("Please choose a password.")
	case utf8.RuneCountInString(sh.Password) < h.MinPassword:
		wrong["password"] = lang.Text("This password is too short.")
	case len(sh.Password) > register.MaxPassword:
		wrong["password"] = lang.Text("This password is too long.")
	}
	if s != nil && sh.Token == "" && wantsToken(h.choose(s.Flows, nil, false)) {
		wrong["token"] = lang.Text("Please enter your invitation code.")
	}
	return wrong
}

// again shows the first form once more to somebody whose session has expired, with a new
// session and everything that was typed. It does not go on by itself: of six presses each
// would go on in a session of its own.
func (h *Handler) again(w http.ResponseWriter, r *http.Request, client netip.Addr, sh sheet) {
	first, err := h.begin(r, client)
	if err != nil {
		h.broken(w, r, err)
		return
	}
	sh.session = first.Session
	sh.note = "This page had been open for too long. Nothing is lost: please press the button once more."
	h.show(w, r, http.StatusOK, sh)
}

// outcome is where a press of the button has led.
type outcome struct {
	userID string // of the account that was made
	over   bool   // the session is finished, and its answer cannot be told again
	stage  string // the stage whose form is to be shown; "" for the first form
	extra  map[string]json.RawMessage
	err    error // what went wrong; nil if nothing did
}

// answer shows the outcome.
func (h *Handler) answer(w http.ResponseWriter, r *http.Request, o outcome, sh sheet, typed url.Values) {
	switch {
	case o.userID != "":
		h.ready(w, r, o.userID)
		return
	case o.over:
		h.already(w, r)
		return
	case o.err == nil:
		h.ask(w, r, o, sh, typed)
		return
	}
	told := h.Pages.Explain(r, o.err)
	if field := blamed(told, o.stage); field != "" {
		sh.wrong = map[string]string{field: told.Text}
		if told.Detail != "" {
			sh.wrong[field] = told.Text + " (" + told.Detail + ")"
		}
		h.show(w, r, told.Status, sh)
		return
	}
	if o.stage != "" {
		h.ask(w, r, o, sh, typed)
		return
	}
	sh.problem = told
	h.show(w, r, told.Status, sh)
}

// blamed returns the field of the first form that an error is about; "" if it is about
// none. stage is the stage whose form was sent; "" if that was the first form.
func blamed(told fallback.Explanation, stage string) string {
	switch spec.MatrixErrorCode(told.Code) {
	case spec.ErrorUserInUse, spec.ErrorInvalidUsername, spec.ErrorExclusive:
		return "username"
	case "M_WEAK_PASSWORD":
		return "password"
	}
	switch {
	case stage != "":
		return ""
	case told.Code == string(wire.CodeUnauthorized):
		return "token"
	case told.Code == string(spec.ErrorForbidden) && told.Status == http.StatusConflict:
		return "username" // the token is for another one
	}
	return ""
}

// way is the way of one press through the flow.
type way struct {
	*Handler
	request *http.Request
	client  netip.Addr
	sheet   *sheet
	step    string // the stage that values were submitted for
	values  url.Values
	// completed are the stages that are known to be completed.
	completed []string
}

// maxLegs bounds how many requests one press makes. A flow has fewer stages.
const maxLegs = 16

// proceed goes on from the session as it is, nil for one that is finished, until the account is
// made, a form has to be shown or something is wrong.
func (p *way) proceed(s *uia.Session) outcome {
	if s == nil {
		o, next := p.leg("", nil)
		if next != nil { // it was finished a moment ago
			return outcome{err: errNoWay}
		}
		return o
	}
	p.completed = s.Completed
	for range maxLegs {
		before := p.completed
		flow := p.choose(s.Flows, before, p.sheet.Token != "")
		if flow == nil {
			return outcome{err: errNoWay}
		}
		if len(before) == len(flow) {
			o, next := p.leg("", nil)
			if next == nil {
				return o
			}
			continue
		}
		typ := flow[len(before)]
		auth, err := p.auth(s, typ)
		switch {
		case err != nil:
			return outcome{stage: typ, err: err}
		case auth == nil:
			return outcome{stage: typ}
		}
		o, next := p.leg(typ, auth)
		if next == nil {
			return o
		}
		if slices.Equal(next.Completed, before) { // the stage takes another step
			return outcome{stage: typ, extra: next.Extra}
		}
	}
	return outcome{err: errNoWay}
}

// errNoWay says that the page has come to a stage that it cannot ask for.
var errNoWay = uia.NewError(http.StatusForbidden, spec.Forbidden("This server asks for more than this page can show. Please register with an app."))

// auth returns what is submitted for a stage; nil if the user has to be asked first.
func (p *way) auth(s *uia.Session, typ string) (json.RawMessage, error) {
	switch {
	case isToken(typ):
		return json.Marshal(map[string]string{"token": p.sheet.Token})
	case typ == uia.DummyType:
		return json.RawMessage("{}"), nil
	case typ != p.step:
		return nil, nil
	}
	p.step = "" // once
	return stageform.Auth(p.Engine.Stage(typ).(uia.FallbackStage), s, p.values)
}

// leg makes one request: for a stage, or a poll if typ is "". It returns the challenge with
// which to go on; nil if that is the end of the way.
func (p *way) leg(typ string, auth json.RawMessage) (outcome, *uia.Challenge) {
	members := make(map[string]json.RawMessage)
	if auth != nil {
		if err := json.Unmarshal(auth, &members); err != nil {
			return outcome{err: err}, nil
		}
		members["type"], _ = json.Marshal(typ) // strings always encode
	}
	members["session"], _ = json.Marshal(p.sheet.session)
	body, err := json.Marshal(map[string]any{
		"username": p.sheet.Username, "password": p.sheet.Password, "inhibit_login": true, "auth": members,
	})
	if err != nil {
		return outcome{err: err}, nil
	}
	response, err := p.Registration.Register(p.request, p.Engine, p.client, body)
	asked := typ
	if isToken(typ) || typ == uia.DummyType {
		asked = ""
	}
	c, challenged := errors.AsType[*uia.Challenge](err)
	switch {
	case err == nil:
		var made struct {
			UserID string `json:"user_id"`
		}
		err = json.Unmarshal(response, &made)
		return outcome{userID: made.UserID, err: err}, nil
	case !challenged:
		return outcome{stage: asked, err: err}, nil
	}
	p.sheet.session = c.Session
	switch {
	case slices.ContainsFunc(c.Flows, func(f uia.Flow) bool { return slices.Equal(f, c.Completed) }):
		return outcome{over: true}, nil // everything is completed, and this form is not the one that was answered
	case c.ErrCode != "" && len(c.Completed) < len(p.completed): // a stage does not hold any more: the token's
		return outcome{err: c}, nil
	case c.ErrCode != "":
		return outcome{stage: asked, err: c}, nil
	}
	p.completed = c.Completed
	return outcome{}, c
}
