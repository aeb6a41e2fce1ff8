package memstore

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/matrix-uia/uia"
)

var _ uia.InviteStore = (*Store)(nil)

// addToken adds a token, and dropToken takes it out. What is left of a token that has been
// dropped is no matter of its creator.
func (s *Store) addToken(t *token) {
	s.tokens[t.Value] = t
	list := s.creators[t.CreatedBy]
	i, _ := slices.BinarySearchFunc(list, t, byCreated)
	s.creators[t.CreatedBy] = slices.Insert(list, i, t)
}

func (s *Store) dropToken(t *token) {
	delete(s.tokens, t.Value)
	list := s.creators[t.CreatedBy]
	i, _ := slices.BinarySearchFunc(list, t, byCreated)
	if list = slices.Delete(list, i, i+1); len(list) == 0 {
		delete(s.creators, t.CreatedBy)
		return
	}
	s.creators[t.CreatedBy] = list
}

// book notes who has invited the account of a use that has been spent. That stays for
// ever, like the use.
func (s *Store) book(u *use) {
	if u.InvitedBy == "" {
		return
	}
	for _, index := range []struct {
		of  map[string][]*use
		key string
		by  func(a, b *use) int
	}{{s.invited, u.InvitedBy, byMade}, {s.accounts, u.UserID, bySpent}} {
		list := index.of[index.key]
		insert(&list, u, index.by)
		index.of[index.key] = list
	}
}

func byCreated(a, b *token) int {
	return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.Value, b.Value))
}

// bySpent orders the uses from which one account was made. They are spent.
func bySpent(a, b *use) int {
	return cmp.Or(a.Changed.Compare(b.Changed), strings.Compare(a.Session, b.Session), strings.Compare(a.Token, b.Token))
}

// account returns the use to which the user's account belongs; nil if there is none.
func (s *Store) account(user string) *use {
	if list := s.accounts[user]; len(list) > 0 {
		return list[len(list)-1]
	}
	return nil
}

// CreateInvite implements [uia.InviteStore].
func (s *Store) CreateInvite(ctx context.Context, t uia.Token, limit uia.InviteLimit, now time.Time) error {
	unlock, err := s.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if t.CreatedBy == "" || t.Validate() != nil {
		return uia.ErrInvalid
	}
	var live, recent int
	for _, other := range s.creators[t.CreatedBy] {
		if other.at(ms(now)).Live(ms(now)) {
			live++
		}
		if !other.Created.Before(ms(limit.Since)) {
			recent++
		}
	}
	if live >= limit.Live || recent >= limit.Recent {
		return uia.ErrQuota
	}
	return s.create(t)
}

// ListCreated implements [uia.InviteStore].
func (s *Store) ListCreated(ctx context.Context, q uia.CreatedQuery, now time.Time) (page uia.TokenPage, err error) {
	limit, err := pageLimit(q.Limit)
	if err != nil {
		return page, err
	}
	unlock, err := s.rlock(ctx)
	if err != nil {
		return page, err
	}
	defer unlock()
	list := s.creators[q.CreatedBy]
	if q.After != nil {
		end, _ := slices.BinarySearchFunc(list, *q.After, func(t *token, c uia.TokenCursor) int {
			return cmp.Or(cmp.Compare(t.Created.UnixMilli(), c.Key), strings.Compare(t.Value, c.Value))
		})
		list = list[:end]
	}
	for _, t := range slices.Backward(list) {
		if len(page.Tokens) == limit {
			last := page.Tokens[limit-1]
			page.Next = &uia.TokenCursor{Key: last.Created.UnixMilli(), Value: last.Value}
			break
		}
		page.Tokens = append(page.Tokens, copied(t.at(ms(now))))
	}
	return page, nil
}

// RevokeCreated implements [uia.InviteStore].
func (s *Store) RevokeCreated(ctx context.Context, createdBy string, limit int, now time.Time) (values []string, err error) {
	unlock, err := s.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if limit < 1 {
		return nil, uia.ErrInvalid
	}
	for _, t := range s.creators[createdBy] {
		if len(values) == limit {
			break
		}
		if t.at(ms(now)).Live(ms(now)) {
			t.Revoked = true
			s.cancelHolds(t)
			values = append(values, t.Value)
		}
	}
	return values, nil
}

// ListInvited implements [uia.InviteStore].
func (s *Store) ListInvited(ctx context.Context, q uia.InvitedQuery) (page uia.InvitedPage, err error) {
	limit, err := pageLimit(q.Limit)
	if err != nil {
		return page, err
	}
	unlock, err := s.rlock(ctx)
	if err != nil {
		return page, err
	}
	defer unlock()
	for _, u := range slices.Backward(until(s.invited[q.InvitedBy], q.After)) {
		if s.account(u.UserID) != u {
			continue
		}
		if len(page.Invited) == limit {
			last := page.Invited[limit-1]
			page.Next = &uia.UseCursor{Made: last.Made, Session: last.Session}
			break
		}
		page.Invited = append(page.Invited, uia.Invited{Use: u.Use, Invites: len(s.invited[u.UserID]) > 0})
	}
	return page, nil
}

// InviteOf implements [uia.InviteStore].
func (s *Store) InviteOf(ctx context.Context, userID string) (uia.Use, error) {
	unlock, err := s.rlock(ctx)
	if err != nil {
		return uia.Use{}, err
	}
	defer unlock()
	if u := s.account(userID); u != nil {
		return u.Use, nil
	}
	return uia.Use{}, uia.ErrNotFound
}
