package invites

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/internal/api"
)

// maxTries bounds how often a value is drawn anew because it exists, which values of 80
// random bits do not.
const maxTries = 4

// draft is an invitation that a member asks for.
type draft struct {
	uses     int64
	expires  time.Time // zero: the latest that the quota allows
	label    string
	username string
	email    string
	// value is drawn when a form is shown, so that a form that is sent again makes no
	// second invitation; "" to draw one now.
	value string
}

// draftOf reads a POST.
func draftOf(body api.Object, now time.Time) (d draft, err error) {
	uses, err := body.Integer("uses_allowed", 1, api.MaxInt)
	if err != nil {
		return d, err
	}
	if d.uses = 1; uses != nil {
		d.uses = *uses
	}
	until, err := body.Integer("expiry_time", 0, api.MaxInt)
	if err != nil {
		return d, err
	}
	if d.expires, err = api.Expiry(until, now); err != nil {
		return d, err
	}
	if d.label, err = body.Label(); err != nil {
		return d, err
	}
	if d.username, err = body.Text("username"); err != nil {
		return d, err
	}
	d.email, err = body.Text("email")
	return d, err
}

// meta returns the pin of the draft; nil if it has none. Members cannot put anything else
// into the Meta of a token, by which a homeserver may give rights.
func (i *Invites) meta(d draft) (json.RawMessage, error) {
	pin := map[string]string{}
	if d.username != "" {
		pin["username"] = d.username
	}
	if d.email != "" {
		pin["email"] = d.email
	}
	if len(pin) == 0 {
		return nil, nil
	}
	meta, err := json.Marshal(pin)
	if err != nil {
		return nil, err
	}
	if err := i.opts.CheckMeta(meta); err != nil {
		return nil, api.Invalid(err.Error())
	}
	return meta, nil
}

// make makes an invitation within the quota.
func (i *Invites) make(ctx context.Context, userID string, d draft, now time.Time) (uia.Token, error) {
	quota, err := i.quotaOf(ctx, userID)
	if err != nil {
		return uia.Token{}, err
	}
	if quota.Live == 0 {
		return uia.Token{}, uia.NewError(http.StatusForbidden, spec.Forbidden("You may not invite others on this homeserver."))
	}
	if d.uses > quota.Uses {
		return uia.Token{}, api.Invalid(fmt.Sprintf("uses_allowed must be at most %d for your invitations", quota.Uses))
	}
	meta, err := i.meta(d)
	if err != nil {
		return uia.Token{}, err
	}
	t := uia.Token{
		UsesAllowed: &d.uses, Expires: quota.expires(d.expires, now), Label: d.label, Meta: meta,
		Created: now.UTC().Truncate(time.Millisecond), CreatedBy: userID,
	}
	limit := uia.InviteLimit{Live: quota.Live, Recent: quota.Daily, Since: now.Add(-24 * time.Hour)}
	for try := 1; ; try++ {
		if t.Value = d.value; t.Value == "" {
			t.Value = uia.GenerateToken(0)
		}
		err := i.store.CreateInvite(ctx, t, limit, now)
		if errors.Is(err, uia.ErrExists) && try < maxTries && d.value == "" {
			continue
		}
		if err != nil {
			return uia.Token{}, refusal(err, quota)
		}
		i.observe(ctx, uia.Event{Kind: uia.EventTokenCreated, Token: uia.Fingerprint(t.Value), By: userID, UsesAllowed: t.UsesAllowed, Expires: t.Expires})
		return t, nil
	}
}

// expires returns when an invitation expires for which this time was asked; zero for
// never.
func (q Quota) expires(asked, now time.Time) time.Time {
	if q.Life < 0 {
		return asked
	}
	latest := now.UTC().Add(q.Life).Truncate(time.Millisecond)
	if asked.IsZero() || asked.After(latest) {
		return latest
	}
	return asked
}

// refusal turns an error of the store into the answer for the member.
func refusal(err error, q Quota) error {
	const code = "M_RESOURCE_LIMIT_EXCEEDED"
	refuse := func(status int, e spec.MatrixError) error {
		return &uia.Error{Status: status, MatrixError: e, Cause: err}
	}
	switch {
	case errors.Is(err, uia.ErrQuota):
		return refuse(http.StatusForbidden, spec.MatrixError{ErrCode: code, Err: fmt.Sprintf(
			"You can have %d open invitations, and make %d a day. Revoke one that you do not need, or wait.", q.Live, q.Daily)})
	case errors.Is(err, uia.ErrFull):
		return refuse(http.StatusForbidden, spec.MatrixError{ErrCode: code, Err: "There is no room for more invitations."})
	case errors.Is(err, uia.ErrInvalid):
		return refuse(http.StatusBadRequest, spec.InvalidParam("This invitation cannot be made."))
	}
	return err
}

// find returns an invitation of the member. That of somebody else is as unknown as one that
// there is not.
func (i *Invites) find(ctx context.Context, userID, value string, now time.Time) (uia.Token, error) {
	t, err := uia.Token{}, uia.ErrNotFound
	if uia.ValidTokenValue(value) {
		t, err = i.store.Token(ctx, value, now)
	}
	if errors.Is(err, uia.ErrNotFound) || err == nil && t.CreatedBy != userID {
		return uia.Token{}, uia.NewError(http.StatusNotFound, spec.NotFound("You have made no such invitation."))
	}
	return t, err
}

// revoke revokes an invitation of the member. Repeating it does nothing.
func (i *Invites) revoke(ctx context.Context, userID, value string, now time.Time) error {
	t, err := i.find(ctx, userID, value, now)
	if err != nil || t.Revoked {
		return err
	}
	switch _, err := i.store.UpdateToken(ctx, value, uia.TokenPatch{Revoked: new(true)}, now); {
	case errors.Is(err, uia.ErrNotFound): // an administrator was quicker
		return nil
	case err != nil:
		return err
	}
	i.observe(ctx, uia.Event{Kind: uia.EventTokenRevoked, Token: uia.Fingerprint(value), By: userID})
	return nil
}

// url returns the invite link of a token; "" if there are none.
func (i *Invites) url(value string) string {
	return strings.ReplaceAll(i.opts.InviteURL, "{token}", value)
}
