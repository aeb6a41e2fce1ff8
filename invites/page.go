package invites

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/catalog"
	"github.com/matrix-uia/uia/fallback"
	"github.com/matrix-uia/uia/form"
	"github.com/matrix-uia/uia/internal/api"
	"github.com/matrix-uia/uia/internal/wire"
)

// PagePath is where the page is expected.
const PagePath = "/_uia/invites"

const (
	// maxPosted is how long a form can be, in bytes.
	maxPosted = 16 << 10
	// maxShown is how many invitations the page shows: the newest.
	maxShown = 100
	// proofLife is how long a page can be left open.
	proofLife = 12 * time.Hour
)

// proof shows that a form came from a page that this member has got. It is sealed for
// them.
type proof struct {
	Value string // of the invitation that the form makes: sent again, it makes no other
	Until int64  // milliseconds since 1970
}

// Page returns a page on which a member makes, sees and revokes invitations, in the look,
// the languages and with the security headers of pages. It works without script.
//
// authenticate is as in [New], but for browsers, which send no access token with a form: it may
// trust a session cookie or HTTP Basic authentication. A form from a page of another origin is
// refused, and so is one without the proof that the page has put into it, which is good for
// this member alone, for 12 hours.
//
// The error says that pages or authenticate is nil.
func (i *Invites) Page(pages *fallback.Handler, authenticate func(*http.Request) (userID string, err error)) (http.Handler, error) {
	if pages == nil || authenticate == nil {
		return nil, errors.New("invites: the page needs pages and authenticate")
	}
	return &page{Invites: i, pages: pages, member: authenticate}, nil
}

type page struct {
	*Invites
	pages  *fallback.Handler
	member func(*http.Request) (string, error)
}

// blank is what all pages of this handler begin with.
func blank() fallback.Page {
	return fallback.Page{
		Heading: "Invite others", Text: "Whoever opens the link of an invitation can make an account here. Give it only to people whom you trust.",
	}
}

func (p *page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead && r.Method != http.MethodPost {
		wire.MethodNotAllowed(w, r, "GET, HEAD, POST")
		return
	}
	user, err := p.member(r)
	if err == nil && user == "" {
		err = errUser
	}
	if err != nil {
		p.pages.Error(w, r, err, blank())
		return
	}
	if r.Method != http.MethodPost {
		p.show(w, r, user, nil)
		return
	}
	if err := p.post(w, r, user); err != nil {
		p.show(w, r, user, err)
		return
	}
	// The page that follows can be reloaded without sending the form again.
	target := url.URL{Path: r.URL.Path}
	if lang := r.URL.Query().Get("lang"); lang != "" {
		target.RawQuery = url.Values{"lang": {lang}}.Encode()
	}
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, target.String(), http.StatusSeeOther)
}

// post does what a form asks for.
func (p *page) post(w http.ResponseWriter, r *http.Request, user string) error {
	if err := api.SameOrigin(r); err != nil {
		return err
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxPosted)
	if err := r.ParseForm(); err != nil {
		return uia.NewError(http.StatusBadRequest, spec.BadJSON("The form could not be read."))
	}
	now := p.now()
	var shown proof
	err := p.Invites.pages.Open(r.Context(), now, proofName(user), r.PostForm.Get("proof"), &shown)
	if err != nil || now.UnixMilli() >= shown.Until {
		return uia.NewError(http.StatusForbidden, spec.Forbidden("This page has expired. Please try again."))
	}
	if token := r.PostForm.Get("revoke"); token != "" {
		return p.revoke(r.Context(), user, token, now)
	}
	d, err := formDraft(r.PostForm)
	if err != nil {
		return err
	}
	d.value = shown.Value
	_, err = p.make(r.Context(), user, d, now)
	if errors.Is(err, uia.ErrExists) || errors.Is(err, uia.ErrQuota) {
		// The button may have been pressed twice.
		if _, missing := p.find(r.Context(), user, d.value, now); missing == nil {
			return nil
		}
	}
	return err
}

func proofName(user string) string { return "forms of " + user }

// formDraft reads the fields of the form.
func formDraft(values url.Values) (draft, error) {
	d := draft{uses: 1, label: strings.TrimSpace(values.Get("label"))}
	if err := api.CheckLabel(d.label); err != nil {
		return d, err
	}
	if uses := strings.TrimSpace(values.Get("uses")); uses != "" {
		n, err := strconv.ParseInt(uses, 10, 64)
		if err != nil || n < 1 {
			return d, api.Invalid("uses_allowed must be a positive integer")
		}
		d.uses = n
	}
	return d, nil
}

// show shows the member's invitations, the form that makes one, and what went wrong.
func (p *page) show(w http.ResponseWriter, r *http.Request, user string, failed error) {
	out, err := p.pageOf(r, user)
	switch {
	case err != nil:
		p.pages.Error(w, r, err, blank())
	case failed != nil:
		p.pages.Error(w, r, failed, out)
	default:
		p.pages.Page(w, r, http.StatusOK, out)
	}
}

func (p *page) pageOf(r *http.Request, user string) (out fallback.Page, err error) {
	ctx, now := r.Context(), p.now()
	quota, err := p.quotaOf(ctx, user)
	if err != nil {
		return out, err
	}
	sealed, err := p.Invites.pages.Seal(ctx, now, proofName(user), proof{Value: uia.GenerateToken(0), Until: now.Add(proofLife).UnixMilli()})
	if err != nil {
		return out, err
	}
	out = blank()
	out.Multilingual = true
	hidden := form.Field{Name: "proof", Type: "hidden", Value: sealed}
	if quota.Live > 0 {
		out.Form = &form.Form{
			Fields: []form.Field{
				hidden,
				{Name: "label", Label: "For whom", Hint: "A note for yourself. Only you and the administrators see it.", Optional: true, MaxLength: 100},
			},
			Submit: "Make an invitation",
		}
		if quota.Uses > 1 {
			out.Form.Fields = append(out.Form.Fields, form.Field{Name: "uses", Label: "How many people it is for", Value: "1", MaxLength: 10})
		}
	} else {
		out.Note = "You may not invite others on this homeserver."
	}
	out.Facts, err = p.facts(ctx, r, user, hidden, now)
	return out, err
}

// facts are the member's invitations, each with a button that revokes it.
func (p *page) facts(ctx context.Context, r *http.Request, user string, hidden form.Field, now time.Time) (out []fallback.Fact, err error) {
	list, err := p.store.ListCreated(ctx, uia.CreatedQuery{CreatedBy: user, Limit: maxShown}, now)
	if err != nil {
		return nil, err
	}
	lang, _ := p.pages.Language(r)
	for _, t := range list.Tokens {
		fact := fallback.Fact{Label: describe(lang, t, now), Value: p.url(t.Value)}
		if fact.Value == "" {
			fact.Value = t.Value
		}
		if t.Live(now) {
			fact.Button = &fallback.Button{Text: lang.Text("Revoke"), Fields: []form.Field{hidden, {Name: "revoke", Value: t.Value}}}
		}
		out = append(out, fact)
	}
	return out, nil
}

// describe says in a few words what became of an invitation.
func describe(lang *catalog.Language, t uia.Token, now time.Time) string {
	parts := make([]string, 0, 3)
	if t.Label != "" {
		parts = append(parts, t.Label)
	}
	uses := "∞"
	if t.UsesAllowed != nil {
		uses = strconv.FormatInt(*t.UsesAllowed, 10)
	}
	parts = append(parts, lang.Text("used: {completed} of {uses}", "completed", strconv.FormatInt(t.Completed, 10), "uses", uses))
	switch api.InvalidReason(t.Usable(now)) {
	case "revoked":
		parts = append(parts, lang.Text("revoked"))
	case "expired":
		parts = append(parts, lang.Text("expired"))
	default:
		if !t.Expires.IsZero() {
			parts = append(parts, lang.Text("until {date}", "date", t.Expires.Format("2006-01-02 15:04 MST")))
		}
	}
	return strings.Join(parts, " · ")
}
