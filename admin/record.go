package admin

import (
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/matrix-uia/uia"
)

// record is a token as clients see it. The first five members are Synapse's.
type record struct {
	Token       string `json:"token"`
	UsesAllowed *int64 `json:"uses_allowed"`
	Pending     int64  `json:"pending"`
	Completed   int64  `json:"completed"`
	ExpiryTime  *int64 `json:"expiry_time"`

	Label       string          `json:"label"`
	Created     *int64          `json:"created_ts"`
	CreatedBy   string          `json:"created_by"`
	Revoked     bool            `json:"revoked"`
	LastUsed    *int64          `json:"last_used_ts"`
	Meta        json.RawMessage `json:"meta"`
	Fingerprint string          `json:"fingerprint"`
	Valid       bool            `json:"valid"`
	Reason      string          `json:"invalid_reason,omitempty"`
	InviteURL   string          `json:"invite_url,omitempty"`
}

func (h *handler) record(t uia.Token, now time.Time) record {
	reason := invalidReason(t.Usable(now))
	return record{
		Token: t.Value, UsesAllowed: t.UsesAllowed, Pending: t.Pending, Completed: t.Completed, ExpiryTime: milliseconds(t.Expires),
		Valid: reason == "", Reason: reason, Label: t.Label, Created: milliseconds(t.Created), CreatedBy: t.CreatedBy, Revoked: t.Revoked,
		LastUsed: milliseconds(t.LastUsed), Meta: t.Meta, Fingerprint: uia.Fingerprint(t.Value), InviteURL: h.invite(t.Value),
	}
}

// invalidReason names what uia.Token.Usable says; "" for nil.
func invalidReason(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, uia.ErrRevoked):
		return "revoked"
	case errors.Is(err, uia.ErrExpired):
		return "expired"
	}
	return "exhausted"
}

func (h *handler) records(tokens []uia.Token, now time.Time) []record {
	out := make([]record, len(tokens)) // never null
	for i, t := range tokens {
		out[i] = h.record(t, now)
	}
	return out
}

// invite returns the token's invite link. The characters of tokens need no escaping
// in any part of a URL.
func (h *handler) invite(token string) string {
	return strings.ReplaceAll(h.opts.InviteURL, "{token}", token)
}

// maxTime is the end of the year 9999. If one token expires later, tools that turn the
// number into a date fail on the whole list.
const maxTime = 253_402_300_799_999

// milliseconds is null for the zero time.
func milliseconds(t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	return new(min(t.UnixMilli(), maxTime))
}
