package uia

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"
)

// Event is something that an operator may want to count or to keep in an audit
// log. It is one of TokenCreated, TokenUpdated, TokenRevoked, TokenDeleted, UseHeld,
// UseReleased, UseSpent, StageFailed and LimitHit; no others will implement it, but
// later versions may add to the set.
//
// An observer is a func(context.Context, Event), in Config.Observer and in the
// options of package admin. It is called by the request that has made the event
// happen, by many at once, and the client waits for it: it should only take note.
// A panic in it is logged and goes no further.
//
// Events are told after the fact. A process that is killed in between tells
// nothing, and what several processes decide at the same time in Recover each of
// them tells. So they are for watching; [TokenStore.ListUses] knows for certain
// which account came from which token.
type Event interface {
	// Name is the same for all events of a type, such as "use_spent": what a metric
	// is labelled with.
	Name() string
	// Attrs returns the event's fields for a log. There is no registration token
	// among them: only its Fingerprint, under the key "token".
	Attrs() []slog.Attr

	event()
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

// TokenCreated says that a token was made.
type TokenCreated struct {
	Token       string // its Fingerprint
	By          string // who did it
	UsesAllowed *int64
	Expires     time.Time
}

// TokenUpdated says that a token was changed, in another way than being revoked.
type TokenUpdated struct {
	Token       string // its Fingerprint
	By          string
	UsesAllowed *int64    // as it is now
	Expires     time.Time // as it is now
}

// TokenRevoked says that a token was revoked.
type TokenRevoked struct {
	Token string // its Fingerprint
	By    string
}

// TokenDeleted says that a token was deleted.
type TokenDeleted struct {
	Token string // its Fingerprint
	By    string
}

// EventStage says which session and which of its stages an event is about.
type EventStage struct {
	Operation string // Operation.Name
	Session   string // Session.Key
	Stage     string // the auth type
}

// UseHeld says that a stage has set something aside for a session: one use of a
// token.
type UseHeld struct {
	EventStage
	Token string // its Fingerprint; "" for a stage that holds something else
}

// UseReleased says that what was held or in doubt has been given back. What just
// lapses is not told of: nobody is there to notice.
type UseReleased struct {
	EventStage
	Token string // its Fingerprint; "" for a stage that holds something else
}

// UseSpent says that what was held is used up: an account was made. If accounts are
// made in a transaction it has been committed.
type UseSpent struct {
	EventStage
	Token  string // its Fingerprint; "" for a stage that holds something else
	UserID string
}

// StageFailed says that a stage has refused an attempt in a way that is charged to
// the client's budget: a wrong token, a wrong password.
type StageFailed struct {
	EventStage
	Client  netip.Addr
	ErrCode spec.MatrixErrorCode
	// Reason is the store's reason where there is one, which the client is not told:
	// "token expired".
	Reason string
}

// LimitHit says that a client was turned away because its budget of failures is
// spent.
type LimitHit struct{ Client netip.Addr }

// Name returns "token_created".
func (TokenCreated) Name() string { return "token_created" }

// Name returns "token_updated".
func (TokenUpdated) Name() string { return "token_updated" }

// Name returns "token_revoked".
func (TokenRevoked) Name() string { return "token_revoked" }

// Name returns "token_deleted".
func (TokenDeleted) Name() string { return "token_deleted" }

// Name returns "use_held".
func (UseHeld) Name() string { return "use_held" }

// Name returns "use_released".
func (UseReleased) Name() string { return "use_released" }

// Name returns "use_spent".
func (UseSpent) Name() string { return "use_spent" }

// Name returns "stage_failed".
func (StageFailed) Name() string { return "stage_failed" }

// Name returns "limit_hit".
func (LimitHit) Name() string { return "limit_hit" }

func (TokenCreated) event() {}
func (TokenUpdated) event() {}
func (TokenRevoked) event() {}
func (TokenDeleted) event() {}
func (UseHeld) event()      {}
func (UseReleased) event()  {}
func (UseSpent) event()     {}
func (StageFailed) event()  {}
func (LimitHit) event()     {}

// Attrs returns token, by, and what bounds the token.
func (e TokenCreated) Attrs() []slog.Attr { return bounds(e.Token, e.By, e.UsesAllowed, e.Expires) }

// Attrs returns token, by, and what bounds the token now.
func (e TokenUpdated) Attrs() []slog.Attr { return bounds(e.Token, e.By, e.UsesAllowed, e.Expires) }

// Attrs returns token and by.
func (e TokenRevoked) Attrs() []slog.Attr { return attrs("token", e.Token, "by", e.By) }

// Attrs returns token and by.
func (e TokenDeleted) Attrs() []slog.Attr { return attrs("token", e.Token, "by", e.By) }

// Attrs returns token, operation, session and stage.
func (e UseHeld) Attrs() []slog.Attr { return e.attrs("token", e.Token) }

// Attrs returns token, operation, session and stage.
func (e UseReleased) Attrs() []slog.Attr { return e.attrs("token", e.Token) }

// Attrs returns token, user, operation, session and stage.
func (e UseSpent) Attrs() []slog.Attr { return e.attrs("token", e.Token, "user", e.UserID) }

// Attrs returns client, errcode, reason, operation, session and stage.
func (e StageFailed) Attrs() []slog.Attr {
	return e.attrs("client", text(e.Client), "errcode", string(e.ErrCode), "reason", e.Reason)
}

// Attrs returns client.
func (e LimitHit) Attrs() []slog.Attr { return attrs("client", text(e.Client)) }

func (s EventStage) attrs(pairs ...string) []slog.Attr {
	return attrs(append(pairs, "operation", s.Operation, "session", s.Session, "stage", s.Stage)...)
}

// attrs makes attributes of the pairs whose value is not empty.
func attrs(pairs ...string) []slog.Attr {
	out := make([]slog.Attr, 0, len(pairs)/2+2)
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			out = append(out, slog.String(pairs[i], pairs[i+1]))
		}
	}
	return out
}

func bounds(token, by string, uses *int64, expires time.Time) []slog.Attr {
	out := attrs("token", token, "by", by)
	if uses != nil {
		out = append(out, slog.Int64("uses_allowed", *uses))
	}
	if !expires.IsZero() {
		out = append(out, slog.Time("expires", expires))
	}
	return out
}

func text(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// AuditLog returns an observer that writes each event as a line of l, with the
// event's name as the message: failures as warnings, the rest as information. A
// client that guesses makes lines until its budget is spent and then one for each
// further request: bound the log as any other.
func AuditLog(l *slog.Logger) func(context.Context, Event) {
	return func(ctx context.Context, ev Event) {
		level := slog.LevelInfo
		switch ev.(type) {
		case StageFailed, LimitHit:
			level = slog.LevelWarn
		}
		l.LogAttrs(ctx, level, ev.Name(), ev.Attrs()...)
	}
}

// emit tells the observer, if there is one.
func (e *Engine) emit(ctx context.Context, events ...Event) {
	if e.cfg.Observer == nil {
		return
	}
	for _, ev := range events {
		func() {
			defer func() {
				if p := recover(); p != nil {
					e.log.ErrorContext(ctx, "uia: the observer panicked", "event", ev.Name(), "panic", p)
				}
			}()
			e.cfg.Observer(ctx, ev)
		}()
	}
}

// about says what an event of this session and stage is about.
func about(key, stage string) EventStage {
	return EventStage{Operation: operationOf(key), Session: key, Stage: stage}
}

// stageFailed makes the event of a refused attempt. Of its cause only what a store
// says is told: a stage of the host may put anything into an error.
func stageFailed(s *Session, stage string, refusal *Error) StageFailed {
	ev := StageFailed{EventStage: about(s.Key, stage), Client: s.Client, ErrCode: refusal.ErrCode}
	for _, reason := range [...]error{ErrNotFound, ErrRevoked, ErrExpired, ErrExhausted, ErrNotHeld} {
		if errors.Is(refusal, reason) {
			ev.Reason = strings.TrimPrefix(reason.Error(), "uia: ")
		}
	}
	return ev
}

// heldToken returns the fingerprint of the token that a stage's result is about; ""
// if it is about something else.
func heldToken(result json.RawMessage) string {
	r, err := tokenResult(result)
	if err != nil || r.Token == "" {
		return ""
	}
	return Fingerprint(r.Token)
}
