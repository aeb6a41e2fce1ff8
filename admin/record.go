package admin

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/internal/api"
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
	reason := api.InvalidReason(t.Usable(now))
	return record{
		Token: t.Value, UsesAllowed: t.UsesAllowed, Pending: t.Pending, Completed: t.Completed, ExpiryTime: api.Milliseconds(t.Expires),
		Valid: reason == "", Reason: reason, Label: t.Label, Created: api.Milliseconds(t.Created), CreatedBy: t.CreatedBy, Revoked: t.Revoked,
		LastUsed: api.Milliseconds(t.LastUsed), Meta: t.Meta, Fingerprint: uia.Fingerprint(t.Value), InviteURL: h.invite(t.Value),
	}
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
