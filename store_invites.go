package uia

import (
	"context"
	"time"
)

// InviteLimit is how many tokens one creator may have. The zero value allows none.
type InviteLimit struct {
	// Live is how many tokens of the creator may be live at once ([Token.Live]), the new
	// one included.
	Live int
	// Recent is how many the creator may have created at Since or later, the new one
	// included, whatever became of them. It bounds how fast a creator who revokes tokens,
	// or lets them expire, fills the store.
	Recent int
	Since  time.Time
}

// CreatedQuery asks for one page of the tokens of a creator.
type CreatedQuery struct {
	CreatedBy string       // Token.CreatedBy, byte for byte
	After     *TokenCursor // as in TokenQuery, of the order ByCreated
	Limit     int          // as in TokenQuery
}

// InvitedQuery asks for one page of the accounts that were made from the tokens of a
// creator.
type InvitedQuery struct {
	InvitedBy string     // Use.InvitedBy, byte for byte
	After     *UseCursor // the Next of the page before; nil means the newest
	Limit     int        // as in TokenQuery
}

// Invited is an account that was made from a token.
type Invited struct {
	// Use is the spent use to which the account belongs. UserID names the account.
	Use
	// Invites says that accounts were made from tokens of this account.
	Invites bool
}

// InvitedPage is one page of a list of accounts. It may have fewer than the limit, even
// none, and still have a Next, where accounts belong to other uses by now.
type InvitedPage struct {
	Invited []Invited
	Next    *UseCursor // nil means that there is no further page
}

// InviteStore can be implemented by a TokenStore that knows who has created the tokens,
// and so who has invited whom: the inviter of an account is the creator of the token from
// whose use it was made. Every use bears the creator of its token in InvitedBy, from the
// moment at which it is reserved. So nothing needs to be written besides the use, and
// what spends the use records the inviter. It does not get lost when the token is deleted.
// A token without a creator invites nobody: its uses count for none of these methods, so
// that a store can leave them out of its indexes.
//
// An account from which there are several spent uses belongs to the one that was spent
// last: by Changed, then by session, then by token. A session makes one account.
type InviteStore interface {
	TokenStore

	// CreateInvite adds the token if its creator stays within the limit, and otherwise
	// returns ErrQuota. Of any number of concurrent calls for one creator no more
	// succeed than the limit allows. An empty CreatedBy is ErrInvalid. Other errors are
	// those of CreateTokens.
	CreateInvite(ctx context.Context, t Token, limit InviteLimit, now time.Time) error

	// ListCreated returns a page of the tokens of one creator, the newest first: by
	// Created, then by value, both descending. There may be none.
	ListCreated(ctx context.Context, q CreatedQuery, now time.Time) (TokenPage, error)

	// RevokeCreated revokes those tokens of one creator that are live at now, at most
	// limit of them, and returns their values. Others see all of them revoked or none.
	// Their holds are deleted as by UpdateToken. A limit below 1 is ErrInvalid.
	RevokeCreated(ctx context.Context, createdBy string, limit int, now time.Time) ([]string, error)

	// ListInvited returns a page of the accounts whose inviter is the one in q, newest
	// first (by Made, then by session in descending order). Uses of deleted tokens are
	// listed too. An empty InvitedBy lists nothing.
	ListInvited(ctx context.Context, q InvitedQuery) (InvitedPage, error)

	// InviteOf returns the use to which the account of this user belongs, and ErrNotFound
	// if there is none.
	InviteOf(ctx context.Context, userID string) (Use, error)
}
