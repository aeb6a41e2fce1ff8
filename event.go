package uia

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"net/netip"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"
)

// Event is something that an operator may want to count or to keep in an audit
// log. Its Kind says what has happened, and which of the other fields are set:
// those that a kind does not name are zero.
//
// An observer is a func(context.Context, Event), in Config.Observer and in the options of
// packages admin and invites. It is called by the request that has made the event happen, by many at
// once, and the client waits for it: it should only take note. A panic in it is recovered
// and logged.
//
// An observer is called after the thing has happened. If a process is killed before it
// calls the observer, the event is lost. If several processes decide about the same use
// in Recover at the same time, each of them reports it. So events are for watching;
// [TokenStore.ListUses] knows for certain which account came from which token.
type Event struct {
	Kind EventKind

	// Token is the [Fingerprint] of the token that the event is about. "" if there is
	// none, for example because the stage sets aside something other than tokens.
	Token string
	// By is who has created, changed, revoked or deleted the token: an administrator, or a
	// member who invites.
	By string
	// UsesAllowed and Expires are the token's, as they are now.
	UsesAllowed *int64
	Expires     time.Time

	Operation string // Operation.Name
	Session   string // Session.Key
	Stage     string // the auth type
	UserID    string // the account that a use was spent on
	Client    netip.Addr
	ErrCode   spec.MatrixErrorCode // the errcode that the client got
	// Reason is the store's reason for a refusal, where there is one: "token expired".
	// The client does not see it.
	Reason string
}

// EventKind says what has happened. It is what a metric is labelled with. Later
// versions may add kinds: an observer ignores those that it does not know.
type EventKind string

// The kinds of events, and the fields that each of them sets.
const (
	// EventTokenCreated: a token was made. Token, By, UsesAllowed, Expires.
	EventTokenCreated EventKind = "token_created"
	// EventTokenUpdated: a token was changed in another way than being revoked.
	// Token, By, UsesAllowed, Expires.
	EventTokenUpdated EventKind = "token_updated"
	// EventTokenRevoked: a token was revoked. Token, By.
	EventTokenRevoked EventKind = "token_revoked"
	// EventTokenDeleted: a token was deleted. Token, By.
	EventTokenDeleted EventKind = "token_deleted"

	// EventUseHeld: a stage has set something aside for a session, such as one use
	// of a token. Token, Operation, Session, Stage.
	EventUseHeld EventKind = "use_held"
	// EventUseReleased: what was held or in doubt has been given back, perhaps by an
	// administrator (By, and no Stage). There is no event for a hold that lapses by
	// itself: nothing runs at that moment. Token, Operation, Session, Stage.
	EventUseReleased EventKind = "use_released"
	// EventUseSpent: what was held is used up, because an account was made. If
	// accounts are made in a transaction, it has been committed. Token, Operation,
	// Session, Stage, UserID.
	EventUseSpent EventKind = "use_spent"

	// EventStageFailed: somebody has guessed wrong in a way that is charged to the
	// client's budget: a wrong token, a wrong password. Operation, Session, Stage,
	// Client, ErrCode, Reason. For a token that the validity endpoint was asked about,
	// the Operation is "validity", and Session and ErrCode are empty.
	EventStageFailed EventKind = "stage_failed"
	// EventLimitHit: a client was turned away because its budget of failures is
	// spent. Client.
	EventLimitHit EventKind = "limit_hit"
)

// EventKinds returns all kinds, in the order above: a metric can start the counter of
// each kind at zero, so that an alert can tell "none yet" from "no such counter".
func EventKinds() []EventKind {
	return []EventKind{
		EventTokenCreated, EventTokenUpdated, EventTokenRevoked, EventTokenDeleted,
		EventUseHeld, EventUseReleased, EventUseSpent,
		EventStageFailed, EventLimitHit,
	}
}

// Fingerprint stands for a registration token where the token itself must not be
// seen: in events and audit logs. It is the first 8 hexadecimal digits of the
// value's SHA-256, as in
//
//	printf %s "$TOKEN" | sha256sum | cut -c1-8
//
// so that an operator can match lines with a token and with each other. It does
// not lead back to a generated token; a value like "welcome", which can be guessed,
// can be confirmed by it.
func Fingerprint(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:4])
}

// LogValue implements [slog.LogValuer]: a group of the kind and the fields that are
// set.
func (ev Event) LogValue() slog.Value {
	return slog.GroupValue(append([]slog.Attr{slog.String("kind", string(ev.Kind))}, ev.attrs()...)...)
}

// attrs returns the fields that are set, without the kind.
func (ev Event) attrs() []slog.Attr {
	out := make([]slog.Attr, 0, 8)
	add := func(key, value string) {
		if value != "" {
			out = append(out, slog.String(key, value))
		}
	}
	add("token", ev.Token)
	add("by", ev.By)
	if ev.UsesAllowed != nil {
		out = append(out, slog.Int64("uses_allowed", *ev.UsesAllowed))
	}
	if !ev.Expires.IsZero() {
		out = append(out, slog.Time("expires", ev.Expires))
	}
	add("user", ev.UserID)
	if ev.Client.IsValid() {
		add("client", ev.Client.String())
	}
	add("errcode", string(ev.ErrCode))
	add("reason", ev.Reason)
	add("operation", ev.Operation)
	add("session", ev.Session)
	add("stage", ev.Stage)
	return out
}

// AuditLog returns an observer that writes each event as a line of l, with the kind
// as the message and the fields as attributes: failures as warnings, the rest as
// information. A client that guesses makes lines until its budget is spent and then
// one for each further request: bound the log as any other.
func AuditLog(l *slog.Logger) func(context.Context, Event) {
	return func(ctx context.Context, ev Event) {
		level := slog.LevelInfo
		if ev.Kind == EventStageFailed || ev.Kind == EventLimitHit {
			level = slog.LevelWarn
		}
		l.LogAttrs(ctx, level, string(ev.Kind), ev.attrs()...)
	}
}
