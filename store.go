package uia

import (
	"context"
	"encoding/json"
	"errors"
	"time"
)

// The errors of the storage contract. A store returns them as they are or wrapped;
// callers match them with errors.Is. Each of them says that the call has changed nothing.
// The error can come late, from the call or the transaction that ends a group of calls:
// then none of the writes that were put off has happened. Any other error of a store
// means that it is not known whether the call took effect.
//
// ErrConflict can be an exception: a driver that repeats a save after a lost connection
// may be in conflict with its own first save. A caller that must know loads the record
// and compares: if it has the Owner that was to be written, and the next Revision, the
// save has happened.
var (
	// ErrNotFound says that there is no such token, or no such session record.
	ErrNotFound = errors.New("uia: not found")
	// ErrExists says that a token of this value exists.
	ErrExists = errors.New("uia: token exists")
	// ErrExpired says that the token's expiry has passed.
	ErrExpired = errors.New("uia: token expired")
	// ErrExhausted says that every use of the token is held, pinned or spent.
	ErrExhausted = errors.New("uia: token has no use left")
	// ErrRevoked says that the token has been revoked.
	ErrRevoked = errors.New("uia: token revoked")
	// ErrSpent says that the session's use of this token is already spent.
	ErrSpent = errors.New("uia: use already spent")
	// ErrNotHeld says that the session has no such use, or has one that bears another
	// run: the caller has been overtaken and must change nothing.
	ErrNotHeld = errors.New("uia: use not held")
	// ErrConflict says that the record has another revision than the one given.
	ErrConflict = errors.New("uia: record was changed by another request")
	// ErrFull says that a bounded store has no room left.
	ErrFull = errors.New("uia: store is full")
	// ErrQuota says that the creator of a token has as many of them as are allowed.
	ErrQuota = errors.New("uia: creator has as many tokens as allowed")
	// ErrInvalid says that an argument breaks the contract: a token value
	// outside the grammar, a negative limit, an empty user ID.
	ErrInvalid = errors.New("uia: invalid argument")
)

// changedNothing reports whether err is one by which a store says that the call has
// not taken effect.
func changedNothing(err error) bool {
	for _, known := range [...]error{
		ErrNotFound, ErrExists, ErrExpired, ErrExhausted, ErrRevoked, ErrSpent, ErrNotHeld, ErrFull, ErrQuota, ErrInvalid,
	} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}

// MaxTokenLength is the greatest length of a registration token, in bytes
// (MSC3231; Client-Server API, "Token-authenticated registration").
const MaxTokenLength = 64

// MaxUses is the greatest number of uses that a token can allow, or that can have
// been spent of it before it was created: the greatest integer of the Client-Server
// API, which every JSON decoder reads exactly.
const MaxUses = 1<<53 - 1

// Token is one registration token.
//
// Times are UTC with millisecond precision: a store truncates what it is given.
type Token struct {
	// Value is what a user types: 1 to 64 of the characters A-Z a-z 0-9 . _ ~ -
	// It is compared byte for byte.
	Value string
	// UsesAllowed is how many accounts the token may make. Nil means any number,
	// zero disables the token. It is never negative, nor greater than MaxUses.
	UsesAllowed *int64
	// Expires is the first instant at which the token is no longer valid. Zero
	// means never.
	Expires time.Time
	// Revoked tokens are not valid until the flag is cleared again.
	Revoked bool
	// Label is the operator's note, at most 255 bytes of UTF-8 without a NUL.
	Label string
	// Meta is a JSON object for the homeserver, which finds it in the grant.
	// Nil means none.
	Meta json.RawMessage
	// Created and CreatedBy say when the token was made, and by whom. CreatedBy
	// may be empty, and is text like Label.
	Created   time.Time
	CreatedBy string

	// Pending counts the uses that are pinned, or held and not lapsed; Completed those
	// that are spent; LastUsed is when the latest was spent, zero if none was. The store
	// derives them from the uses: they are ignored where a Token is an argument.
	// CreateTokens alone reads Completed: it is how many uses of the token, at most
	// MaxUses, were spent in another system. They stay spent for ever, and no Use stands
	// for them.
	Pending   int64
	Completed int64
	LastUsed  time.Time
}

// TokenPatch says what [TokenStore.UpdateToken] changes. A nil field leaves the
// token's as it is; a pointer to the field's zero value clears it.
type TokenPatch struct {
	UsesAllowed **int64          // a pointer to nil: any number of uses
	Expires     *time.Time       // a pointer to the zero time: never
	Revoked     *bool            // true cancels the token's holds
	Label       *string          //
	Meta        *json.RawMessage // a pointer to nil: none
}

// TokenOrder is an order in which tokens can be listed.
type TokenOrder int

// The orders of a list. Within equal keys tokens are ordered by value, byte for
// byte. A token that never expires, or that has any number of uses, comes after
// all others in ascending order.
const (
	ByValue       TokenOrder = iota // the default
	ByCreated                       // by Token.Created
	ByExpires                       // by Token.Expires
	ByUsesAllowed                   // by Token.UsesAllowed
)

// TokenCursor is a place in a list of tokens: just behind the token of this
// value and key. The key is the order's: milliseconds since 1970 for ByCreated
// and ByExpires, the number for ByUsesAllowed, math.MaxInt64 for "never" and
// "any number", and zero for ByValue. The token need not exist.
type TokenCursor struct {
	Key   int64
	Value string
}

// TokenQuery asks for one page of tokens. The zero value asks for the first
// hundred by value.
type TokenQuery struct {
	// Valid, if not nil, keeps the tokens that are usable at the time of the call if it
	// is true, and those that are not usable if it is false ([Token.Usable]).
	Valid *bool
	// LabelPrefix keeps the tokens whose label begins with it, byte for byte.
	LabelPrefix string
	Order       TokenOrder
	Descending  bool
	// After is where the page begins: the Next of the page before. Nil means at
	// the beginning.
	After *TokenCursor
	// Limit is how many tokens the page has at most: zero means 100, and more
	// than 1000 means 1000. A negative one is ErrInvalid.
	Limit int
	// Total asks for the number of tokens that Valid and LabelPrefix keep, on
	// all pages together. It can take long.
	Total bool
}

// TokenPage is one page of a list of tokens.
type TokenPage struct {
	Tokens []Token
	// Next begins the next page; nil means that there is none. A page that Valid
	// or LabelPrefix filters may have fewer tokens than the limit, even none, and
	// still have a Next, because a store examines a bounded number of tokens for
	// each page.
	Next *TokenCursor
	// Total is the number asked for with TokenQuery.Total, else zero.
	Total int64
}

// Hold asks for one use of a token to be set aside for a session.
type Hold struct {
	Token   string    // the token's value
	Session string    // Session.Key
	Until   time.Time // when the hold lapses
}

// Claim names the use that a session has of a token, and the run in whose name
// it is asked for.
type Claim struct {
	Token   string
	Session string
	// Run numbers the runs of the operation in this session, upwards from 1; zero stands
	// for "before any run". A use bears the run that pinned it last, and refuses every
	// claim with a lower one.
	Run int64
}

// UseState is the state of a use.
type UseState int

// The states of a use. A held use lapses by itself when its Until passes; it
// stays held, but from then on the Reserve of another session may displace it.
const (
	Held   UseState = iota + 1 // set aside until a time
	Pinned                     // set aside until it is decided: its operation runs, or is in doubt
	Spent                      // final: an account was made from it
)

// Use is one use of a token: who has it, and what became of it.
type Use struct {
	Token   string
	Session string
	State   UseState
	Until   time.Time // Held: when it lapses; otherwise zero
	Run     int64     // the run that pinned it last; zero if none did
	UserID  string    // Spent: the account
	Made    time.Time // when it was first reserved
	Changed time.Time // when its state last changed
	// InvitedBy is the CreatedBy of the token, also after the token's deletion. A store
	// that is no [InviteStore] may leave it empty.
	InvitedBy string
}

// UseCursor is a place in a list of uses: just behind the use of this session.
type UseCursor struct {
	Made    time.Time
	Session string
}

// UseQuery asks for one page of the uses of a token, newest first (by Made, then
// by session in descending order).
type UseQuery struct {
	Token string
	// Deleted asks for the uses of the deleted tokens of this value, instead of
	// those of the token that there is.
	Deleted bool
	After   *UseCursor // the Next of the page before; nil means the newest
	Limit   int        // as in TokenQuery
}

// UsePage is one page of a list of uses.
type UsePage struct {
	Uses []Use
	Next *UseCursor // nil means that there is no further page
}

// TokenStore keeps registration tokens and their uses. It is the contract that
// package memstore and package sqlstore fulfil and package storetest tests.
//
//	         Reserve(until)              Pin(run)                   Commit(run, user)
//	none ------------------> held -------------------------> pinned -------------------> spent
//	 ^                        | until passes: lapsed, may be    |
//	 |                        | displaced by another's Reserve  |
//	 |------- Release --------|<----- Unpin(run, until) --------|
//
// The invariant: no Reserve adds a use unless the token's rows (held, lapsed,
// pinned and spent together) are fewer than UsesAllowed at that moment, and a
// lapsed hold is disregarded only by deleting it in the same transaction. So
// clocks decide who gets a use, and never how many there are.
//
// Every method is atomic and safe for concurrent use, by other processes too if
// the store is shared between processes. A call whose context is cancelled
// before it begins returns the context's error and changes nothing. Nothing that
// is passed in or returned is aliased by the store. Time is an argument: a store
// reads no clock. When a method has returned nil, what it did is as durable as
// the store makes anything. A value outside the token grammar is ErrInvalid for
// CreateTokens and ErrNotFound for every other method, an unknown session is
// ErrNotHeld. A store may forget a hold a day after it has lapsed, and a session
// record a day after it has expired: no session lives that long. A store with a
// bound that is full may forget holds that have lapsed, and the open records of their
// sessions, at any time: such a session begins anew.
type TokenStore interface {
	// CreateTokens adds all of the tokens or, on any error, none. It returns ErrExists if
	// one of the values exists or is given twice, and ErrInvalid if a value breaks the
	// grammar, UsesAllowed or Completed is negative or greater than MaxUses, or Meta is
	// no JSON object. A value that is created again after its deletion starts without any
	// uses. No tokens is nil.
	CreateTokens(ctx context.Context, tokens ...Token) error

	// Token returns the token of this value, whether or not it is usable.
	Token(ctx context.Context, value string, now time.Time) (Token, error)

	// ListTokens returns a page of tokens. Tokens that are neither created nor
	// deleted meanwhile, and whose key in the order does not change, appear
	// exactly once over all pages.
	ListTokens(ctx context.Context, q TokenQuery, now time.Time) (TokenPage, error)

	// UpdateToken changes what p names and returns the token as it is then.
	// Revoking a token deletes its held uses; pinned ones go on. Lowering
	// UsesAllowed, even below what is used, cancels nothing: it only keeps
	// further uses from being added. A value that CreateTokens would refuse is
	// ErrInvalid.
	UpdateToken(ctx context.Context, value string, p TokenPatch, now time.Time) (Token, error)

	// DeleteToken deletes the token and its held uses. Pinned uses of it can
	// still be committed and released, and spent ones stay spent. Of two
	// concurrent calls one returns nil, the other ErrNotFound.
	DeleteToken(ctx context.Context, value string) error

	// Reserve sets one use of h.Token aside for h.Session until h.Until.
	//
	// For a session that has a held use of the token, lapsed or not, it moves
	// Until and takes no second use: a hold that was made in time outlives the
	// token's expiry and a lowered limit, but not its revocation. For one whose
	// use is pinned it changes nothing and returns nil.
	//
	// It returns ErrNotFound, ErrRevoked, ErrExpired or ErrExhausted, in this
	// order of precedence, and ErrSpent before all of them if the session's use
	// of this token is spent. A failure changes nothing. If every use is taken
	// but enough of them are held and have lapsed (Until <= now), it deletes
	// those that lapsed first, no more than it needs, and takes their place.
	Reserve(ctx context.Context, h Hold, now time.Time) error

	// Pin keeps the use from lapsing until it is decided, in the name of
	// c.Run, which must be greater than zero. A held use, lapsed or not, can
	// be pinned by a run greater than the one it bears; a pinned one by a
	// run that is greater or the same, so that a call whose answer was lost
	// can be repeated. Otherwise, or if the token has been revoked or deleted
	// while the use was only held, it returns ErrNotHeld; ErrSpent if it is spent.
	Pin(ctx context.Context, c Claim, now time.Time) error

	// Unpin makes a use that is pinned by exactly c.Run held again, until the
	// given time. Repeating it is nil. Otherwise ErrNotHeld, or ErrSpent. The use
	// of a token that has been revoked or deleted is deleted instead.
	Unpin(ctx context.Context, c Claim, until, now time.Time) error

	// Commit spends a use that is pinned by exactly c.Run: it is never given
	// back. Repeating it with the same run and user is nil. An empty user is
	// ErrInvalid, a spent use ErrSpent, any other ErrNotHeld.
	Commit(ctx context.Context, c Claim, userID string, now time.Time) error

	// Release deletes a use that is pinned by exactly c.Run, or held and
	// bearing no higher run. Otherwise ErrNotHeld, or ErrSpent.
	Release(ctx context.Context, c Claim) error

	// ListUses returns a page of the uses of a token, newest first. Uses of a
	// deleted token are not listed, also when its value has been created again,
	// unless q.Deleted asks for them: then they are those of every deleted token
	// of this value, of which there may be none.
	ListUses(ctx context.Context, q UseQuery) (UsePage, error)

	// PinnedUses returns at most limit pinned uses, of deleted tokens too, whose
	// Changed lies before the given time, oldest first. A Pin moves Changed, also
	// when it repeats a run. A limit below 1 is ErrInvalid.
	PinnedUses(ctx context.Context, before time.Time, limit int) ([]Use, error)

	// SweepHolds deletes at most limit held uses whose Until lies before the
	// given time and returns how many. Calling it is never needed for a token to
	// be right; it gives back space.
	SweepHolds(ctx context.Context, before time.Time, limit int) (int, error)
}

// RecordState is the state of a session record.
type RecordState int

// The states of a session record.
const (
	Open    RecordState = iota + 1 // stages are being completed, or the operation may be run again
	Running                        // leased to a request: the operation runs
	Done                           // the operation took effect; its response is kept for replay
)

// Record is what a store keeps of a session. All but Data is in the clear, and
// none of it can be replayed: the key is a digest of the session ID, and Data is
// sealed under a key that needs the session ID.
type Record struct {
	Key      string      // Session.Key
	Revision int64       // set by the store: 1 when created, one more with each save
	State    RecordState // the store looks at it only to know Running
	Run      int64       // the last run; zero if there was none
	Owner    string      // who saved this revision: a nonce
	LeaseEnd time.Time   // Running: when another request may take the session over; otherwise zero
	Expires  time.Time   // from this instant on the record is as good as absent
	Data     []byte      // sealed; at most 1 MiB
}

// SessionStore keeps session records. Everything that [TokenStore] says of
// concurrency, contexts, aliasing, time and durability holds here too.
type SessionStore interface {
	// LoadSession returns the record of this key. It returns ErrNotFound if there
	// is none or if it has expired (Expires <= now); a running one does not expire.
	LoadSession(ctx context.Context, key string, now time.Time) (Record, error)

	// SaveSession stores r if the record has the revision r.Revision, and returns
	// it with the next one. Revision 0 creates: there must be no record, or an
	// expired one, which it replaces. Otherwise it returns ErrConflict and changes
	// nothing. Records expire for LoadSession and for creation alone: a record
	// that is present can be saved however old it is.
	SaveSession(ctx context.Context, r Record, now time.Time) (Record, error)

	// SweepSessions deletes at most limit records that have expired, and returns
	// how many. It leaves a running one until a day after its Expires. Calling it
	// is never needed for a session to be right; it gives back space.
	SweepSessions(ctx context.Context, now time.Time, limit int) (int, error)
}

// Store keeps tokens and sessions. Keeping both in one place lets an account,
// its token's use and the session's response be written in one transaction.
type Store interface {
	TokenStore
	SessionStore
}

// Grouper can be implemented by a SessionStore for which several small writes
// cost more than one larger one. The engine then makes a stage's hold, the
// session's record and, if the operation is to run, the pins in one group. Group
// runs fn, perhaps more than once, with a context that carries the group to the
// store's own methods; what they write, and its errors, may come as late as Group's
// return. A store that makes it a transaction makes it a whole one: if fn fails, or
// Group does, nothing has been written. A store that gains nothing by a group just
// calls fn.
type Grouper interface {
	SessionStore
	Group(ctx context.Context, fn func(context.Context) error) error
}

// TxStore is a Store with transactions. Where the homeserver keeps its accounts in
// the same database, the account, the spent use and the session's response are
// written together or not at all, and a crash leaves no doubt.
type TxStore interface {
	Store

	// InTx runs fn in a transaction and commits it if fn returns nil. The context
	// that fn gets carries the transaction: every method that is called with it
	// joins, and sees what has been written in it before; so does another InTx. A
	// refusal does not spoil a transaction. That of a Commit may come late: from the
	// next method that is called, or from InTx, which then has written nothing.
	//
	// If fn returns an error, InTx returns it, and if fn panics, so does InTx; either
	// way nothing has been written. Others see all of a transaction or nothing of it.
	//
	// If the database gives the transaction up for another's sake, fn is run again,
	// and what it wrote before is gone. Two transactions that want the same two
	// tokens in different orders both succeed.
	InTx(ctx context.Context, fn func(ctx context.Context) error) error
}
