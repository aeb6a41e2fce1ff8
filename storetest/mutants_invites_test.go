package storetest

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/matrix-uia/uia"
)

// limits makes a mutant with a limit of its own: allows says whether the creator of t may
// have it.
func limits(allows func(b *broken, t uia.Token, limit uia.InviteLimit, now time.Time) bool) func(*broken) {
	return func(b *broken) {
		b.createInvite = func(ctx context.Context, t uia.Token, limit uia.InviteLimit, now time.Time) error {
			if ctx.Err() != nil || t.CreatedBy == "" || t.Validate() != nil {
				return b.model.CreateInvite(ctx, t, limit, now)
			}
			defer b.lock(ctx)()
			if !allows(b, t, limit, now) {
				return uia.ErrQuota
			}
			return b.create(t)
		}
	}
}

// countsLive makes a mutant that deems other tokens live.
func countsLive(live func(t uia.Token, now time.Time) bool) func(*broken) {
	return limits(func(b *broken, t uia.Token, limit uia.InviteLimit, now time.Time) bool {
		n := 0
		for _, other := range b.createdBy(t.CreatedBy) {
			if live(b.view(other, now), now) {
				n++
			}
		}
		_, recent := b.countCreated(t.CreatedBy, limit.Since, now)
		return n < limit.Live && recent < limit.Recent
	})
}

// countsRecent makes a mutant that deems other tokens recent.
func countsRecent(recent func(t uia.Token, since, now time.Time) bool) func(*broken) {
	return limits(func(b *broken, t uia.Token, limit uia.InviteLimit, now time.Time) bool {
		live, _ := b.countCreated(t.CreatedBy, limit.Since, now)
		n := 0
		for _, other := range b.createdBy(t.CreatedBy) {
			if recent(other.Token, limit.Since, now) {
				n++
			}
		}
		return live < limit.Live && n < limit.Recent
	})
}

// editsCreatedPage makes a mutant that changes the query of ListCreated, or the page.
func editsCreatedPage(before func(q *uia.CreatedQuery), after func(b *broken, q uia.CreatedQuery, p *uia.TokenPage)) func(*broken) {
	return func(b *broken) {
		b.listCreated = func(ctx context.Context, q uia.CreatedQuery, now time.Time) (uia.TokenPage, error) {
			asked := q
			if before != nil {
				before(&q)
			}
			p, err := b.model.ListCreated(ctx, q, now)
			if after != nil && err == nil {
				after(b, asked, &p)
			}
			return p, err
		}
	}
}

// editsInvited makes a mutant that changes the query of ListInvited, or the page.
func editsInvited(before func(q *uia.InvitedQuery), after func(b *broken, q uia.InvitedQuery, p *uia.InvitedPage)) func(*broken) {
	return func(b *broken) {
		b.listInvited = func(ctx context.Context, q uia.InvitedQuery) (uia.InvitedPage, error) {
			asked := q
			if before != nil {
				before(&q)
			}
			p, err := b.model.ListInvited(ctx, q)
			if after != nil && err == nil {
				after(b, asked, &p)
			}
			return p, err
		}
	}
}

// revokes makes a mutant that chooses the tokens that RevokeCreated revokes, and says how.
func revokes(which func(t uia.Token, by string, now time.Time) bool, how func(b *broken, t *modelToken)) func(*broken) {
	return func(b *broken) {
		b.revokeCreated = func(ctx context.Context, by string, limit int, now time.Time) (values []string, err error) {
			if ctx.Err() != nil || limit < 1 {
				return b.model.RevokeCreated(ctx, by, limit, now)
			}
			defer b.lock(ctx)()
			for _, t := range b.tokens {
				if len(values) < limit && which(b.view(t, now), by, now) {
					how(b, t)
					values = append(values, t.Value)
				}
			}
			return values, nil
		}
	}
}

func liveOf(t uia.Token, by string, now time.Time) bool { return t.CreatedBy == by && t.Live(now) }

func (b *broken) revokeOne(t *modelToken) { b.model.revoke(t) }

// bears makes a mutant whose uses bear another creator.
func bears(creator func(ctx context.Context, t uia.Token, taken int) string) func(*broken) {
	return func(b *broken) {
		b.reserve = func(ctx context.Context, h uia.Hold, now time.Time) error {
			var known bool
			var taken int
			b.locked(func() {
				known = b.use(h.Token, h.Session) != nil
				for _, u := range b.uses {
					if u.Token == h.Token {
						taken++
					}
				}
			})
			err := b.model.Reserve(ctx, h, now)
			if err == nil && !known {
				b.locked(func() {
					if u := b.use(h.Token, h.Session); u != nil {
						u.InvitedBy = creator(ctx, u.of.Token, taken)
					}
				})
			}
			return err
		}
	}
}

var inviteMutants = []mutant{
	{"has no limit for invitations", limits(func(*broken, uia.Token, uia.InviteLimit, time.Time) bool { return true })},
	{"takes a limit of zero for none", func(b *broken) {
		b.createInvite = func(ctx context.Context, t uia.Token, limit uia.InviteLimit, now time.Time) error {
			if limit.Live == 0 {
				limit.Live = 99
			}
			if limit.Recent == 0 {
				limit.Recent = 99
			}
			return b.model.CreateInvite(ctx, t, limit, now)
		}
	}},
	{"allows one invitation more", func(b *broken) {
		b.createInvite = func(ctx context.Context, t uia.Token, limit uia.InviteLimit, now time.Time) error {
			limit.Live++
			return b.model.CreateInvite(ctx, t, limit, now)
		}
	}},
	{"counts the invitations of everybody", limits(func(b *broken, t uia.Token, limit uia.InviteLimit, now time.Time) bool {
		live := 0
		for _, other := range b.tokens {
			if b.view(other, now).Live(now) {
				live++
			}
		}
		_, recent := b.countCreated(t.CreatedBy, limit.Since, now)
		return live < limit.Live && recent < limit.Recent
	})},
	{"counts the invitations of creators who are called alike", limits(func(b *broken, t uia.Token, limit uia.InviteLimit, now time.Time) bool {
		live := 0
		for _, other := range b.tokens {
			if strings.EqualFold(other.CreatedBy, t.CreatedBy) && b.view(other, now).Live(now) {
				live++
			}
		}
		_, recent := b.countCreated(t.CreatedBy, limit.Since, now)
		return live < limit.Live && recent < limit.Recent
	})},
	{"counts expired invitations", countsLive(func(t uia.Token, now time.Time) bool { t.Expires = time.Time{}; return t.Live(now) })},
	{"counts invitations that expire now", countsLive(func(t uia.Token, now time.Time) bool {
		return t.Live(now) || now.Equal(t.Expires) && t.Live(now.Add(-milli))
	})},
	{"counts revoked invitations", countsLive(func(t uia.Token, now time.Time) bool { t.Revoked = false; return t.Live(now) })},
	{"counts invitations that are used up", countsLive(func(t uia.Token, now time.Time) bool { t.UsesAllowed = nil; return t.Live(now) })},
	{"counts usable invitations alone", countsLive(func(t uia.Token, now time.Time) bool { return t.Usable(now) == nil })},
	{"counts no recent invitations", countsRecent(func(uia.Token, time.Time, time.Time) bool { return false })},
	{"counts all invitations as recent", countsRecent(func(uia.Token, time.Time, time.Time) bool { return true })},
	{"counts recent invitations that are live", countsRecent(func(t uia.Token, since, now time.Time) bool { return !t.Created.Before(since) && t.Live(now) })},
	{"counts invitations that are later than Since", countsRecent(func(t uia.Token, since, _ time.Time) bool { return t.Created.After(since) })},
	{"invites for nobody", func(b *broken) {
		b.createInvite = func(ctx context.Context, t uia.Token, limit uia.InviteLimit, now time.Time) error {
			if t.CreatedBy == "" && ctx.Err() == nil && t.Validate() == nil {
				return b.model.CreateTokens(ctx, t)
			}
			return b.model.CreateInvite(ctx, t, limit, now)
		}
	}},
	{"replaces a token by an invitation of its value", func(b *broken) {
		b.createInvite = func(ctx context.Context, t uia.Token, limit uia.InviteLimit, now time.Time) error {
			_ = b.model.DeleteToken(ctx, t.Value)
			return b.model.CreateInvite(ctx, t, limit, now)
		}
	}},
	{"forgets the fields of an invitation", func(b *broken) {
		b.createInvite = func(ctx context.Context, t uia.Token, limit uia.InviteLimit, now time.Time) error {
			t.Meta = nil
			return b.model.CreateInvite(ctx, t, limit, now)
		}
	}},
	{"keeps an invitation that was refused", func(b *broken) {
		b.createInvite = func(ctx context.Context, t uia.Token, limit uia.InviteLimit, now time.Time) error {
			err := b.model.CreateInvite(ctx, t, limit, now)
			if err == uia.ErrQuota {
				_ = b.model.CreateTokens(ctx, t)
			}
			return err
		}
	}},
	{"keeps invitations that a transaction did not commit", func(b *broken) {
		var made []uia.Token
		b.createInvite = func(ctx context.Context, t uia.Token, limit uia.InviteLimit, now time.Time) error {
			err := b.model.CreateInvite(ctx, t, limit, now)
			if err == nil && ctx.Value(inTx{}) != nil {
				made = append(made, t)
			}
			return err
		}
		b.inTx = func(ctx context.Context, fn func(context.Context) error) error {
			err := b.model.InTx(ctx, fn)
			if err != nil {
				_ = b.model.CreateTokens(ctx, made...)
			}
			made = nil
			return err
		}
	}},

	{"lists all tokens as created by one", func(b *broken) {
		b.listCreated = func(ctx context.Context, q uia.CreatedQuery, now time.Time) (uia.TokenPage, error) {
			return b.model.ListTokens(ctx, uia.TokenQuery{Order: uia.ByCreated, Descending: true, After: q.After, Limit: q.Limit}, now)
		}
	}},
	{"lists what somebody created in the wrong order", editsCreatedPage(nil, func(_ *broken, q uia.CreatedQuery, p *uia.TokenPage) { slices.Reverse(p.Tokens) })},
	{"skips tokens that were created at the time of the cursor", editsCreatedPage(func(q *uia.CreatedQuery) {
		if q.After != nil {
			q.After = &uia.TokenCursor{Key: q.After.Key}
		}
	}, nil)},
	{"bounds no page of created tokens", editsCreatedPage(func(q *uia.CreatedQuery) {
		if q.Limit > 0 {
			q.Limit = 1000
		}
	}, nil)},
	{"lists created tokens with any limit", editsCreatedPage(func(q *uia.CreatedQuery) { q.Limit = max(q.Limit, 0) }, nil)},
	{"lists created tokens without their uses", editsCreatedPage(nil, func(_ *broken, _ uia.CreatedQuery, p *uia.TokenPage) {
		for i := range p.Tokens {
			p.Tokens[i].Pending, p.Tokens[i].Completed = 0, 0
		}
	})},
	{"lists created tokens that can be used alone", editsCreatedPage(nil, func(_ *broken, _ uia.CreatedQuery, p *uia.TokenPage) {
		p.Tokens = slices.DeleteFunc(p.Tokens, func(t uia.Token) bool { return t.Revoked })
	})},

	{"revokes the tokens of everybody", revokes(func(t uia.Token, _ string, now time.Time) bool { return t.Live(now) }, (*broken).revokeOne)},
	{"revokes expired tokens too", revokes(func(t uia.Token, by string, now time.Time) bool {
		t.Expires = time.Time{}
		return liveOf(t, by, now)
	}, (*broken).revokeOne)},
	{"revokes usable tokens alone", revokes(func(t uia.Token, by string, now time.Time) bool { return t.CreatedBy == by && t.Usable(now) == nil }, (*broken).revokeOne)},
	{"revokes tokens and keeps their holds", revokes(liveOf, func(_ *broken, t *modelToken) { t.Revoked = true })},
	{"revokes tokens and drops their pins", revokes(liveOf, func(b *broken, t *modelToken) {
		b.revokeOne(t)
		b.remove(99, func(u *modelUse) bool { return u.of == t && u.State == uia.Pinned })
	})},
	{"revokes more tokens than it may", func(b *broken) {
		b.revokeCreated = func(ctx context.Context, by string, limit int, now time.Time) ([]string, error) {
			if limit > 0 {
				limit = 99
			}
			return b.model.RevokeCreated(ctx, by, limit, now)
		}
	}},
	{"revokes with any limit", func(b *broken) {
		b.revokeCreated = func(ctx context.Context, by string, limit int, now time.Time) ([]string, error) {
			if limit < 1 && ctx.Err() == nil {
				return nil, nil
			}
			return b.model.RevokeCreated(ctx, by, limit, now)
		}
	}},
	{"does not say what it has revoked", func(b *broken) {
		b.revokeCreated = func(ctx context.Context, by string, limit int, now time.Time) ([]string, error) {
			_, err := b.model.RevokeCreated(ctx, by, limit, now)
			return nil, err
		}
	}},

	{"lists accounts in the wrong order", editsInvited(nil, func(_ *broken, _ uia.InvitedQuery, p *uia.InvitedPage) { slices.Reverse(p.Invited) })},
	{"lists the accounts of inviters who are called alike", editsInvited(func(q *uia.InvitedQuery) { q.InvitedBy = strings.ToLower(q.InvitedBy) }, nil)},
	{"lists those whom nobody has invited", editsInvited(nil, func(b *broken, q uia.InvitedQuery, p *uia.InvitedPage) {
		if q.InvitedBy == "" {
			b.locked(func() {
				for _, u := range b.uses {
					if u.State == uia.Spent && u.InvitedBy == "" {
						p.Invited = append(p.Invited, uia.Invited{Use: u.Use})
					}
				}
			})
		}
	})},
	{"finds the use of an account that nobody has invited", func(b *broken) {
		b.inviteOf = func(ctx context.Context, user string) (uia.Use, error) {
			found, err := b.model.InviteOf(ctx, user)
			if err != uia.ErrNotFound {
				return found, err
			}
			defer b.lock(ctx)()
			i := slices.IndexFunc(b.uses, func(u *modelUse) bool { return u.State == uia.Spent && u.UserID == user })
			if i < 0 {
				return found, err
			}
			return b.uses[i].Use, nil
		}
	}},
	{"skips accounts that were made at the time of the cursor", editsInvited(func(q *uia.InvitedQuery) {
		if q.After != nil {
			q.After = &uia.UseCursor{Made: q.After.Made}
		}
	}, nil)},
	{"bounds no page of accounts", editsInvited(func(q *uia.InvitedQuery) {
		if q.Limit > 0 {
			q.Limit = 1000
		}
	}, nil)},
	{"lists accounts with any limit", editsInvited(func(q *uia.InvitedQuery) { q.Limit = max(q.Limit, 0) }, nil)},
	{"says of no account that it invites", editsInvited(nil, func(_ *broken, _ uia.InvitedQuery, p *uia.InvitedPage) {
		for i := range p.Invited {
			p.Invited[i].Invites = false
		}
	})},
	{"says of every account that it invites", editsInvited(nil, func(_ *broken, _ uia.InvitedQuery, p *uia.InvitedPage) {
		for i := range p.Invited {
			p.Invited[i].Invites = true
		}
	})},
	{"lists no accounts of deleted tokens", editsInvited(nil, func(b *broken, _ uia.InvitedQuery, p *uia.InvitedPage) {
		b.locked(func() {
			p.Invited = slices.DeleteFunc(p.Invited, func(a uia.Invited) bool {
				t := b.token(a.Token)
				return t == nil || t.CreatedBy != a.InvitedBy
			})
		})
	})},
	{"lists an account for each of its uses", func(b *broken) {
		b.listInvited = func(ctx context.Context, q uia.InvitedQuery) (uia.InvitedPage, error) {
			p, err := b.model.ListInvited(ctx, q)
			b.locked(func() {
				for _, u := range b.uses {
					if err == nil && u.State == uia.Spent && u.InvitedBy == q.InvitedBy && b.belongs(u.UserID) != u && q.After == nil {
						p.Invited = append(p.Invited, uia.Invited{Use: u.Use})
					}
				}
			})
			return p, err
		}
	}},
	{"lists uses that are not spent as accounts", func(b *broken) {
		b.listInvited = func(ctx context.Context, q uia.InvitedQuery) (uia.InvitedPage, error) {
			p, err := b.model.ListInvited(ctx, q)
			b.locked(func() {
				for _, u := range b.uses {
					if err == nil && u.State != uia.Spent && u.InvitedBy == q.InvitedBy && p.Next == nil {
						p.Invited = append(p.Invited, uia.Invited{Use: u.Use})
					}
				}
			})
			return p, err
		}
	}},
	{"gives an account to the use that was spent first", func(b *broken) {
		b.inviteOf = func(ctx context.Context, user string) (uia.Use, error) {
			if u, err := b.model.InviteOf(ctx, user); err != nil {
				return u, err
			}
			defer b.lock(ctx)()
			i := slices.IndexFunc(b.uses, func(u *modelUse) bool { return u.State == uia.Spent && u.UserID == user })
			return b.uses[i].Use, nil
		}
	}},
	{"finds the account of a user who is called alike", func(b *broken) {
		b.inviteOf = func(ctx context.Context, user string) (uia.Use, error) {
			return b.model.InviteOf(ctx, strings.ToLower(user))
		}
	}},
	{"returns no error for an account that there is not", func(b *broken) {
		b.inviteOf = func(ctx context.Context, user string) (uia.Use, error) {
			u, err := b.model.InviteOf(ctx, user)
			if err == uia.ErrNotFound {
				err = nil
			}
			return u, err
		}
	}},
	{"finds the inviter of the user's session alone", func(b *broken) {
		b.inviteOf = func(ctx context.Context, user string) (uia.Use, error) {
			u, err := b.model.InviteOf(ctx, user)
			u.UserID = ""
			return u, err
		}
	}},

	{"notes no creator with a use", bears(func(context.Context, uia.Token, int) string { return "" })},
	{"notes no creator in a group", bears(func(ctx context.Context, t uia.Token, _ int) string {
		if ctx.Value(inTx{}) != nil {
			return ""
		}
		return t.CreatedBy
	})},
	{"notes no creator with a use that displaces another", bears(func(_ context.Context, t uia.Token, taken int) string {
		if t.UsesAllowed != nil && int64(taken) >= *t.UsesAllowed {
			return ""
		}
		return t.CreatedBy
	})},
	{"notes the creator of a use when it is spent", func(b *broken) {
		bears(func(context.Context, uia.Token, int) string { return "" })(b)
		b.commit = func(ctx context.Context, c uia.Claim, user string, now time.Time) error {
			err := b.model.Commit(ctx, c, user, now)
			if err == nil {
				b.locked(func() {
					if t := b.token(c.Token); t != nil {
						b.use(c.Token, c.Session).InvitedBy = t.CreatedBy
					}
				})
			}
			return err
		}
	}},
	{"forgets the creator with the token", func(b *broken) {
		b.deleteToken = func(ctx context.Context, value string) error {
			err := b.model.DeleteToken(ctx, value)
			if err == nil {
				b.locked(func() {
					for _, u := range b.uses {
						if u.Token == value {
							u.InvitedBy = ""
						}
					}
				})
			}
			return err
		}
	}},
}

// inviteRaceMutants are right as long as one call follows another.
var inviteRaceMutants = []mutant{
	{"counts invitations before it adds one", func(b *broken) {
		b.createInvite = func(ctx context.Context, t uia.Token, limit uia.InviteLimit, now time.Time) error {
			if ctx.Err() != nil || t.CreatedBy == "" || t.Validate() != nil {
				return b.model.CreateInvite(ctx, t, limit, now)
			}
			var live, recent int
			b.locked(func() { live, recent = b.countCreated(t.CreatedBy, limit.Since, now) })
			gosched()
			if live >= limit.Live || recent >= limit.Recent {
				return uia.ErrQuota
			}
			return b.model.CreateTokens(ctx, t)
		}
	}},
	{"revokes the tokens of a creator one after the other", func(b *broken) {
		b.revokeCreated = func(ctx context.Context, by string, limit int, now time.Time) (all []string, err error) {
			if ctx.Err() != nil || limit < 1 {
				return b.model.RevokeCreated(ctx, by, limit, now)
			}
			for len(all) < limit {
				values, err := b.model.RevokeCreated(ctx, by, 1, now)
				if len(values) == 0 || err != nil {
					return all, err
				}
				all = append(all, values...)
				gosched()
			}
			return all, nil
		}
	}},
}
