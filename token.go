package uia

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode/utf8"
)

// maxTokenText is the greatest length of Token.Label and Token.CreatedBy, in bytes.
const maxTokenText = 255

// Validate returns nil if a store can keep the token, and otherwise an error that is
// [ErrInvalid] and names the field. Every store calls it, so that all stores refuse the
// same tokens.
func (t Token) Validate() error {
	switch {
	case !ValidTokenValue(t.Value):
		return fmt.Errorf("%w: token value", ErrInvalid)
	case t.UsesAllowed != nil && !validCount(*t.UsesAllowed):
		return fmt.Errorf("%w: uses allowed", ErrInvalid)
	case !validCount(t.Completed):
		return fmt.Errorf("%w: completed uses", ErrInvalid)
	case !validText(t.Label):
		return fmt.Errorf("%w: label", ErrInvalid)
	case !validText(t.CreatedBy):
		return fmt.Errorf("%w: created by", ErrInvalid)
	case t.Meta != nil && !isObject(t.Meta):
		return fmt.Errorf("%w: meta is no JSON object", ErrInvalid)
	}
	return nil
}

func validCount(n int64) bool { return n >= 0 && n <= MaxUses }

// validText reports whether s is text that every database keeps: PostgreSQL refuses text
// with a NUL.
func validText(s string) bool {
	return len(s) <= maxTokenText && utf8.ValidString(s) && strings.IndexByte(s, 0) < 0
}

func isObject(text json.RawMessage) bool {
	var object map[string]json.RawMessage
	return utf8.Valid(text) && json.Unmarshal(text, &object) == nil && object != nil
}

// Apply returns the token with what p names changed, and neither validates it nor
// copies what the patch points to.
func (p TokenPatch) Apply(t Token) Token {
	apply(&t.UsesAllowed, p.UsesAllowed)
	apply(&t.Expires, p.Expires)
	apply(&t.Revoked, p.Revoked)
	apply(&t.Label, p.Label)
	apply(&t.Meta, p.Meta)
	return t
}

func apply[T any](field, value *T) {
	if value != nil {
		*field = *value
	}
}

// Cursor returns the place just behind the token in a list of this order. For an
// order that is none of those above it returns [ErrInvalid].
func (o TokenOrder) Cursor(t Token) (TokenCursor, error) {
	c := TokenCursor{Value: t.Value}
	switch o {
	case ByValue:
	case ByCreated:
		c.Key = t.Created.UnixMilli()
	case ByExpires:
		c.Key = math.MaxInt64
		if !t.Expires.IsZero() {
			c.Key = t.Expires.UnixMilli()
		}
	case ByUsesAllowed:
		c.Key = math.MaxInt64
		if t.UsesAllowed != nil {
			c.Key = *t.UsesAllowed
		}
	default:
		return c, fmt.Errorf("%w: order %d", ErrInvalid, int(o))
	}
	return c, nil
}

// Compare orders two places of a list: negative if a comes first.
func (q TokenQuery) Compare(a, b TokenCursor) int {
	if q.Descending {
		a, b = b, a
	}
	if q.Order != ByValue && a.Key != b.Key {
		if a.Key < b.Key {
			return -1
		}
		return 1
	}
	return strings.Compare(a.Value, b.Value)
}

// Usable returns nil if the token could be reserved at now by a session that
// has no use of it yet, and otherwise ErrRevoked, ErrExpired or ErrExhausted, in
// this order. It is the one predicate behind the token stage, the validity
// endpoint and the valid filter of [TokenQuery].
func (t Token) Usable(now time.Time) error {
	switch {
	case t.Revoked:
		return ErrRevoked
	case !t.Expires.IsZero() && !now.Before(t.Expires):
		return ErrExpired
	case t.UsesAllowed != nil && t.Pending+t.Completed >= *t.UsesAllowed:
		return ErrExhausted
	}
	return nil
}

// Live reports whether an account could still be made from the token at now or later: it
// is not revoked, has not expired, and not all of its uses are spent. A live token whose
// uses are all pending is not usable, but becomes so when one of them is given back.
func (t Token) Live(now time.Time) bool {
	t.Pending = 0
	return t.Usable(now) == nil
}

// ValidTokenValue reports whether s is within the grammar of registration
// tokens: 1 to 64 of the characters A-Z a-z 0-9 . _ ~ -
func ValidTokenValue(s string) bool {
	if s == "" || len(s) > MaxTokenLength {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9',
			c == '.', c == '_', c == '~', c == '-':
		default:
			return false
		}
	}
	return true
}
